package client

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// fork makes the fake's history another one from entry n on (counted from 1), of
// the same length, every entry signed.
func (f *fake) fork(n int) {
	a := f.account
	length := len(a.entries)
	a.entries = a.entries[:n-1]
	for len(a.entries) < length {
		f.entry(wire.Digest{0xF0}, ledger.Note{Kind: ledger.KindEdit})
	}
}

func TestHistoryRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		attack func(f *fake)
		want   wire.Code
	}{
		{"older head", func(f *fake) { f.account.entries = f.account.entries[:1] }, wire.CodeFork},
		{"older head, with entries", func(f *fake) {
			f.account.entries = f.account.entries[:1]
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Entries = f.account.entries }
		}, wire.CodeFork},
		{"forked at the remembered entry", func(f *fake) { f.fork(len(f.account.entries)) }, wire.CodeFork},
		{"forked before, and longer", func(f *fake) {
			f.fork(2)
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
		}, wire.CodeFork},
		{"newest without entries", func(f *fake) {
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Entries = nil }
		}, wire.CodeFork},
		{"newest is not where the entries lead", func(f *fake) {
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Newest.Hash[0] ^= 1 }
		}, wire.CodeFork},
		{"an entry further than the newest", func(f *fake) {
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Newest.Sequence++ }
		}, wire.CodeFork},
		{"no account any more", func(f *fake) { f.account = nil }, wire.CodeFork},
		{"bad signature", func(f *fake) {
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			e, err := ledger.ParseEntry(f.account.entries[len(f.account.entries)-1])
			if err != nil {
				f.t.Fatal(err)
			}
			e.Signature[0] ^= 1
			f.account.entries[len(f.account.entries)-1] = wire.Marshal(e)
		}, wire.CodeEntry},
		{"foreign signer", func(f *fake) {
			f.ledger, _ = ledger.Succession(f.config.Ledger.ID, [][]byte{[]byte("another")})
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
		}, wire.CodeEntry},
		{"a gap", func(f *fake) {
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Entries = r.Entries[1:] }
		}, wire.CodeEntry},
		{"back to an earlier epoch", func(f *fake) {
			f.account.epoch = 0
			f.account.keys[0] = random(32)
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.account.epoch = 1
		}, wire.CodeFork},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			create(t, d, "a.test", "a")
			remembered := d.Status().Remembered
			tt.attack(f)
			_, err := d.Devices(t.Context())
			wantCode(t, err, tt.want)
			s := f.again(d).Status()
			if s.Remembered != remembered {
				t.Error("the refused head was remembered")
			}
			if (s.Alarm != nil) != (tt.want == wire.CodeFork) {
				t.Errorf("alarm %v in the stored profile", s.Alarm)
			}
			if s.Removed {
				t.Error("taken for a revocation")
			}
		})
	}
}

// The newest entry lies behind a page that is full, and the entries fetched then do
// not lead through it.
func TestForkBehindPages(t *testing.T) {
	t.Parallel()
	for name, grow := range map[string]bool{"the history ends there": false, "the history has grown meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			for range wire.MaxEntries + 3 {
				f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			}
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name == wire.CommandSync {
					r.Newest.Hash[0] ^= 1
					if grow {
						f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
					}
				}
			}
			_, err := d.Sync(t.Context())
			wantCode(t, err, wire.CodeFork)
		})
	}
}

// The history command hands on what the host stores: another chain than the one
// remembered, every entry signed.
func TestForkedHistoryShown(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	create(t, d, "a.test", "a")
	honest := slices.Clone(f.account.entries)
	f.fork(2)
	forked := f.account.entries
	f.account.entries = honest
	f.respond = func(b *wire.Body, r *wire.Response) {
		if b.Commands[0].Name == wire.CommandHistory {
			r.Results[0] = wire.Marshal(wire.HistoryResult{Entries: forked})
		}
	}
	_, err := d.History(t.Context())
	wantCode(t, err, wire.CodeFork)
}

func TestFirstMemory(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(*fake, *wire.Response){
		"entries that lead elsewhere": func(f *fake, r *wire.Response) { r.Entries = f.account.entries; r.Newest.Hash[0] ^= 1 },
		"no entry at all":             func(_ *fake, r *wire.Response) { r.Newest = wire.Head{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.device()
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name != wire.CommandTicket && r.Error == nil {
					attack(f, r)
				}
			}
			_, err := d.Enrol(t.Context(), "laptop", testPIN)
			wantCode(t, err, wire.CodeEntry)
			if d.Status().Remembered != (wire.Head{}) || d.Status().Member {
				t.Error("a member of an account whose history was refused")
			}
		})
	}
}

