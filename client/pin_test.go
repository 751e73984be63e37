package client

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestCheckPIN(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{
		"", "12345", "1234", "999", "abc", "000000", "aaaa", "123456", "654321", "890123", "321098", "abcd", "fedcba",
		"121212", "123123", "abab", "xyzxyz", "112233", "PASSWORD", "Qwerty", "48\x002915", "\xff\xfe\xfd\xfc", strings.Repeat("a1B2", 33),
	} {
		var e *PINError
		if err := CheckPIN(pin); !errors.As(err, &e) {
			t.Errorf("%q: %v", pin, err)
		} else if len(pin) > 3 && strings.Contains(err.Error(), pin) {
			t.Errorf("%q stands in its refusal", pin)
		}
	}
	for _, pin := range []string{testPIN, "730264", "0070071", "k9#x", "größe", "correct horse battery staple"} {
		if err := CheckPIN(pin); err != nil {
			t.Errorf("%q: %v", pin, err)
		}
	}
}

func TestTrivialPINIsNotSent(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.device()
	var e *PINError
	if _, err := d.Enrol(t.Context(), "laptop", "123456"); !errors.As(err, &e) {
		t.Errorf("enrol: %v", err)
	}
	if err := f.enrolled().PINSet(t.Context(), "111111"); !errors.As(err, &e) {
		t.Errorf("pin set: %v", err)
	}
	if f.count(wire.CommandTicket) != 1 { // of the one that enrolled
		t.Errorf("sent %v", f.sent)
	}
}

func TestStretchingFloor(t *testing.T) {
	t.Parallel()
	low := func(change func(*wire.Argon2id)) func(*wire.TicketResult) {
		return func(r *wire.TicketResult) { change(&r.Argon2id); change(&r.FreshParams) }
	}
	for name, attack := range map[string]func(*wire.TicketResult){
		"memory":         low(func(p *wire.Argon2id) { p.MemoryKiB-- }),
		"passes":         low(func(p *wire.Argon2id) { p.Time-- }),
		"lanes":          low(func(p *wire.Argon2id) { p.Parallelism-- }),
		"too much":       low(func(p *wire.Argon2id) { p.MemoryKiB = 1 << 30 }),
		"too many times": low(func(p *wire.Argon2id) { p.Time = 1 << 30 }),
		"salt":           func(r *wire.TicketResult) { r.Salt, r.FreshSalt = r.Salt[1:], r.FreshSalt[1:] },
		"no salt":        func(r *wire.TicketResult) { r.Salt, r.FreshSalt = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			member := f.enrolled()
			f.config.PIN.Argon2id = wire.Argon2id{MemoryKiB: 8, Time: 2, Parallelism: 2}
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name != wire.CommandTicket {
					return
				}
				var result wire.TicketResult
				if err := wire.Unmarshal(r.Results[0], &result); err != nil {
					t.Error(err)
				}
				result.Argon2id = f.config.PIN.Argon2id
				result.FreshParams = f.config.PIN.Argon2id
				attack(&result)
				r.Results[0] = wire.Marshal(result)
			}
			_, err := f.device().Enrol(t.Context(), "phone", testPIN)
			wantCode(t, err, wire.CodePolicy)
			_, err = f.device().Join(t.Context(), "phone", testPIN)
			wantCode(t, err, wire.CodePolicy)
			wantCode(t, member.PINSet(t.Context(), "730264"), wire.CodePolicy)
			if f.count(wire.CommandEnrol) != 1 || f.count(wire.CommandJoin) != 0 || f.count(wire.CommandPINSet) != 0 {
				t.Errorf("a weakly stretched PIN was sent: %v", f.sent)
			}
		})
	}
}

// An ID token of another issuer with the same subject names another account.
func TestLoginOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.device()
	right := d.options.Login
	d.options.Login = func(ctx context.Context, r LoginRequest) (string, error) {
		r.Issuer.Issuer = "https://other.example"
		return right(ctx, r)
	}
	_, err := d.Enrol(t.Context(), "laptop", testPIN)
	wantCode(t, err, wire.CodeLogin)
	if len(f.sent) != 0 {
		t.Errorf("sent %v", f.sent)
	}
}

// A membership without its secrets is not taken: the device would seal nothing with them.
func TestMembershipWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*wire.Membership){
		"vault secret": func(m *wire.Membership) { m.VaultSecret = m.VaultSecret[1:] },
		"notes' key":   func(m *wire.Membership) { m.NotesKey = nil },
		"epoch":        func(m *wire.Membership) { m.Epoch = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.device()
			f.lose = func(n wire.CommandName) bool { return n == wire.CommandSync }
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name == wire.CommandEnrol {
					var m wire.Membership
					if err := wire.Unmarshal(r.Results[0], &m); err != nil {
						t.Error(err)
					}
					spoil(&m)
					r.Results[0] = wire.Marshal(m)
				}
			}
			_, err := d.Enrol(t.Context(), "laptop", testPIN)
			wantCode(t, err, wire.CodeMalformed)
			if d.p.Member || d.p.Epochs != nil {
				t.Error("taken")
			}
		})
	}
}

func TestLoginOfAnotherAccount(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	d.options.Login = f.options(nil, "mallory").Login
	wantCode(t, d.PINSet(t.Context(), "730264"), wire.CodeLogin)
	if d.Status().Account != f.account.id {
		t.Fatal("the profile changed its account")
	}
}

func FuzzSubjectOf(f *testing.F) {
	f.Add("e30.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYWxpY2UifQ.e30")
	f.Add("e30.e30.e30")
	f.Add("..")
	if s, err := subjectOf("e30.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYWxpY2UifQ.e30", testIssuer); s != "alice" || err != nil {
		f.Fatal(s, err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		s, err := subjectOf(token, testIssuer)
		if (err == nil) != (s != "") || err != nil && wire.CodeOf(err) != wire.CodeLogin {
			t.Fatalf("%q, %v", s, err)
		}
	})
}
