package attestation

import "time"

func verifyToken(b *Bundle, _ Roots, _ time.Time) (*Claims, error) {
	return nil, differ(CheckPlatform, "another platform, in this version", b.Platform)
}
