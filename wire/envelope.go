package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
)

// Head is a place in an account's stream: the sequence of an entry and its hash.
// The zero Head stands before the first entry.
type Head struct {
	Sequence uint64 `cbor:"1,keyasint"`
	Hash     Digest `cbor:"2,keyasint"`
}

// Header is the clear part of a request. It is HPKE "info", so the enclave opens
// a request only under the header that the client sealed it with.
type Header struct {
	Version uint64    `cbor:"1,keyasint"`
	Key     KeyID     `cbor:"2,keyasint"`
	Account AccountID `cbor:"3,keyasint"`
	Handles []Handle  `cbor:"4,keyasint,omitempty"` // the records that the host is asked to load, at most MaxHandles
	Known   *Head     `cbor:"5,keyasint,omitempty"` // the newest entry that the device remembers
}

// Envelope is a sealed request as it travels: deterministic CBOR.
type Envelope struct {
	Header     Header `cbor:"1,keyasint"`
	Enc        []byte `cbor:"2,keyasint"` // HPKE encapsulated key, MLKEM768-X25519: 1120 bytes
	Ciphertext []byte `cbor:"3,keyasint"` // of the padded plaintext
}

// Sizes of an envelope.
const (
	EncSize     = 1120    // encapsulated key of MLKEM768-X25519
	MaxHandles  = 64      // records named by one request
	MaxEnvelope = 1 << 20 // bytes of an encoded envelope that a host accepts; plaintexts of requests stay under MaxRequest
	MaxRequest  = 256<<10 - 4
)

// KEM, KDF and AEAD of every sealed request (RFC 9180, section 7).
func KEM() hpke.KEM   { return hpke.MLKEM768X25519() }
func KDF() hpke.KDF   { return hpke.HKDFSHA256() }
func AEAD() hpke.AEAD { return hpke.AES256GCM() }

// DeviceKEM is the KEM of a device's encryption key.
func DeviceKEM() hpke.KEM { return hpke.MLKEM768P256() }

func (h Header) info() []byte { return labelled("request info", Encoded(Marshal(h))) }

// A Sealer seals one request and opens its answer. It is for one use.
type Sealer struct {
	header   Header
	enc      []byte
	sender   *hpke.Sender
	exporter []byte
}

// NewSealer starts a request to the holder of the HPKE key. header.Version and
// header.Key are filled in.
func NewSealer(key hpke.PublicKey, header Header) (*Sealer, error) {
	header.Version, header.Key = Version, NewKeyID(key.Bytes())
	enc, sender, err := hpke.NewSender(key, KDF(), AEAD(), header.info())
	if err != nil {
		return nil, NewError(CodeMalformed, err)
	}
	exporter, err := sender.Export(exportTranscript, 32)
	if err != nil {
		return nil, NewError(CodeMalformed, err)
	}
	return &Sealer{header: header, enc: enc, sender: sender, exporter: exporter}, nil
}

// Export labels (RFC 9180, section 5.3).
const (
	exportTranscript = "passclave transcript"
	exportResponse   = "passclave response"
)

// Seal returns the encoded envelope around request.
func (s *Sealer) Seal(request []byte) ([]byte, error) {
	if len(request) > MaxRequest {
		return nil, Errorf(CodeTooLarge, "request of %d bytes", len(request))
	}
	size, err := bucket(len(request))
	if err != nil {
		return nil, err
	}
	ciphertext, err := s.sender.Seal(nil, pad(request, size))
	if err != nil {
		return nil, NewError(CodeInternal, err)
	}
	return Marshal(Envelope{Header: s.header, Enc: s.enc, Ciphertext: ciphertext}), nil
}

// Binding is what ties a signature to this one request.
func (s *Sealer) Binding() Binding {
	return Binding{Key: s.header.Key, Exporter: s.exporter, Account: s.header.Account}
}

// OpenResponse opens the answer to the request. Whoever made it held the private
// half of the HPKE key: the enclave.
func (s *Sealer) OpenResponse(response []byte) ([]byte, error) {
	secret, err := s.sender.Export(exportResponse, 32)
	if err != nil {
		return nil, NewError(CodeInternal, err)
	}
	var r sealedResponse
	if err := Unmarshal(response, &r); err != nil {
		return nil, err
	}
	aead, nonce := responseKeys(secret, s.enc, r.Nonce)
	padded, err := aead.Open(nil, nonce, r.Ciphertext, nil)
	if err != nil {
		return nil, Errorf(CodeUnsealedAnswer, "response does not open")
	}
	return unpad(padded)
}

