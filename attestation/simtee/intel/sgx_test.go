package intel_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
)

// signed reports whether r ‖ s is the signature of key over message.
func signed(key *ecdsa.PublicKey, message, signature []byte) bool {
	digest := sha256.Sum256(message)
	return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:64]))
}

func publicKey(t *testing.T, point []byte) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, point...))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// take returns the next n bytes.
func take(t *testing.T, b *[]byte, n int) []byte {
	t.Helper()
	if len(*b) < n {
		t.Fatalf("%d bytes are left, want %d", len(*b), n)
	}
	taken := (*b)[:n]
	*b = (*b)[n:]
	return taken
}

// A quote for SGX, byte by byte as Intel writes it down (SGX ECDSA QuoteLibReference
// DCAP API, appendix A.4), behind the header that Open Enclave gives it.
func TestSGXQuote(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	r := h.Enclave()
	r.MRENCLAVE, r.ConfigID, r.ReportData = [32]byte{1, 31: 2}, [64]byte{3, 63: 4}, [64]byte{5, 63: 6}
	q, err := h.Sign(h.EnclaveQuote(r))
	if err != nil {
		t.Fatal(err)
	}
	report := intel.OpenEnclave(q)
	le := binary.LittleEndian
	if v, kind, n := le.Uint32(report), le.Uint32(report[4:]), le.Uint64(report[8:]); v != 1 || kind != 2 || n != uint64(len(report)-16) {
		t.Errorf("header of Open Enclave: version %d, type %d, %d of %d bytes", v, kind, n, len(report))
	}
	rest := report[16:]
	message := rest[:48+384]
	header := take(t, &rest, 48)
	platform := h.Platform()
	want, _ := hex.DecodeString("03000200000000000800" + "0d00" + "939a7233f79c4ca9940a0db3957f0607")
	want = append(append(want, platform.InstanceID[:]...), 0, 0, 0, 0)
	if !bytes.Equal(header, want) {
		t.Errorf("header %x, want %x", header, want)
	}
	if body := take(t, &rest, 384); !bytes.Equal(body, r.Encode()) {
		t.Errorf("body %x", body)
	}
	size := le.Uint32(take(t, &rest, 4))
	if int(size) != len(rest) {
		t.Errorf("%d bytes of signature data, %d follow", size, len(rest))
	}
	signature, point := take(t, &rest, 64), take(t, &rest, 64)
	if !signed(publicKey(t, point), message, signature) {
		t.Error("the attestation key did not sign header and body")
	}
	qe, qeSignature := take(t, &rest, 384), take(t, &rest, 64)
	if !signed(&h.Key(intel.PCK).PublicKey, qe, qeSignature) {
		t.Error("the PCK did not sign the quoting enclave's report")
	}
	authentication := take(t, &rest, int(le.Uint16(take(t, &rest, 2))))
	bound := sha256.Sum256(append(bytes.Clone(point), authentication...))
	if !bytes.Equal(qe[320:], append(bound[:], make([]byte, 32)...)) {
		t.Errorf("the quoting enclave binds %x", qe[320:])
	}
	if kind, size := le.Uint16(take(t, &rest, 2)), le.Uint32(take(t, &rest, 4)); kind != 5 || int(size) != len(rest) {
		t.Errorf("certification data of type %d with %d bytes, %d follow", kind, size, len(rest))
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	if len(chain) != 3 || chain[0].CheckSignatureFrom(chain[1]) != nil || chain[1].CheckSignatureFrom(chain[2]) != nil || chain[2].CheckSignatureFrom(chain[2]) != nil {
		t.Errorf("a chain of %d certificates", len(chain))
	}
}

// Every member of an enclave's report stands where the SDM says (REPORT, offsets of
// the table); what is between them is zero.
func TestReport(t *testing.T) {
	t.Parallel()
	r := intel.Report{
		CPUSVN: [16]byte{0: 1, 15: 2}, MiscSelect: 0x04030201, ExtProductID: [16]byte{0: 3, 15: 4},
		Attributes: 0x0807060504030201, XFRM: 0x1817161514131211, MRENCLAVE: [32]byte{0: 5, 31: 6}, MRSIGNER: [32]byte{0: 7, 31: 8},
		ConfigID: [64]byte{0: 9, 63: 10}, ProductID: 0x2221, SVN: 0x3231, ConfigSVN: 0x4241, FamilyID: [16]byte{0: 11, 15: 12}, ReportData: [64]byte{0: 13, 63: 14},
	}
	want := make([]byte, 384)
	for at, v := range map[int]string{
		0: "\x01", 15: "\x02", 16: "\x01\x02\x03\x04", 32: "\x03", 47: "\x04",
		48: "\x01\x02\x03\x04\x05\x06\x07\x08", 56: "\x11\x12\x13\x14\x15\x16\x17\x18", 64: "\x05", 95: "\x06", 128: "\x07", 159: "\x08",
		192: "\x09", 255: "\x0a", 256: "\x21\x22", 258: "\x31\x32", 260: "\x41\x42", 304: "\x0b", 319: "\x0c", 320: "\x0d", 383: "\x0e",
	} {
		copy(want[at:], v)
	}
	if got := r.Encode(); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// Collateral for SGX: signed over the very bytes of the statement, by the certificate
// that comes with it, in Intel's form.
func TestSGXCollateral(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	list, err := h.Collateral(attestation.PlatformSGX, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 4 {
		t.Fatalf("%d items", len(list))
	}
	for i, c := range []struct{ name, member, begins string }{
		{intel.NameTCBInfo, "tcbInfo", `{"id":"SGX","version":3,"issueDate":"2026-05-01T11:00:00Z","nextUpdate":"2026-05-31T11:00:00Z","fmspc":"00806F050000","pceId":"0000","tcbType":0,"tcbEvaluationDataNumber":17,"tcbLevels":[{"tcb":{"sgxtcbcomponents":[{"svn":7,"category":"BIOS","type":"Early Microcode Update"},`},
		{intel.NameIdentity, "enclaveIdentity", `{"id":"QE","version":2,"issueDate":"2026-05-01T11:00:00Z","nextUpdate":"2026-05-31T11:00:00Z","tcbEvaluationDataNumber":17,"miscselect":"00000000","miscselectMask":"FFFFFFFF","attributes":"11000000000000000000000000000000","attributesMask":"FBFFFFFFFFFFFFFF0000000000000000","mrsigner":"8C4F5775D796503E96137F77C68A829A0056AC8DED70140B081B094490C57BFF","isvprodid":1,"tcbLevels":[{"tcb":{"isvsvn":8},"tcbDate":"2024-03-13T00:00:00Z","tcbStatus":"UpToDate"},`},
	} {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(list[i].Data, &members); err != nil {
			t.Fatal(err)
		}
		body := members[c.member]
		if list[i].Name != c.name || !bytes.HasPrefix(body, []byte(c.begins)) {
			t.Errorf("%s: %s", list[i].Name, body)
		}
		var text string
		if err := json.Unmarshal(members["signature"], &text); err != nil {
			t.Fatal(err)
		}
		signature, err := hex.DecodeString(text)
		if err != nil || len(signature) != 64 || len(members) != 2 {
			t.Fatalf("%s: signature %q, %v", c.name, text, err)
		}
		signer, err := x509.ParseCertificate(list[i].Issuer[0])
		if err != nil {
			t.Fatal(err)
		}
		if !signed(signer.PublicKey.(*ecdsa.PublicKey), body, signature) || signer.Subject.CommonName != "Intel SGX TCB Signing" {
			t.Errorf("%s: signed by another", c.name)
		}
	}
	for i, by := range map[int]intel.Role{2: intel.PlatformCA, 3: intel.Root} {
		crl, err := x509.ParseRevocationList(list[i].Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := crl.CheckSignatureFrom(h.Certificate(by)); err != nil || len(crl.RevokedCertificateEntries) != 0 {
			t.Errorf("%s: %v", list[i].Name, err)
		}
	}
}

// Collateral is given out again for a day, and then made anew: a machine that runs for
// months staples none that has expired.
func TestCollateralIsRenewed(t *testing.T) {
	t.Parallel()
	h, err := intel.Found(now)
	if err != nil {
		t.Fatal(err)
	}
	at := func(when time.Time) []byte {
		t.Helper()
		list, err := h.Collateral(attestation.PlatformTDX, when)
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Data
	}
	first := at(now)
	if !bytes.Equal(at(now.Add(23*time.Hour)), first) {
		t.Error("made anew within the day")
	}
	if bytes.Equal(at(now.Add(25*time.Hour)), first) {
		t.Error("old after a day")
	}
	if bytes.Equal(at(now), at(now.Add(25*time.Hour))) {
		t.Error("of the future")
	}
}

// The keys come back as they were, the platform with them; anything else is refused.
func TestState(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	good, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := intel.Decode(good)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := again.Encode(); err != nil || !bytes.Equal(state, good) || again.Platform() != h.Platform() {
		t.Errorf("%v, platform %+v", err, again.Platform())
	}
	last := bytes.LastIndex(good, []byte("-----BEGIN CERTIFICATE"))
	other, err := intel.Found(now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.LastIndex(good, []byte("-----BEGIN PRIVATE"))
	for name, state := range map[string][]byte{
		"empty": nil, "no PEM": []byte("keys"), "cut": good[:last], "trailing": append(bytes.Clone(good), '\n'),
		"another's key": append(bytes.Clone(good[:key]), foreign[bytes.LastIndex(foreign, []byte("-----BEGIN PRIVATE")):]...),
		"another order": append(bytes.Clone(good[last:]), good[:last]...),
	} {
		if _, err := intel.Decode(state); !errors.Is(err, intel.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever dumps the root sees what it is; the names below it are Intel's.
func TestNames(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	intels := "/Intel Corporation/Santa Clara/CA/US"
	for role, want := range map[intel.Role]string{
		intel.Root:       "/Intel SGX Root CA/Passclave SIMULATION, not Intel/SIMULATION/Santa Clara/CA/US",
		intel.PlatformCA: "/Intel SGX PCK Platform CA" + intels,
		intel.PCK:        "/Intel SGX PCK Certificate" + intels,
		intel.TCBSigning: "/Intel SGX TCB Signing" + intels,
	} {
		var got string
		for _, a := range h.Certificate(role).Subject.Names { // in the order in which they stand
			got += fmt.Sprintf("/%s", a.Value)
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
