package keywrap

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
)

// maxWrapped bounds what [UnwrapPadded] takes: a PKCS#8 RSA-4096 key has 2.4 kB.
const maxWrapped = 1 << 14

// icv is the fixed half of RFC 5649's alternative initial value (section 3).
const icv = 0xA65959A6

// WrapPadded wraps a key of 1 to 16 kB under a 16, 24 or 32 byte AES key: AES key
// wrap with padding, RFC 5649, section 4.1. It is deterministic, so kek must be
// fresh or plaintext must be a key. Any other length panics: both are chosen by
// the caller, never by an input.
func WrapPadded(kek, plaintext []byte) []byte {
	if len(plaintext) == 0 || len(plaintext) > maxWrapped-16 {
		panic("keywrap: plaintext length out of range")
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		panic(err)
	}
	n := (len(plaintext) + 7) / 8
	out := make([]byte, 8*(n+1))
	binary.BigEndian.PutUint32(out, icv)
	binary.BigEndian.PutUint32(out[4:], uint32(len(plaintext)))
	copy(out[8:], plaintext)
	if n == 1 {
		block.Encrypt(out, out)
		return out
	}
	var b [16]byte
	copy(b[:8], out)
	for t := range 6 * n { // RFC 3394, section 2.2.1
		r := out[8*(t%n+1):][:8]
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		copy(r, b[8:])
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t+1))
	}
	copy(out, b[:8])
	return out
}

// UnwrapPadded undoes [WrapPadded]: RFC 5649, section 4.2. kek must have 16, 24
// or 32 bytes; it, too, may come out of an untrusted message. Whatever is wrong,
// the error is [ErrUnwrap], and for one ciphertext length it takes the same time
// and tells nothing of which byte differed.
func UnwrapPadded(kek, ciphertext []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(ciphertext) < 16 || len(ciphertext)%8 != 0 || len(ciphertext) > maxWrapped {
		return nil, ErrUnwrap
	}
	n := len(ciphertext)/8 - 1
	out := make([]byte, len(ciphertext))
	copy(out, ciphertext)
	if n == 1 {
		block.Decrypt(out, out)
	} else {
		var b [16]byte
		copy(b[:8], out)
		for t := 6*n - 1; t >= 0; t-- { // RFC 3394, section 2.2.2
			r := out[8*(t%n+1):][:8]
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t+1))
			copy(b[8:], r)
			block.Decrypt(b[:], b[:])
			copy(r, b[8:])
		}
		copy(out, b[:8])
	}

	// The three checks of RFC 5649, section 3, without a branch before the last:
	// the constant, 8(n-1) < length <= 8n, and zero padding.
	length := int(binary.BigEndian.Uint32(out[4:]) & 0x7fffffff)
	ok := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(out)^icv), 0)
	ok &= subtle.ConstantTimeEq(int32(out[4]>>7), 0)
	ok &= subtle.ConstantTimeLessOrEq(length, 8*n)
	ok &= subtle.ConstantTimeLessOrEq(8*(n-1)+1, length)
	plain := out[8:]
	padding := byte(0)
	for i := range 8 { // only the last 8 bytes can be padding
		at := 8*(n-1) + i
		inside := byte(subtle.ConstantTimeLessOrEq(at+1, length))
		padding |= plain[at] &^ -inside
	}
	ok &= subtle.ConstantTimeByteEq(padding, 0)
	if ok != 1 {
		clear(out)
		return nil, ErrUnwrap
	}
	return plain[:length:length], nil
}
