package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"

	"github.com/passclave/passclave/wire"
)

// softwareKeys are device keys in the profile itself, in the clear: a copy of the
// profile is a copy of the device. Status says so.
type softwareKeys struct {
	Device     []byte `cbor:"1,keyasint"` // P-256 scalar, 32 bytes
	Encryption []byte `cbor:"2,keyasint"` // private key of wire.DeviceKEM as crypto/hpke has it
}

func newSoftwareKeys() (*softwareKeys, error) {
	device, err := newP256()
	if err != nil {
		return nil, err
	}
	encryption, err := wire.DeviceKEM().GenerateKey()
	if err != nil {
		return nil, err
	}
	seed, err := encryption.Bytes()
	if err != nil {
		return nil, err
	}
	return &softwareKeys{Device: device, Encryption: seed}, nil
}

func (k *softwareKeys) open() (DeviceKey, EncryptionKey, error) {
	device, err := parseP256(k.Device)
	if err != nil {
		return nil, nil, err
	}
	var encryption hpke.PrivateKey
	encryption, err = wire.DeviceKEM().NewPrivateKey(k.Encryption)
	if err != nil {
		return nil, nil, err
	}
	return device, encryption, nil
}

// p256Key is an ES256 key in memory.
type p256Key struct {
	private *ecdsa.PrivateKey
	public  []byte
}

func newP256() ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return k.Bytes()
}

func parseP256(scalar []byte) (*p256Key, error) {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, wire.Errorf(wire.CodeMalformed, "P-256 key")
	}
	public, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return &p256Key{private: k, public: public}, nil
}

func (k *p256Key) Public() []byte { return k.public }

func (k *p256Key) Sign(_ context.Context, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	return k.signDigest(digest)
}

func (k *p256Key) signDigest(digest wire.Digest) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, k.private, digest[:])
}
