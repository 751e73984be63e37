package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/veraison/go-cose"

	"github.com/passclave/passclave/wire"
)

// Limits of an endorsement. A real one has 11 kB, half of it a time stamp.
const (
	maxEndorsement = 64 << 10
	maxFeed        = 256
	maxUVMChain    = 5
)

// endorsement is what a COSE_Sign1 over a launch measurement says, once verified.
type endorsement struct {
	uvm         UVM
	measurement []byte
}

// verifyEndorsements verifies the endorsement of a launch measurement, if there is
// one. Several would leave open which of them counts, and are refused.
func verifyEndorsements(list [][]byte, measurement []byte, now time.Time, known *Cache) (*UVM, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if len(list) > 1 {
		return nil, differ(CheckUVM, "one endorsement", len(list))
	}
	if len(list[0]) > maxEndorsement {
		return nil, differ(CheckUVM, fmt.Sprintf("at most %d bytes", maxEndorsement), len(list[0]))
	}
	e, err := once(known, func() wire.Digest { return cacheKey("uvm", list[0]) }, func() (*endorsement, error) {
		e, err := verifyEndorsement(list[0])
		if err != nil {
			return nil, refuse(CheckUVM, err)
		}
		return e, nil
	})
	if err != nil {
		return nil, err
	}
	if e.uvm.Signed.After(now) {
		return nil, differ(CheckUVM, "signed before "+date(now), date(e.uvm.Signed))
	}
	if !bytes.Equal(e.measurement, measurement) {
		return nil, differ(CheckUVM, hex.EncodeToString(e.measurement), hex.EncodeToString(measurement))
	}
	uvm := e.uvm
	return &uvm, nil
}

// verifyEndorsement verifies a COSE_Sign1 (RFC 9052) in one of the two forms of ACI's
// reference-info-base64. Both have alg and x5chain (RFC 9360) in the protected header,
// and a did:x509 as issuer:
//
//   - "iss", "feed" and "signingtime" (tag 1) in the protected header; the payload is
//     JSON with x-ms-sevsnpvm-launchmeasurement and x-ms-sevsnpvm-guestsvn, a string;
//   - since ContainerPlat 0.2.10 CWT claims (RFC 9597): iss, sub for the feed, iat, and
//     "svn", a number; the payload is the launch measurement itself. No public sample
//     was at hand: this form follows the source of microsoft/CCF.
//
// The chain is validated at the signing time: the leaf lives for a year and the
// endorsement for longer; old UVMs are refused by their SVN, which is the policy's. It
// says nothing about who the issuer is. The unprotected header is not read (real ones
// carry a time stamp there, RFC 3161, which would prove the signing time), nor are
// revocation lists.
func verifyEndorsement(data []byte) (*endorsement, error) {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(data); err != nil {
		return nil, err
	}
	h, err := readUVMHeader(m.Headers.Protected)
	if err != nil {
		return nil, err
	}
	issuer, err := parseDIDX509(h.issuer)
	if err != nil {
		return nil, err
	}
	alg, err := uvmAlgorithm(m.Headers.Protected)
	if err != nil {
		return nil, err
	}
	chain, err := parseX5Chain(m.Headers.Protected[cose.HeaderLabelX5Chain])
	if err != nil {
		return nil, err
	}
	if err := checkThumbprint(m.Headers.Protected, chain[0]); err != nil {
		return nil, err
	}
	verifier, err := cose.NewVerifier(alg, chain[0].PublicKey)
	if err != nil {
		return nil, err
	}
	if err := m.Verify(nil, verifier); err != nil {
		return nil, err
	}
	if err := validateChain(chain, h.signed); err != nil {
		return nil, err
	}
	if err := issuer.resolve(chain); err != nil {
		return nil, err
	}
	e := &endorsement{uvm: UVM{Issuer: h.issuer, Feed: h.feed, SVN: h.svn, Signed: h.signed}}
	if h.claims {
		if len(m.Payload) != launchMeasurement {
			return nil, fmt.Errorf("a payload of %d bytes is no launch measurement", len(m.Payload))
		}
		e.measurement = m.Payload
		return e, nil
	}
	e.measurement, e.uvm.SVN, err = readUVMPayload(m.Payload)
	return e, err
}

// launchMeasurement is the length of SNP's MEASUREMENT.
const launchMeasurement = 48

// uvmAlgorithm takes RSASSA-PSS and ECDSA. Real endorsements have PS384, some ES384.
func uvmAlgorithm(h cose.ProtectedHeader) (cose.Algorithm, error) {
	alg, err := h.Algorithm()
	if err != nil {
		return 0, err
	}
	switch alg {
	case cose.AlgorithmPS256, cose.AlgorithmPS384, cose.AlgorithmPS512, cose.AlgorithmES256, cose.AlgorithmES384, cose.AlgorithmES512:
		return alg, nil
	}
	return 0, fmt.Errorf("algorithm %d", alg)
}

// uvmHeader is what both forms of the protected header say.
type uvmHeader struct {
	issuer, feed string
	signed       time.Time
	claims       bool   // the form with CWT claims
	svn          uint64 // of the claims
}

