package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/passclave/passclave/wire"
)

// A young device asks for a login only where that can show it to be young no more:
// otherwise it is refused at once, and nobody is asked for anything.
func TestYoungDeviceRevokes(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		age     time.Duration
		noLogin bool
		logins  int
		err     error
	}{
		"just joined":          {0, false, 0, &wire.Error{Code: wire.CodeYoung}},
		"joined a day ago":     {day, false, 1, nil},
		"and nobody to log in": {day, true, 0, ErrNoLogin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			laptop := f.enrolled()
			phone := f.joined()
			of := f.account.devices[1]
			of.young, of.joined = true, uint64(time.Now().Add(-c.age).Unix())
			if _, err := phone.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			logins, codes := 0, 0
			login, code := phone.options.Login, phone.options.Code
			phone.options.Login = func(ctx context.Context, r LoginRequest) (string, error) {
				if logins++; r.For != wire.CommandRevoke {
					t.Errorf("asked for %q", r.For)
				}
				return login(ctx, r)
			}
			if c.noLogin {
				phone.options.Login = nil
			}
			phone.options.Code = func(ctx context.Context, r CodeRequest) (string, error) {
				codes++
				return code(ctx, r)
			}
			err := phone.Revoke(t.Context(), laptop.ID())
			if !errors.Is(err, c.err) || logins != c.logins || c.err != nil && (codes != 0 || f.count(wire.CommandRevoke) != 0) {
				t.Errorf("%v, after %d logins, %d codes", err, logins, codes)
			}
		})
	}
}
