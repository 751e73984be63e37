// Package receipt verifies write receipts of Azure Confidential Ledger, offline and
// with the standard library alone: that a ledger whose service certificate the
// caller trusts has committed a transaction, and what that transaction wrote.
//
// The package owns no state. Its one input that must be trusted is the service
// certificate ([ParseServiceCertificates]); how a caller came by it is the caller's
// matter. A receipt proves that an entry exists and is committed, for as long as the
// ledger does. It never proves that the entry is the newest, nor that it is the only one.
//
// Sources: Microsoft's "Azure Confidential Ledger write transaction receipts" and
// "Verify Azure Confidential Ledger write transaction receipts", the REST API's
// specification (2023-01-18-preview, the first with application claims), and CCF's
// documentation of receipts and of its Merkle tree. The tests verify the receipt that
// the first of these shows, under the service certificate that Microsoft's SDK for
// Python has for it, and two older receipts of that SDK, made before the service
// wrote application claims. Nothing here was run against the live service.
package receipt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
)

// Limits of what is read. The service's own receipts have a few KiB; the contents of
// an entry come on top.
const (
	MaxSize         = 1 << 20 // bytes of a receipt
	maxProof        = 64      // a tree of 2^64 transactions
	maxEndorsements = 64      // service identities before the one in force
	maxClaims       = 64
)

// Check names what [Verify] found wrong. The names are stable.
type Check string

const (
	CheckService     Check = "service"     // no usable service certificate was given
	CheckFormat      Check = "format"      // not the JSON of a receipt
	CheckState       Check = "state"       // the service has not the receipt ready: ask again
	CheckNode        Check = "node"        // the node ID is not the hash of the node certificate's key, or that key is of no use
	CheckProof       Check = "proof"       // an element of the proof has not exactly one side
	CheckSignature   Check = "signature"   // the node did not sign the root that leaf and proof lead to
	CheckEndorsement Check = "endorsement" // the service did not endorse the node
	CheckTransaction Check = "transaction" // the commit evidence is of another transaction
	CheckClaims      Check = "claims"      // application claims are absent, or not those that the transaction committed
)

// Error is a receipt that was refused.
type Error struct {
	Check Check
	cause error
}

func (e *Error) Error() string { return "receipt: " + string(e.Check) + ": " + e.cause.Error() }

func (e *Error) Unwrap() error { return e.cause }

func refuse(c Check, format string, args ...any) error {
	return &Error{Check: c, cause: fmt.Errorf(format, args...)}
}

// Statement is what a verified receipt says.
type Statement struct {
	Transaction Transaction
	Node        [32]byte // SHA-256 of the signing node's SubjectPublicKeyInfo (DER)
	Claims      []Claim  // in the order that the transaction has them; at least one
}

// Entry returns the one entry that the transaction wrote, if that is all it claims.
func (s *Statement) Entry() (Entry, bool) {
	if len(s.Claims) != 1 || s.Claims[0].Entry == nil {
		return Entry{}, false
	}
	return *s.Claims[0].Entry, true
}

// answer is the JSON of GET /app/transactions/{id}/receipt, and of a saved file.
type answer struct {
	transaction Transaction
	cert        *x509.Certificate
	node        [32]byte
	writeSet    [32]byte
	evidence    string
	claims      [32]byte
	proof       []element
	endorsers   []*x509.Certificate // oldest first
	signature   []byte              // ASN.1 ECDSA
	application []Claim
	digests     [][32]byte // of application
}

// element is one step of the proof from the leaf to the root.
type element struct {
	left bool
	hash [32]byte
}

// Verify checks a receipt under service certificates: those of one ledger, any of
// which may have endorsed the receipt. A refusal is an [*Error].
//
// Not checked: validity times of certificates, since a receipt outlives the ninety
// days of a node's certificate (who talks to a node checks those in TLS); whether the
// nodes run what they should (their quotes); and whether another, later entry exists.
func Verify(receipt []byte, service []*x509.Certificate) (*Statement, error) {
	if len(service) == 0 {
		return nil, refuse(CheckService, "none given")
	}
	a, err := parse(receipt)
	if err != nil {
		return nil, err
	}
	if err := a.checkNode(); err != nil {
		return nil, err
	}
	root := a.root()
	if !ecdsa.VerifyASN1(a.cert.PublicKey.(*ecdsa.PublicKey), root[:], a.signature) {
		return nil, refuse(CheckSignature, "not by the node over this root")
	}
	if err := a.checkEndorsement(service); err != nil {
		return nil, err
	}
	if err := a.checkTransaction(); err != nil {
		return nil, err
	}
	if err := a.checkClaims(); err != nil {
		return nil, err
	}
	return &Statement{Transaction: a.transaction, Node: a.node, Claims: a.application}, nil
}

