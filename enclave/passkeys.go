package enclave

import (
	"github.com/passclave/passclave/enclave/passkey"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// create needs the device key, UV and the vault secret.
func (t *tx) create(args *wire.Create) (any, error) {
	vaultSecret, err := t.vault()
	if err != nil {
		return nil, err
	}
	if err := t.uv(); err != nil {
		return nil, err
	}
	h := t.account.head
	if h.Records.len() >= wire.MaxRecords {
		return nil, wire.Errorf(wire.CodeLimit, "%d passkeys", h.Records.len())
	}
	if t.excluded(args) {
		return nil, wire.Errorf(wire.CodeExcluded, "an excluded credential exists")
	}
	result := &wire.CreateResult{Handle: wire.Handle(random(16))}
	secret.Do(func() {
		var s *passkey.Secret
		var m *wire.Metadata
		if s, m, err = passkey.New(args); err != nil {
			return
		}
		if result.AttestationObject, err = s.AttestationObject(m.CredentialID, true); err != nil {
			return
		}
		if args.PRF != nil {
			if result.PRF, err = s.EvaluatePRF(*args.PRF, true); err != nil {
				return
			}
		}
		ch := t.begins(ledger.KindCreate, vaultSecret)
		result.CredentialID = m.CredentialID
		result.Version, err = t.put(ch, row{
			Handle:     result.Handle,
			Credential: credentialHash(h.Account, m.CredentialID),
			RP:         rpHash(h.Account, m.RPID),
		}, s, m)
	})
	return result, err
}

// excluded reports whether an excluded credential of this RP ID exists and is not deleted.
func (t *tx) excluded(args *wire.Create) bool {
	if len(args.Exclude) == 0 {
		return false
	}
	account := t.account.head.Account
	listed := map[wire.Digest]bool{}
	for _, id := range args.Exclude {
		listed[credentialHash(account, id)] = true
	}
	found, rp := false, rpHash(account, args.RPID)
	t.account.head.Records.all(func(w row) bool {
		found = w.Deleted == 0 && w.RP == rp && listed[w.Credential]
		return !found
	})
	return found
}

// put seals a record anew under the epoch in force and lists it in the head.
func (t *tx) put(ch *change, w row, s *passkey.Secret, m *wire.Metadata) (wire.VersionID, error) {
	h := ch.account.head
	w.Version, w.Epoch = wire.VersionID(random(16)), h.Epoch
	scope := h.scope(t.core.config.Ledger.ID)
	record := wire.Record{Handle: w.Handle, Version: w.Version, Generation: h.Generation, Epoch: h.Epoch}
	record.Metadata = wire.SealBox(wire.MetadataKey(ch.secret), wire.LabelMetadata, scope,
		wire.PadBox(wire.Marshal(m), wire.MetadataBucket), w.Handle, w.Version)
	record.Secret = wire.SealBox(wire.VaultKey(ch.account.key, ch.secret), wire.LabelSecret, scope,
		wire.PadBox(s.Encode(), wire.SecretBucket), w.Handle, w.Version)
	encoded := wire.Marshal(record)
	if len(encoded) > wire.MaxRecordSize {
		return w.Version, wire.Errorf(wire.CodeLimit, "record of %d bytes", len(encoded))
	}
	w.Record = wire.RecordHash(encoded)
	h.Records.put(w)
	ch.commit.Records = append(ch.commit.Records, encoded)
	if ch.outcome != nil {
		ch.outcome.Handle, ch.outcome.Version = &w.Handle, &w.Version
	}
	return w.Version, nil
}

// record returns the record of a handle as the host loaded it, if it is the
// version that the head lists.
func (t *tx) record(h wire.Handle) (row, *wire.Record, error) {
	w, ok := t.account.head.Records.find(h)
	if !ok {
		return w, nil, wire.Errorf(wire.CodeNotFound, "no such record")
	}
	for _, b := range t.state.have.state.Records {
		r, err := wire.ParseRecord(b)
		if err != nil {
			return w, nil, wire.NewError(wire.CodeRecordMismatch, err)
		}
		if r.Handle != h {
			continue
		}
		if wire.RecordHash(b) != w.Record {
			return w, nil, wire.Errorf(wire.CodeRecordMismatch, "not the record that the head lists")
		}
		return w, r, nil
	}
	return w, nil, wire.Errorf(wire.CodeRecordMismatch, "the host does not give a record that the head lists")
}

// openSecret opens the secret part of a record.
func (t *tx) openSecret(r *wire.Record) (*passkey.Secret, error) {
	accountKey, vaultSecret, err := t.epoch(r.Epoch)
	if err != nil {
		return nil, err
	}
	padded, err := wire.OpenBox(wire.VaultKey(accountKey, vaultSecret), wire.LabelSecret,
		r.Scope(t.core.config.Ledger.ID, t.account.head.Account), r.Secret, r.Handle, r.Version)
	if err != nil {
		return nil, wire.Errorf(wire.CodeRecordMismatch, "record does not open")
	}
	plain, err := wire.UnpadBox(padded)
	if err != nil {
		return nil, wire.NewError(wire.CodeRecordMismatch, err)
	}
	return passkey.ParseSecret(plain)
}

func (t *tx) openMetadata(r *wire.Record) (*wire.Metadata, error) {
	_, vaultSecret, err := t.epoch(r.Epoch)
	if err != nil {
		return nil, err
	}
	m, err := r.OpenMetadata(t.core.config.Ledger.ID, t.account.head.Account, vaultSecret)
	if err != nil {
		return nil, wire.NewError(wire.CodeRecordMismatch, err)
	}
	return m, nil
}

// assert needs the device key, the vault secret, and UV unless the passkey was
// made as "no UV needed". The UV flag is set only when UV was proven in this request.
func (t *tx) assert(args *wire.Assert) (any, error) {
	if _, err := t.vault(); err != nil {
		return nil, err
	}
	verified := t.state.request.UV != nil
	if verified {
		if err := t.uv(); err != nil {
			return nil, err
		}
	}
	w, r, err := t.record(args.Handle)
	if err != nil {
		return nil, err
	}
	if w.Deleted != 0 {
		return nil, wire.Errorf(wire.CodeNotFound, "the passkey is deleted")
	}
	result := &wire.AssertResult{}
	secret.Do(func() {
		var s *passkey.Secret
		if s, err = t.openSecret(r); err != nil {
			return
		}
		var a *passkey.Assertion
		if a, err = s.Assert(args.RPID, args.ClientDataHash, verified); err != nil {
			return
		}
		result.AuthenticatorData, result.Signature = a.AuthenticatorData, a.Signature
		if args.PRF != nil {
			if result.PRF, err = s.EvaluatePRF(*args.PRF, verified); err != nil {
				return
			}
		}
		if args.ReadBlob {
			result.Blob, err = s.ReadLargeBlob(verified)
		}
	})
	return result, err
}

// edit changes one record: it needs the device key, the vault secret and the
// version that it replaces.
func (t *tx) edit(kind ledger.Kind, h wire.Handle, replaces wire.VersionID, mutate func(*row, *passkey.Secret, *wire.Metadata) error) (any, error) {
	vaultSecret, err := t.vault()
	if err != nil {
		return nil, err
	}
	w, r, err := t.record(h)
	if err != nil {
		return nil, err
	}
	if w.Version != replaces {
		return nil, wire.Errorf(wire.CodeConflict, "the record was changed meanwhile")
	}
	if w.Deleted != 0 {
		return nil, wire.Errorf(wire.CodeNotFound, "the passkey is deleted")
	}
	result := &wire.Edited{Handle: h}
	secret.Do(func() {
		var s *passkey.Secret
		var m *wire.Metadata
		if s, err = t.openSecret(r); err != nil {
			return
		}
		if m, err = t.openMetadata(r); err != nil {
			return
		}
		if err = mutate(&w, s, m); err != nil {
			return
		}
		result.Version, err = t.put(t.begins(kind, vaultSecret), w, s, m)
	})
	return result, err
}

// writeBlob needs UV, as an assertion with the passkey would.
func (t *tx) writeBlob(args *wire.WriteBlob) (any, error) {
	verified := t.state.request.UV != nil
	if verified {
		if err := t.uv(); err != nil {
			return nil, err
		}
	}
	return t.edit(ledger.KindEdit, args.Handle, args.Replaces, func(_ *row, s *passkey.Secret, _ *wire.Metadata) error {
		return s.SetLargeBlob(args.Blob, verified)
	})
}

func (t *tx) rename(args *wire.Rename) (any, error) {
	if err := passkey.CheckLabel(args.Label); err != nil {
		return nil, err
	}
	return t.edit(ledger.KindEdit, args.Handle, args.Replaces, func(_ *row, _ *passkey.Secret, m *wire.Metadata) error {
		m.Label = args.Label
		return nil
	})
}

func (t *tx) hide(args *wire.Hide) (any, error) {
	return t.edit(ledger.KindEdit, args.Handle, args.Replaces, func(_ *row, _ *passkey.Secret, m *wire.Metadata) error {
		m.Hidden = args.Hidden
		return nil
	})
}

// delete needs UV. The record stays listed, and is sealed anew with the others,
// until purge takes it.
func (t *tx) delete(args *wire.Delete) (any, error) {
	if err := t.uv(); err != nil {
		return nil, err
	}
	return t.edit(ledger.KindDelete, args.Handle, args.Replaces, func(w *row, _ *passkey.Secret, m *wire.Metadata) error {
		w.Deleted, m.Deleted = max(t.in.Now, 1), true
		return nil
	})
}

// keepDeleted is how long a deleted record stays, in seconds of the host's clock.
const keepDeleted = 30 * 24 * 60 * 60

// purge takes records that were deleted 30 days ago. It is housekeeping on the
// host's clock: a host that lies about the time can only take what a person
// deleted, earlier or later.
func (t *tx) purge(ch *change) {
	h := ch.account.head
	var gone []wire.Handle
	h.Records.all(func(w row) bool {
		if w.Deleted != 0 && t.in.Now > w.Deleted && t.in.Now-w.Deleted >= keepDeleted {
			gone = append(gone, w.Handle)
		}
		return true
	})
	for _, handle := range gone {
		h.Records.remove(handle)
	}
	ch.commit.Deleted = append(ch.commit.Deleted, gone...)
}

// resealPage seals the records that the header names anew under the epoch in
// force. It needs the device key and the vault secret.
func (t *tx) resealPage(*wire.ResealPage) (any, error) {
	vaultSecret, err := t.vault()
	if err != nil {
		return nil, err
	}
	handles := t.in.Envelope.Header.Handles
	if len(handles) > wire.PageSize {
		return nil, wire.Errorf(wire.CodeLimit, "%d records in a page", len(handles))
	}
	h := t.account.head
	result := &wire.ResealResult{}
	var ch *change
	for _, handle := range handles {
		w, ok := h.Records.find(handle)
		if !ok || w.Epoch == h.Epoch {
			continue // purged, or moved by another device
		}
		_, r, err := t.record(handle)
		if err != nil {
			return nil, err
		}
		if ch == nil {
			ch = t.begins(ledger.KindReseal, vaultSecret)
		}
		var version wire.VersionID
		secret.Do(func() {
			var s *passkey.Secret
			var m *wire.Metadata
			if s, err = t.openSecret(r); err == nil {
				if m, err = t.openMetadata(r); err == nil {
					version, err = t.put(ch, w, s, m)
				}
			}
		})
		if err != nil {
			return nil, err
		}
		result.Done = append(result.Done, wire.Edited{Handle: handle, Version: version})
	}
	if ch == nil {
		ch = t.begins(ledger.KindReseal, vaultSecret)
	}
	ch.outcome.Handle, ch.outcome.Version = nil, nil
	h.dropEarlier()
	result.Left = h.Records.earlier(h.Epoch, wire.MaxHandles)
	return result, nil
}