// ParseEnvelope decodes an envelope and checks its limits and version, nothing else.
func ParseEnvelope(data []byte) (*Envelope, error) {
	if len(data) > MaxEnvelope {
		return nil, Errorf(CodeTooLarge, "envelope of %d bytes", len(data))
	}
	var e Envelope
	if err := Unmarshal(data, &e); err != nil {
		return nil, err
	}
	switch {
	case e.Header.Version != Version:
		return nil, Errorf(CodeVersion, "version %d", e.Header.Version)
	case len(e.Enc) != EncSize:
		return nil, Errorf(CodeMalformed, "encapsulated key of %d bytes", len(e.Enc))
	case len(e.Header.Handles) > MaxHandles:
		return nil, Errorf(CodeTooLarge, "%d handles", len(e.Header.Handles))
	}
	seen := make(map[Handle]bool, len(e.Header.Handles))
	for _, h := range e.Header.Handles {
		if seen[h] { // a few bytes would have the host load a record many times
			return nil, Errorf(CodeMalformed, "a handle stands twice")
		}
		seen[h] = true
	}
	return &e, nil
}

// An Opened is a request inside the enclave: its plaintext, and what is needed to answer.
type Opened struct {
	Plaintext []byte
	Binding   Binding
	enc       []byte
	secret    []byte
}

// Open opens the envelope with the private key that its header names. It does
// not notice replays.
func (e *Envelope) Open(key hpke.PrivateKey) (*Opened, error) {
	recipient, err := hpke.NewRecipient(e.Enc, key, KDF(), AEAD(), e.Header.info())
	if err != nil {
		return nil, Errorf(CodeMalformed, "encapsulated key")
	}
	padded, err := recipient.Open(nil, e.Ciphertext)
	if err != nil {
		return nil, Errorf(CodeMalformed, "envelope does not open")
	}
	plain, err := unpad(padded)
	if err != nil {
		return nil, err
	}
	if size, err := bucket(len(plain)); err != nil || size != len(padded) {
		return nil, Errorf(CodeMalformed, "not padded to its bucket")
	}
	exporter, err := recipient.Export(exportTranscript, 32)
	if err != nil {
		return nil, NewError(CodeInternal, err)
	}
	secret, err := recipient.Export(exportResponse, 32)
	if err != nil {
		return nil, NewError(CodeInternal, err)
	}
	return &Opened{
		Plaintext: plain,
		Binding:   Binding{Key: e.Header.Key, Exporter: exporter, Account: e.Header.Account},
		enc:       e.Enc,
		secret:    secret,
	}, nil
}

// sealedResponse is an answer as it travels.
type sealedResponse struct {
	Nonce      [32]byte `cbor:"1,keyasint"`
	Ciphertext []byte   `cbor:"2,keyasint"`
}

// SealResponse seals the answer to the request, after the manner of Oblivious
// HTTP (RFC 9458, section 4.4): a random response nonce and the exporter's secret
// give key and nonce.
func (o *Opened) SealResponse(response []byte) ([]byte, error) {
	size, err := bucket(len(response))
	if err != nil {
		return nil, err
	}
	var r sealedResponse
	rand.Read(r.Nonce[:])
	aead, nonce := responseKeys(o.secret, o.enc, r.Nonce)
	r.Ciphertext = aead.Seal(nil, nonce, pad(response, size), nil)
	return Marshal(r), nil
}

func responseKeys(secret, enc []byte, responseNonce [32]byte) (cipher.AEAD, []byte) {
	prk := must(hkdf.Extract(sha256.New, secret, labelled("response salt", enc, responseNonce[:])))
	key := must(hkdf.Expand(sha256.New, prk, string(labelled("response key")), 32))
	nonce := must(hkdf.Expand(sha256.New, prk, string(labelled("response nonce")), 12))
	return must(cipher.NewGCM(must(aes.NewCipher(key)))), nonce
}
