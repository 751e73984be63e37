package client

import (
	"bytes"
	"errors"
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestLostCreateMakesOnePasskey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.lose = func(n wire.CommandName) bool { return n == wire.CommandCreate && f.count(n) == 1 }
	c, err := d.Create(t.Context(), site("a.test", "alice"))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.account.records) != 1 || f.count(wire.CommandCreate) != 2 {
		t.Fatalf("%d passkeys from %d requests", len(f.account.records), f.count(wire.CommandCreate))
	}
	k := f.account.records[c.Handle]
	if !c.Rebuilt || !bytes.Equal(c.CredentialID, k.metadata.CredentialID) || !bytes.Equal(c.AttestationObject, attestationObject(&k.metadata, true)) {
		t.Fatal("the result is not the passkey that was made")
	}
	create(t, d, "b.test", "alice") // the numbers go on
}

// A create whose answer never came, then a crash: the next call finds out.
func TestCrashAfterSend(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		f := newFake(t)
		d := f.enrolled()
		if done {
			f.lose = func(n wire.CommandName) bool { return n == wire.CommandCreate }
		} else {
			f.refuse = func(path string) (int, wire.Code) {
				if path == "/v1/request" {
					return -1, ""
				}
				return 0, ""
			}
		}
		_, err := d.Create(t.Context(), site("a.test", "alice"))
		wantCode(t, err, wire.CodeUnavailable)
		f.lose, f.refuse = nil, nil

		d = f.again(d)
		if s := d.Status(); s.Pending != wire.CommandCreate {
			t.Fatalf("pending %q in the stored profile", s.Pending)
		}
		r, err := d.Sync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Settled == nil || r.Settled.Command != wire.CommandCreate || r.Settled.Done != done {
			t.Fatalf("settled %+v, want done %v", r.Settled, done)
		}
		if done && (r.Settled.Handle == nil || f.account.records[*r.Settled.Handle] == nil) {
			t.Fatal("the passkey made is not named")
		}
		if r, err = d.Sync(t.Context()); err != nil || r.Settled != nil {
			t.Fatal("reported twice", err)
		}
		before := len(f.account.records)
		create(t, d, "b.test", "alice")
		if len(f.account.records) != before+1 {
			t.Fatal("the number was used twice")
		}
	}
}

// The host holds a request back until the client has given it up, and lets it
// through under the number of the next one: what comes back must not be taken for
// the next one's success.
func TestHeldRequest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	made := create(t, d, "a.test", "alice")
	f.delay = func(n wire.CommandName) bool { return n == wire.CommandRename }
	err := d.Rename(t.Context(), made.Handle, "held back")
	wantCode(t, err, wire.CodeUnsealedAnswer)
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.held = f.held[:1]
	f.release()
	if f.account.records[made.Handle].metadata.Label != "held back" {
		t.Fatal("the fake did not do what it held back")
	}
	c := create(t, d, "b.test", "alice")
	if c.Rebuilt || len(f.account.records) != 2 {
		t.Fatalf("the outcome of another request was taken for the passkey: %+v", c)
	}
}

func TestChallengeTooOld(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.sent = nil
	f.respond = func(b *wire.Body, r *wire.Response) {
		if len(f.sent) == 1 {
			r.Error, r.Results = refusal(wire.CodeChallenge), nil
			r.Newest, r.Entries = wire.Head{}, nil
		}
	}
	if _, err := d.Devices(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.sent) != 2 {
		t.Fatalf("sent %v", f.sent)
	}
}

func TestJoinIsSentOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		arrange func(f *fake)
		pin     string
		want    wire.Code // "": the join succeeds
		member  bool
	}{
		{"wrong PIN", func(*fake) {}, "000111", wire.CodePINWrong, false},
		{"answer lost", func(f *fake) {
			f.lose = func(n wire.CommandName) bool { return n == wire.CommandJoin }
		}, testPIN, "", true},
		{"answer lost, wrong PIN", func(f *fake) {
			f.lose = func(n wire.CommandName) bool { return n == wire.CommandJoin }
		}, "000111", wire.CodeUnavailable, false},
		{"refused in the clear", func(f *fake) {
			f.delay = func(n wire.CommandName) bool { return n == wire.CommandJoin }
		}, testPIN, wire.CodeUnsealedAnswer, false},
		{"sealed, challenge too old", func(f *fake) {
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name == wire.CommandJoin {
					r.Error, r.Results, r.Newest = refusal(wire.CodeChallenge), nil, wire.Head{}
				}
			}
		}, "000111", wire.CodeChallenge, false},
		{"sealed, result not written", func(f *fake) {
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name == wire.CommandJoin {
					r.Error, r.Results, r.Newest = refusal(wire.CodeUnavailable), nil, wire.Head{}
				}
			}
		}, "000111", wire.CodeUnavailable, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.enrolled()
			d := f.device()
			tt.arrange(f)
			_, err := d.Join(t.Context(), "phone", tt.pin)
			wantCode(t, err, tt.want)
			if f.count(wire.CommandJoin) != 1 {
				t.Errorf("%d PIN attempts", f.count(wire.CommandJoin))
			}
			if d.Status().Member != tt.member {
				t.Errorf("member: %v", d.Status().Member)
			}
		})
	}
}

func TestAttemptsLeft(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	d := f.device()
	for left := uint64(9); left > 6; left-- {
		_, err := d.Join(t.Context(), "phone", "000111")
		var e *wire.Error
		if !errors.As(err, &e) || e.AttemptsLeft == nil || *e.AttemptsLeft != left {
			t.Fatalf("got %v, want %d attempts left", err, left)
		}
	}
	r, err := laptop.Sync(t.Context())
	if err != nil || len(r.Notices) != 3 || r.Notices[2].Attempts != 3 || r.Notices[2].Name != "phone" {
		t.Fatalf("notices of failed attempts: %+v, %v", r, err)
	}
	if _, err := d.Join(t.Context(), "phone", testPIN); err != nil {
		t.Fatal(err)
	}
}

// The answer to enrol and join is lost and the process dies: the next run completes
// it with the keys and the UV key of then.
func TestAdmissionCompleted(t *testing.T) {
	t.Parallel()
	for _, command := range []wire.CommandName{wire.CommandEnrol, wire.CommandJoin} {
		t.Run(string(command), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			if command == wire.CommandJoin {
				create(t, f.enrolled(), "a.test", "a")
			}
			admit := func(d *Device) (*Admission, error) {
				if command == wire.CommandEnrol {
					return d.Enrol(t.Context(), "phone", testPIN)
				}
				return d.Join(t.Context(), "phone", testPIN)
			}
			d := f.device()
			f.lose = func(n wire.CommandName) bool { return n == command || n == wire.CommandSync }
			if _, err := admit(d); wire.CodeOf(err) != wire.CodeUnavailable && wire.CodeOf(err) != wire.CodeAccountExists {
				t.Fatal(err)
			}
			f.lose = nil
			d = f.again(d)
			if s := d.Status(); s.Member || s.Pending != command {
				t.Fatalf("stored: %+v", s)
			}
			attempts := f.count(wire.CommandJoin)
			a, err := admit(d)
			if err != nil || !a.Completed {
				t.Fatal(a, err)
			}
			if f.count(wire.CommandJoin) != attempts {
				t.Fatal("another PIN attempt for a join that was done")
			}
			create(t, d, "b.test", "b") // its UV key is the one registered
		})
	}
}
