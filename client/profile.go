package client

import (
	"bytes"
	"context"
	"errors"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// profileVersion is the version of the profile's format.
const profileVersion = 1

// profile is everything that a device must not forget, as deterministic CBOR.
type profile struct {
	Version  uint64           `cbor:"1,keyasint"`
	URL      string           `cbor:"2,keyasint"`
	Policy   []byte           `cbor:"3,keyasint"`           // the pinned trust policy, as given
	Ledger   *pinnedLedger    `cbor:"4,keyasint,omitempty"` // from the first accepted evidence on
	Account  wire.AccountID   `cbor:"5,keyasint"`
	Name     string           `cbor:"6,keyasint,omitempty"` // of this device
	Keys     *softwareKeys    `cbor:"7,keyasint,omitempty"` // absent: the keys are elsewhere
	UV       *sealedUV        `cbor:"8,keyasint,omitempty"` // absent: no software UV key
	Member   bool             `cbor:"9,keyasint,omitempty"` // of Account
	Young    bool             `cbor:"10,keyasint,omitempty"`
	Removed  bool             `cbor:"11,keyasint,omitempty"` // a sealed answer said that the device is no member any more
	Gen      uint64           `cbor:"12,keyasint"`
	Epochs   []epochSecrets   `cbor:"13,keyasint,omitempty"` // of Gen, ascending
	Known    wire.Head        `cbor:"14,keyasint"`           // the newest entry remembered
	KnownGen uint64           `cbor:"15,keyasint"`           // its generation and epoch; 0 where the entry itself was never seen
	KnownEp  uint64           `cbor:"16,keyasint"`
	Manifest uint64           `cbor:"17,keyasint"` // sequence of the newest manifest seen
	Edited   uint64           `cbor:"18,keyasint"` // sequence of the newest entry known, by a note or a sync, to have come with a manifest
	Feed     []byte           `cbor:"19,keyasint,omitempty"`
	Number   uint64           `cbor:"20,keyasint"` // of the last changing request that was done
	Pending  *pending         `cbor:"21,keyasint,omitempty"`
	Unread   [][]byte         `cbor:"22,keyasint,omitempty"` // entries whose notes' key is not held yet, oldest first
	Notices  []Notice         `cbor:"23,keyasint,omitempty"` // not shown yet
	Alarm    *Alarm           `cbor:"24,keyasint,omitempty"`
	Left     []wire.Handle    `cbor:"25,keyasint,omitempty"` // records to seal anew, as the last sync said
	Joining  wire.CommandName `cbor:"26,keyasint,omitempty"` // enrol or join, sent and not answered
	Listed   uint64           `cbor:"27,keyasint"`           // sequence of the manifest that the record cache was last saved with
	Settled  *Settled         `cbor:"28,keyasint,omitempty"` // not reported yet
	NextUV   *sealedUV        `cbor:"29,keyasint,omitempty"` // being put in the place of UV
	KnownKey []byte           `cbor:"30,keyasint,omitempty"` // signer ID of the newest entry remembered; absent where the entry itself was never seen
	Newest   []byte           `cbor:"31,keyasint,omitempty"` // that entry, encoded: what a restore asks for
	Back     *wire.Head       `cbor:"32,keyasint,omitempty"` // the older place that a person agreed to go back to
}

// Settled says what became of a request that a crash or a lost answer had left open.
type Settled struct {
	Command wire.CommandName `cbor:"1,keyasint"`
	Done    bool             `cbor:"2,keyasint,omitempty"`
	Handle  *wire.Handle     `cbor:"3,keyasint,omitempty"` // of the passkey made or edited
}

// pinnedLedger is what evidence said of the ledger the first time.
type pinnedLedger struct {
	ID      []byte   `cbor:"1,keyasint"`
	Backend string   `cbor:"2,keyasint"`
	Genesis []byte   `cbor:"3,keyasint"`
	Number  uint64   `cbor:"4,keyasint"`
	Signers [][]byte `cbor:"5,keyasint"` // Ed25519 keys, oldest first
}

// epochSecrets are the secrets of one vault epoch.
type epochSecrets struct {
	Epoch uint64 `cbor:"1,keyasint"`
	Vault []byte `cbor:"2,keyasint"`
	Notes []byte `cbor:"3,keyasint,omitempty"`
}

// pending is a changing request that was sent and whose outcome is not known.
type pending struct {
	Number    uint64           `cbor:"1,keyasint"`
	Command   wire.CommandName `cbor:"2,keyasint"`
	Handle    *wire.Handle     `cbor:"3,keyasint,omitempty"`
	Envelopes []wire.Digest    `cbor:"4,keyasint,omitempty"` // of every copy sent: ledger entries name the one that was done
	Entry     uint64           `cbor:"5,keyasint,omitempty"` // sequence of the entry that did it, once seen
}

// Alarm says that the service showed a history that does not contain what this
// device remembers: the service, or who stands before it, took back what happened.
type Alarm struct {
	Remembered wire.Head `cbor:"1,keyasint"`
	Offered    wire.Head `cbor:"2,keyasint"`
	Restored   bool      `cbor:"3,keyasint,omitempty"` // other devices approved it: see [Device.Restore]
}

// epoch returns the secrets of the newest epoch held, or nil.
func (p *profile) epoch() *epochSecrets {
	if len(p.Epochs) == 0 {
		return nil
	}
	return &p.Epochs[len(p.Epochs)-1]
}

func (p *profile) secrets(epoch uint64) *epochSecrets {
	for i := range p.Epochs {
		if p.Epochs[i].Epoch == epoch {
			return &p.Epochs[i]
		}
	}
	return nil
}

// vaultSecret is for wire.OpenManifest.
func (p *profile) vaultSecret(generation, epoch uint64) []byte {
	if s := p.secrets(epoch); s != nil && generation == p.Gen {
		return s.Vault
	}
	return nil
}

func (p *profile) notesKey(e *ledger.Entry) []byte {
	if s := p.secrets(e.Epoch); s != nil && e.Generation == p.Gen && len(s.Notes) != 0 {
		return s.Notes
	}
	return nil
}

func (p *profile) stream() wire.StreamID { return wire.Stream(p.Ledger.ID, p.Account) }

// pin compares what evidence says of the ledger with what was pinned, and pins it
// the first time. The signers may have grown by successors, never changed.
func (p *profile) pin(l pinnedLedger) (changed bool, err error) {
	old := p.Ledger
	if old == nil {
		p.Ledger = &l
		return true, nil
	}
	if !bytes.Equal(old.ID, l.ID) || old.Backend != l.Backend || !bytes.Equal(old.Genesis, l.Genesis) || old.Number != l.Number {
		return false, wire.Errorf(wire.CodeEntry, "the service stands on another ledger than the one pinned")
	}
	if len(l.Signers) < len(old.Signers) {
		return false, wire.Errorf(wire.CodeEntry, "fewer ledger keys than pinned")
	}
	for i, s := range old.Signers {
		if !bytes.Equal(s, l.Signers[i]) {
			return false, wire.Errorf(wire.CodeEntry, "ledger key %d is not the one pinned", i)
		}
	}
	changed = len(l.Signers) > len(old.Signers)
	p.Ledger = &l
	return changed, nil
}

// later pins a later genesis of the pinned ledger. Any other one changes nothing, so that
// evidence of it is refused: another ledger, another backend, an earlier genesis, or
// another one of the same number.
func (p *profile) later(l *pinnedLedger) {
	old := p.Ledger
	if old == nil || !bytes.Equal(old.ID, l.ID) || old.Backend != l.Backend || l.Number <= old.Number {
		return
	}
	old.Genesis, old.Number = l.Genesis, l.Number
}

func parseProfile(data []byte) (*profile, error) {
	var p profile
	if err := wire.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	if p.Version != profileVersion {
		return nil, wire.Errorf(wire.CodeVersion, "profile of version %d", p.Version)
	}
	return &p, nil
}

func (d *Device) save(ctx context.Context) error {
	if d.held {
		return nil
	}
	d.p.trim()
	return d.storage.Save(ctx, ItemProfile, wire.Marshal(d.p))
}

func loadProfile(ctx context.Context, s Storage) (*profile, error) {
	data, err := s.Load(ctx, ItemProfile)
	if err != nil {
		return nil, err
	}
	return parseProfile(data)
}

func profileExists(ctx context.Context, s Storage) (bool, error) {
	_, err := s.Load(ctx, ItemProfile)
	if errors.Is(err, ErrNoProfile) {
		return false, nil
	}
	return err == nil, err
}
