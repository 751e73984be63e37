package link_test

import (
	"strings"
	"testing"

	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// What an enclave leaves behind for one version is there for the next one that asks.
func TestLineageIsKept(t *testing.T) {
	t.Parallel()
	notes := storetest.NewMemory()
	asks := asker[wire.Lineage, wire.Lineage](t, wire.FrameLineage, notes)
	if l, err := asks(wire.Lineage{KEK: "v2"}); err != nil || len(l.Box) != 0 {
		t.Fatalf("%v, %v", l, err)
	}
	for _, box := range []string{"first", "second"} {
		if _, err := asks(wire.Lineage{KEK: "v2", Box: []byte(box)}); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := asks(wire.Lineage{KEK: "v3"}); err != nil || len(l.Box) != 0 {
		t.Fatalf("another version's: %v, %v", l, err)
	}
	later := asker[wire.Lineage, wire.Lineage](t, wire.FrameLineage, notes) // another host, later
	if l, err := later(wire.Lineage{KEK: "v2"}); err != nil || string(l.Box) != "second" || l.KEK != "v2" {
		t.Fatalf("%v, %v", l, err)
	}
	for name, l := range map[string]wire.Lineage{
		"no version": {Box: []byte{1}}, "a long name": {KEK: strings.Repeat("v", 128)}, "a large one": {KEK: "v2", Box: make([]byte, 64<<10+1)},
	} {
		if _, err := asks(l); wire.CodeOf(err) != wire.CodeArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A host without notes has nothing, and does not say that it keeps what it loses.
func TestNoLineageWithoutNotes(t *testing.T) {
	t.Parallel()
	asks := asker[wire.Lineage, wire.Lineage](t, wire.FrameLineage, nil)
	if l, err := asks(wire.Lineage{KEK: "v2"}); err != nil || len(l.Box) != 0 {
		t.Fatalf("%v, %v", l, err)
	}
	if _, err := asks(wire.Lineage{KEK: "v2", Box: []byte{1}}); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("%v", err)
	}
}
