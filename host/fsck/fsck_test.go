package fsck_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/host/fsck"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// whole makes a store of three accounts in which nothing is wrong.
func whole(t *testing.T) (folder string, keys *ledgertest.Keys) {
	t.Helper()
	folder, keys = t.TempDir(), ledgertest.NewKeys(t)
	s, err := sqlite.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"a", "b", "c"} {
		a := storetest.NewAccount(keys, name)
		for _, c := range []*wire.Commit{a.Change(2), a.Reserve(), a.Change(1), a.Delete()} {
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folder, keys
}

func run(t *testing.T, folder string, keys *ledgertest.Keys) []fsck.Check {
	t.Helper()
	var found []fsck.Check
	_, err := fsck.Run(t.Context(), func() (store.Inspector, error) { return sqlite.Inspect(folder) }, keys.Verifier, nil, 3, func(f fsck.Finding) {
		found = append(found, f.Check)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Each row damages one thing in the database and expects exactly that finding.
func TestFindings(t *testing.T) {
	t.Parallel()
	const one = " WHERE rowid = (SELECT min(rowid) FROM records)"
	for name, c := range map[string]struct {
		damage string
		want   []fsck.Check
	}{
		"nothing": {"", nil},
		"entry changed": {"UPDATE entries SET entry = CAST(substr(entry, 1, 100) || x'00' || substr(entry, 102) AS BLOB) WHERE rowid = 2",
			[]fsck.Check{fsck.CheckEntry}},
		"entry missing":             {"DELETE FROM entries WHERE rowid = 2", []fsck.Check{fsck.CheckEntry}},
		"first entry missing":       {"DELETE FROM entries WHERE rowid = 1", []fsck.Check{fsck.CheckEntry}},
		"entry's hash changed":      {"UPDATE entries SET hash = zeroblob(32) WHERE rowid = 2", []fsck.Check{fsck.CheckEntry}},
		"entry of another account":  {"UPDATE entries SET entry = (SELECT entry FROM entries WHERE rowid = 6) WHERE rowid = 2", []fsck.Check{fsck.CheckEntry}},
		"newest entry gone":         {"DELETE FROM entries WHERE rowid = 4", []fsck.Check{fsck.CheckHead, fsck.CheckNewest}},
		"row names another hash":    {"UPDATE accounts SET hash = zeroblob(32) WHERE rowid = 1", []fsck.Check{fsck.CheckNewest}},
		"row has another entry":     {"UPDATE accounts SET entry = (SELECT entry FROM entries WHERE rowid = 1) WHERE rowid = 1", []fsck.Check{fsck.CheckNewest}},
		"row names another stream":  {"UPDATE accounts SET stream = zeroblob(32) WHERE rowid = 1", []fsck.Check{fsck.CheckNewest}},
		"row names another epoch":   {"UPDATE accounts SET epoch = 9 WHERE rowid = 1", []fsck.Check{fsck.CheckNewest}},
		"head of another account":   {"UPDATE accounts SET head = (SELECT head FROM accounts WHERE rowid = 2) WHERE rowid = 1", []fsck.Check{fsck.CheckHead}},
		"head lost":                 {"UPDATE accounts SET head = x'' WHERE rowid = 1", []fsck.Check{fsck.CheckHead}},
		"manifest cut":              {"UPDATE accounts SET manifest = substr(manifest, 2) WHERE rowid = 1", []fsck.Check{fsck.CheckManifest}},
		"manifest of a later epoch": {"UPDATE accounts SET manifest = CAST(x'a301010209' || substr(manifest, 6) AS BLOB) WHERE rowid = 1", []fsck.Check{fsck.CheckManifest}},
		"account row missing":       {"DELETE FROM accounts WHERE rowid = 1", []fsck.Check{fsck.CheckOrphan}},
		"all entries missing":       {"DELETE FROM entries WHERE account = (SELECT account FROM accounts WHERE rowid = 1)", []fsck.Check{fsck.CheckOrphan}},
		"blob of no account":        {"INSERT INTO blobs VALUES (zeroblob(32), zeroblob(32), x'00')", []fsck.Check{fsck.CheckOrphan}},
		"token of no account":       {"INSERT INTO feed_tokens VALUES (zeroblob(32), zeroblob(32))", []fsck.Check{fsck.CheckOrphan}},
		"wrap missing":              {"DELETE FROM wraps WHERE account = (SELECT account FROM accounts WHERE rowid = 1)", []fsck.Check{fsck.CheckWrap}},
		"wrap of a later epoch":     {"INSERT INTO wraps SELECT account, 1, 2, '1', box FROM wraps LIMIT 1", []fsck.Check{fsck.CheckWrap}},
		"record does not parse":     {"UPDATE records SET body = x'00'" + one, []fsck.Check{fsck.CheckRecord}},
		"record in another's place": {"UPDATE records SET body = (SELECT body FROM records ORDER BY rowid DESC LIMIT 1)" + one, []fsck.Check{fsck.CheckRecord}},
		"record of a later entry":   {"UPDATE records SET changed_seq = 99" + one, []fsck.Check{fsck.CheckRecord}},
		"record of no entry":        {"UPDATE records SET changed_seq = 0" + one, []fsck.Check{fsck.CheckRecord}},
		"blob changed":              {"UPDATE blobs SET body = x'00' WHERE rowid = (SELECT min(rowid) FROM blobs)", []fsck.Check{fsck.CheckBlob}},
		"another ledger":            {"UPDATE meta SET value = zeroblob(32) WHERE name = 'ledger'", []fsck.Check{fsck.CheckLedger}},
		"key of a wrong size":       {"PRAGMA ignore_check_constraints = ON; INSERT INTO blobs VALUES (x'" + strings.Repeat("ff", 33) + "', zeroblob(32), x'00')", []fsck.Check{fsck.CheckDatabase, fsck.CheckOrphan}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, keys := whole(t)
			if c.damage != "" {
				damage(t, folder, c.damage)
			}
			found := run(t, folder, keys)
			slices.Sort(found)
			if !slices.Equal(slices.Compact(found), c.want) {
				t.Fatalf("found %v, want %v", found, c.want)
			}
		})
	}
}

func damage(t *testing.T, folder, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(folder, "passclave.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Exec(statement)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := r.RowsAffected(); n == 0 {
		t.Fatal("the damage did none")
	}
}

// Who remembers is asked before the store is read: what it holds must be there.
func TestEndorsers(t *testing.T) {
	t.Parallel()
	folder, keys := whole(t)
	a := storetest.NewAccount(keys, "a") // the same as in the store
	a.Change(2)
	a.Reserve()
	a.Change(1)
	third := a.At
	a.Delete()
	last := a.At
	for name, c := range map[string]struct {
		head wire.Head
		want []fsck.Check
	}{
		"nothing known":  {wire.Head{}, nil},
		"an older head":  {third, nil},
		"the newest":     {last, nil},
		"a newer one":    {wire.Head{Sequence: last.Sequence + 1}, []fsck.Check{fsck.CheckEndorsed}},
		"another entry":  {wire.Head{Sequence: 2, Hash: wire.Digest{1}}, []fsck.Check{fsck.CheckEndorsed}},
		"another newest": {wire.Head{Sequence: last.Sequence, Hash: wire.Digest{1}}, []fsck.Check{fsck.CheckEndorsed}},
	} {
		newest := func(_ context.Context, s wire.StreamID) (wire.Head, error) {
			if s != a.Stream {
				return wire.Head{}, nil
			}
			return c.head, nil
		}
		var found []fsck.Check
		_, err := fsck.Run(t.Context(), func() (store.Inspector, error) { return sqlite.Inspect(folder) }, keys.Verifier, newest, 2, func(f fsck.Finding) {
			found = append(found, f.Check)
		})
		if err != nil || !slices.Equal(found, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, found, err, c.want)
		}
	}
	silent := errors.New("no majority")
	_, err := fsck.Run(t.Context(), func() (store.Inspector, error) { return sqlite.Inspect(folder) }, keys.Verifier,
		func(context.Context, wire.StreamID) (wire.Head, error) { return wire.Head{}, silent }, 2, func(fsck.Finding) {})
	if !errors.Is(err, silent) {
		t.Errorf("nobody answers: %v", err)
	}
}

// Entries that another key signed are found, however well they link.
func TestForeignSigner(t *testing.T) {
	t.Parallel()
	folder, keys := whole(t)
	other := ledgertest.NewKeys(t)
	keys.Verifier.Signers = other.Verifier.Signers
	if found := run(t, folder, keys); !slices.Equal(found, []fsck.Check{fsck.CheckEntry, fsck.CheckEntry, fsck.CheckEntry}) {
		t.Fatalf("found %v", found)
	}
}

// An epoch that falls is found, though every entry is signed and links.
func TestEpochFalls(t *testing.T) {
	t.Parallel()
	keys := ledgertest.NewKeys(t)
	folder := t.TempDir()
	s, err := sqlite.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	a := storetest.NewAccount(keys, "a")
	a.Epoch = 2
	first := a.Change(0)
	a.Epoch = 1
	for _, c := range []*wire.Commit{first, a.Reserve()} {
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if found := run(t, folder, keys); !slices.Equal(found, []fsck.Check{fsck.CheckEntry}) {
		t.Fatalf("found %v", found)
	}
}

// Only the restore that names the entry before it may leave a gap.
func TestGaps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage string
		want   []fsck.Check
	}{
		"a restore":             {"", nil},
		"of another entry":      {"DELETE FROM entries WHERE seq = 2", []fsck.Check{fsck.CheckEntry}},
		"without a restore":     {"DELETE FROM entries WHERE seq = 3", []fsck.Check{fsck.CheckEntry}},
		"under another's place": {"UPDATE entries SET seq = 6 WHERE seq = 7", []fsck.Check{fsck.CheckEntry}},
	} {
		keys := ledgertest.NewKeys(t)
		folder := t.TempDir()
		s, err := sqlite.Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		a := storetest.NewAccount(keys, "a")
		commits := []*wire.Commit{a.Change(1), a.Change(1), a.Reserve()}
		gone := a.Fork("gone")
		for range 3 {
			gone.Change(1)
		}
		commits = append(commits, a.Restore(gone.At), a.Reserve())
		for _, c := range commits {
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		if c.damage != "" {
			damage(t, folder, c.damage)
		}
		if found := run(t, folder, keys); !slices.Equal(found, c.want) {
			t.Errorf("%s: found %v, want %v", name, found, c.want)
		}
	}
}

// A ledger key that goes back to an older one is found, though it is known.
func TestOlderLedgerKey(t *testing.T) {
	t.Parallel()
	keys := ledgertest.NewKeys(t)
	private, signers := ledger.Succession(keys.LedgerID, [][]byte{{1}, {2}})
	var err error
	if keys.Verifier, err = ledger.NewVerifier(keys.LedgerID, signers); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	s, err := sqlite.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := storetest.NewAccount(keys, "a")
	for i, by := range []int{0, 1, 0} {
		keys.Private = private[by]
		if _, err := s.Commit(t.Context(), a.Change(1)); err != nil {
			t.Fatal(err)
		}
		if found := run(t, folder, keys); slices.Contains(found, fsck.CheckEntry) != (i == 2) {
			t.Fatalf("after entry %d: found %v", i+1, found)
		}
	}
}

func TestStoreThatCannotBeRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	keys := ledgertest.NewKeys(t)
	_, err := fsck.Run(t.Context(), func() (store.Inspector, error) { return nil, broken }, keys.Verifier, nil, 2, nil)
	if !errors.Is(err, broken) {
		t.Fatalf("%v, want %v", err, broken)
	}
	folder, _ := whole(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fsck.Run(ctx, func() (store.Inspector, error) { return sqlite.Inspect(folder) }, keys.Verifier, nil, 0, func(fsck.Finding) {}); err == nil {
		t.Fatal("a check that was given up must not look done")
	}
}
