package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/development/postgres"
	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/fsck"
	"github.com/passclave/passclave/host/store"
	hoststore "github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// fill writes three accounts in which nothing is wrong.
func fill(t *testing.T, database string, keys *ledgertest.Keys) {
	t.Helper()
	s := open(t, database)
	defer s.Close()
	for _, name := range []string{"a", "b", "c"} {
		a := storetest.NewAccount(keys, name)
		for _, c := range []*wire.Commit{a.Change(2), a.Reserve(), a.Change(1), a.Delete()} {
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func check(t *testing.T, database string, keys *ledgertest.Keys) (found []fsck.Finding) {
	t.Helper()
	if _, err := fsck.Run(t.Context(), inspect(database), keys.Verifier, nil, 2, func(f fsck.Finding) { found = append(found, f) }); err != nil {
		t.Fatal(err)
	}
	return found
}

func checks(findings []fsck.Finding) (out []fsck.Check) {
	for _, f := range findings {
		out = append(out, f.Check)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Each row damages one thing and expects exactly that finding, as host/fsck does on SQLite.
func TestFindings(t *testing.T) {
	t.Parallel()
	keys := ledgertest.NewKeys(t)
	whole := postgrestest.Database(t)
	fill(t, whole, keys)
	const (
		one    = " WHERE account = (SELECT account FROM accounts ORDER BY account LIMIT 1)"
		second = one + " AND seq = 2"
		record = one + " AND handle = (SELECT handle FROM records" + one + " ORDER BY handle LIMIT 1)"
		zeros  = "decode(repeat('00', 32), 'hex')"
	)
	for name, c := range map[string]struct {
		damage string
		want   []fsck.Check
	}{
		"nothing":                   {"", nil},
		"entry changed":             {"UPDATE entries SET entry = set_byte(entry, 100, get_byte(entry, 100) # 1)" + second, []fsck.Check{fsck.CheckEntry}},
		"entry missing":             {"DELETE FROM entries" + second, []fsck.Check{fsck.CheckEntry}},
		"first entry missing":       {"DELETE FROM entries" + one + " AND seq = 1", []fsck.Check{fsck.CheckEntry}},
		"entry's hash changed":      {"UPDATE entries SET hash = " + zeros + second, []fsck.Check{fsck.CheckEntry}},
		"entry of another account":  {"UPDATE entries SET entry = (SELECT entry FROM entries WHERE account = (SELECT account FROM accounts ORDER BY account DESC LIMIT 1) AND seq = 2)" + second, []fsck.Check{fsck.CheckEntry}},
		"newest entry gone":         {"DELETE FROM entries" + one + " AND seq = 4", []fsck.Check{fsck.CheckHead, fsck.CheckNewest}},
		"row names another hash":    {"UPDATE accounts SET hash = " + zeros + one, []fsck.Check{fsck.CheckNewest}},
		"row has another entry":     {"UPDATE accounts SET entry = (SELECT entry FROM entries" + one + " AND seq = 1)" + one, []fsck.Check{fsck.CheckNewest}},
		"row names another stream":  {"UPDATE accounts SET stream = " + zeros + one, []fsck.Check{fsck.CheckNewest}},
		"row names another epoch":   {"UPDATE accounts SET epoch = 9" + one, []fsck.Check{fsck.CheckNewest}},
		"head of another account":   {"UPDATE accounts SET head = (SELECT head FROM accounts WHERE account = (SELECT account FROM accounts ORDER BY account DESC LIMIT 1))" + one, []fsck.Check{fsck.CheckHead}},
		"head lost":                 {"UPDATE accounts SET head = ''" + one, []fsck.Check{fsck.CheckHead}},
		"manifest cut":              {"UPDATE accounts SET manifest = substr(manifest, 2)" + one, []fsck.Check{fsck.CheckManifest}},
		"manifest of a later epoch": {`UPDATE accounts SET manifest = '\xa301010209' || substr(manifest, 6)` + one, []fsck.Check{fsck.CheckManifest}},
		"account row missing":       {"DELETE FROM accounts" + one, []fsck.Check{fsck.CheckOrphan}},
		"all entries missing":       {"DELETE FROM entries" + one, []fsck.Check{fsck.CheckOrphan}},
		"blob of no account":        {"INSERT INTO blobs VALUES (" + zeros + ", " + zeros + ", '')", []fsck.Check{fsck.CheckOrphan}},
		"token of no account":       {"INSERT INTO feed_tokens VALUES (" + zeros + ", " + zeros + ")", []fsck.Check{fsck.CheckOrphan}},
		"wrap missing":              {"DELETE FROM wraps" + one, []fsck.Check{fsck.CheckWrap}},
		"wrap of a later epoch":     {"INSERT INTO wraps SELECT account, 1, 2, '1', box FROM wraps LIMIT 1", []fsck.Check{fsck.CheckWrap}},
		"record does not parse":     {"UPDATE records SET body = ''" + record, []fsck.Check{fsck.CheckRecord}},
		"record in another's place": {"UPDATE records SET body = (SELECT body FROM records WHERE account = (SELECT account FROM accounts ORDER BY account DESC LIMIT 1) LIMIT 1)" + record, []fsck.Check{fsck.CheckRecord}},
		"record of a later entry":   {"UPDATE records SET changed_seq = 99" + record, []fsck.Check{fsck.CheckRecord}},
		"record of no entry":        {"UPDATE records SET changed_seq = 0" + record, []fsck.Check{fsck.CheckRecord}},
		"blob changed":              {"UPDATE blobs SET body = ''" + one, []fsck.Check{fsck.CheckBlob}},
		"another ledger":            {"UPDATE meta SET value = " + zeros + " WHERE name = 'ledger'", []fsck.Check{fsck.CheckLedger}},
		"key of a wrong size": {"ALTER TABLE blobs DROP CONSTRAINT blobs_account_check; INSERT INTO blobs VALUES (decode(repeat('ff', 33), 'hex'), " + zeros + ", '')",
			[]fsck.Check{fsck.CheckDatabase, fsck.CheckOrphan}},
		"index not valid": {"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'records_changed'::regclass", []fsck.Check{fsck.CheckDatabase}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := postgrestest.Copy(t, whole)
			if c.damage != "" {
				postgrestest.Exec(t, database, c.damage)
			}
			if found := check(t, database, keys); !slices.Equal(checks(found), c.want) {
				t.Fatalf("found %v, want %v", found, c.want)
			}
		})
	}
}

// An index that lacks a row is found where the database has amcheck, and not where it has not.
func TestIndexLacksARow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, atFirst := range []bool{true, false} {
		if !atFirst {
			postgrestest.Exec(t, f.database, "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'records_changed'::regclass")
		}
		s := open(t, f.database) // whose connections know of the index what stands
		if _, err := s.Commit(t.Context(), storetest.NewAccount(f.keys, map[bool]string{true: "a", false: "b"}[atFirst]).Change(1)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	postgrestest.Exec(t, f.database, "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'records_changed'::regclass")
	if found := check(t, f.database, f.keys); len(found) > 0 {
		t.Fatalf("without amcheck: %v", found)
	}
	postgrestest.Exec(t, f.database, "CREATE EXTENSION amcheck")
	found := check(t, f.database, f.keys)
	if !slices.Equal(checks(found), []fsck.Check{fsck.CheckDatabase}) || !strings.Contains(found[0].Detail, "records_changed") {
		t.Fatalf("with amcheck: %v", found)
	}
	postgrestest.Exec(t, f.database, "REINDEX INDEX records_changed")
}

// A page that rotted on the disk is no answer: it is named as damage, and counted.
func TestRottenPage(t *testing.T) {
	t.Parallel()
	folder, err := postgrestest.Folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, folder) })
	server := postgrestest.Start(t, folder, nil)
	keys := ledgertest.NewKeys(t)
	fill(t, server.URL(""), keys)
	path := filepath.Join(filepath.Dir(server.Socket()), "data", tableFile(t, server, "entries"))
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rot"), 8000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	server = postgrestest.Start(t, folder, nil)
	s := open(t, server.URL(""))
	defer s.Close()
	id := storetest.NewAccount(keys, "a").ID
	if _, err := s.Load(t.Context(), wire.Need{Account: id, After: new(uint64)}); wire.CodeOf(err) != wire.CodeUnavailable || !errors.Is(err, store.ErrBroken) {
		t.Fatalf("Load: %v, want %v", err, store.ErrBroken)
	}
	s.Close()
	i, err := hoststore.Inspect(t.Context(), server.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if found, err := i.Integrity(t.Context()); err != nil || len(found) != 1 || !strings.Contains(found[0], "wrong checksum") {
		t.Fatalf("Integrity: %v, %v", found, err)
	}
}

func tableFile(t *testing.T, server *postgres.Server, table string) (path string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if err := c.QueryRow(t.Context(), "SELECT pg_relation_filepath($1::TEXT::REGCLASS)", table).Scan(&path); err != nil {
		t.Fatal(err)
	}
	return path
}
