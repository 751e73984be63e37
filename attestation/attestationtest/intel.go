package attestationtest

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/wire"
)

// IntelRoots returns what a verifier has to trust to find the quotes of h genuine.
func IntelRoots(h *intel.Hardware) attestation.Roots {
	return attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(h.Certificate(intel.Root).Raw)}}
}

// NewIntel returns new hardware of Intel's, unlike the process's own ([NewMachine],
// Intel): with another platform, or other certificates.
func NewIntel(t testing.TB, options ...intel.Option) *intel.Hardware {
	t.Helper()
	h, err := intel.Found(time.Now(), options...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// IntelOption makes a TD or an enclave, its quote or its collateral unlike the ordinary.
type IntelOption func(*intelGuest)

type intelGuest struct {
	hardware *intel.Hardware
	at       time.Time
	td       []func(*intel.TDReport)
	enclave  []func(*intel.Report)
	quote    []func(*intel.Quote)
	report   []func([]byte) []byte

	info       []func(*intel.TCBInfo)
	identity   []func(*intel.Identity)
	statement  map[string]func([]byte) []byte
	crl        map[string]func(*x509.RevocationList)
	collateral []func([]attestation.Collateral) []attestation.Collateral
}

// OnIntel has other hardware than the process's make the evidence.
func OnIntel(h *intel.Hardware) IntelOption { return func(g *intelGuest) { g.hardware = h } }

// IssuedAt sets when the collateral was issued: now otherwise.
func IssuedAt(at time.Time) IntelOption { return func(g *intelGuest) { g.at = at } }

// TD changes a TD's report before it is signed. It does nothing to an enclave.
func TD(change func(*intel.TDReport)) IntelOption {
	return func(g *intelGuest) { g.td = append(g.td, change) }
}

// Enclave changes an enclave's report before it is signed. It does nothing to a TD.
func Enclave(change func(*intel.Report)) IntelOption {
	return func(g *intelGuest) { g.enclave = append(g.enclave, change) }
}

// Quote changes header, encoded body, quoting enclave, certificate chain before they
// are signed.
func Quote(change func(*intel.Quote)) IntelOption {
	return func(g *intelGuest) { g.quote = append(g.quote, change) }
}

// ReportBytes changes the bundle's report after everything was signed: the quote, or
// for SGX the quote behind its header of Open Enclave (16 bytes).
func ReportBytes(change func([]byte) []byte) IntelOption {
	return func(g *intelGuest) { g.report = append(g.report, change) }
}

// TCBInfo changes TCB info before it is signed.
func TCBInfo(change func(*intel.TCBInfo)) IntelOption {
	return func(g *intelGuest) { g.info = append(g.info, change) }
}

// Identity changes the quoting enclave's identity before it is signed.
func Identity(change func(*intel.Identity)) IntelOption {
	return func(g *intelGuest) { g.identity = append(g.identity, change) }
}

// Statement changes the JSON that is signed, of [intel.NameTCBInfo] or [intel.NameIdentity].
func Statement(name string, change func([]byte) []byte) IntelOption {
	return func(g *intelGuest) { g.statement[name] = change }
}

// CRL changes a revocation list before it is signed: [intel.NamePCKCRL] or
// [intel.NameRootCRL]. [intel.Revoked] makes its entries.
func CRL(name string, change func(*x509.RevocationList)) IntelOption {
	return func(g *intelGuest) { g.crl[name] = change }
}

// Collateral changes the bundle's collateral after everything was signed. It gets a
// deep copy, in the order TCB info, identity, list of PCKs, list of the root.
func Collateral(change func([]attestation.Collateral) []attestation.Collateral) IntelOption {
	return func(g *intelGuest) { g.collateral = append(g.collateral, change) }
}

// NoCollateral leaves all collateral out.
func NoCollateral() IntelOption {
	return Collateral(func([]attestation.Collateral) []attestation.Collateral { return nil })
}

// TDXBundle returns evidence of a TD over runtime data, with the configuration's file
// and complete collateral. MRTD is 48 times 0x4d, MRCONFIGID the configuration's hash
// ‖ 16 zero bytes. As [Bundle], it asks nothing about the runtime data.
func TDXBundle(t testing.TB, r attestation.RuntimeData, configuration []byte, options ...IntelOption) *attestation.Bundle {
	t.Helper()
	return intelBundle(t, attestation.PlatformTDX, r, configuration, options)
}

// SGXBundle returns evidence of an enclave over runtime data, with the configuration's
// file and complete collateral. MRENCLAVE is 32 times 0x4d, CONFIGID the configuration's
// hash ‖ 32 zero bytes. As [Bundle], it asks nothing about the runtime data.
func SGXBundle(t testing.TB, r attestation.RuntimeData, configuration []byte, options ...IntelOption) *attestation.Bundle {
	t.Helper()
	return intelBundle(t, attestation.PlatformSGX, r, configuration, options)
}

func intelBundle(t testing.TB, p attestation.Platform, r attestation.RuntimeData, configuration []byte, options []IntelOption) *attestation.Bundle {
	t.Helper()
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	g := intelGuest{hardware: NewMachine(t).Intel(), at: time.Now(),
		statement: make(map[string]func([]byte) []byte), crl: make(map[string]func(*x509.RevocationList))}
	for _, o := range options {
		o(&g)
	}
	q := g.draft(p, attestation.ReportData(data), wire.ConfigurationHash(configuration))
	for _, change := range g.quote {
		change(q)
	}
	report, err := g.hardware.Sign(q)
	if err != nil {
		t.Fatal(err)
	}
	if p == attestation.PlatformSGX {
		report = intel.OpenEnclave(report)
	}
	for _, change := range g.report {
		report = change(report)
	}
	collateral, err := g.issue(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range g.collateral {
		collateral = change(collateral)
	}
	return &attestation.Bundle{Platform: p, Report: report, Collateral: collateral, RuntimeData: data, Configuration: configuration}
}

// draft fills in a quote, unsigned.
func (g *intelGuest) draft(p attestation.Platform, reportData [64]byte, hash wire.Digest) *intel.Quote {
	if p == attestation.PlatformSGX {
		r := g.hardware.Enclave()
		copy(r.MRENCLAVE[:], bytes.Repeat([]byte{0x4d}, 32))
		copy(r.ConfigID[:], hash[:])
		r.ReportData = reportData
		for _, change := range g.enclave {
			change(&r)
		}
		return g.hardware.EnclaveQuote(r)
	}
	r := g.hardware.TD()
	copy(r.MRTD[:], bytes.Repeat([]byte{0x4d}, 48))
	copy(r.MRCONFIGID[:], hash[:])
	r.ReportData = reportData
	for _, change := range g.td {
		change(&r)
	}
	return g.hardware.TDQuote(r)
}

// issue makes the collateral, signed.
func (g *intelGuest) issue(p attestation.Platform) (list []attestation.Collateral, err error) {
	info, identity := g.hardware.TCBInfo(p, g.at), g.hardware.Identity(p, g.at)
	for _, change := range g.info {
		change(&info)
	}
	for _, change := range g.identity {
		change(&identity)
	}
	for _, s := range []struct {
		name  string
		value any
	}{{intel.NameTCBInfo, info}, {intel.NameIdentity, identity}} {
		body, err := json.Marshal(s.value)
		if err != nil {
			return nil, err
		}
		if change := g.statement[s.name]; change != nil {
			body = change(body)
		}
		c, err := g.hardware.SignStatement(s.name, body)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	for _, s := range []struct {
		name string
		list *x509.RevocationList
	}{{intel.NamePCKCRL, g.hardware.PCKCRL(g.at)}, {intel.NameRootCRL, g.hardware.RootCRL(g.at)}} {
		if change := g.crl[s.name]; change != nil {
			change(s.list)
		}
		c, err := g.hardware.SignCRL(s.name, s.list)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	for i := range list {
		for j := range list[i].Issuer {
			list[i].Issuer[j] = bytes.Clone(list[i].Issuer[j])
		}
	}
	return list, nil
}
