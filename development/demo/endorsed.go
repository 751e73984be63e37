package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/host/endorsers"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// endorsedSteps are told of an endorsed ledger, before the enclave is rebuilt: whether
// the newest entry is the newest hangs on three endorsers then, not on one process.
var endorsedSteps = []step{
	{"One of three endorsers is killed: nothing stops", "A majority is enough. The one that starts again is empty, and nobody believes it.", (*story).oneEndorserGone},
	{"The host shows a view that names the empty one", "A fresh endorser would sign any old state. Without the word of the old majority no enclave believes in it.", (*story).forgedView},
	{"The operator changes the view", "The two that remember say their last word and hand over; the new one is shown by its evidence.", (*story).changesView},
	{"The database is restored from an older copy, and the enclave restarted", "No process at the operator's remembers what came after: the endorsers do.", (*story).restoredDatabase},
	{"What came after is really lost: her laptop and her tablet agree to the older copy", "An older state comes back by the word of her devices alone, and PIN attempts never do.", (*story).restoresOnPurpose},
	{"Two of three endorsers are killed: the service refuses", "It could guess which entry is the newest. It does not.", (*story).twoEndorsersGone},
}

func (s *story) oneEndorserGone(ctx context.Context) error {
	if err := s.stack.Kill(ctx, stack.EndorserParts[0]); err != nil {
		return err
	}
	return first(s.rename(ctx, "Alice's passkey, with two endorsers"), s.signIn(ctx, "tablet"))
}

// forgedView shows the enclave, which is restarted to look, a chain that goes on with
// the operator's wish and without the word of those whom it replaces.
func (s *story) forgedView(ctx context.Context) error {
	path := s.stack.EndorsersFile()
	f, err := endorsers.ReadFile(path)
	if err != nil {
		return err
	}
	chain, err := f.Views()
	if err != nil {
		return err
	}
	v, err := endorsement.ParseView(chain.Links[len(chain.Links)-1].View)
	if err != nil {
		return err
	}
	client, err := endorsers.Dial(ctx, f.Addresses[0])
	if err != nil {
		return err
	}
	defer client.Close()
	empty, err := client.Identify(ctx)
	if err != nil {
		return err
	}
	members := append(endorsement.Group{{Key: empty.Key, Evidence: endorsement.EvidenceHash(empty.Evidence)}}, v.Groups[0][1:]...)
	chain.Links = append(chain.Links, endorsement.Link{View: v.Next([]endorsement.Group{members}).Encode()})
	forged := *f
	forged.Chain = wire.Marshal(chain)
	if err := first(forged.Write(path), s.restartEnclave(ctx)); err != nil {
		return err
	}
	if _, err := s.refused(ctx, 1, "view", "tablet", secrets{code}, s.signInLine()...); err != nil {
		return err
	}
	return first(f.Write(path), s.signIn(ctx, "tablet"))
}

func (s *story) restartEnclave(ctx context.Context) error {
	return first(s.stack.Restart(ctx, stack.Enclave), s.ready(ctx))
}

func (s *story) changesView(ctx context.Context) error {
	key, release := s.stack.OperatorFiles()
	var v struct {
		View uint64 `json:"view"`
	}
	err := s.done(ctx, "laptop", nil, &v, "ledger", "view-change", "--endorsers", s.stack.EndorsersFile(), "--operator-key", key, "--release", release)
	if err != nil {
		return err
	}
	s.say("view %d is in force: three endorsers again", v.View)
	return first(must("view", v.View, 2), s.rename(ctx, "Alice's passkey, in the second view"), s.signIn(ctx, "tablet"))
}

// restoredDatabase brings back the database's files of a moment ago: everything in them
// is genuine and fits together.
func (s *story) restoredDatabase(ctx context.Context) error {
	database := s.stack.DatabaseFolder()
	older := filepath.Join(s.dir, "older")
	err := first(
		s.withoutHost(ctx, func() error { return copyFolder(older, database) }),
		s.rename(ctx, "Alice's passkey, after the copy"),
		s.withoutHost(ctx, func() error { return replaceFolder(database, older) }),
		s.restartEnclave(ctx),
	)
	if err != nil {
		return err
	}
	if _, err := s.refused(ctx, exitAlarm, "rollback", "tablet", secrets{code}, s.signInLine()...); err != nil {
		return err
	}
	r, err := s.run(ctx, "laptop", nil, "fsck", "--state", s.state())
	if err != nil {
		return err
	}
	var f struct {
		Findings []struct {
			Check string `json:"check"`
		} `json:"findings"`
	}
	if err := decode(r.out, &f); err != nil {
		return err
	}
	if r.exit != exitAlarm || len(f.Findings) != 1 || f.Findings[0].Check != "endorsed" {
		return mismatch("fsck", f.Findings, "one finding, endorsed")
	}
	s.say("fsck: the account ends before what endorsers hold, exit code %d", r.exit)
	return nil
}

func (s *story) restoresOnPurpose(ctx context.Context) error {
	line := []string{"ledger", "restore", "--yes", "--user", user, "--code-fd", "3"}
	for i, profile := range []string{"laptop", "tablet"} {
		var r struct {
			Confirmed bool `json:"confirmed"`
			Approved  int  `json:"approved"`
		}
		if err := s.done(ctx, profile, secrets{code}, &r, line...); err != nil {
			return err
		}
		s.say("approved by %d of 2", r.Approved)
		if r.Approved != i+1 || r.Confirmed != (i == 1) {
			return mismatch("ledger restore", r, i+1)
		}
	}
	return first(s.signIn(ctx, "tablet"), s.done(ctx, "laptop", nil, nil, "sync"),
		s.rename(ctx, "Alice's passkey, after the restore"), s.signIn(ctx, "laptop"))
}

// withoutHost does something while host and database are stopped.
func (s *story) withoutHost(ctx context.Context, do func() error) error {
	if err := first(s.stack.StopParts(stack.Host), s.stack.StopDatabase()); err != nil {
		return err
	}
	return first(do(), s.stack.StartDatabase(ctx), s.stack.StartParts(ctx, stack.Host), s.ready(ctx))
}

// copyFolder keeps owners: PostgreSQL runs as another user where this one is root.
func copyFolder(to, from string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the database: %w: %s", err, out)
	}
	return nil
}

func replaceFolder(folder, by string) error {
	return first(os.RemoveAll(folder), copyFolder(folder, by))
}

func (s *story) twoEndorsersGone(ctx context.Context) error {
	for _, p := range stack.EndorserParts[1:] {
		if err := s.stack.Kill(ctx, p); err != nil {
			return err
		}
	}
	r, err := s.run(ctx, "tablet", secrets{code}, s.signInLine()...)
	if err != nil {
		return err
	}
	if r.exit == 0 {
		return errors.New("signed in without a majority of endorsers")
	}
	s.say("refused: %s, exit code %d", r.err.Message, r.exit)
	return first(must("exit code", r.exit, 1), must("code", r.err.Code, "unavailable"))
}
