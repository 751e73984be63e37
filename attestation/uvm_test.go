package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// launch is the measurement of the tests' ordinary guest.
var launch = bytes.Repeat([]byte{0x4d}, 48)

func endorsed(t *testing.T, endorsements ...[]byte) (*attestation.Claims, error) {
	t.Helper()
	b := bundle(t)
	b.Endorsements = endorsements
	return genuine(t, b)
}

func TestEndorsement(t *testing.T) {
	t.Parallel()
	e := at.NewEndorser(t)
	x := e.Endorsement(launch, 103)
	c, err := endorsed(t, e.Sign(t, x))
	if err != nil {
		t.Fatal(err)
	}
	if u := c.UVM; u == nil || u.Issuer != e.Issuer(at.EKUACI) || u.Feed != at.FeedACI || u.SVN != 103 || !u.Signed.Equal(x.Signed) {
		t.Errorf("claims: %+v", u)
	}

	// Newer payloads have the number twice, and may have more.
	x.Payload = []byte(strings.Replace(string(x.Payload), "{", `{"x-ms-sevsnpvm-guestsvn-int": 103, "x-ms-new": "?",`, 1))
	if _, err := endorsed(t, e.Sign(t, x)); err != nil {
		t.Error(err)
	}
	// A leaf may be named by its thumbprint too.
	x = e.Endorsement(launch, 103)
	x.Protected = map[any]any{cose.HeaderLabelX5T: []any{-16, sha256Of(e.Leaf.Raw)}}
	if _, err := endorsed(t, e.Sign(t, x)); err != nil {
		t.Error(err)
	}
	// An endorsement outlives the certificates of who signed it.
	old := e.Renewed(t, time.Now().AddDate(-3, 0, 0), time.Now().AddDate(-2, 0, 0), at.EKUACI)
	x = old.Endorsement(launch, 22)
	x.Signed = time.Now().AddDate(-3, 6, 0)
	if _, err := endorsed(t, old.Sign(t, x)); err != nil {
		t.Error(err)
	}
}

// The form since ContainerPlat 0.2.10.
func TestEndorsementWithClaims(t *testing.T) {
	t.Parallel()
	e := at.NewEndorser(t)
	form := func(change func(claims map[any]any, x *at.Endorsement)) (*attestation.Claims, error) {
		x := e.Endorsement(launch, 0)
		claims := map[any]any{int64(1): x.Issuer, int64(2): x.Feed, int64(6): x.Signed.Unix(), "svn": 104}
		x.Payload = launch
		x.Protected = map[any]any{
			"iss": nil, "feed": nil, "signingtime": nil, cose.HeaderLabelContentType: nil,
			cose.HeaderLabelCWTClaims: claims, int64(259): "application/octet-stream",
		}
		change(claims, x)
		return endorsed(t, e.Sign(t, x))
	}
	c, err := form(func(map[any]any, *at.Endorsement) {})
	if err != nil || c.UVM.SVN != 104 || c.UVM.Feed != at.FeedACI || c.UVM.Issuer != e.Issuer(at.EKUACI) {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, change := range map[string]func(map[any]any, *at.Endorsement){
		"no issuer":          func(c map[any]any, _ *at.Endorsement) { delete(c, int64(1)) },
		"no feed":            func(c map[any]any, _ *at.Endorsement) { delete(c, int64(2)) },
		"no time":            func(c map[any]any, _ *at.Endorsement) { delete(c, int64(6)) },
		"no SVN":             func(c map[any]any, _ *at.Endorsement) { delete(c, "svn") },
		"negative SVN":       func(c map[any]any, _ *at.Endorsement) { c["svn"] = -1 },
		"SVN as text":        func(c map[any]any, _ *at.Endorsement) { c["svn"] = "104" },
		"old time":           func(c map[any]any, _ *at.Endorsement) { c[int64(6)] = time.Now().AddDate(-1, 0, 0).Unix() },
		"two issuers":        func(_ map[any]any, x *at.Endorsement) { x.Protected["iss"] = x.Issuer },
		"two feeds":          func(_ map[any]any, x *at.Endorsement) { x.Protected["feed"] = "another" },
		"JSON":               func(_ map[any]any, x *at.Endorsement) { x.Protected[int64(259)] = "application/json" },
		"short payload":      func(_ map[any]any, x *at.Endorsement) { x.Payload = launch[:47] },
		"other measurement":  func(_ map[any]any, x *at.Endorsement) { x.Payload = bytes.Repeat([]byte{1}, 48) },
		"claims are a list":  func(_ map[any]any, x *at.Endorsement) { x.Protected[cose.HeaderLabelCWTClaims] = []any{1} },
		"measurement in hex": func(_ map[any]any, x *at.Endorsement) { x.Payload = []byte(fmt.Sprintf("%x", launch)) },
	} {
		_, err := form(change)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckUVM) })
	}
}

