package enclave

import (
	"slices"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// replaceUV needs the old UV key, the new one's signature and the vault secret.
func (t *tx) replaceUV(args *wire.ReplaceUV) (any, error) {
	vaultSecret, err := t.vault()
	if err != nil {
		return nil, err
	}
	if err := t.uv(); err != nil {
		return nil, err
	}
	if len(args.UV) == 0 && args.Platform == nil {
		return nil, wire.Errorf(wire.CodeArgument, "neither UV key nor platform credential")
	}
	if err := checkUVKeys(t.device.Key, args.UV, args.Platform); err != nil {
		return nil, err
	}
	if len(args.UV) > 0 && !wire.VerifySignature(args.UV, wire.UVPossession(t.account.head.Account, t.device.ID, args.UV), args.Possession) {
		return nil, wire.Errorf(wire.CodeSignature, "possession of the new UV key")
	}
	t.begins(ledger.KindReplaceUV, vaultSecret)
	t.device.UV, t.device.Platform = args.UV, args.Platform
	return wire.None{}, nil
}

// revoke needs a trusted device that is not young, UV and the vault secret; a
// device may always revoke itself.
func (t *tx) revoke(args *wire.Revoke) (any, error) {
	vaultSecret, err := t.vault()
	if err != nil {
		return nil, err
	}
	if args.Device != t.device.ID {
		if err := t.uv(); err != nil {
			return nil, err
		}
		if err := t.grown(nil); err != nil {
			return nil, err
		}
	}
	h := t.account.head
	target := h.device(args.Device)
	if target == nil {
		return nil, wire.Errorf(wire.CodeNotFound, "no such device")
	}
	ch := t.begins(ledger.KindRevoke, vaultSecret)
	ch.note.Target, ch.note.Name = target.ID, target.Name
	ch.commit.SetFeedTokens = true
	ch.commit.DroppedBlobs = append(ch.commit.DroppedBlobs, target.Encryption, target.Envelope)
	h.Devices = slices.DeleteFunc(h.Devices, func(d device) bool { return d.ID == args.Device })
	if err := t.newEpoch(ch); err != nil {
		return nil, err
	}
	if err := t.sealToRecovery(ch); err != nil {
		return nil, err
	}
	return t.membership(ch), nil
}

// devices needs the device key.
func (t *tx) devices(*wire.Devices) (any, error) {
	result := &wire.DevicesResult{}
	for _, d := range t.account.head.Devices {
		result.Devices = append(result.Devices, wire.DeviceInfo{
			ID: d.ID, Name: d.Name, Joined: d.Joined, How: d.How,
			Trusted: d.trusted(), Platform: d.Platform != nil, Young: d.young(),
		})
	}
	return result, nil
}

// sync needs the device key alone: the vault secret that it hands out is sealed to
// the device's encryption key already.
func (t *tx) sync(*wire.Sync) (any, error) {
	h := t.account.head
	envelope, err := t.blob(t.device.Envelope)
	if err != nil {
		return nil, err
	}
	if !t.state.have.loaded {
		return nil, &lack{need: &wire.Need{Account: h.Account, Manifest: true}}
	}
	return &wire.SyncResult{
		Generation: h.Generation, Epoch: h.Epoch, Envelope: envelope[0], Previous: h.Previous,
		NotesKey: wire.NotesKey(t.account.key), FeedToken: t.device.FeedToken, Manifest: t.state.have.manifest, Listed: h.Listed,
		Last: t.device.Last, Unsealed: h.Records.earlier(h.Epoch, wire.MaxHandles), Young: t.device.young(),
	}, nil
}

// history needs the device key. The entries are handed through: they carry their
// own signatures and links, and the device checks them.
func (t *tx) history(args *wire.History) (any, error) {
	if args.From == 0 || args.To < args.From || args.To-args.From >= wire.MaxEntries {
		return nil, wire.Errorf(wire.CodeArgument, "history from %d to %d", args.From, args.To)
	}
	after := args.From - 1
	entries, ok := t.state.have.entries[after]
	if !ok {
		return nil, &lack{need: &wire.Need{Account: t.account.head.Account, After: &after}}
	}
	if want := args.To - args.From + 1; uint64(len(entries)) > want {
		entries = entries[:want]
	}
	return &wire.HistoryResult{Entries: entries}, nil
}
