package endorser

import (
	"bytes"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// evidence decides by the configuration: [Admit] in earnest.
type evidence struct {
	configuration *Configuration
	hash          wire.Digest // of the configuration's file
	now           func() time.Time
}

// ByEvidence admits enclaves and successors as a configuration says. file is the
// configuration's, now the time by which certificates are judged.
func ByEvidence(c *Configuration, file []byte, now func() time.Time) Admit {
	return &evidence{c, wire.ConfigurationHash(file), now}
}

// Enclave implements [Admit]: genuine, accepted by the configuration's trust policy, and
// of this very ledger and genesis.
func (e *evidence) Enclave(bundle []byte, genesis wire.Digest) ([]ledger.Signer, error) {
	c, err := e.accept(bundle, e.configuration.Enclaves, attestation.PurposeClient)
	if err != nil {
		return nil, err
	}
	l := c.RuntimeData.Ledger
	if !bytes.Equal(l.ID, e.configuration.Ledger) || !bytes.Equal(l.Genesis, genesis[:]) || l.Number != e.configuration.Number || l.Backend != wire.BackendEndorsed {
		return nil, wire.Errorf(wire.CodeEvidence, "an enclave of another ledger, genesis or backend")
	}
	var signers []ledger.Signer
	for _, s := range l.Signers {
		signers = append(signers, ledger.Signer{Public: []byte(s.Public), Signature: s.Signature})
	}
	return signers, nil
}

// Successor implements [Admit]: genuine, accepted by the trust policy of a release that
// the release key signed and that is not too old, with the same configuration, for
// this key and ledger.
func (e *evidence) Successor(bundle, release, key []byte) error {
	r, p, err := ParseRelease(release, []byte(e.configuration.ReleaseKey))
	if err != nil {
		return err
	}
	if r.Number < e.configuration.LeastRelease {
		return wire.Errorf(wire.CodeEvidence, "release %d is older than %d", r.Number, e.configuration.LeastRelease)
	}
	c, err := e.accept(bundle, p, attestation.PurposeEndorser)
	if err != nil {
		return err
	}
	switch {
	case !bytes.Equal(c.RuntimeData.Endorser, key):
		return wire.Errorf(wire.CodeEvidence, "evidence of another key")
	case c.ConfigurationHash != e.hash:
		return wire.Errorf(wire.CodeEvidence, "an endorser of another configuration")
	}
	return nil
}

func (e *evidence) accept(bundle []byte, p *policy.TrustPolicy, purpose string) (*attestation.Claims, error) {
	b, err := attestation.ParseBundle(bundle)
	if err != nil {
		return nil, wire.NewError(wire.CodeEvidence, err)
	}
	now := e.now()
	c, err := attestation.Genuine(b, p.Roots(), now)
	if err != nil {
		return nil, wire.NewError(wire.CodeEvidence, err)
	}
	if err := policy.Accept(c, p, purpose, now); err != nil {
		return nil, wire.NewError(wire.CodePolicy, err)
	}
	if c.RuntimeData == nil || c.RuntimeData.Purpose != purpose {
		return nil, wire.Errorf(wire.CodeEvidence, "evidence of another purpose")
	}
	return c, nil
}
