package intel

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/passclave/passclave/attestation"
)

// Names of collateral in a bundle (docs/attestation.md).
const (
	NameTCBInfo  = "tcb-info"
	NameIdentity = "qe-identity"
	NamePCKCRL   = "pck-crl"
	NameRootCRL  = "root-crl"
)

// rootCRLLife is the lifetime of the root's revocation list, as Intel has it.
const rootCRLLife = 365 * 24 * time.Hour

// issued is collateral with the time at which it was made.
type issued struct {
	at   time.Time
	list []attestation.Collateral
}

// fresh is how long issued collateral is given out again.
const fresh = 24 * time.Hour

// Collateral returns all that Intel's service says about a platform's quotes at a time.
// The caller must not change it.
func (h *Hardware) Collateral(p attestation.Platform, now time.Time) ([]attestation.Collateral, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if age := now.Sub(h.collateral[p].at); h.collateral[p].list != nil && age >= 0 && age < fresh {
		return h.collateral[p].list, nil
	}
	list, err := h.issue(h.TCBInfo(p, now), h.Identity(p, now), h.PCKCRL(now), h.RootCRL(now))
	if err != nil {
		return nil, err
	}
	h.collateral[p] = issued{now, list}
	return list, nil
}

func (h *Hardware) issue(info TCBInfo, identity Identity, pckCRL, rootCRL *x509.RevocationList) ([]attestation.Collateral, error) {
	var list [4]attestation.Collateral
	var err error
	if list[0], err = h.SignTCBInfo(info); err != nil {
		return nil, err
	}
	if list[1], err = h.SignIdentity(identity); err != nil {
		return nil, err
	}
	if list[2], err = h.SignCRL(NamePCKCRL, pckCRL); err != nil {
		return nil, err
	}
	list[3], err = h.SignCRL(NameRootCRL, rootCRL)
	return list[:], err
}

// SignTCBInfo signs TCB info, however false.
func (h *Hardware) SignTCBInfo(i TCBInfo) (attestation.Collateral, error) {
	body, err := json.Marshal(i)
	if err != nil {
		return attestation.Collateral{}, err
	}
	return h.SignStatement(NameTCBInfo, body)
}

// SignIdentity signs the identity of a quoting enclave, however false.
func (h *Hardware) SignIdentity(i Identity) (attestation.Collateral, error) {
	body, err := json.Marshal(i)
	if err != nil {
		return attestation.Collateral{}, err
	}
	return h.SignStatement(NameIdentity, body)
}

// SignStatement signs any bytes as TCB info or identity, and puts the answer of Intel's
// service around them.
func (h *Hardware) SignStatement(name string, body []byte) (attestation.Collateral, error) {
	signature, err := sign(h.Key(TCBSigning), body)
	if err != nil {
		return attestation.Collateral{}, err
	}
	member := map[string]string{NameTCBInfo: "tcbInfo", NameIdentity: "enclaveIdentity"}[name]
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"%s":%s,"signature":"%s"}`, member, body, hex.EncodeToString(signature))
	return attestation.Collateral{Name: name, Data: b.Bytes(),
		Issuer: [][]byte{h.Certificate(TCBSigning).Raw, h.Certificate(Root).Raw}}, nil
}

// PCKCRL returns the unsigned revocation list of PCK certificates: empty.
func (h *Hardware) PCKCRL(now time.Time) *x509.RevocationList { return crl(now, collateralLife) }

// RootCRL returns the unsigned revocation list of the root: empty.
func (h *Hardware) RootCRL(now time.Time) *x509.RevocationList { return crl(now, rootCRLLife) }

func crl(now time.Time, life time.Duration) *x509.RevocationList {
	issued := now.UTC().Truncate(time.Second).Add(-backdated)
	return &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: issued, NextUpdate: issued.Add(life),
		SignatureAlgorithm: x509.ECDSAWithSHA256}
}

// Revoked is the entry of a certificate in a revocation list.
func Revoked(c *x509.Certificate, at time.Time) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: at, ReasonCode: 1} // key compromise
}

// SignCRL signs a revocation list, of PCK certificates or of the root, however false.
func (h *Hardware) SignCRL(name string, list *x509.RevocationList) (attestation.Collateral, error) {
	by, issuer := Root, [][]byte(nil) // who signs the root's list is in the quote
	if name == NamePCKCRL {
		by, issuer = PlatformCA, [][]byte{h.Certificate(PlatformCA).Raw, h.Certificate(Root).Raw}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, h.Certificate(by), h.Key(by))
	if err != nil {
		return attestation.Collateral{}, fmt.Errorf("simulated revocation list: %w", err)
	}
	return attestation.Collateral{Name: name, Data: der, Issuer: issuer}, nil
}