func sha256Of(data []byte) []byte {
	h := sha256.Sum256(data)
	return h[:]
}

func TestEndorsementAttacked(t *testing.T) {
	t.Parallel()
	e := at.NewEndorser(t)
	const other = "1.3.6.1.4.1.311.76.59.1.3"
	strange := e.Reissued(t, func(root, _, _ *x509.Certificate) { root.Subject.CommonName = "Stranger" })
	now := time.Now()
	payload := func(s string) func(*at.Endorsement) {
		return func(x *at.Endorsement) { x.Payload = []byte(s) }
	}
	hexed := fmt.Sprintf("%x", launch)
	for name, change := range map[string]func(*at.Endorsement){
		"other issuer's root":     func(x *at.Endorsement) { x.Issuer = strange.Issuer(at.EKUACI) },
		"other issuer's EKU":      func(x *at.Endorsement) { x.Issuer = e.Issuer(other) },
		"a second EKU":            func(x *at.Endorsement) { x.Issuer += "::eku:" + other },
		"no EKU":                  func(x *at.Endorsement) { x.Issuer, _, _ = strings.Cut(x.Issuer, "::") },
		"EKU with a leading zero": func(x *at.Endorsement) { x.Issuer = e.Issuer("01.3.6.1.4.1.311.76.59.1.2") },
		"EKU with a sign":         func(x *at.Endorsement) { x.Issuer = e.Issuer("+1.3.6.1.4.1.311.76.59.1.2") },
		"policy subject":          func(x *at.Endorsement) { x.Issuer += "::subject:CN:ContainerPlat" },
		"fingerprint of the leaf": func(x *at.Endorsement) { x.Issuer = (&at.Endorser{Root: e.Leaf}).Issuer(at.EKUACI) },
		"a very long did":         func(x *at.Endorsement) { x.Issuer += strings.Repeat("::eku:"+at.EKUACI, 40) },
		"did of version 1":        func(x *at.Endorsement) { x.Issuer = strings.Replace(x.Issuer, "x509:0", "x509:1", 1) },
		"did with sha384":         func(x *at.Endorsement) { x.Issuer = strings.Replace(x.Issuer, "sha256", "sha384", 1) },
		"did with padding":        func(x *at.Endorsement) { x.Issuer = strings.Replace(x.Issuer, "::", "=::", 1) },
		"did with a line":         func(x *at.Endorsement) { x.Issuer = strings.Replace(x.Issuer, "::", "\n::", 1) },
		"no did":                  func(x *at.Endorsement) { x.Issuer = "https://example.test" },
		"no issuer":               func(x *at.Endorsement) { x.Protected = map[any]any{"iss": nil} },
		"issuer not text":         func(x *at.Endorsement) { x.Protected = map[any]any{"iss": []byte(x.Issuer)} },
		"no feed":                 func(x *at.Endorsement) { x.Feed = "" },
		"long feed":               func(x *at.Endorsement) { x.Feed = strings.Repeat("f", 257) },
		"issuer unprotected": func(x *at.Endorsement) {
			x.Protected, x.Unprotected = map[any]any{"iss": nil}, map[any]any{"iss": x.Issuer}
		},
		"signed too early":       func(x *at.Endorsement) { x.Signed = e.Leaf.NotBefore.Add(-time.Second) },
		"signed too late":        func(x *at.Endorsement) { x.Signed = e.Leaf.NotAfter.Add(time.Second) },
		"signed tomorrow":        func(x *at.Endorsement) { x.Signed = now.AddDate(0, 0, 1) },
		"signed in the year 1":   func(x *at.Endorsement) { x.Signed = time.Time{} }, // crypto/x509's word for now
		"signed before the root": func(x *at.Endorsement) { x.Signed = e.Root.NotBefore.Add(-time.Second) },
		"no signing time":        func(x *at.Endorsement) { x.Protected = map[any]any{"signingtime": nil} },
		"signing time is text":   func(x *at.Endorsement) { x.Protected = map[any]any{"signingtime": "2026-11-26"} },
		"critical header":        func(x *at.Endorsement) { x.Protected = map[any]any{cose.HeaderLabelCritical: []any{"iss"}} },
		"x5t of another":         func(x *at.Endorsement) { x.Protected = map[any]any{cose.HeaderLabelX5T: []any{-16, make([]byte, 32)}} },
		"x5t of another kind": func(x *at.Endorsement) {
			x.Protected = map[any]any{cose.HeaderLabelX5T: []any{-43, sha256Of(e.Leaf.Raw)}}
		},
		"x5t of one": func(x *at.Endorsement) { x.Protected = map[any]any{cose.HeaderLabelX5T: []any{-16}} },
		"x5t of three": func(x *at.Endorsement) {
			x.Protected = map[any]any{cose.HeaderLabelX5T: []any{-16, sha256Of(e.Leaf.Raw), 0}}
		},
		"x5t with another hash":    func(x *at.Endorsement) { x.Protected = map[any]any{cose.HeaderLabelX5T: []any{-43, make([]byte, 48)}} },
		"no chain":                 func(x *at.Endorsement) { x.Protected = map[any]any{cose.HeaderLabelX5Chain: nil} },
		"leaf alone":               func(x *at.Endorsement) { x.Protected = map[any]any{cose.HeaderLabelX5Chain: e.Leaf.Raw} },
		"chain without the root":   func(x *at.Endorsement) { x.Chain = x.Chain[:2] },
		"chain without the middle": func(x *at.Endorsement) { x.Chain = [][]byte{x.Chain[0], x.Chain[2]} },
		"chain in another order":   func(x *at.Endorsement) { x.Chain[1], x.Chain[2] = x.Chain[2], x.Chain[1] },
		"long chain":               func(x *at.Endorsement) { x.Chain = append(x.Chain, x.Chain[2], x.Chain[2], x.Chain[2]) },
		"large certificate":        func(x *at.Endorsement) { x.Chain[1] = append(bytes.Clone(x.Chain[1]), make([]byte, 4096)...) },
		"not a certificate":        func(x *at.Endorsement) { x.Chain[1] = []byte("CA") },
		"another content": func(x *at.Endorsement) {
			x.Protected = map[any]any{cose.HeaderLabelContentType: "application/octet-stream"}
		},
		"other measurement": func(x *at.Endorsement) { x.Payload = e.Endorsement(make([]byte, 48), 1).Payload },
		"short measurement": func(x *at.Endorsement) { x.Payload = e.Endorsement(launch[:47], 1).Payload },
		"no measurement":    payload(`{"x-ms-sevsnpvm-guestsvn": "1"}`),
		"no SVN":            payload(`{"x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"SVN is a number":   payload(`{"x-ms-sevsnpvm-guestsvn": 1, "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"SVN with a sign":   payload(`{"x-ms-sevsnpvm-guestsvn": "+1", "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"SVN with zeros":    payload(`{"x-ms-sevsnpvm-guestsvn": "01", "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"two SVNs":          payload(`{"x-ms-sevsnpvm-guestsvn": "1", "x-ms-sevsnpvm-guestsvn-int": 2, "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"SVN twice":         payload(`{"x-ms-sevsnpvm-guestsvn": "1", "x-ms-sevsnpvm-guestsvn": "2", "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"SVN in upper case": payload(`{"X-MS-SEVSNPVM-GUESTSVN": "1", "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}`),
		"payload and more":  payload(`{"x-ms-sevsnpvm-guestsvn": "1", "x-ms-sevsnpvm-launchmeasurement": "` + hexed + `"}{}`),
		"payload is a list": payload(`["` + hexed + `"]`),
		"a list of members": payload(`["x-ms-sevsnpvm-guestsvn", "1", "x-ms-sevsnpvm-launchmeasurement", "` + hexed + `"]`),
		"payload is empty":  payload(``),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := e.Endorsement(launch, 1)
			change(x)
			_, err := endorsed(t, e.Sign(t, x))
			wantCheck(t, err, attestation.CheckUVM)
		})
	}
	good := e.Endorse(t, launch, 1)
	large := e.Endorsement(launch, 1)
	large.Unprotected = map[any]any{"padding": make([]byte, 64<<10)} // which nobody has signed
	for name, list := range map[string][][]byte{
		"two":       {good, good},
		"empty":     {{}},
		"not CBOR":  {[]byte("endorsement")},
		"no tag":    {good[1:]},
		"and more":  {append(bytes.Clone(good), 0)},
		"too large": {e.Sign(t, large)},
	} {
		_, err := endorsed(t, list...)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckUVM) })
	}
}

