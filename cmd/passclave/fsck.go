package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/host/endorsers"
	"github.com/passclave/passclave/host/fsck"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// checked is the JSON of fsck.
type checked struct {
	Whole    bool      `json:"whole"`
	Accounts uint64    `json:"accounts"`
	Entries  uint64    `json:"entries"`
	Records  uint64    `json:"records"`
	Blobs    uint64    `json:"blobs"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Check    string `json:"check"`
	Account  string `json:"account,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	Detail   string `json:"detail"`
}

func (a *app) fsckCommand() *cobra.Command {
	var state, database, policyFile, endorsersFile string
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Check a service's database, with public keys alone",
		Long: `Walks the whole database of a service, running or not, and changes nothing: every account's chain of
ledger entries with its signatures and links, and that all the rest is what the entries name.

The ledger's public keys come from the newest evidence that the host keeps, which must be genuine
and accepted by the trust policy. Exit code 7: something is wrong; every finding is printed.

With an endorsed ledger the endorsers are asked, by signed answers that are verified from the genesis
on, and each account must reach as far as they remember. What it cannot see with a local one: whether
the newest entry is the newest there ever was. The enclave's memory and people's devices know that.`,
		Example: `  passclave fsck --state ./state
  passclave fsck --store postgres://reader@db.internal/passclave --policy policy.json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if policyFile == "" {
				policyFile = filepath.Join(state, stack.PolicyFileName)
			}
			if database == "" {
				var err error
				if database, err = stack.StoreOf(state); err != nil {
					return err
				}
			}
			if endorsersFile == "" {
				endorsersFile = filepath.Join(state, "endorsers", "endorsers.json")
			}
			out, err := a.fsck(c, database, policyFile, endorsersFile)
			if err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { printChecked(w, out) }); err != nil {
				return err
			}
			if !out.Whole {
				a.exit = exitAlarm
				return errReported
			}
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "./state", "`folder` of the service")
	c.Flags().StringVar(&database, "store", "", "the host's database: its `folder` or postgres://… (default: that in the state folder)")
	c.Flags().StringVar(&endorsersFile, "endorsers", "", "`file` that names endorsers and views, for an endorsed ledger (default: that in the state folder)")
	policyFlag(c, &policyFile, "trust policy `file` (default: policy.json in the state folder)")
	return c
}

func (a *app) fsck(c *cobra.Command, database, policyFile, endorsersFile string) (*checked, error) {
	open := func() (store.Inspector, error) { return inspect(c.Context(), database) }
	i, err := open()
	if err != nil {
		return nil, err
	}
	evidence, err := i.Note(c.Context(), store.NoteEvidence)
	id, idErr := i.Ledger(c.Context())
	if err := errors.Join(err, idErr, i.Close()); err != nil {
		return nil, err
	}
	out := &checked{Whole: true, Findings: []finding{}}
	if id == nil {
		return out, nil // no entry was ever written
	}
	if evidence == nil {
		return nil, errors.New("the database has entries, but no evidence to take the ledger's public keys from: start the service once")
	}
	trust, err := os.ReadFile(policyFile)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(trust)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policyFile, err)
	}
	j := judge(parseEvidence(sourceService, "the database", evidence, nil), p, p.Roots(), time.Now())
	switch j.verdict {
	case verdictNotGenuine:
		return nil, wire.Errorf(wire.CodeEvidence, "the evidence in the database")
	case verdictRefused:
		return nil, wire.Errorf(wire.CodePolicy, "the evidence in the database")
	}
	verifier, err := j.ledgerVerifier()
	if err != nil {
		return nil, err
	}
	newest, closeEndorsers, err := askEndorsers(j.claims.Configuration.Ledger, verifier, endorsersFile)
	if err != nil {
		return nil, err
	}
	defer closeEndorsers()
	a.working("checking")
	summary, err := fsck.Run(c.Context(), open, verifier, newest, runtime.NumCPU(), func(f fsck.Finding) {
		found := finding{Check: string(f.Check), Sequence: f.Sequence, Detail: f.Detail}
		if f.Account != nil {
			found.Account = f.Account.String()
		}
		out.Findings = append(out.Findings, found)
	})
	if err != nil {
		return nil, err
	}
	out.Accounts, out.Entries, out.Records, out.Blobs = summary.Accounts, summary.Entries, summary.Records, summary.Blobs
	out.Whole = summary.Findings == 0
	return out, nil
}

// askEndorsers returns how to ask the endorsers of a ledger for the newest head of a
// stream; nil where the ledger has none. It verifies their answers from the genesis on.
func askEndorsers(id wire.LedgerIdentity, verifier *ledger.Verifier, file string) (fsck.Newest, func(), error) {
	if id.Backend != wire.BackendEndorsed {
		return nil, func() {}, nil
	}
	pool, err := endorsers.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("the endorsers' file: %w", err)
	}
	memory := endorsed.New(endorsed.Options{Identity: id, Verifier: func() *ledger.Verifier { return verifier }})
	l := memory.Over(reader{pool})
	return func(ctx context.Context, stream wire.StreamID) (wire.Head, error) {
		h, err := l.ReadHead(ctx, wire.AccountID{}, stream, [32]byte{}, nil)
		switch {
		case wire.CodeOf(err) == wire.CodeRollback, h.Discontinued:
			return wire.Head{}, nil // an entry that too few hold yet, or none to compare with
		case err != nil:
			return wire.Head{}, err
		}
		return h.Head, nil
	}, pool.Close, nil
}

// reader reaches endorsers and has no database to offer: nothing is ever appended.
type reader struct{ *endorsers.Pool }

func (reader) Newest(context.Context, wire.AccountID) ([]byte, error) { return nil, nil }

func (reader) Commit(context.Context, *wire.Commit) (wire.Appended, error) {
	return wire.Appended{}, wire.Errorf(wire.CodeInternal, "fsck changes nothing")
}

func printChecked(w io.Writer, out *checked) {
	for _, f := range out.Findings {
		account := ""
		if f.Account != "" {
			account = fmt.Sprintf(" account %.16s…:", f.Account)
		}
		fmt.Fprintf(w, "WRONG %s:%s %s\n", f.Check, account, printable(f.Detail))
	}
	verdict := "whole"
	if !out.Whole {
		verdict = "NOT whole: " + count(len(out.Findings), "finding")
	}
	fmt.Fprintf(w, "%s, %s, %s, %s: %s\n", count(int(out.Accounts), "account"), count(int(out.Entries), "entry"),
		count(int(out.Records), "record"), count(int(out.Blobs), "blob"), verdict)
}
