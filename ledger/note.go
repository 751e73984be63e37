package ledger

import "github.com/passclave/passclave/wire"

// Kind says what an entry records.
type Kind string

const (
	KindEnrol     Kind = "enrol"
	KindReserve   Kind = "pin-reserve" // a PIN attempt began: it counts from here on
	KindWrong     Kind = "pin-wrong"   // its result
	KindJoin      Kind = "join"        // its result, and the new device
	KindPINSet    Kind = "pin-set"
	KindCreate    Kind = "create"
	KindEdit      Kind = "edit"
	KindDelete    Kind = "delete"
	KindReseal    Kind = "reseal"
	KindRevoke    Kind = "revoke"
	KindReplaceUV Kind = "uv-replace"
	KindConfirm   Kind = "confirm" // a majority of the devices confirmed the account, which the ledger had forgotten
	KindRestore   Kind = "restore" // a majority of the devices took it back to an older state on purpose: Entry.Restored
)

// Note is the part of an entry that only enclaves and the account's devices read.
// The counters of the newest entry are the ones in force.
type Note struct {
	Kind        Kind          `cbor:"1,keyasint"`
	Consecutive uint64        `cbor:"2,keyasint"`           // failed PIN attempts in a row, this one counted from its RESERVE on
	Lifetime    uint64        `cbor:"3,keyasint"`           // PIN attempts since the last PIN set
	Device      wire.DeviceID `cbor:"4,keyasint"`           // who asked
	Target      wire.DeviceID `cbor:"5,keyasint,omitempty"` // whom it concerns: the device revoked
	Name        string        `cbor:"6,keyasint,omitempty"` // of the device, at most wire.MaxDeviceName bytes
	Time        uint64        `cbor:"7,keyasint"`           // by the host's clock, Unix seconds: nothing hangs on it
	Attempt     uint64        `cbor:"8,keyasint,omitempty"` // sequence of the RESERVE whose result this is
	View        *wire.Digest  `cbor:"9,keyasint,omitempty"` // of KindConfirm: the memory that did not know the stream, as SignedHead.View
}

const (
	noteBucket = 256
	// NoteSize is the size of every sealed note.
	NoteSize = noteBucket + wire.BoxOverhead
)

// SealNote seals a note for the entry at a sequence.
func SealNote(notesKey []byte, s wire.Scope, sequence uint64, n Note) []byte {
	return wire.SealBox(notesKey, wire.LabelNote, s, wire.PadBox(wire.Marshal(n), noteBucket), sequence)
}

// OpenNote opens the note of an entry with the notes' key of its epoch.
func OpenNote(notesKey []byte, account wire.AccountID, e *Entry) (*Note, error) {
	s := wire.Scope{Ledger: e.Ledger, Account: account, Generation: e.Generation, Epoch: e.Epoch}
	padded, err := wire.OpenBox(notesKey, wire.LabelNote, s, e.Note, e.Sequence)
	if err != nil {
		return nil, wire.NewError(wire.CodeEntry, err)
	}
	plain, err := wire.UnpadBox(padded)
	if err != nil {
		return nil, wire.NewError(wire.CodeEntry, err)
	}
	var n Note
	if err := wire.Unmarshal(plain, &n); err != nil {
		return nil, wire.NewError(wire.CodeEntry, err)
	}
	return &n, nil
}
