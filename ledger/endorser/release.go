package endorser

import (
	"crypto/ed25519"

	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// Release says how evidence of one release of the endorser looks. The release key signs
// it, so that endorsers can be replaced by newer ones that their configuration could
// not know.
type Release struct {
	Number    uint64 `cbor:"1,keyasint"` // rises with every release
	Policy    []byte `cbor:"2,keyasint"` // trust policy for evidence of purpose "endorser"
	Signature []byte `cbor:"3,keyasint"` // Ed25519 by the release key over H("endorser release", number, policy)
}

func (r *Release) message() []byte {
	h := wire.Hash("endorser release", r.Number, r.Policy)
	return h[:]
}

// NewRelease signs a release.
func NewRelease(number uint64, p *policy.TrustPolicy, key ed25519.PrivateKey) *Release {
	r := &Release{Number: number, Policy: p.Encode()}
	r.Signature = ed25519.Sign(key, r.message())
	return r
}

// Encode returns what [ParseRelease] reads.
func (r *Release) Encode() []byte { return wire.Marshal(r) }

// ParseRelease decodes a release that the key signed, and its policy.
func ParseRelease(data []byte, key ed25519.PublicKey) (*Release, *policy.TrustPolicy, error) {
	var r Release
	if err := wire.Unmarshal(data, &r); err != nil {
		return nil, nil, wire.NewError(wire.CodeEvidence, err)
	}
	if !ed25519.Verify(key, r.message(), r.Signature) {
		return nil, nil, wire.Errorf(wire.CodeEvidence, "the release is not signed by the release key")
	}
	p, err := policy.Parse(r.Policy)
	if err != nil {
		return nil, nil, wire.NewError(wire.CodeEvidence, err)
	}
	return &r, p, nil
}
