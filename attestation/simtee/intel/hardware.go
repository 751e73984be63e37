// Package intel is the simulated hardware of Intel's: it plays Intel (a root, the CA
// of platforms' keys and the signer of TCB statements), one platform (its PCK and its
// quoting enclave) and Intel's service (TCB info, identity of the quoting enclave,
// revocation lists). Quotes and collateral have the real byte formats; they prove
// nothing to whoever does not trust this very root by name.
//
// It holds the keys in memory; package machine keeps them in its state folder, and
// decides what stands in a quote. Tests change each part before it is signed.
package intel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"sync"
	"time"

	"github.com/passclave/passclave/attestation"
)

// Hardware is a platform of Intel's with those who vouch for it. It is safe for
// concurrent use.
type Hardware struct {
	certified [roles]certified
	platform  Platform
	quoting   *ecdsa.PrivateKey // the quoting enclave's attestation key, P-256: made at each start

	mu         sync.Mutex // guards what follows
	collateral map[attestation.Platform]issued
}

// certified is a certificate with its private key.
type certified struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Role is whom a certificate is for.
type Role int

// The roles, in the order in which their certificates are made.
const (
	Root       Role = iota // Intel SGX Root CA
	PlatformCA             // Intel SGX PCK Platform CA
	PCK                    // Intel SGX PCK Certificate: the key that signs the quoting enclave's report
	TCBSigning             // Intel SGX TCB Signing: the key that signs TCB info and identities
	roles
)

// Option makes hardware unlike the ordinary one: for tests.
type Option func(*founding)

type founding struct {
	now      time.Time
	platform Platform
	change   []func(Role, *x509.Certificate, *elliptic.Curve)
}

// WithPlatform changes what the PCK certificate says about the platform, before it is made.
func WithPlatform(change func(*Platform)) Option {
	return func(f *founding) { change(&f.platform) }
}

// WithCertificates changes certificates before they are signed, and the curves of
// their keys, P-256 otherwise. Serial numbers are random where the template has none.
func WithCertificates(change func(Role, *x509.Certificate, *elliptic.Curve)) Option {
	return func(f *founding) { f.change = append(f.change, change) }
}

// Found makes new hardware whose certificates begin at now, less a tolerance.
func Found(now time.Time, options ...Option) (*Hardware, error) {
	f := founding{now: now, platform: newPlatform()}
	for _, o := range options {
		o(&f)
	}
	h := &Hardware{platform: f.platform}
	for role := range roles {
		var err error
		if h.certified[role], err = f.certify(role, &h.certified); err != nil {
			return nil, err
		}
	}
	return h, h.start()
}

// start makes what lives as long as the process.
func (h *Hardware) start() (err error) {
	h.collateral = make(map[attestation.Platform]issued)
	h.quoting, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return err
}

// Certificate returns the certificate of a role.
func (h *Hardware) Certificate(r Role) *x509.Certificate { return h.certified[r].certificate }

// Key returns the private key of a role.
func (h *Hardware) Key(r Role) *ecdsa.PrivateKey { return h.certified[r].key }

// Platform returns what the PCK certificate says about the platform.
func (h *Hardware) Platform() Platform { return h.platform }
