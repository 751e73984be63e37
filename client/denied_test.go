package client

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// deny makes the enclave's first sealed answer to a command a refusal, as if its host
// had stored the commit and then said that it had not.
func (f *fake) deny(command wire.CommandName, code wire.Code) {
	denied := false
	before := f.account.newest()
	f.respond = func(b *wire.Body, r *wire.Response) {
		if b.Commands[0].Name == command && !denied {
			denied = true
			r.Results, r.Repeated, r.Entries, r.Newest, r.Error = nil, nil, nil, before, refusal(code)
		}
	}
}

// A commit that stands is denied. The device finds it: a request that was done is not
// reported as refused, nor made again.
func TestDeniedCommit(t *testing.T) {
	t.Parallel()
	for _, code := range []wire.Code{wire.CodeStorageFull, wire.CodeRateLimited, wire.CodeReceipt, wire.CodeRollback, wire.CodeConflict, wire.CodeInternal} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			f.deny(wire.CommandCreate, code)
			made, err := d.Create(t.Context(), site("a.test", "alice"))
			if err != nil || !made.Rebuilt || len(f.account.records) != 1 {
				t.Fatalf("%+v, %v, %d passkeys", made, err, len(f.account.records))
			}

			f.deny(wire.CommandPINSet, code)
			if err := d.PINSet(t.Context(), "918273"); err != nil {
				t.Fatal(err)
			}
			if d.p.epoch().Epoch != 2 {
				t.Errorf("epoch %d after the PIN was set", d.p.epoch().Epoch)
			}

			// The old UV key is registered no more: whoever keeps it is locked out.
			f.deny(wire.CommandReplaceUV, code)
			if err := d.ReplaceUV(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			create(t, f.again(d), "b.test", "alice")
			if r, err := d.Sync(t.Context()); err != nil || r.Settled != nil {
				t.Errorf("reported twice: %+v, %v", r, err)
			}
		})
	}
}

// Where the sync that would tell does not come through either, the request stays open.
func TestDeniedCommitStaysOpen(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.deny(wire.CommandCreate, wire.CodeStorageFull)
	f.lose = func(n wire.CommandName) bool { return n == wire.CommandSync }
	_, err := d.Create(t.Context(), site("a.test", "alice"))
	wantCode(t, err, wire.CodeStorageFull)
	f.lose, f.respond = nil, nil
	d = f.again(d)
	r, err := d.Sync(t.Context())
	if err != nil || r.Settled == nil || !r.Settled.Done {
		t.Fatalf("settled %+v, %v", r, err)
	}
}

// An enrol is done, its answers are lost, and the last copy is refused as too late: the
// UV key that the account has is not forgotten.
func TestEnrolRefusedAfterItWasDone(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.device()
	f.lose = func(n wire.CommandName) bool { return n == wire.CommandEnrol && f.count(n) == 1 }
	f.respond = func(b *wire.Body, r *wire.Response) {
		if b.Commands[0].Name == wire.CommandEnrol && f.count(wire.CommandEnrol) > 1 {
			*r = wire.Response{Request: r.Request, Challenge: r.Challenge, Freshness: r.Freshness, Error: refusal(wire.CodeArgument)}
		}
	}
	if _, err := d.Enrol(t.Context(), "laptop", testPIN); err != nil {
		t.Fatal(err)
	}
	f.lose, f.respond = nil, nil
	create(t, f.again(d), "a.test", "alice")
}

// A new device has seen no list yet: one that the host kept from before it joined is
// refused all the same.
func TestNewDeviceGetsTheNewestList(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	create(t, laptop, "a.test", "alice")
	old := f.account.manifest
	create(t, laptop, "b.test", "alice")
	phone := f.joined()
	f.account.manifest = old
	_, err := phone.Sync(t.Context())
	wantCode(t, err, wire.CodeRollback)
	if phone.p.Manifest != 0 || phone.p.Listed != 0 {
		t.Errorf("took manifest %d", phone.p.Manifest)
	}
}

// A refusal while further pages of history are fetched is no sign of a fork.
func TestRefusedPageIsNoFork(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	for range 2*wire.MaxEntries + 5 {
		f.commit(wire.Digest{1}, ledger.Note{Kind: ledger.KindEdit})
	}
	f.respond = func(b *wire.Body, r *wire.Response) {
		if b.Commands[0].Name == wire.CommandHistory {
			*r = wire.Response{Request: r.Request, Challenge: r.Challenge, Freshness: r.Freshness, Error: refusal(wire.CodeRateLimited)}
		}
	}
	_, err := d.Sync(t.Context())
	wantCode(t, err, wire.CodeRateLimited)
	if d.Status().Alarm != nil {
		t.Error("alarm")
	}
	f.respond = nil
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}
