package stack_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// rewriteFacts changes stack.json, as a start that was cut short would have left it.
func rewriteFacts(t *testing.T, dir string, change func(map[string]any)) {
	t.Helper()
	var facts map[string]any
	if err := json.Unmarshal(read(t, dir, "stack.json"), &facts); err != nil {
		t.Fatal(err)
	}
	change(facts)
	data, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stack.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantRefused wants a start refused, and told what to type.
func wantRefused(t *testing.T, o stack.Options, remedy string) {
	t.Helper()
	s, err := stack.Start(t.Context(), o)
	if err == nil {
		s.Stop()
	}
	var refused *stack.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Remedy, remedy) {
		t.Errorf("got %v, want a refusal that says %q", err, remedy)
	}
}

// Endorsers that were stopped are empty when they start again: nothing goes on by itself.
func TestEmptyEndorsersAreRefused(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o).Stop()
	rewriteFacts(t, o.Dir, func(f map[string]any) {
		f["endorsers"] = []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	})
	before := string(read(t, o.Dir, "configuration.json"))
	wantRefused(t, o, "passclave up --next-genesis")
	wantRefused(t, o, "passclave confirm")
	if string(read(t, o.Dir, "configuration.json")) != before {
		t.Error("a refused start changed the configuration")
	}
}

// Only an endorsed ledger that was founded has a next genesis.
func TestNextGenesisOfNothing(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.NextGenesis = true
	wantRefused(t, o, "Leave --next-genesis out")
	o.NextGenesis = false
	start(t, o).Stop()
	o.NextGenesis = true
	wantRefused(t, o, "Leave --next-genesis out")
}

// A next genesis that was cut short right behind the new configuration leaves a folder
// that goes on; a configuration that nothing announced does not.
func TestNextGenesisCutShort(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o).Stop()
	c, err := wire.ParseConfiguration(read(t, o.Dir, "configuration.json"))
	if err != nil {
		t.Fatal(err)
	}
	c.Ledger.Backend, c.Ledger.Genesis, c.Ledger.Number = wire.BackendEndorsed, []byte(strings.Repeat("g", 32)), 2
	file, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "configuration.json"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, o, "Bring it back")
	sum := wire.ConfigurationHash(file)
	rewriteFacts(t, o.Dir, func(f map[string]any) { f["next_configuration"] = wire.Base64(sum[:]) })
	start(t, o)
}
