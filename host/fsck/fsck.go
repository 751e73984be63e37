// Package fsck checks what a host keeps, with public keys alone.
//
// It walks every account of a store: the stream's chain of entries from the first
// one with its links and signatures, and that everything beside it is what the
// entries name. It changes nothing and needs no secret. It owns no state; it trusts
// the ledger's public keys that its caller gives it, and nothing in the store.
//
// What it cannot see: whether the newest entry is the newest there ever was, unless
// somebody who remembers is asked ([Newest]: endorsers; with a local ledger only the
// enclave's memory and the devices know), accounts that are gone as a whole, and what is
// sealed: whether the records and blobs are all those that the head lists.
package fsck

import (
	"context"
	"fmt"
	"sync"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Check names what was found wrong. Names are stable.
type Check string

const (
	CheckDatabase Check = "database" // the database's own check of itself fails
	CheckLedger   Check = "ledger"   // the store belongs to another ledger
	CheckOrphan   Check = "orphan"   // rows of an account that has no entry, or no account row
	CheckEntry    Check = "entry"    // an entry is forged, foreign, missing, or does not link
	CheckNewest   Check = "newest"   // the account's row names another entry than its last
	CheckHead     Check = "head"     // the sealed head is not the one that the newest entry names
	CheckWrap     Check = "wrap"     // no wrapped account key for the epoch in force, or one for an epoch that is none
	CheckRecord   Check = "record"   // a record that does not parse, or is not the one that its key names
	CheckBlob     Check = "blob"     // a blob that is not the one that its hash names
	CheckEndorsed Check = "endorsed" // the database is behind what endorsers hold, or holds another entry
	CheckManifest Check = "manifest" // a manifest that does not parse, or of an epoch that is none
)

// Finding is one thing found wrong.
type Finding struct {
	Check    Check           `json:"check"`
	Account  *wire.AccountID `json:"-"` // nil: the store as a whole
	Sequence uint64          `json:"sequence,omitempty"`
	Detail   string          `json:"detail"`
}

func (f Finding) String() string {
	if f.Account == nil {
		return fmt.Sprintf("%s: %s", f.Check, f.Detail)
	}
	return fmt.Sprintf("%s: account %s: %s", f.Check, f.Account, f.Detail)
}

// Summary counts what was looked at.
type Summary struct {
	Accounts, Entries, Records, Blobs, Findings uint64
}

func (s *Summary) add(o Summary) {
	s.Accounts += o.Accounts
	s.Entries += o.Entries
	s.Records += o.Records
	s.Blobs += o.Blobs
	s.Findings += o.Findings
}

// page is how many rows are read at a time.
const page = 256

// Newest asks who remembers for the newest head of a stream; zero: none is known.
type Newest func(context.Context, wire.StreamID) (wire.Head, error)

// Run checks a store. newest is asked about each account before that is read, so that a
// service may run meanwhile; nil: there is nobody to ask. open gives an inspector of it for each of workers goroutines;
// they are closed here. report gets each finding, one at a time; a page of accounts
// and one of each table's rows is all that is held in memory.
//
// The error tells that the check could not be done; what it finds wrong are findings.
func Run(ctx context.Context, open func() (store.Inspector, error), verifier *ledger.Verifier, newest Newest, workers int, report func(Finding)) (Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards what follows, and the calls of report
	var total Summary
	var first error
	found := func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		total.Findings++
		report(f)
	}
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && first == nil {
			first = err
			cancel()
		}
	}

	accounts := make(chan []wire.AccountID)
	var running sync.WaitGroup
	for range max(1, workers) {
		running.Go(func() {
			fail(inspecting(open, func(i store.Inspector) error {
				for batch := range accounts {
					for _, id := range batch {
						if ctx.Err() != nil {
							return ctx.Err()
						}
						w := walk{verifier: verifier, account: id, report: found}
						if newest != nil {
							var err error
							if w.endorsed, err = newest(ctx, wire.Stream(verifier.Ledger, id)); err != nil {
								return fmt.Errorf("account %s: asking for its newest head: %w", id, err)
							}
						}
						if err := i.Inspect(ctx, id, w.check); err != nil {
							return fmt.Errorf("account %s: %w", id, err)
						}
						mu.Lock()
						total.add(w.seen)
						mu.Unlock()
					}
				}
				return nil
			}))
		})
	}
	fail(inspecting(open, func(i store.Inspector) error {
		defer close(accounts)
		if err := whole(ctx, i, verifier, found); err != nil {
			return err
		}
		return list(ctx, i, accounts, found)
	}))
	running.Wait()
	return total, first
}

func inspecting(open func() (store.Inspector, error), f func(store.Inspector) error) error {
	i, err := open()
	if err != nil {
		return err
	}
	defer i.Close()
	return f(i)
}

// whole checks the store as one thing.
func whole(ctx context.Context, i store.Inspector, verifier *ledger.Verifier, report func(Finding)) error {
	damage, err := i.Integrity(ctx)
	if err != nil {
		return err
	}
	for _, d := range damage {
		report(Finding{Check: CheckDatabase, Detail: d})
	}
	id, err := i.Ledger(ctx)
	if err != nil {
		return err
	}
	if id != nil && string(id) != string(verifier.Ledger) {
		report(Finding{Check: CheckLedger, Detail: fmt.Sprintf("the store belongs to ledger %x, not %x", id, verifier.Ledger)})
	}
	return nil
}

// list hands all accounts to the workers, a page at a time.
func list(ctx context.Context, i store.Inspector, accounts chan<- []wire.AccountID, report func(Finding)) error {
	var after *wire.AccountID
	for {
		if ctx.Err() != nil {
			return ctx.Err() // a select below would choose between both ways
		}
		batch, err := i.Accounts(ctx, after, page)
		if err != nil || len(batch) == 0 {
			return err
		}
		last := batch[len(batch)-1]
		if after != nil && last.String() <= after.String() {
			report(Finding{Check: CheckDatabase, Detail: "an account's key of a wrong size"})
			return nil
		}
		after = &last
		select {
		case accounts <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
