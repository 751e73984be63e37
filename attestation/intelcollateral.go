package attestation

import (
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
		var info pcs.TcbInfo
		signer, err := known.verifySigned(item, "tcbInfo", &info, chain.root, now)
		if err != nil {
			return refuse(CheckTCBInfo, err)
		}
		if level, err = judgeTCB(&info, q, f, p, now); err != nil {
			return refuse(CheckTCBInfo, err)
		}
		signers, numbers = append(signers, signer), append(numbers, info.TcbEvaluationDataNumber)
	}
	if item := named[collateralQEIdentity]; item != nil {
		var identity pcs.EnclaveIdentity
		signer, err := known.verifySigned(item, "enclaveIdentity", &identity, chain.root, now)
		if err != nil {
			return refuse(CheckQEIdentity, err)
		}
		if qe, err = judgeQE(&identity, q, f, now); err != nil {
			return refuse(CheckQEIdentity, err)
		}
		signers, numbers = append(signers, signer), append(numbers, identity.TcbEvaluationDataNumber)
	}
	if level != nil && qe != nil { // one alone says nothing of the whole
		c.TCBStatus, c.TCBDate, c.Advisories = string(worse(level.status, qe.status)), level.date, merge(level.advisories, qe.advisories)
		c.EvaluationNumber = uint32(min(numbers[0], numbers[1]))
	}
	var err error
	claims.RevocationChecked, err = known.checkRevocation(named[collateralPCKCRL], named[collateralRootCRL], chain, signers, now)
	return err
}

// verifySigned verifies an answer of Intel's service, {member: …, "signature": hex}
// (Intel PCS API version 4), and decodes the member: exactly the bytes that are signed.
// Its signer must end at the quote's own root, so that no simulation speaks about
// hardware. Dates inside are the caller's.
func (known *Cache) verifySigned(item *Collateral, member string, into any, root *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(item.Data, &answer); err != nil {
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
	issuer, err := parseCertificates(item.Issuer, "signer", "root")
	if err != nil {
		return nil, err
	}
	signer := issuer[0]
	if !issuer[1].Equal(root) {
		return nil, errors.New("signed under another root than the quote's")
	}
	if err := checkForm(signer, root, nameTCB, false); err != nil {
		return nil, err
	}
	if !within(signer, now) {
		return nil, fmt.Errorf("its signer is valid from %s to %s, now is %s", date(signer.NotBefore), date(signer.NotAfter), date(now))
	}
	if err := known.held(factOf("signer", signer.Raw, root.Raw), func() error { return signer.CheckSignatureFrom(root) }); err != nil {
		return nil, err
	}
	err = known.held(factOf("collateral", signer.Raw, body, signature), func() error {
		if !verifyRaw(signer.PublicKey.(*ecdsa.PublicKey), body, signature) { // a P-256 key, by checkForm
			return errors.New("not signed by its signer")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return signer, json.Unmarshal(body, into)
}

// current verifies the dates of collateral.
func current(issued, next, now time.Time) error {
	if now.Before(issued) || now.After(next) {
		return fmt.Errorf("good from %s to %s, now is %s", date(issued), date(next), date(now))
	}
	return nil
}
