package main

import (
	"strings"
	"testing"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// A version is switched off once nothing needs it, and not before.
func TestKeysDisable(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	first := o.does(t, "alice", "create", "--policy", o.path("first.json"))["version"].(string)
	second := o.does(t, "alice", "rotate")["version"].(string)
	database := t.TempDir()
	s, err := sqlite.Open(database)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	account := storetest.NewAccount(ledgertest.NewKeys(t), "alice")
	c := account.Change(0)
	c.Wraps = []wire.Wrap{account.Wrap(first)}
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	refused := func(version, why string) {
		t.Helper()
		if words := o.fails(t, exitError, "key-needed", "alice", "disable", version, "--store", database); !strings.Contains(words, why) {
			t.Errorf("refused with %s", words)
		}
	}
	refused(second, "it is the newest")
	refused(first, "opens 1 account")
	if done, err := s.Rewrap(t.Context(), []store.Rewrap{account.Rewrap(second, first)}); err != nil || done != 1 {
		t.Fatalf("%d, %v", done, err)
	}
	if listed := o.does(t, "alice", "list", "--store", database); listed["versions"].([]any)[1].(map[string]any)["accounts"] != 1.0 {
		t.Errorf("listed %v", listed)
	}
	refused(first, "does not keep yet")
	if err := s.SetNote(t.Context(), store.NoteLineage(first), []byte("another version's")); err != nil {
		t.Fatal(err)
	}
	refused(first, "does not keep yet")
	if err := s.SetNote(t.Context(), store.NoteLineage(second), []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	o.does(t, "alice", "disable", first, "--store", database)
	if v, err := o.store.Versions(t.Context(), "passclave-kek"); err != nil || v[0].Enabled || !v[1].Enabled {
		t.Errorf("got %+v, %v", v, err)
	}
}
