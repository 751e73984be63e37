package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
)

// floors does the cryptography of an operation and nothing else: no decoding, no
// checks, no lookups. Sizes are those of the real messages. It calls Go's standard
// library as the enclave does, without runtime/secret.
type floors struct {
	kem, deviceKEM      hpke.KEM
	private             hpke.PrivateKey // the enclave's, expanded
	request, bigRequest sealed          // of 1 KB and 4 KB
	recoverySeed        []byte
	envelope            sealed // the vault secret, to the recovery key
	encryptionKey       []byte // of a new device

	device, uv, passkey signer
	ledgerKey           ed25519.PrivateKey
	entrySignature      []byte

	secret []byte
	aad    []byte
	boxes  map[int][]byte // salt ‖ AES-256-GCM, by the length of the content
	zeros  []byte
}

// sealed is an HPKE message.
type sealed struct{ enc, ciphertext []byte }

// signer is a P-256 key in the forms in which head and record keep it, and a signature by it.
type signer struct{ scalar, point, signature []byte }

// Lengths in bytes.
const (
	lengthInfo       = 128 // HPKE info: the clear header
	lengthLabel      = 40  // info of a derivation
	lengthScoped     = 96  // info of a derivation, or associated data, with a scope
	lengthTranscript = 480
	lengthMembers    = 320
	lengthEntry      = 640
	lengthWrap       = 32
	lengthNote       = 256
	lengthHead       = 1024
	lengthManifest   = 100
	lengthMetadata   = 512
	lengthSecret     = 256
	lengthTicket     = 160
	lengthResponse   = 1024
	lengthMembership = 2048 // HPKE public key and envelope, hashed as blobs
)

func newFloors() (*floors, error) {
	f := &floors{
		kem: hpke.MLKEM768X25519(), deviceKEM: hpke.MLKEM768P256(),
		secret: make([]byte, 32), aad: make([]byte, lengthScoped), zeros: make([]byte, 8<<10), boxes: map[int][]byte{},
	}
	rand.Read(f.secret)
	var err error
	if f.private, err = f.kem.GenerateKey(); err != nil {
		return nil, err
	}
	recovery, err := f.kem.GenerateKey()
	if err != nil {
		return nil, err
	}
	if f.recoverySeed, err = recovery.Bytes(); err != nil {
		return nil, err
	}
	encryption, err := f.deviceKEM.GenerateKey()
	if err != nil {
		return nil, err
	}
	f.encryptionKey = encryption.PublicKey().Bytes()
	if f.request, err = f.seal(f.private, 1024); err != nil {
		return nil, err
	}
	if f.bigRequest, err = f.seal(f.private, 4096); err != nil {
		return nil, err
	}
	if f.envelope, err = f.seal(recovery, 32); err != nil {
		return nil, err
	}
	for _, s := range []*signer{&f.device, &f.uv, &f.passkey} {
		key := newKey()
		digest := sha256.Sum256(f.zeros[:lengthTranscript])
		s.point = point(key)
		if s.scalar, err = key.Bytes(); err != nil {
			return nil, err
		}
		if s.signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
			return nil, err
		}
	}
	if _, f.ledgerKey, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	f.entrySignature = ed25519.Sign(f.ledgerKey, f.zeros[:32])
	for _, n := range []int{lengthWrap, lengthNote, lengthHead, lengthSecret, lengthTicket} {
		f.boxes[n] = f.sealBox(f.secret, n)
	}
	return f, nil
}

func (f *floors) seal(key hpke.PrivateKey, n int) (sealed, error) {
	enc, sender, err := hpke.NewSender(key.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), f.zeros[:lengthInfo])
	if err != nil {
		return sealed{}, err
	}
	ciphertext, err := sender.Seal(nil, f.zeros[:n])
	return sealed{enc, ciphertext}, err
}

// assertion is, in the order of docs/protocol.md:
//
//   - open the request: HPKE MLKEM768-X25519, AES-256-GCM over 1 KB, two exports
//   - SHA-256 of the encapsulated key, for the replay filter
//   - the challenge's HMAC, and that of the next one
//   - SHA-256 of the newest entry and of the sealed head
//   - account key, head and note: a key derivation, the box's own, AES-256-GCM each
//   - the device ID's SHA-256
//   - two transcripts' SHA-256 and P-256 verifications: device key, UV key
//   - the members' key and HMAC
//   - the record's secret part: as the boxes before
//   - the passkey's signature: SHA-256 of the RP ID and of what is signed, P-256
//   - seal the response: HKDF (one extraction, two expansions), AES-256-GCM over 1 KB
func (f *floors) assertion() {
	f.open(f.private, f.request)
	f.hash(len(f.request.enc))
	f.hmac(32)
	f.hmac(32)
	f.account()
	f.hash(lengthScoped)
	f.verify(f.device)
	f.verify(f.uv)
	f.members()
	f.openBox(lengthSecret)
	f.hash(16)
	f.sign(f.passkey)
	f.response()
}

// firstTouch is what the first request for an account after the enclave's start
// adds: the newest entry's Ed25519 signature.
func (f *floors) firstTouch() {
	f.hash(lengthEntry)
	if !ed25519.Verify(f.ledgerKey.Public().(ed25519.PublicKey), f.zeros[:32], f.entrySignature) {
		panic("floor: entry")
	}
}

// create is an assertion without record and signature, and: a P-256 key pair; SHA-256
// of credential ID and RP ID; metadata and secret part sealed under their keys; and
// what [floors.commit] lists.
func (f *floors) create() {
	f.open(f.private, f.request)
	f.hash(len(f.request.enc))
	f.hmac(32)
	f.hmac(32)
	f.account()
	f.hash(lengthScoped)
	f.verify(f.device)
	f.verify(f.uv)
	f.members()
	newKey()
	f.hash(lengthScoped)
	f.hash(lengthScoped)
	f.seals(lengthMetadata)
	f.seals(lengthSecret)
	f.commit()
	f.response()
}

