package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/passclave/passclave/wire"
)

// Head is the newest record of a log, signed. Whoever keeps one elsewhere sees a log that
// was cut behind it, or rewritten up to it.
type Head struct {
	Key       wire.Base64 `json:"key"` // Ed25519 public key of the log
	Sequence  uint64      `json:"sequence"`
	Digest    string      `json:"digest"`          // hash of the record: hex; zeros of an empty log
	Start     int64       `json:"start"`           // of its line, in bytes
	End       int64       `json:"end"`             //
	Nonce     wire.Base64 `json:"nonce,omitempty"` // of whoever asked a running broker
	Signature wire.Base64 `json:"signature"`
}

// ErrHead is returned for a head that is not in the form that this package writes, or not
// signed by its key.
var ErrHead = errors.New("not a signed head of an audit log")

func (h *Head) message() []byte {
	d := wire.Hash("audit head", []byte(h.Key), h.Sequence, h.Digest, uint64(h.Start), uint64(h.End), []byte(h.Nonce))
	return d[:]
}

// sign returns the head for a nonce, nil for the file.
func (h Head) sign(key ed25519.PrivateKey, nonce []byte) Head {
	h.Key, h.Nonce = wire.Base64(key.Public().(ed25519.PublicKey)), nonce
	h.Signature = ed25519.Sign(key, h.message())
	return h
}

// ParseHead reads a head and verifies that its own key signed it ([ErrHead]). That the key
// is the broker's is for the caller to know.
func ParseHead(data []byte) (*Head, error) {
	var h Head
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if len(data) > 4<<10 || d.Decode(&h) != nil {
		return nil, ErrHead
	}
	return &h, h.Verify()
}

// Verify is the check of [ParseHead].
func (h *Head) Verify() error {
	named, err := hex.DecodeString(h.Digest)
	switch {
	case err != nil || len(named) != 32 || h.Digest != hex.EncodeToString(named),
		h.Start < 0 || h.End < h.Start || (h.Sequence == 0) != (h.End == 0),
		len(h.Key) != ed25519.PublicKeySize || !ed25519.Verify(ed25519.PublicKey(h.Key), h.message(), h.Signature):
		return ErrHead
	}
	return nil
}

// headSize is the size of the head file: one sector of a disk, which a crash leaves old or new.
const headSize = 512

// encodeHead returns the head file.
func encodeHead(h Head) ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(b) >= headSize {
		return nil, ErrHead
	}
	b = append(b, bytes.Repeat([]byte(" "), headSize-1-len(b))...)
	return append(b, '\n'), nil
}