// checkNode compares the node ID with the key that signs.
func (a *answer) checkNode() error {
	if _, ok := a.cert.PublicKey.(*ecdsa.PublicKey); !ok {
		return refuse(CheckNode, "the node's key is not ECDSA")
	}
	if id := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo); subtle.ConstantTimeCompare(id[:], a.node[:]) != 1 {
		return refuse(CheckNode, "node ID of another key")
	}
	return nil
}

// root folds the proof. Leaves hash 96 bytes and nodes 64, so that neither passes for
// the other.
func (a *answer) root() [32]byte {
	evidence := sha256.Sum256([]byte(a.evidence))
	hash := sha256.Sum256(bytes.Join([][]byte{a.writeSet[:], evidence[:], a.claims[:]}, nil))
	for _, e := range a.proof {
		if e.left {
			hash = sha256.Sum256(append(e.hash[:], hash[:]...))
		} else {
			hash = sha256.Sum256(append(hash[:], e.hash[:]...))
		}
	}
	return hash
}

// checkEndorsement follows the chain: the oldest identity endorsed the node, each
// identity was endorsed by the next, the last by the service. Path lengths are not
// looked at: the service's own certificates allow none, and chain nevertheless.
func (a *answer) checkEndorsement(service []*x509.Certificate) error {
	at := a.cert
	for _, next := range a.endorsers {
		if err := at.CheckSignatureFrom(next); err != nil {
			return refuse(CheckEndorsement, "by an earlier service identity: %w", err)
		}
		at = next
	}
	for _, s := range service {
		if at.CheckSignatureFrom(s) == nil {
			return nil
		}
	}
	return refuse(CheckEndorsement, "not by this service")
}

// checkTransaction reads the commit evidence, "ce:view.sequence:hex", which is under
// the leaf, unlike the transaction ID beside the receipt.
func (a *answer) checkTransaction() error {
	parts := strings.Split(a.evidence, ":")
	if len(parts) != 3 || parts[0] != "ce" {
		return refuse(CheckTransaction, "commit evidence of an unknown form")
	}
	t, err := ParseTransaction(parts[1])
	if err != nil {
		return refuse(CheckTransaction, "commit evidence: %w", err)
	}
	if t != a.transaction {
		return refuse(CheckTransaction, "committed was %s, not %s", t, a.transaction)
	}
	return nil
}

// checkClaims recomputes the claims digest that is under the leaf. That of a
// transaction without claims is zero, which nothing hashes to.
func (a *answer) checkClaims() error {
	if len(a.digests) == 0 {
		return refuse(CheckClaims, "none stand beside the receipt")
	}
	if digest := claimsDigest(a.digests); subtle.ConstantTimeCompare(digest[:], a.claims[:]) != 1 {
		return refuse(CheckClaims, "not those that the transaction committed")
	}
	return nil
}

// ParseServiceCertificates reads what a ledger's identity is pinned by: one PEM
// certificate or several, as the identity service gives it in ledgerTlsCertificate,
// which may end in a NUL byte. Each must be a certificate authority with an ECDSA key,
// signed by itself. Whether it is the right ledger's is not checked, nor its time.
func ParseServiceCertificates(text []byte) ([]*x509.Certificate, error) {
	rest := bytes.TrimSpace(bytes.TrimRight(text, "\x00"))
	var out []*x509.Certificate
	for len(rest) > 0 {
		c, after, err := parseCertificate(rest)
		if err != nil {
			return nil, refuse(CheckService, "%w", err)
		}
		if _, ok := c.PublicKey.(*ecdsa.PublicKey); !ok {
			return nil, refuse(CheckService, "key is not ECDSA")
		}
		if err := c.CheckSignatureFrom(c); err != nil {
			return nil, refuse(CheckService, "not a service's own: %w", err)
		}
		out, rest = append(out, c), after
	}
	if len(out) == 0 {
		return nil, refuse(CheckService, "no certificate")
	}
	return out, nil
}