// attempt is a PIN attempt with the right PIN, without its two durable appends:
//
//   - open the request (4 KB: it brings an encryption key), replay filter, challenges
//   - the ticket: one box
//   - the account as above; two P-256 verifications: possession of device and UV key
//   - RESERVE: a note sealed, SHA-256 of envelope and entry, Ed25519 signature
//   - RESERVE stands: the account again
//   - the recovery record: key derivation with the stretched PIN, one box
//   - its key pair from the seed (ML-KEM-768 and X25519), HPKE open
//   - the members' HMAC under the vault secret found
//   - the vault secret sealed to the new device: HPKE MLKEM768-P256
//   - SHA-256 of the new blobs
//   - RESULT: what [floors.commit] lists
//   - seal the response
func (f *floors) attempt() {
	f.open(f.private, f.bigRequest)
	f.hash(len(f.request.enc))
	f.hmac(32)
	f.hmac(32)
	f.openBox(lengthTicket)
	f.account()
	f.hash(lengthScoped)
	f.verify(f.device)
	f.verify(f.uv)
	f.sealBox(f.secret, lengthNote)
	f.hash(4096)
	f.entry()
	f.account()
	f.derive(lengthScoped)
	f.openBox(lengthSecret)
	private, err := f.kem.NewPrivateKey(f.recoverySeed)
	check(err)
	f.open(private, f.envelope)
	f.members()
	key, err := f.deviceKEM.NewPublicKey(f.encryptionKey)
	check(err)
	_, err = hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), f.zeros[:lengthInfo], f.secret)
	check(err)
	f.hash(lengthMembership)
	f.commit()
	f.response()
}

// commit is what ends every change: the members' HMAC, the new head sealed and
// hashed, the manifest sealed, the note sealed, the entry hashed and signed.
func (f *floors) commit() {
	f.hash(lengthMembers)
	f.hmac(32)
	f.seals(lengthHead)
	f.hash(lengthHead)
	f.seals(lengthManifest)
	f.seals(lengthNote)
	f.entry()
}

func (f *floors) entry() {
	f.hash(lengthEntry)
	ed25519.Sign(f.ledgerKey, f.zeros[:32])
	f.hash(lengthEntry)
}

// account opens account key, head and note, the head's hash being that in the entry.
func (f *floors) account() {
	f.hash(lengthEntry)
	f.hash(lengthHead)
	f.openBox(lengthWrap)
	f.openBox(lengthHead)
	f.openBox(lengthNote)
}

func (f *floors) members() {
	f.derive(lengthLabel)
	f.hash(lengthMembers)
	f.hmac(32)
}

func (f *floors) open(key hpke.PrivateKey, m sealed) {
	r, err := hpke.NewRecipient(m.enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), f.zeros[:lengthInfo])
	check(err)
	_, err = r.Open(nil, m.ciphertext)
	check(err)
	for range 2 {
		_, err := r.Export("passclave transcript", 32)
		check(err)
	}
}

func (f *floors) verify(s signer) {
	digest := sha256.Sum256(f.zeros[:lengthTranscript])
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), s.point)
	check(err)
	if !ecdsa.VerifyASN1(key, digest[:], s.signature) {
		panic("floor: signature")
	}
}

// sign signs with a key that the enclave has not signed with before. The standard
// library computes the public half on the way.
func (f *floors) sign(s signer) {
	digest := sha256.Sum256(f.zeros[:69])
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), s.scalar)
	check(err)
	_, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
	check(err)
}

func (f *floors) derive(info int) []byte {
	key, err := hkdf.Key(sha256.New, f.secret, nil, string(f.zeros[:info]), 32)
	check(err)
	return key
}

func aead(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	check(err)
	a, err := cipher.NewGCM(block)
	check(err)
	return a
}

// openBox derives the key that a box is sealed under, and then the box's own.
func (f *floors) openBox(n int) {
	f.derive(lengthScoped)
	f.derive(lengthLabel)
	var nonce [12]byte
	_, err := aead(f.secret).Open(nil, nonce[:], f.boxes[n], f.aad)
	check(err)
}

// seals derives the key to seal under, and seals.
func (f *floors) seals(n int) {
	f.derive(lengthLabel)
	f.sealBox(f.secret, n)
}

func (f *floors) sealBox(key []byte, n int) []byte {
	var salt [24]byte
	rand.Read(salt[:])
	f.derive(lengthLabel)
	var nonce [12]byte
	return aead(key).Seal(nil, nonce[:], f.zeros[:n], f.aad)
}

func (f *floors) response() {
	var nonce [32]byte
	rand.Read(nonce[:])
	prk, err := hkdf.Extract(sha256.New, f.secret, f.zeros[:len(f.request.enc)+64])
	check(err)
	key, err := hkdf.Expand(sha256.New, prk, "passclave response key", 32)
	check(err)
	iv, err := hkdf.Expand(sha256.New, prk, "passclave response nonce", 12)
	check(err)
	aead(key).Seal(nil, iv, f.zeros[:lengthResponse], nil)
}

func (f *floors) hash(n int) { sha256.Sum256(f.zeros[:n]) }

func (f *floors) hmac(n int) {
	m := hmac.New(sha256.New, f.secret)
	m.Write(f.zeros[:n])
	m.Sum(nil)
}

// check panics: what the floor opens it has sealed itself.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
