package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// replaceDatabase puts another database in the place of PostgreSQL's while it is stopped.
func (s *service) replaceDatabase(t *testing.T, by string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	folder := s.stack.DatabaseFolder()
	err := errors.Join(s.stack.StopParts(stack.Host), s.stack.StopDatabase(), os.RemoveAll(folder))
	if err != nil {
		t.Fatal(err)
	}
	copyFolder(t, folder, by)
	if err := errors.Join(s.stack.StartDatabase(ctx), s.stack.StartParts(ctx, stack.Host)); err != nil {
		t.Fatal(err)
	}
	s.ready()
}

// copyDatabase copies the database of a service that is stopped.
func (s *service) copyDatabase(t *testing.T, to string) string {
	t.Helper()
	to = filepath.Join(t.TempDir(), to)
	copyFolder(t, to, s.stack.DatabaseFolder())
	return to
}

// copyFolder keeps owners: PostgreSQL runs as another user where this one is root.
func copyFolder(t *testing.T, to, from string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func agreed(*client.Confirmation) (bool, error) { return true, nil }

// All endorsers are lost at once. Nothing starts by itself; the next genesis discontinues
// the account; a device that remembers more than an old copy vetoes; two devices bring it
// back, with the PIN attempts that were made.
func TestNextGenesis(t *testing.T) {
	t.Parallel()
	s := newStackFounded(t, func(f *stack.Founding) { f.Ledger = wire.BackendEndorsed })
	laptop := s.enrolled("alice")
	made, err := laptop.Create(t.Context(), site("before"))
	if err != nil {
		t.Fatal(err)
	}
	phone := s.joined("alice", "phone", pin)
	tablet := s.joined("alice", "tablet", pin)
	_, err = s.newDevice("alice").Join(t.Context(), "thief", wrongPIN)
	wantCode(t, err, wire.CodePINWrong)
	left := attemptsLeft(t, err)
	s.stack.Stop()
	older := s.copyDatabase(t, "older")

	start := func(next bool) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o := s.founded
		o.NextGenesis = next
		started, err := stack.Start(ctx, o)
		if err == nil {
			s.stack = started
			s.ready()
			s.readFounded()
		}
		return err
	}
	var refused *stack.RefusedError
	if err := start(false); !errors.As(err, &refused) {
		t.Fatalf("empty endorsers: %v", err)
	}
	if err := start(true); err != nil {
		t.Fatal(err)
	}
	if s.stack.Genesis != 2 || s.configuration.Ledger.Number != 2 {
		t.Fatalf("genesis %d, configured %d", s.stack.Genesis, s.configuration.Ledger.Number)
	}
	// Who was given no new trust policy accepts nothing; who was is told to confirm.
	_, err = laptop.Sync(t.Context())
	wantCode(t, err, wire.CodePolicy)
	for _, d := range []*device{laptop, phone, tablet} {
		if err := d.PinTrustPolicy(t.Context(), s.policy); err != nil {
			t.Fatal(err)
		}
		_, err = d.Sync(t.Context())
		wantCode(t, err, wire.CodeDiscontinued)
	}
	_, err = s.newDevice("alice").Join(t.Context(), "thief", wrongPIN)
	wantCode(t, err, wire.CodeDiscontinued)
	if c, err := laptop.Confirm(t.Context(), agreed); err != nil || c.Confirmed || c.Approved() != 1 || c.Needed != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := phone.Confirm(t.Context(), agreed); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, d := range []*device{laptop, phone, tablet} {
		d.sync()
		if _, err := d.Assert(t.Context(), client.AssertRequest{Handle: made.Handle}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.newDevice("alice").Join(t.Context(), "thief", wrongPIN)
	wantCode(t, err, wire.CodePINWrong)
	if n := attemptsLeft(t, err); n != left-1 {
		t.Fatalf("%d attempts left, %d before the genesis", n, left)
	}

	// Once more, with an old copy of the database, in which the tablet is a member still.
	if err := laptop.Revoke(t.Context(), tablet.ID()); err != nil {
		t.Fatal(err)
	}
	s.stack.Stop()
	newer := s.copyDatabase(t, "newer")
	if err := start(true); err != nil {
		t.Fatal(err)
	}
	s.replaceDatabase(t, older)
	for _, d := range []*device{laptop, phone, tablet} {
		if err := d.PinTrustPolicy(t.Context(), s.policy); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []*device{laptop, tablet} {
		_, err = d.Confirm(t.Context(), agreed)
		wantCode(t, err, wire.CodeFork)
		if d.Status().Alarm == nil {
			t.Error("no alarm")
		}
	}
	s.replaceDatabase(t, newer)
	_, err = tablet.Confirm(t.Context(), agreed)
	wantCode(t, err, wire.CodeUnknownDevice)
	if c, err := phone.Confirm(t.Context(), agreed); err != nil || c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	restarted, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.stack.Restart(restarted, stack.Enclave); err != nil {
		t.Fatal(err)
	}
	s.ready()
	if c, err := laptop.Confirm(t.Context(), agreed); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := laptop.Assert(t.Context(), client.AssertRequest{Handle: made.Handle}); err != nil {
		t.Fatal(err)
	}
}

func attemptsLeft(t *testing.T, err error) uint64 {
	t.Helper()
	var refusal *wire.Error
	if !errors.As(err, &refusal) || refusal.AttemptsLeft == nil {
		t.Fatalf("%v has no attempts left", err)
	}
	return *refusal.AttemptsLeft
}
