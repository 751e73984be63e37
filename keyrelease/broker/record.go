package broker

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// Refusals of those who showed neither evidence that got a token nor an operator's key are recorded
// this often; the rest is counted. Otherwise anybody could fill the disk, and a full disk
// releases nothing.
const (
	strangersRate  = 1 // a second
	strangersBurst = 20
)

func (b *Broker) recordStart() error {
	operators := []audit.Operator{}
	for _, o := range b.operators {
		operators = append(operators, audit.Operator(o))
	}
	return b.audit.Append(audit.Record{Kind: audit.KindStart, Outcome: audit.Done, Start: &audit.Start{
		Broker: b.url, Simulated: len(b.roots.Simulation) > 0, Operators: operators, Removed: b.audit.Removed(),
	}})
}

// record puts a request's record into the audit log, with how it ended. Its error is the
// answer to a request that was granted.
func (b *Broker) record(r *request, outcome error) error {
	record := r.record
	if record == nil {
		return nil
	}
	r.fill(record)
	if outcome == nil && record.Outcome == "" {
		record.Outcome = audit.Done
	}
	if outcome != nil {
		no := refusalOf(outcome)
		record.Outcome, record.Code, record.Message = audit.Refused, no.code, no.message
		if no.status >= http.StatusInternalServerError {
			record.Outcome = audit.Failed
		}
	}
	// Evidence that is refused as such may be anybody's to show: clients' is public.
	if stranger := record.Kind == audit.KindAttest || record.Evidence == nil && record.Operator == nil; stranger {
		if !b.strangers.Allow() {
			b.leftOut.Add(1)
			return nil
		}
		record.LeftOut = b.leftOut.Swap(0)
	}
	if err := b.audit.Append(*record); err != nil {
		b.leftOut.Add(record.LeftOut)
		r.log.Error("audit log", "error", err)
		if record.Outcome == audit.Proposed {
			b.proposals.remove(record.Proposal)
		}
		if r.begun {
			return refuse(http.StatusServiceUnavailable, "AuditUnavailable", "the act took effect, and the audit log has its beginning, but not its end").because(err)
		}
		return unrecorded(err)
	}
	return nil
}

// fill says which request a record is about.
func (r *request) fill(record *audit.Record) {
	record.Request, record.ClientRequest, record.From = r.id, r.Header.Get(azure.ClientRequestIDHeader), r.RemoteAddr
}

// unrecorded is the answer where the audit log takes no record.
func unrecorded(err error) error {
	message := "what cannot be recorded is not done: the audit log cannot be written"
	for _, known := range []error{audit.ErrFull, audit.ErrChanged, audit.ErrBroken} {
		if errors.Is(err, known) {
			message = "what cannot be recorded is not done: " + known.Error()
		}
	}
	return refuse(http.StatusServiceUnavailable, "AuditUnavailable", message).because(err)
}

func policyHash(policy []byte) string {
	sum := sha256.Sum256(policy)
	return hex.EncodeToString(sum[:])
}

// evidenceOf says who shows a token.
func evidenceOf(t *token) (*audit.Evidence, error) {
	e := evidenceIn(t.claims)
	e.Token = t.id
	thumbprint, err := (&jose.JSONWebKey{Key: t.rsa}).Thumbprint(crypto.SHA256)
	e.RSA = hex.EncodeToString(thumbprint)
	return e, err
}

func evidenceIn(claims releasepolicy.Claims) *audit.Evidence {
	text := func(name string) string {
		s, _ := claims.Text(name)
		return s
	}
	platform := text(claimType)
	names := measured[platform]
	return &audit.Evidence{
		Platform: platform, Simulated: text(claimSimulated) != "false",
		Measurement: text(names[0]), HostData: text(names[1]), Report: text(claimReport), Chip: text(claimChip),
	}
}

// evidenceOfClaims says whose genuine evidence it is.
func evidenceOfClaims(c *attestation.Claims) *audit.Evidence {
	claims, err := Claims(c, nil)
	if err != nil {
		return nil
	}
	return evidenceIn(claims)
}