func TestRememberedBeforeResult(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	s := &failingStorage{MemoryStorage: d.storage.(*MemoryStorage)}
	d.storage = s
	f.respond = func(b *wire.Body, _ *wire.Response) { s.fail = b.Commands[0].Name == wire.CommandDevices }
	f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
	if got, err := d.Devices(t.Context()); !errors.Is(err, errDisk) {
		t.Fatalf("a result (%v, %v) although the head was not stored", got, err)
	}
}

func TestAnswerRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		attack func(f *fake)
		want   wire.Code
	}{
		{"another request's ID", func(f *fake) {
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Request[0] ^= 1 }
		}, wire.CodeUnsealedAnswer},
		{"no request ID", func(f *fake) {
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Request = wire.RequestID{} }
		}, wire.CodeUnsealedAnswer},
		{"a changed byte", func(f *fake) {
			f.sealed = func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
		}, wire.CodeUnsealedAnswer},
		{"an unknown freshness", func(f *fake) {
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Freshness = "endorsed" }
		}, wire.CodePolicy},
		{"an outcome for a request without a number", func(f *fake) {
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Repeated, r.Results = &wire.Outcome{Number: 1}, nil }
		}, wire.CodeMalformed},
		{"no result", func(f *fake) {
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Results = nil }
		}, wire.CodeMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			f.sent = nil
			tt.attack(f)
			_, err := d.Devices(t.Context())
			wantCode(t, err, tt.want)
			if len(f.sent) != 1 {
				t.Errorf("sent %v: a refused answer was asked for again", f.sent)
			}
		})
	}
}

func TestReplayedAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	var old []byte
	f.sealed = func(b []byte) []byte { old = bytes.Clone(b); return b }
	if _, err := d.Devices(t.Context()); err != nil {
		t.Fatal(err)
	}
	replay := old
	f.sealed = func([]byte) []byte { return replay }
	_, err := d.Devices(t.Context())
	wantCode(t, err, wire.CodeUnsealedAnswer)
}

// Whatever the host says in the clear, it is nobody's word: nothing is wiped, no
// lock and no revocation reported.
func TestUnsealedRefusal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hint  wire.Code
		want  wire.Code
		tries int
	}{
		{wire.CodeUnknownDevice, wire.CodeUnsealedAnswer, 1},
		{wire.CodePINLocked, wire.CodeUnsealedAnswer, 1},
		{wire.CodeNoAccount, wire.CodeUnsealedAnswer, 1},
		{wire.CodeEpoch, wire.CodeUnsealedAnswer, 1},
		{"\x1b[31mowned", wire.CodeUnsealedAnswer, 1},
		{wire.CodeUnknownKey, wire.CodeUnsealedAnswer, maxTries},
		{wire.CodeChallenge, wire.CodeUnsealedAnswer, maxTries},
		{wire.CodeUnavailable, wire.CodeUnsealedAnswer, maxTries},
	} {
		t.Run(string(tt.hint), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			before := wire.Marshal(d.p)
			tries := 0
			f.refuse = func(path string) (int, wire.Code) {
				if path != "/v1/request" {
					return 0, ""
				}
				tries++
				return 409, tt.hint
			}
			_, err := d.Devices(t.Context())
			wantCode(t, err, tt.want)
			var host *HostError
			if !errors.As(err, &host) || host.Status != 409 {
				t.Errorf("got %v, want a HostError", err)
			}
			if !printable(host.Hint) {
				t.Errorf("hint %q goes to a terminal", host.Hint)
			}
			if tries != tt.tries {
				t.Errorf("%d tries, want %d", tries, tt.tries)
			}
			if p, err := loadProfile(t.Context(), d.storage); err != nil || !bytes.Equal(wire.Marshal(p), before) {
				t.Error("the profile changed on the host's word", err)
			}
		})
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	other := newFake(t)
	tests := []struct {
		name   string
		attack func(f *fake, e *Evidence)
		want   wire.Code
	}{
		{"no nonce", func(_ *fake, e *Evidence) { e.Nonce = nil }, wire.CodeEvidence},
		{"another nonce", func(_ *fake, e *Evidence) { e.Nonce = bytes.Repeat([]byte{1}, 32) }, wire.CodeEvidence},
		{"no HPKE key", func(_ *fake, e *Evidence) { e.HPKE = nil }, wire.CodeEvidence},
		{"backend that the policy does not name", func(f *fake, e *Evidence) {
			c := *f.config
			c.Ledger.Backend = "endorsed"
			e.Configuration = &c
		}, wire.CodePolicy},
		{"another ledger", func(f *fake, e *Evidence) {
			c := *f.config
			c.Ledger.ID = bytes.Repeat([]byte{9}, 32)
			e.Configuration = &c
		}, wire.CodeEntry},
		{"a later genesis", func(f *fake, e *Evidence) {
			c := *f.config
			c.Ledger.Number++
			e.Configuration = &c
		}, wire.CodeEntry},
		{"other ledger keys", func(_ *fake, e *Evidence) { e.Signers = other.signers }, wire.CodeEntry},
		{"no ledger key", func(_ *fake, e *Evidence) { e.Signers = nil }, wire.CodeEntry},
		{"a successor that nobody signed", func(f *fake, e *Evidence) {
			s := other.signers[0]
			s.Signature = make([]byte, 64)
			e.Signers = append(slices.Clone(f.signers), s)
		}, wire.CodeEntry},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			f.evidence = func(e *Evidence) { tt.attack(f, e) }
			d.session = nil
			f.sent = nil
			_, err := d.Devices(t.Context())
			wantCode(t, err, tt.want)
			if len(f.sent) != 0 {
				t.Error("a request was sealed for a service that was refused")
			}
		})
	}
}

