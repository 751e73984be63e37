package fsck

import (
	"crypto/sha256"
	"fmt"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// walk checks one account.
type walk struct {
	verifier *ledger.Verifier
	account  wire.AccountID
	report   func(Finding)
	endorsed wire.Head // the newest, by the word of those who remember

	seen Summary
	last *ledger.Entry // the newest entry that links
	at   wire.Head     // its place
}

func (w *walk) found(c Check, sequence uint64, format string, args ...any) {
	w.report(Finding{Check: c, Account: &w.account, Sequence: sequence, Detail: fmt.Sprintf(format, args...)})
}

func (w *walk) check(v store.View) error {
	w.seen.Accounts++
	row, err := v.Row()
	if err != nil {
		return err
	}
	whole, err := w.chain(v)
	if err != nil {
		return err
	}
	switch {
	case row == nil:
		w.found(CheckOrphan, 0, "rows, but no account row")
		return nil
	case !whole:
		return nil // with a broken chain nothing beside it can be judged
	case w.last == nil:
		w.found(CheckOrphan, 0, "an account row, but no entry")
		return nil
	}
	if w.at.Sequence < w.endorsed.Sequence {
		w.found(CheckEndorsed, w.at.Sequence, "ends at entry %d, endorsers hold entry %d", w.at.Sequence, w.endorsed.Sequence)
	}
	w.row(row)
	for _, f := range []func(store.View) error{w.wraps, w.records, w.blobs} {
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

// chain checks all entries from the first; the first that is wrong ends it.
func (w *walk) chain(v store.View) (whole bool, err error) {
	stream := wire.Stream(w.verifier.Ledger, w.account)
	for {
		entries, err := v.Entries(w.at.Sequence, page)
		if err != nil || len(entries) == 0 {
			return err == nil, err
		}
		for _, row := range entries {
			w.seen.Entries++
			if why := w.link(stream, row); why != "" {
				w.found(CheckEntry, w.at.Sequence+1, "entry %d: %s", w.at.Sequence+1, why)
				return false, nil
			}
		}
	}
}

// link checks that an entry follows the one before, and says why it does not.
func (w *walk) link(stream wire.StreamID, row store.Entry) string {
	e, err := w.verifier.Verify(stream, row.Body)
	if err != nil {
		return err.Error()
	}
	here := ledger.HeadOf(e, row.Body)
	switch {
	case here != row.Head:
		return "is not the one that its row names"
	case !e.Follows(w.at) && here.Sequence > w.at.Sequence+1:
		return fmt.Sprintf("missing; entry %d comes next", here.Sequence)
	case !e.Follows(w.at):
		return "does not follow the one before"
	case w.last != nil && (e.Generation < w.last.Generation || e.Generation == w.last.Generation && e.Epoch < w.last.Epoch):
		return "goes back to an earlier epoch"
	case w.last != nil && w.verifier.Superseded(e.Signer, w.last.Signer):
		return "is signed by an older ledger key than the one before"
	}
	if here.Sequence == w.endorsed.Sequence && here != w.endorsed {
		w.found(CheckEndorsed, here.Sequence, "entry %d is not the one that endorsers hold", here.Sequence)
	}
	w.at, w.last = here, e
	return ""
}

// row checks the account's own row against the newest entry.
func (w *walk) row(r *store.Row) {
	seq := w.at.Sequence
	if r.Newest != w.at || ledger.EntryHash(r.Entry) != w.at.Hash || r.Stream != w.last.Stream || r.Generation != w.last.Generation || r.Epoch != w.last.Epoch {
		w.found(CheckNewest, seq, "the account row names entry %d, epoch %d of generation %d; the chain ends at entry %d, epoch %d of generation %d",
			r.Newest.Sequence, r.Epoch, r.Generation, seq, w.last.Epoch, w.last.Generation)
	}
	if sha256.Sum256(r.Head) != w.last.Head {
		w.found(CheckHead, seq, "the sealed head is not the one that entry %d names", seq)
	}
	// A manifest is sealed: only its outer form is for us to see.
	var m struct {
		Generation uint64 `cbor:"1,keyasint"`
		Epoch      uint64 `cbor:"2,keyasint"`
		Box        []byte `cbor:"3,keyasint"`
	}
	if err := wire.Unmarshal(r.Manifest, &m); err != nil {
		w.found(CheckManifest, seq, "the manifest does not parse")
	} else if !w.reached(m.Generation, m.Epoch) {
		w.found(CheckManifest, seq, "the manifest is of epoch %d of generation %d, which is none", m.Epoch, m.Generation)
	}
}

// reached reports whether the account ever was in an epoch.
func (w *walk) reached(generation, epoch uint64) bool {
	return generation < w.last.Generation || generation == w.last.Generation && epoch <= w.last.Epoch
}

func (w *walk) wraps(v store.View) error {
	wraps, err := v.Wraps()
	if err != nil {
		return err
	}
	inForce := false
	for _, x := range wraps {
		if !w.reached(x.Generation, x.Epoch) {
			w.found(CheckWrap, w.at.Sequence, "a wrapped account key of epoch %d of generation %d, which is none", x.Epoch, x.Generation)
		}
		if x.Generation == w.last.Generation && x.Epoch == w.last.Epoch {
			inForce = true
		}
	}
	if !inForce {
		w.found(CheckWrap, w.at.Sequence, "no wrapped account key of epoch %d of generation %d", w.last.Epoch, w.last.Generation)
	}
	return nil
}

func (w *walk) records(v store.View) error {
	var after *wire.Handle
	for {
		records, err := v.Records(after, page)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, row := range records {
			w.seen.Records++
			r, err := wire.ParseRecord(row.Body)
			switch {
			case err != nil:
				w.found(CheckRecord, row.Changed, "record %s does not parse", row.Handle)
			case r.Handle != row.Handle:
				w.found(CheckRecord, row.Changed, "record %s stands in the place of %s", r.Handle, row.Handle)
			case !w.reached(r.Generation, r.Epoch):
				w.found(CheckRecord, row.Changed, "record %s is of epoch %d of generation %d, which is none", row.Handle, r.Epoch, r.Generation)
			case row.Changed == 0 || row.Changed > w.at.Sequence:
				w.found(CheckRecord, row.Changed, "record %s was changed by entry %d, which is none", row.Handle, row.Changed)
			}
		}
		last := records[len(records)-1].Handle
		if after != nil && last.String() <= after.String() {
			w.found(CheckDatabase, 0, "a record's key of a wrong size")
			return nil
		}
		after = &last
	}
}

func (w *walk) blobs(v store.View) error {
	var after *wire.Digest
	for {
		blobs, err := v.Blobs(after, page)
		if err != nil || len(blobs) == 0 {
			return err
		}
		for _, b := range blobs {
			w.seen.Blobs++
			if wire.BlobHash(b.Body) != b.Hash {
				w.found(CheckBlob, 0, "blob %s is not the one that its hash names", b.Hash)
			}
		}
		last := blobs[len(blobs)-1].Hash
		if after != nil && last.String() <= after.String() {
			w.found(CheckDatabase, 0, "a blob's key of a wrong size")
			return nil
		}
		after = &last
	}
}
