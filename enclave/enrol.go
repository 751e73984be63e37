package enclave

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"unicode/utf8"

	"github.com/passclave/passclave/enclave/passkey/platform"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// enrol makes the account and its first device, and sets the PIN.
func (t *tx) enrol(args *wire.Enrol) (any, error) {
	k, err := t.openTicket(args.Ticket, args.Keys.Device)
	if err != nil {
		return nil, err
	}
	if err := t.possession(&args.Keys, args.Name, args.StretchedPIN); err != nil {
		return nil, err
	}
	if len(args.Keys.UV) == 0 && args.Keys.Platform == nil {
		return nil, wire.Errorf(wire.CodeUntrusted, "the first device needs a UV key")
	}
	if t.account != nil {
		return nil, wire.Errorf(wire.CodeAccountExists, "a live account stands under this ID")
	}
	t.account = &account{
		at:   wire.Head{},
		head: &head{Version: wire.Version, Account: t.in.Envelope.Header.Account, Generation: 1, Epoch: 1},
		key:  random(wire.SecretSize),
		note: &ledger.Note{},
	}
	vaultSecret := random(wire.SecretSize)
	ch := t.begins(ledger.KindEnrol, vaultSecret)
	if err := t.newRecovery(ch, k.FreshSalt, args.StretchedPIN); err != nil {
		return nil, err
	}
	if err := t.sealToRecovery(ch); err != nil {
		return nil, err
	}
	if err := t.addDevice(ch, &args.Keys, args.Name, howEnrol, k.Issued); err != nil {
		return nil, err
	}
	ch.commit.Wraps = []wire.Wrap{t.core.wrap(ch.account.head.scope(t.core.config.Ledger.ID), ch.account.key)}
	return t.membership(ch), nil
}

// possession checks a new device's keys, and that whoever sends the request holds
// the device key, and the UV key or platform credential.
func (t *tx) possession(keys *wire.DeviceKeys, name string, stretchedPIN []byte) error {
	if err := t.signedBy(keys.Device); err != nil {
		return err
	}
	switch {
	case t.body.Number != 1:
		return wire.Errorf(wire.CodeNumber, "a new device's first number is 1")
	case len(stretchedPIN) != wire.SecretSize:
		return wire.Errorf(wire.CodeArgument, "stretched PIN of %d bytes", len(stretchedPIN))
	case len(name) == 0 || len(name) > wire.MaxDeviceName || !utf8.ValidString(name):
		return wire.Errorf(wire.CodeArgument, "device name must have 1 to %d bytes of UTF-8", wire.MaxDeviceName)
	}
	if _, err := wire.DeviceKEM().NewPublicKey(keys.Encryption); err != nil {
		return wire.Errorf(wire.CodeArgument, "encryption key")
	}
	if err := checkUVKeys(keys.Device, keys.UV, keys.Platform); err != nil {
		return err
	}
	if len(keys.UV) == 0 && keys.Platform == nil {
		return nil
	}
	return t.verifyUV(t.state.request.UV, t.transcript(wire.RoleUV), keys.UV, keys.Platform)
}

// checkUVKeys checks the form of what is to prove user verification: a UV key or a
// platform credential, not both, and never the device key again.
func checkUVKeys(deviceKey, uv []byte, credential *wire.PlatformCredential) error {
	if len(uv) > 0 && bytes.Equal(uv, deviceKey) {
		return wire.Errorf(wire.CodeArgument, "the UV key is the device key")
	}
	if len(uv) > 0 && credential != nil {
		return wire.Errorf(wire.CodeArgument, "a UV key and a platform credential")
	}
	if len(uv) > 0 {
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uv); err != nil {
			return wire.Errorf(wire.CodeArgument, "UV key")
		}
	}
	if credential != nil {
		return platform.CheckCredential(credential)
	}
	return nil
}

// addDevice makes a new member and seals the vault secret to it.
func (t *tx) addDevice(ch *change, keys *wire.DeviceKeys, name, how string, issued uint64) error {
	h := ch.account.head
	d := device{
		ID: t.body.Device, Name: name, Key: keys.Device, UV: keys.UV, Platform: keys.Platform,
		Encryption: wire.BlobHash(keys.Encryption), FeedToken: random(wire.SecretSize),
		How: how, Joined: issued, Last: &wire.Outcome{Number: t.body.Number},
	}
	envelope, err := wire.SealVaultSecret(keys.Encryption, h.scope(t.core.config.Ledger.ID), d.ID, ch.secret)
	if err != nil {
		return err
	}
	d.Envelope = wire.BlobHash(envelope)
	h.Devices = append(h.Devices, d)
	ch.note.Device, ch.note.Name = d.ID, name
	ch.commit.Blobs = append(ch.commit.Blobs, keys.Encryption, envelope)
	ch.commit.SetFeedTokens = true
	return nil
}

// membership is what the asking device needs after a change of epoch or members.
func (t *tx) membership(ch *change) *wire.Membership {
	h := ch.account.head
	m := &wire.Membership{Generation: h.Generation, Epoch: h.Epoch}
	h.Records.all(func(w row) bool {
		if w.Epoch < h.Epoch {
			m.Unsealed++
		}
		return true
	})
	if d := h.device(t.body.Device); d != nil {
		m.VaultSecret, m.NotesKey, m.FeedToken = ch.secret, wire.NotesKey(ch.account.key), d.FeedToken
	}
	return m
}

// newRecovery makes salt, pepper and recovery pair anew: no older copy of the
// recovery record opens anything from here on.
func (t *tx) newRecovery(ch *change, salt, stretchedPIN []byte) error {
	h := ch.account.head
	private, err := wire.KEM().GenerateKey()
	if err != nil {
		return wire.NewError(wire.CodeInternal, err)
	}
	seed, err := private.Bytes()
	if err != nil {
		return wire.NewError(wire.CodeInternal, err)
	}
	public := private.PublicKey().Bytes()
	pepper := random(wire.SecretSize)
	if h.Recovery.Public != (wire.Digest{}) {
		ch.commit.DroppedBlobs = append(ch.commit.DroppedBlobs, h.Recovery.Public)
	}
	old := h.Recovery.Envelope
	h.Recovery = recovery{
		Salt: salt, Params: t.core.config.PIN.Argon2id, Pepper: pepper,
		Public: wire.BlobHash(public), Envelope: old, Epoch: h.Epoch,
	}
	secret.Do(func() {
		h.Recovery.Private = wire.SealBox(wire.RecoveryKey(pepper, stretchedPIN), wire.LabelRecovery, h.scope(t.core.config.Ledger.ID), seed)
	})
	ch.commit.Blobs = append(ch.commit.Blobs, public)
	t.state.have.put(public)
	return nil
}

// sealToRecovery seals the vault secret to the recovery key, so that a right PIN opens it.
func (t *tx) sealToRecovery(ch *change) error {
	h := ch.account.head
	public, err := t.blob(h.Recovery.Public)
	if err != nil {
		return err
	}
	envelope, err := wire.SealToRecovery(public[0], h.scope(t.core.config.Ledger.ID), ch.secret)
	if err != nil {
		return err
	}
	if h.Recovery.Envelope != (wire.Digest{}) {
		ch.commit.DroppedBlobs = append(ch.commit.DroppedBlobs, h.Recovery.Envelope)
	}
	h.Recovery.Envelope = wire.BlobHash(envelope)
	ch.commit.Blobs = append(ch.commit.Blobs, envelope)
	return nil
}
