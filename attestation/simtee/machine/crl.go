package machine

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/passclave/passclave/attestation"
)

// A revocation list is good for a year and given out again for a day.
const (
	crlLife  = 365 * 24 * time.Hour
	crlFresh = 24 * time.Hour
)

// revocations is AMD's newest revocation list.
type revocations struct {
	mu   sync.Mutex // guards all
	at   time.Time  // when it was made
	list []attestation.Collateral
}

// Collateral returns what is stapled to a report of SEV-SNP at a time: the ARK's
// revocation list, in which nothing stands. The caller must not change it.
func (m *Machine) Collateral(now time.Time) ([]attestation.Collateral, error) {
	r := &m.revoked
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.at); r.list != nil && age >= 0 && age < crlFresh {
		return r.list, nil
	}
	issued := now.UTC().Truncate(time.Second).Add(-backdated)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: issued, NextUpdate: issued.Add(crlLife), SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}, m.ark.certificate, m.ark.key)
	if err != nil {
		return nil, fmt.Errorf("simulated revocation list: %w", err)
	}
	r.at, r.list = now, []attestation.Collateral{{Name: attestation.CollateralAMDCRL, Data: der}}
	return r.list, nil
}
