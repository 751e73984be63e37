package client

import (
	"bytes"
	"context"
	"crypto/hpke"
	"crypto/rand"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// judge decides which evidence is accepted: [policyJudge], but for some tests.
type judge interface {
	// judge verifies an encoded bundle. Refusals have wire.CodeEvidence or
	// wire.CodePolicy. It does not compare the nonce.
	judge(bundle []byte, now time.Time) (*Evidence, error)
	// freshness reports whether the policy accepts this backend's word for the newest head.
	freshness(backend string) bool
	// genesis is the one ledger and genesis that the policy demands; nil: it demands none.
	genesis() *pinnedLedger
}

// Attested is an enclave whose evidence was accepted.
type Attested struct {
	Evidence *Evidence

	key       hpke.PublicKey
	verifier  *ledger.Verifier
	challenge []byte // the newest
	at        time.Time
}

const (
	nonceSize    = 32
	attestedFor  = 45 * time.Minute // the enclave replaces its key every hour
	maxChallenge = 256              // bytes
)

// Attest gets evidence over a fresh nonce and judges it. Refusals: [wire.CodeEvidence]
// where it is not genuine or not made for the nonce, [wire.CodePolicy] where the
// trust policy refuses what it says. An [attestation.Error] or a [policy.Refusal] with
// all findings is in the error's chain.
//
// It does not compare the ledger with what a profile pinned; [Device.Attest] does.
func (s *Service) Attest(ctx context.Context) (*Attested, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	body, err := s.getAttestation(ctx, nonce)
	if err != nil {
		return nil, err
	}
	var a wire.Attestation
	if err := wire.Unmarshal(body, &a); err != nil || len(a.Challenge) > maxChallenge {
		return nil, wire.Errorf(wire.CodeEvidence, "attestation does not parse")
	}
	now := time.Now()
	e, err := s.judge.judge(a.Evidence, now)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(e.Nonce, nonce) {
		return nil, wire.Errorf(wire.CodeEvidence, "evidence was not made for this client's nonce")
	}
	if !s.judge.freshness(e.Configuration.Ledger.Backend) {
		return nil, wire.Errorf(wire.CodePolicy, "the trust policy does not name the ledger backend")
	}
	key, err := wire.KEM().NewPublicKey(e.HPKE)
	if err != nil {
		return nil, wire.Errorf(wire.CodeEvidence, "HPKE key does not parse")
	}
	v, err := ledger.NewVerifier(e.Configuration.Ledger.ID, e.Signers)
	if err != nil {
		return nil, err
	}
	return &Attested{Evidence: e, key: key, verifier: v, challenge: a.Challenge, at: now}, nil
}

// Attest attests the service anew and compares its ledger with the pinned one:
// another ledger, or ledger keys that are not the pinned ones and their successors,
// are refused with [wire.CodeEntry].
func (d *Device) Attest(ctx context.Context) (*Evidence, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := d.attest(ctx)
	if err != nil {
		return nil, err
	}
	return s.Evidence, nil
}

func (d *Device) attest(ctx context.Context) (*Attested, error) {
	s, err := d.service.Attest(ctx)
	if err != nil {
		return nil, err
	}
	l := s.Evidence.Configuration.Ledger
	pin := pinnedLedger{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number}
	for _, signer := range s.Evidence.Signers {
		pin.Signers = append(pin.Signers, signer.Public)
	}
	changed, err := d.p.pin(pin)
	if err != nil {
		return nil, err
	}
	if changed {
		if err := d.save(ctx); err != nil {
			return nil, err
		}
	}
	d.session = s
	return s, nil
}

// attested returns the enclave attested last, or attests where there is none or
// its key is about to be replaced.
func (d *Device) attested(ctx context.Context) (*Attested, error) {
	if d.session != nil && time.Since(d.session.at) < attestedFor {
		return d.session, nil
	}
	return d.attest(ctx)
}

// succeeded attests the service anew where an answer brings an entry by a ledger key that
// the evidence at hand does not name: a version of the KEK may have come since. What the
// new evidence names must go on from what is pinned, as ever; the answer is then judged by
// it as any other.
func (d *Device) succeeded(ctx context.Context, s *Attested, response *wire.Response) error {
	for _, encoded := range response.Entries {
		e, err := ledger.ParseEntry(encoded)
		if err != nil {
			return nil // refused where it is verified
		}
		if _, known := s.verifier.Signers[e.Signer]; known {
			continue
		}
		fresh, err := d.attest(ctx)
		if err == nil {
			s.verifier = fresh.verifier
		}
		return err
	}
	return nil
}
