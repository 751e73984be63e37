package client

import (
	"context"

	"github.com/passclave/passclave/wire"
)

// Edits name the version they replace, as the record cache has it. Where another
// device was faster they end in [wire.CodeConflict], the cache brought up to date:
// look again, then decide. An [AfterError] means that the edit was done.

// Rename gives a passkey the person's own name for it.
func (d *Device) Rename(ctx context.Context, h wire.Handle, label string) error {
	return d.edit(ctx, h, false, func(v wire.VersionID) wire.Command {
		return wire.NewCommand(wire.CommandRename, wire.Rename{Handle: h, Replaces: v, Label: label})
	})
}

// Hide takes a passkey out of lists, or puts it back.
func (d *Device) Hide(ctx context.Context, h wire.Handle, hidden bool) error {
	return d.edit(ctx, h, false, func(v wire.VersionID) wire.Command {
		return wire.NewCommand(wire.CommandHide, wire.Hide{Handle: h, Replaces: v, Hidden: hidden})
	})
}

// Delete marks a passkey deleted, with user verification.
func (d *Device) Delete(ctx context.Context, h wire.Handle) error {
	return d.edit(ctx, h, true, func(v wire.VersionID) wire.Command {
		return wire.NewCommand(wire.CommandDelete, wire.Delete{Handle: h, Replaces: v})
	})
}

// WriteBlob stores a large blob with a passkey, with user verification; an empty one
// deletes it. At most wire.MaxBlob bytes.
func (d *Device) WriteBlob(ctx context.Context, h wire.Handle, blob []byte) error {
	return d.edit(ctx, h, true, func(v wire.VersionID) wire.Command {
		return wire.NewCommand(wire.CommandBlob, wire.WriteBlob{Handle: h, Replaces: v, Blob: blob})
	})
}

func (d *Device) edit(ctx context.Context, h wire.Handle, verify bool, command func(wire.VersionID) wire.Command) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err := d.find(ctx, h)
	if err != nil {
		return err
	}
	var uv UserVerifier
	if verify {
		if uv, err = d.uv(ctx); err != nil {
			return err
		}
	}
	err = d.call(ctx, &request{
		account:  d.p.Account,
		commands: []wire.Command{command(k.Version)},
		handles:  []wire.Handle{h},
		uv:       uv,
		secret:   true,
		change:   true,
		apply: func(a *answer) error {
			if a.repeated != nil {
				return nil
			}
			var e wire.Edited
			return a.result(&e)
		},
	})
	if err != nil {
		if wire.CodeOf(err) == wire.CodeConflict {
			return joinErrors(err, afterEdit(d.refresh(ctx)))
		}
		return err
	}
	return afterEdit(d.refresh(ctx))
}