// Certificates that are wrong although everything is signed as it should be.
func TestEndorsersChainAttacked(t *testing.T) {
	t.Parallel()
	e := at.NewEndorser(t)
	sign := func(by *at.Endorser, change func(*at.Endorsement)) error {
		x := by.Endorsement(launch, 1)
		if change != nil {
			change(x)
		}
		_, err := endorsed(t, by.Sign(t, x))
		return err
	}
	if err := sign(e.Reissued(t, func(_, _, _ *x509.Certificate) {}), nil); err != nil {
		t.Fatalf("without a change: %v", err)
	}
	now := time.Now()
	for name, change := range map[string]func(root, middle, leaf *x509.Certificate){
		"leaf with another EKU": func(_, _, l *x509.Certificate) { l.UnknownExtKeyUsage[0] = append(l.UnknownExtKeyUsage[0], 1) },
		"leaf without EKU":      func(_, _, l *x509.Certificate) { l.UnknownExtKeyUsage = nil },
		"leaf with any EKU": func(_, _, l *x509.Certificate) {
			l.UnknownExtKeyUsage, l.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		},
		"leaf for encryption":   func(_, _, l *x509.Certificate) { l.KeyUsage = x509.KeyUsageKeyEncipherment },
		"leaf expired":          func(_, _, l *x509.Certificate) { l.NotAfter = now.Add(-time.Hour) },
		"leaf not yet":          func(_, _, l *x509.Certificate) { l.NotBefore = now.Add(time.Hour) },
		"intermediate expired":  func(_, m, _ *x509.Certificate) { m.NotAfter = now.Add(-time.Hour) },
		"root expired":          func(r, _, _ *x509.Certificate) { r.NotAfter = now.Add(-time.Hour) },
		"intermediate is no CA": func(_, m, _ *x509.Certificate) { m.IsCA, m.KeyUsage = false, x509.KeyUsageDigitalSignature },
		"large certificate": func(_, m, _ *x509.Certificate) {
			m.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 4096)}}
		},
		"root allows no path": func(r, _, _ *x509.Certificate) { r.MaxPathLenZero = true },
	} {
		err := sign(e.Reissued(t, change), nil)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckUVM) })
	}

	// COSE's ECDSA is for three curves (RFC 9053, section 2.1); crypto/x509 reads P-224, too.
	for curve, good := range map[elliptic.Curve]bool{elliptic.P224(): false, elliptic.P256(): true, elliptic.P384(): true, elliptic.P521(): true} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		err = sign(e.WithKey(t, key), func(x *at.Endorsement) { x.Algorithm = cose.AlgorithmES384 })
		if good && err != nil {
			t.Errorf("leaf on %s: %v", curve.Params().Name, err)
		}
		if !good {
			wantCheck(t, err, attestation.CheckUVM)
		}
	}

	// A stranger's own chain with the real CA beside it: the real root's fingerprint is
	// in the x5chain, but the leaf does not descend from it.
	stranger := e.Reissued(t, func(r, m, _ *x509.Certificate) {
		r.Subject.CommonName, m.Subject.CommonName = "Stranger's root", "Stranger's CA"
	})
	for name, chain := range map[string][][]byte{
		"beside":  {stranger.Leaf.Raw, stranger.Intermediate.Raw, e.Root.Raw, stranger.Root.Raw},
		"on top":  {stranger.Leaf.Raw, stranger.Intermediate.Raw, stranger.Root.Raw, e.Root.Raw},
		"instead": {stranger.Leaf.Raw, stranger.Intermediate.Raw, e.Root.Raw},
	} {
		err := sign(stranger, func(x *at.Endorsement) { x.Issuer, x.Chain = e.Issuer(at.EKUACI), chain })
		t.Run("real root "+name, func(t *testing.T) { wantCheck(t, err, attestation.CheckUVM) })
	}
}

// Nothing that is signed can be changed, and no byte of the signature either.
func TestEveryByteOfEndorsementCounts(t *testing.T) {
	t.Parallel()
	e := at.NewEndorser(t)
	b := bundle(t)
	good := e.Endorse(t, launch, 1)
	var parts []cbor.RawMessage
	var tag cbor.RawTag
	if err := cbor.Unmarshal(good, &tag); err != nil {
		t.Fatal(err)
	}
	if err := cbor.Unmarshal(tag.Content, &parts); err != nil || len(parts) != 4 || len(parts[1]) != 1 {
		t.Fatal(err) // without an unprotected header every byte is signed, or the signature
	}
	roots := at.Roots(at.NewMachine(t))
	known := attestation.NewCache(8) // what is under attack is never known
	step := 1
	if runtime.GOOS == "js" { // where RSA takes 20 times as long
		step = 97
	}
	for i := 0; i < len(good); i += step {
		changed := bytes.Clone(good)
		changed[i] ^= 1 << (i % 8)
		b.Endorsements = [][]byte{changed}
		_, err := known.Genuine(b, roots, time.Now())
		if err == nil {
			t.Fatalf("byte %#x changed: genuine", i)
		}
		wantCheck(t, err, attestation.CheckUVM)
	}
}
