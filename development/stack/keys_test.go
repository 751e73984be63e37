package stack_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/keystore/file"
)

// Where the KEK is, is decided by the first start. SoftHSM itself is tested in e2e.
func TestKeysStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	var refused *stack.RefusedError
	o := options(t)
	o.Founding.Keys = "a drawer"
	if _, err := stack.Start(t.Context(), o); !errors.As(err, &refused) || refused.Remedy == "" {
		t.Errorf("founded with its KEK in a drawer: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "founding")); err == nil {
		t.Error("a founding was begun")
	}
	o.Founding.Keys = stack.KeysFile
	s := start(t, o)
	if s.Keys != stack.KeysFile {
		t.Errorf("keys in %q", s.Keys)
	}
	s.Stop()
	o.Founding.Keys = stack.KeysSoftHSM
	if _, err := stack.Start(t.Context(), o); !errors.As(err, &refused) || refused.Remedy == "" {
		t.Errorf("goes on with its KEK elsewhere: %v", err)
	}
	o.Founding.Keys = ""
	if s := start(t, o); s.Keys != stack.KeysFile {
		t.Errorf("keys in %q", s.Keys)
	}
}

// Whoever administers the key store changes what the KEK is released to; nothing else changes.
func TestSetReleasePolicy(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := start(t, o)
	founded, err := s.ReleasePolicy()
	if err != nil {
		t.Fatal(err)
	}
	policy := func() string {
		t.Helper()
		keys, err := file.Open(filepath.Join(o.Dir, "broker"))
		if err != nil {
			t.Fatal(err)
		}
		all, err := keys.Versions(t.Context(), "passclave-kek")
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return string(all[0].Policy)
	}
	if policy() != string(founded) {
		t.Error("founded with another policy")
	}
	other := []byte(`{"version":"1.0.0","anyOf":[{"authority":"https://broker.example","allOf":[{"claim":"a","equals":"b"}]}]}`)
	if err := s.SetReleasePolicy(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if policy() != string(other) {
		t.Error("the policy is another")
	}
	if again, err := s.ReleasePolicy(); err != nil || string(again) != string(founded) {
		t.Errorf("what was founded changed: %v", err)
	}
}