// parseCertificate reads one PEM certificate and returns what stands behind it.
func parseCertificate(text []byte) (*x509.Certificate, []byte, error) {
	if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) {
		return nil, nil, fmt.Errorf("not a PEM certificate")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, fmt.Errorf("not a PEM certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("not an X.509 certificate") // the parser's words may quote it
	}
	return c, bytes.TrimLeft(rest, "\r\n\t "), nil
}

// parse reads a receipt. Members that no check needs are ignored, as versions of the
// API differ in them; a member that stands twice is refused.
func parse(data []byte) (*answer, error) {
	if len(data) > MaxSize {
		return nil, refuse(CheckFormat, "more than %d bytes", MaxSize)
	}
	top, err := object(data)
	if err != nil {
		return nil, err
	}
	state, err := top.text("state")
	if err != nil {
		return nil, err
	}
	if state != "Ready" {
		return nil, refuse(CheckState, "not ready")
	}
	var a answer
	id, err := top.text("transactionId")
	if err != nil {
		return nil, err
	}
	if a.transaction, err = ParseTransaction(id); err != nil {
		return nil, refuse(CheckFormat, "transactionId: %w", err)
	}
	if err := a.parseReceipt(top["receipt"]); err != nil {
		return nil, err
	}
	if err := a.parseClaims(top["applicationClaims"]); err != nil {
		return nil, err
	}
	return &a, nil
}

func (a *answer) parseReceipt(data []byte) error {
	r, err := object(data)
	if err != nil {
		return err
	}
	leaf, err := object(r["leafComponents"])
	if err != nil {
		return err
	}
	for _, h := range []struct {
		of   members
		name string
		into *[32]byte
	}{{r, "nodeId", &a.node}, {leaf, "writeSetDigest", &a.writeSet}, {leaf, "claimsDigest", &a.claims}} {
		if *h.into, err = h.of.digest(h.name); err != nil {
			return err
		}
	}
	if a.evidence, err = leaf.text("commitEvidence"); err != nil {
		return err
	}
	signature, err := r.text("signature")
	if err != nil {
		return err
	}
	if a.signature, err = base64.StdEncoding.Strict().DecodeString(signature); err != nil {
		return refuse(CheckFormat, "signature is not base64")
	}
	if a.cert, err = r.certificate("cert"); err != nil {
		return err
	}
	if err := a.parseProof(r["proof"]); err != nil {
		return err
	}
	return a.parseEndorsers(r["serviceEndorsements"])
}

func (a *answer) parseProof(data []byte) error {
	steps, err := array(data, maxProof)
	if err != nil {
		return err
	}
	for _, s := range steps {
		m, err := object(s)
		if err != nil {
			return err
		}
		_, left := m["left"]
		_, right := m["right"]
		if left == right || len(m) != 1 {
			return refuse(CheckProof, "an element has not exactly one side")
		}
		side := map[bool]string{true: "left", false: "right"}[left]
		hash, err := m.digest(side)
		if err != nil {
			return err
		}
		a.proof = append(a.proof, element{left, hash})
	}
	return nil
}

// parseEndorsers reads the earlier service identities; most ledgers have none.
func (a *answer) parseEndorsers(data []byte) error {
	if absent(data) {
		return nil
	}
	list, err := array(data, maxEndorsements)
	if err != nil {
		return err
	}
	for _, e := range list {
		c, err := members{"serviceEndorsements": e}.certificate("serviceEndorsements")
		if err != nil {
			return err
		}
		a.endorsers = append(a.endorsers, c)
	}
	return nil
}

func (m members) certificate(name string) (*x509.Certificate, error) {
	text, err := m.text(name)
	if err != nil {
		return nil, err
	}
	c, rest, err := parseCertificate([]byte(text))
	if err != nil || len(bytes.Trim(rest, "\x00")) > 0 {
		return nil, refuse(CheckFormat, "%s is not one PEM certificate", name)
	}
	return c, nil
}

func (m members) digest(name string) (out [32]byte, err error) {
	text, err := m.text(name)
	if err != nil {
		return out, err
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(out) {
		return out, refuse(CheckFormat, "%s is not 32 bytes in hexadecimal", name)
	}
	return [32]byte(b), nil
}

func (m members) text(name string) (string, error) {
	var s *string
	if json.Unmarshal(m[name], &s) != nil || s == nil {
		return "", refuse(CheckFormat, "%s is not a string", name)
	}
	return *s, nil
}
