package client

import (
	"context"
	"crypto/rand"
	"runtime"

	"github.com/passclave/passclave/wire"
	"golang.org/x/crypto/argon2"
)

// DefaultCodeCost is what a guess at the local code of a software UV key costs.
var DefaultCodeCost = wire.Argon2id{MemoryKiB: 64 << 10, Time: 3, Parallelism: 1}

// sealedUV is a software UV key sealed by a local code: Argon2id, then AES-256-GCM
// ([wire.SealBox]).
//
// It is weaker than a UV key in hardware, and every surface says "software UV":
// whoever has the profile's file tries codes at the cost of Argon2id, and nothing
// can count or stop that. The box tells a wrong code from a right one; there is no
// lockout in software.
type sealedUV struct {
	Public []byte        `cbor:"1,keyasint"`
	Salt   []byte        `cbor:"2,keyasint"`
	Cost   wire.Argon2id `cbor:"3,keyasint"`
	Box    []byte        `cbor:"4,keyasint"`
}

const labelUV = "software uv"

// CheckCode refuses a new local code with a [CodeError]: fewer than 4 characters, one
// repeated character, or a run (1234, dcba). Nothing else stands between the profile's
// file and the UV key, and what a longer code is worth is the person's choice.
func CheckCode(code string) error {
	switch chars := []rune(code); {
	case len(chars) < 4:
		return &CodeError{"it needs at least 4 characters"}
	case run(chars, 0) || run(chars, 1) || run(chars, -1):
		return &CodeError{"one repeated character, or a run"}
	}
	return nil
}

func sealUV(code string, cost wire.Argon2id) (*sealedUV, *unlockedUV, error) {
	scalar, err := newP256()
	if err != nil {
		return nil, nil, err
	}
	key, err := parseP256(scalar)
	if err != nil {
		return nil, nil, err
	}
	s := &sealedUV{Public: key.Public(), Salt: make([]byte, wire.SaltSize), Cost: cost}
	rand.Read(s.Salt)
	s.Box = wire.SealBox(s.boxKey(code), labelUV, wire.Scope{}, scalar, s.Public)
	return s, &unlockedUV{key}, nil
}

func (s *sealedUV) boxKey(code string) []byte {
	return wire.Derive(stretch([]byte(code), s.Salt, s.Cost), "software uv key")
}

// unlock returns [ErrWrongCode] where the code does not open the key.
func (s *sealedUV) unlock(code string) (*unlockedUV, error) {
	scalar, err := wire.OpenBox(s.boxKey(code), labelUV, wire.Scope{}, s.Box, s.Public)
	if err != nil {
		return nil, ErrWrongCode
	}
	key, err := parseP256(scalar)
	if err != nil {
		return nil, err
	}
	return &unlockedUV{key}, nil
}

// unlockedUV is a software UV key for the length of one call.
type unlockedUV struct{ key *p256Key }

func (u *unlockedUV) Credential() ([]byte, *wire.PlatformCredential) { return u.key.Public(), nil }

func (u *unlockedUV) Verify(ctx context.Context, message []byte) (*wire.UserVerification, error) {
	signature, err := u.key.Sign(ctx, message)
	if err != nil {
		return nil, err
	}
	return &wire.UserVerification{Signature: signature}, nil
}

// stretch is Argon2id (RFC 9106) with an output of 32 bytes. It gives its memory free at
// once: a join stretches twice, and a second time in the same pages takes half as long,
// and half the memory, of one in fresh pages.
func stretch(secret, salt []byte, p wire.Argon2id) []byte {
	if p.MemoryKiB >= 16<<10 {
		defer runtime.GC()
	}
	return argon2.IDKey(secret, salt, p.Time, p.MemoryKiB, p.Parallelism, wire.SecretSize)
}
