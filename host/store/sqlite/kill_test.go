package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// writerFolder makes the test binary a process that writes until it is killed.
const writerFolder = "PASSCLAVE_TEST_WRITER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(writerFolder); folder != "" {
		if err := write(folder, os.Getenv(writerFolder+"_ROUND")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fixedKeys are the same in every process.
func fixedKeys() (*ledgertest.Keys, error) {
	id, kek := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	private, signers := ledger.Succession(id, [][]byte{kek})
	verifier, err := ledger.NewVerifier(id, signers)
	return &ledgertest.Keys{LedgerID: id, Private: private[0], Verifier: verifier}, err
}

const writers = 8

// write commits to one account a goroutine for ever, rewraps it after each time, and says
// on stdout what was acknowledged.
func write(folder, round string) error {
	keys, err := fixedKeys()
	if err != nil {
		return err
	}
	s, err := sqlite.Open(folder)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make(chan error, writers)
	for n := range writers {
		all.Go(func() {
			a := storetest.NewAccount(keys, fmt.Sprint(round, n))
			for {
				if _, err := s.Commit(context.Background(), a.Change(1)); err != nil {
					errs <- err
					return
				}
				fmt.Printf("%s %d\n", a.ID, a.At.Sequence) // one write each: lines do not mix
				former, next := "1", "2"
				if a.At.Sequence%2 == 0 {
					former, next = next, former
				}
				if _, err := s.Rewrap(context.Background(), []store.Rewrap{a.Rewrap(next, former)}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	return <-errs
}

// A process that is killed while it writes loses nothing that it acknowledged, and
// leaves no half of a commit.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	keys, err := fixedKeys()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	acknowledged := map[string]uint64{}
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerFolder+"="+folder, fmt.Sprintf("%s_ROUND=%d-", writerFolder, round))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var account string
			var sequence uint64
			if _, err := fmt.Sscan(lines.Text(), &account, &sequence); err == nil && sequence > 0 {
				acknowledged[account] = sequence
			}
			if n == 20+37*round {
				cmd.Process.Kill() // and what it still wrote is read to its end
			}
		}
		cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatalf("the writer ended by itself: %s", &stderr)
		}

		s := open(t, folder)
		for account, want := range acknowledged {
			var id wire.AccountID
			if _, err := hex.Decode(id[:], []byte(account)); err != nil {
				t.Fatal(err)
			}
			state, err := s.Load(t.Context(), wire.Need{Account: id, State: true})
			if err != nil {
				t.Fatal(err)
			}
			e, err := ledger.ParseEntry(state.Newest)
			if err != nil || e.Sequence < want {
				t.Fatalf("account %s: entry %d was acknowledged, %+v stands (%v)", account, want, e, err)
			}
			if len(state.Wraps) != 1 {
				t.Fatalf("account %s: half of a rewrap stands: %+v", account, state.Wraps)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		storetest.Fsck(t, inspect(folder), keys)
	}
	if len(acknowledged) < 2*writers {
		t.Fatalf("only %d accounts were written", len(acknowledged))
	}
}
