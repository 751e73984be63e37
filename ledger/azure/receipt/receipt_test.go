package receipt

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func service(t testing.TB, pem []byte) []*x509.Certificate {
	t.Helper()
	s, err := ParseServiceCertificates(pem)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkOf returns what a receipt was refused for, "" if it was not.
func checkOf(t testing.TB, err error) Check {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an Error: %v", err)
	}
	return e.Check
}

// The receipt that Microsoft's documentation shows, made by the real service.
func TestDocumentedReceipt(t *testing.T) {
	t.Parallel()
	s, err := Verify(vector(t, "documented.json"), service(t, vector(t, "documented-service.pem")))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := s.Entry()
	if !ok || e != (Entry{"subledger:0", "Hello world"}) || s.Transaction != (Transaction{2, 13}) {
		t.Fatalf("%+v, %+v", s, e)
	}
	if got := hex.EncodeToString(s.Node[:]); got != "0db9a22e9301d1167a2a81596fa234642ad24bc742451a415b8d653af056795c" {
		t.Fatal(got)
	}
}

// A receipt from before application claims passes every check but that one, which is
// the last: leaf, ten steps of proof, P-256 and endorsement of another real ledger.
func TestDocumentedReceiptWithoutClaims(t *testing.T) {
	t.Parallel()
	_, err := Verify(vector(t, "no-claims.json"), service(t, vector(t, "no-claims-service.pem")))
	if checkOf(t, err) != CheckClaims {
		t.Fatal(err)
	}
}

func TestDocumentedReceiptOfAnotherService(t *testing.T) {
	t.Parallel()
	_, err := Verify(vector(t, "documented.json"), service(t, vector(t, "no-claims-service.pem")))
	if checkOf(t, err) != CheckEndorsement {
		t.Fatal(err)
	}
}