const (
	headerPreimageContentType = int64(259) // RFC 9995
	contentJSON               = "application/json"
	contentOctets             = "application/octet-stream"
)

func readUVMHeader(h cose.ProtectedHeader) (*uvmHeader, error) {
	if _, ok := h[cose.HeaderLabelCritical]; ok {
		return nil, errors.New("a critical header that is not known")
	}
	out := &uvmHeader{}
	var time1, content any
	if v, ok := h[cose.HeaderLabelCWTClaims]; ok {
		claims, ok := v.(map[any]any)
		if !ok || h["iss"] != nil || h["feed"] != nil {
			return nil, errors.New("CWT claims that are none, or two issuers")
		}
		svn, ok := claims["svn"].(int64)
		if !ok || svn < 0 {
			return nil, errors.New("no svn in the claims")
		}
		out.claims, out.svn = true, uint64(svn)
		out.issuer, _ = claims[cose.CWTClaimIssuer].(string)
		out.feed, _ = claims[cose.CWTClaimSubject].(string)
		time1 = claims[cose.CWTClaimIssuedAt]
		content = contentOctets
		if v, ok := h[headerPreimageContentType]; ok {
			content = v
		}
	} else {
		out.issuer, _ = h["iss"].(string)
		out.feed, _ = h["feed"].(string)
		time1 = h["signingtime"]
		content = h[cose.HeaderLabelContentType]
	}
	switch t := time1.(type) {
	case time.Time:
		out.signed = t.UTC()
	case int64:
		out.signed = time.Unix(t, 0).UTC()
	default:
		return nil, errors.New("no signing time")
	}
	want := contentJSON
	if out.claims {
		want = contentOctets
	}
	if content != want {
		return nil, fmt.Errorf("a payload that is not %s", want)
	}
	if out.issuer == "" || out.feed == "" || len(out.feed) > maxFeed {
		return nil, errors.New("no issuer, or no feed")
	}
	return out, nil
}

func parseX5Chain(x5chain any) ([]*x509.Certificate, error) {
	list, ok := x5chain.([]any)
	if !ok || len(list) < 2 || len(list) > maxUVMChain {
		return nil, fmt.Errorf("not an x5chain of 2 to %d certificates", maxUVMChain)
	}
	chain := make([]*x509.Certificate, len(list))
	for i, v := range list {
		der, ok := v.([]byte)
		if !ok || len(der) > maxCertificate {
			return nil, fmt.Errorf("not a certificate of at most %d bytes", maxCertificate)
		}
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

// validateChain validates an x5chain at the signing time, which must lie in the time
// of every certificate. Each is signed by the next: a path that leaves one out would
// let a stranger's CA stand beside the one that the issuer names.
func validateChain(chain []*x509.Certificate, signed time.Time) error {
	if signed.IsZero() {
		return errors.New("signed in the year 1") // which crypto/x509 would take for the clock's time
	}
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[1 : len(chain)-1] {
		middle.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: middle, CurrentTime: signed, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return err
	}
	for _, path := range paths {
		if same(path, chain) {
			return nil
		}
	}
	return errors.New("a certificate in the x5chain is not signed by the next")
}

func same(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// checkThumbprint compares x5t (RFC 9360), where it is, with the leaf.
func checkThumbprint(h cose.ProtectedHeader, leaf *x509.Certificate) error {
	v, ok := h[cose.HeaderLabelX5T]
	if !ok {
		return nil
	}
	const sha256ID = int64(-16)
	pair, _ := v.([]any)
	want := sha256.Sum256(leaf.Raw)
	if len(pair) != 2 || pair[0] != sha256ID {
		return errors.New("x5t is no SHA-256")
	}
	if have, _ := pair[1].([]byte); !bytes.Equal(have, want[:]) {
		return errors.New("x5t is of another certificate than the leaf")
	}
	return nil
}

// readUVMPayload reads the JSON. Members that are not known are signed by the same
// issuer and take nothing back: newer ones have x-ms-sevsnpvm-guestsvn-int too.
func readUVMPayload(payload []byte) (measurement []byte, svn uint64, err error) {
	object, err := flatJSON(payload)
	if err != nil {
		return nil, 0, err
	}
	encoded, _ := object["x-ms-sevsnpvm-launchmeasurement"].(string)
	if measurement, err = hex.DecodeString(encoded); err != nil || len(measurement) != launchMeasurement {
		return nil, 0, errors.New("no launch measurement of 48 bytes in the payload")
	}
	s, _ := object["x-ms-sevsnpvm-guestsvn"].(string)
	if svn, err = strconv.ParseUint(s, 10, 64); err != nil || strconv.FormatUint(svn, 10) != s {
		return nil, 0, errors.New("no guest SVN, a string, in the payload")
	}
	if n, ok := object["x-ms-sevsnpvm-guestsvn-int"]; ok && n != json.Number(s) {
		return nil, 0, errors.New("two guest SVNs in the payload")
	}
	return measurement, svn, nil
}
