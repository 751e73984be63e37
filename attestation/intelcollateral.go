package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// Names of Intel's collateral in a bundle.
const (
	collateralTCBInfo    = "tcb-info"
	collateralQEIdentity = "qe-identity"
	collateralPCKCRL     = "pck-crl"
	collateralRootCRL    = "root-crl"
)

// collateralChecks says by which check collateral is refused that does not hold.
var collateralChecks = map[string]Check{
	collateralTCBInfo:    CheckTCBInfo,
	collateralQEIdentity: CheckQEIdentity,
	collateralPCKCRL:     CheckRevocation,
	collateralRootCRL:    CheckRevocation,
}

// verifyCollateral verifies what is stapled and notes in claims what it says.
func (known *Cache) verifyCollateral(claims *Claims, q *quote, f *quoteFormat, chain *pckChain, p *platform, list []Collateral, now time.Time) error {
	c := claims.Intel
	named := make(map[string]*Collateral)
	for i, item := range list {
		check, known := collateralChecks[item.Name]
		if !known {
			continue
		}
		if named[item.Name] != nil {
			return refuse(check, fmt.Errorf("%s twice", item.Name))
		}
		named[item.Name] = &list[i]
	}
	var level, qe *status
	var signers []*x509.Certificate
	var numbers []int
	if item := named[collateralTCBInfo]; item != nil {
		info, err := verifySigned[pcs.TcbInfo](known, item, "tcbInfo", chain.root, nil, now)
		if err != nil {
			return refuse(CheckTCBInfo, err)
		}
		if level, err = judgeTCB(&info.content, q, f, p, now); err != nil {
			return refuse(CheckTCBInfo, err)
		}
		signers, numbers = append(signers, info.signer), append(numbers, info.content.TcbEvaluationDataNumber)
	}
	if item := named[collateralQEIdentity]; item != nil {
		identity, err := verifySigned[pcs.EnclaveIdentity](known, item, "enclaveIdentity", chain.root, signers, now)
		if err != nil {
			return refuse(CheckQEIdentity, err)
		}
		if qe, err = judgeQE(&identity.content, q, f, now); err != nil {
			return refuse(CheckQEIdentity, err)
		}
		signers, numbers = append(signers, identity.signer), append(numbers, identity.content.TcbEvaluationDataNumber)
	}
	if level != nil && qe != nil { // one alone says nothing of the whole
		c.TCBStatus, c.TCBDate, c.Advisories = string(worse(level.status, qe.status)), level.date, merge(level.advisories, qe.advisories)
		c.EvaluationNumber = uint32(min(numbers[0], numbers[1]))
	}
	var err error
	claims.RevocationChecked, err = known.checkRevocation(named[collateralPCKCRL], named[collateralRootCRL], chain, signers, now)
	return err
}

// statement is the content of an answer of Intel's service, and who signed it.
type statement[T pcs.TcbInfo | pcs.EnclaveIdentity] struct {
	signer  *x509.Certificate
	content T
}

// verifySigned verifies an answer of Intel's service, {member: …, "signature": hex}
// (Intel PCS API version 4), and decodes the member: exactly the bytes that are signed.
// Its signer must end at the quote's own root, so that no simulation speaks about
// hardware; those of this root that are verified already need not be so again. Dates
// inside are the caller's.
func verifySigned[T pcs.TcbInfo | pcs.EnclaveIdentity](known *Cache, item *Collateral, member string, root *x509.Certificate, verified []*x509.Certificate, now time.Time) (*statement[T], error) {
	key := func() fact {
		return factOf("collateral "+member, append([][]byte{root.Raw, item.Data}, item.Issuer...)...)
	}
	s, err := once(known, key, func() (*statement[T], error) {
		signer, err := verifySigner(item.Issuer, root, verified)
		if err != nil {
			return nil, err
		}
		body, err := signedBody(item.Data, member, signer)
		if err != nil {
			return nil, err
		}
		s := &statement[T]{signer: signer}
		return s, json.Unmarshal(body, &s.content)
	})
	if err != nil {
		return nil, err
	}
	if !within(s.signer, now) {
		return nil, fmt.Errorf("its signer is valid from %s to %s, now is %s", date(s.signer.NotBefore), date(s.signer.NotAfter), date(now))
	}
	return s, nil
}

// verifySigner verifies all of a signer of collateral but its dates.
func verifySigner(issuer [][]byte, root *x509.Certificate, verified []*x509.Certificate) (*x509.Certificate, error) {
	if len(issuer) != 2 {
		return nil, fmt.Errorf("expected the certificates of its signer and of the root, found %d certificates", len(issuer))
	}
	if !bytes.Equal(issuer[1], root.Raw) {
		return nil, errors.New("signed under another root than the quote's")
	}
	for _, c := range verified {
		if bytes.Equal(issuer[0], c.Raw) {
			return c, nil
		}
	}
	parsed, err := parseCertificates(issuer[:1], "signer")
	if err != nil {
		return nil, err
	}
	signer := parsed[0]
	if err := checkForm(signer, root, nameTCB, false); err != nil {
		return nil, err
	}
	if err := signer.CheckSignatureFrom(root); err != nil {
		return nil, err
	}
	return signer, nil
}

// signedBody returns the member of an answer, whose signature it has verified.
func signedBody(data []byte, member string, signer *x509.Certificate) ([]byte, error) {
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, err
	}
	body := answer[member]
	var encoded string
	if err := json.Unmarshal(answer["signature"], &encoded); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if len(answer) != 2 || len(body) == 0 {
		return nil, fmt.Errorf("expected the members %q and \"signature\", found %d members", member, len(answer))
	}
	signature, err := hex.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	if !verifyRaw(signer.PublicKey.(*ecdsa.PublicKey), body, signature) { // a P-256 key, by checkForm
		return nil, errors.New("not signed by its signer")
	}
	return body, nil
}

// current verifies the dates of collateral.
func current(issued, next, now time.Time) error {
	if now.Before(issued) || now.After(next) {
		return fmt.Errorf("good from %s to %s, now is %s", date(issued), date(next), date(now))
	}
	return nil
}
