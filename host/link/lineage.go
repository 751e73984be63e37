package link

import (
	"context"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// What an enclave may leave behind under one version of the KEK.
const (
	maxLineage = 64 << 10
	maxVersion = 127 // bytes of a version's name, as vaults have them
)

// lineage keeps what enclaves leave behind for those that will hold a later version of the
// KEK alone, sealed, and brings it. A host without notes has none, and keeps none.
func lineage(ctx context.Context, notes Notes, l wire.Lineage) (wire.Lineage, error) {
	out := wire.Lineage{KEK: l.KEK}
	name := store.NoteLineage(l.KEK)
	switch {
	case l.KEK == "" || len(l.KEK) > maxVersion || len(l.Box) > maxLineage:
		return out, wire.Errorf(wire.CodeArgument, "lineage out of range")
	case notes == nil && len(l.Box) == 0:
		return out, nil
	case notes == nil:
		return out, wire.Errorf(wire.CodeUnavailable, "this host keeps no notes")
	case len(l.Box) > 0:
		return out, notes.SetNote(ctx, name, l.Box)
	}
	var err error
	out.Box, err = notes.Note(ctx, name)
	return out, err
}
