package keystore

import (
	"crypto/rsa"
	"strings"
)

// ValidName reports whether s may name a key or a version: 1 to 127 letters, digits and dashes.
func ValidName(s string) bool {
	return s != "" && len(s) <= 127 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// ValidRSA reports whether a key may be wrapped to pub: a modulus of 2048 to 4096 bits
// that is odd, and the exponent 65537. It does not check that the modulus is of two primes.
func ValidRSA(pub *rsa.PublicKey) bool {
	return pub != nil && pub.N != nil && pub.N.Sign() > 0 && pub.N.BitLen() >= 2048 && pub.N.BitLen() <= 4096 &&
		pub.N.Bit(0) == 1 && pub.E == 65537
}