// Who holds a KEK version that was replaced cannot go on from what its successor signed.
func TestOlderLedgerKey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.ledger, f.signers = ledger.Succession(f.config.Ledger.ID, [][]byte{[]byte("kek"), []byte("kek 2")})
	f.newKey()
	create(t, d, "a.test", "a")
	d = f.again(d) // what the newest entry was signed by is remembered in the profile
	remembered := d.Status().Remembered
	f.ledger = f.ledger[:1]
	f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
	_, err := d.Devices(t.Context())
	wantCode(t, err, wire.CodeFork)
	if s := f.again(d).Status(); s.Remembered != remembered || s.Alarm == nil {
		t.Errorf("remembered %v, alarm %v", s.Remembered, s.Alarm)
	}
}

func TestLedgerKeySuccession(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.ledger, f.signers = ledger.Succession(f.config.Ledger.ID, [][]byte{[]byte("kek"), []byte("kek 2")})
	f.newKey()
	create(t, d, "a.test", "a") // signed by the successor
	f.signers = f.signers[:1]
	_, err := d.Attest(t.Context())
	wantCode(t, err, wire.CodeEntry)
}

// A KEK that is rotated while a device goes on with what it attested is nothing to it: it
// attests anew, and takes the successor of the keys that it pinned, and no other.
func TestRotationDuringASession(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	attested := d.session.at
	f.ledger, f.signers = ledger.Succession(f.config.Ledger.ID, [][]byte{[]byte("kek"), []byte("kek 2")})
	create(t, d, "a.test", "a") // signed by the successor
	if d.session.at == attested || len(d.p.Ledger.Signers) != 2 || len(passkeys(t, d)) != 1 {
		t.Fatalf("%d ledger keys pinned", len(d.p.Ledger.Signers))
	}
	attested = d.session.at
	if h, err := d.History(t.Context()); err != nil || len(h) != 2 || d.session.at != attested {
		t.Fatalf("%d entries, %v", len(h), err)
	}

	genuine := f.signers
	f.ledger, f.signers = ledger.Succession(f.config.Ledger.ID, [][]byte{[]byte("another"), []byte("kek 2"), []byte("kek 3")})
	_, err := d.Create(t.Context(), wire.Create{RPID: "b.test", UserHandle: []byte("b"), UserName: "b", Algorithms: []int64{-7}})
	wantCode(t, err, wire.CodeEntry)
	f.signers = genuine // no evidence names the key that signed
	_, err = d.Sync(t.Context())
	wantCode(t, err, wire.CodeEntry)
	if n := len(f.again(d).p.Ledger.Signers); n != 2 {
		t.Fatalf("%d ledger keys pinned", n)
	}
}
