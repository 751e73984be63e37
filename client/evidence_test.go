//go:build !js

package client

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// evident makes the fake give simulated evidence, and returns a policy for it.
func (f *fake) evident() (*policy.TrustPolicy, []byte) {
	f.t.Helper()
	file, err := f.config.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	f.bundle = func(nonce []byte) []byte {
		return attestationtest.Bundle(f.t, f.runtimeData(file, nonce), file).Encode()
	}
	root := sha256.Sum256(attestationtest.NewMachine(f.t).Root().Raw)
	p := policy.ForDevelopment(root, wire.ConfigurationHash(file), f.config.Ledger)
	p.MinimumArgon2id = policy.Waive[policy.Argon2id]("test")
	return p, file
}

func (f *fake) runtimeData(file, nonce []byte) attestation.RuntimeData {
	hash := wire.ConfigurationHash(file)
	l := f.config.Ledger
	r := attestation.RuntimeData{
		Purpose: attestation.PurposeClient, HPKE: f.kem.PublicKey().Bytes(), Config: hash[:], Nonce: nonce,
		Ledger: &attestation.Ledger{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number},
	}
	for _, s := range f.signers {
		r.Ledger.Signers = append(r.Ledger.Signers, attestation.Signer{Public: wire.Base64(s.Public), Signature: s.Signature})
	}
	return r
}

func TestRealEvidence(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	p, _ := f.evident()
	o := f.options(&MemoryStorage{}, "alice")
	o.newJudge = nil
	d, err := New(t.Context(), "http://service.test", p.Encode(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Enrol(t.Context(), "laptop", testPIN); err != nil {
		t.Fatal(err)
	}
	create(t, d, "a.test", "alice")
	e, err := d.Attest(t.Context())
	if err != nil || !e.Claims.Simulated || len(e.Findings) == 0 {
		t.Fatal(e, err)
	}
	waived := 0
	for _, finding := range e.Findings {
		if finding.Verdict == policy.Waived {
			waived++
		}
	}
	if waived == 0 {
		t.Error("what the policy waives does not show")
	}
}

func TestRealEvidenceRefused(t *testing.T) {
	t.Parallel()
	other := sha256.Sum256([]byte("another root"))
	tests := []struct {
		name   string
		attack func(f *fake, p *policy.TrustPolicy, file []byte)
		want   wire.Code
		check  attestation.Check
		field  policy.Field
	}{
		{"no nonce", func(f *fake, _ *policy.TrustPolicy, file []byte) {
			f.bundle = func([]byte) []byte {
				return attestationtest.Bundle(f.t, f.runtimeData(file, nil), file).Encode()
			}
		}, wire.CodeEvidence, "", ""},
		{"evidence of before", func(f *fake, _ *policy.TrustPolicy, file []byte) {
			f.bundle = func([]byte) []byte {
				return attestationtest.Bundle(f.t, f.runtimeData(file, bytes.Repeat([]byte{1}, nonceSize)), file).Encode()
			}
		}, wire.CodeEvidence, "", ""},
		{"not a bundle", func(f *fake, _ *policy.TrustPolicy, _ []byte) {
			f.bundle = func(nonce []byte) []byte { return nonce }
		}, wire.CodeEvidence, attestation.CheckBundle, ""},
		{"HPKE key swapped", func(f *fake, _ *policy.TrustPolicy, file []byte) {
			f.bundle = func(nonce []byte) []byte {
				b := attestationtest.Bundle(f.t, f.runtimeData(file, nonce), file)
				f.newKey()
				r := f.runtimeData(file, nonce)
				var err error
				if b.RuntimeData, err = r.Encode(); err != nil {
					f.t.Error(err)
				}
				return b.Encode()
			}
		}, wire.CodeEvidence, attestation.CheckReportData, ""},
		{"a root that the policy does not name", func(_ *fake, p *policy.TrustPolicy, _ []byte) {
			p.Simulation.Roots = []policy.Hex{other[:]}
		}, wire.CodeEvidence, attestation.CheckRoot, ""},
		{"another measurement", func(_ *fake, p *policy.TrustPolicy, _ []byte) {
			p.Releases[0].Measurement = policy.Require(policy.Hex(bytes.Repeat([]byte{1}, 48)))
		}, wire.CodePolicy, "", policy.FieldMeasurement},
		{"another configuration", func(_ *fake, p *policy.TrustPolicy, _ []byte) {
			p.Releases[0].Configuration = policy.Require(policy.Hex(other[:]))
		}, wire.CodePolicy, "", policy.FieldConfig},
		{"a cheap PIN", func(_ *fake, p *policy.TrustPolicy, _ []byte) {
			p.MinimumArgon2id = policy.Require(policy.ProductionArgon2id)
		}, wire.CodePolicy, "", policy.FieldArgon2id},
		{"evidence for the key service", func(f *fake, _ *policy.TrustPolicy, file []byte) {
			f.bundle = func([]byte) []byte {
				return attestationtest.Bundle(f.t, attestationtest.ReleaseData(f.t, file), file).Encode()
			}
		}, wire.CodePolicy, "", policy.FieldPurpose},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			p, file := f.evident()
			tt.attack(f, p, file)
			s, err := NewService("http://service.test", p.Encode(), f.options(nil, "").HTTP)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Attest(t.Context())
			wantCode(t, err, tt.want)
			var genuine *attestation.Error
			if tt.check != "" && (!errors.As(err, &genuine) || genuine.Check != tt.check) {
				t.Errorf("got %v, want check %q", err, tt.check)
			}
			var refused *policy.Refusal
			if tt.field != "" && (!errors.As(err, &refused) || refused.Fields()[0] != tt.field) {
				t.Errorf("got %v, want field %q", err, tt.field)
			}
		})
	}
}

func TestNoPolicy(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"", "{}", `{"version":1}`} {
		if _, err := NewService("http://service.test", []byte(p), nil); wire.CodeOf(err) != wire.CodePolicy {
			t.Errorf("policy %q: %v", p, err)
		}
	}
}

func TestPinTrustPolicy(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	p, _ := f.evident()
	o := f.options(&MemoryStorage{}, "alice")
	o.newJudge = nil
	d, err := New(t.Context(), "http://service.test", p.Encode(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Attest(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, d.PinTrustPolicy(t.Context(), []byte("{}")), wire.CodePolicy)
	p.Releases[0].Measurement = policy.Require(policy.Hex(bytes.Repeat([]byte{1}, 48)))
	if err := d.PinTrustPolicy(t.Context(), p.Encode()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Device{d, f.again(d)} {
		_, err = d.Attest(t.Context())
		wantCode(t, err, wire.CodePolicy)
	}
}

// A later genesis of the pinned ledger is accepted only with a trust policy that demands
// it, and nothing but a later one of that ledger is.
func TestPinLaterGenesis(t *testing.T) {
	t.Parallel()
	genesis := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	for name, c := range map[string]struct {
		change func(l *wire.LedgerIdentity)
		want   wire.Code
	}{
		"next":                       {func(l *wire.LedgerIdentity) { l.Genesis, l.Number = genesis(2), 4 }, ""},
		"later":                      {func(l *wire.LedgerIdentity) { l.Genesis, l.Number = genesis(2), 9 }, ""},
		"earlier":                    {func(l *wire.LedgerIdentity) { l.Genesis, l.Number = genesis(2), 2 }, wire.CodeEntry},
		"another of the same number": {func(l *wire.LedgerIdentity) { l.Genesis = genesis(2) }, wire.CodeEntry},
		"another ledger":             {func(l *wire.LedgerIdentity) { l.ID, l.Genesis, l.Number = genesis(7), genesis(2), 4 }, wire.CodeEntry},
		"another backend":            {func(l *wire.LedgerIdentity) { l.Backend, l.Genesis, l.Number = wire.BackendLocal, make([]byte, 32), 4 }, wire.CodeEntry},
		"what is pinned, once more":  {func(l *wire.LedgerIdentity) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.config.Ledger.Backend, f.config.Ledger.Genesis, f.config.Ledger.Number = wire.BackendEndorsed, genesis(1), 3
			p, _ := f.evident()
			o := f.options(&MemoryStorage{}, "alice")
			o.newJudge = nil
			d, err := New(t.Context(), "http://service.test", p.Encode(), o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Attest(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.change(&f.config.Ledger)
			f.ledger, f.signers = ledger.Succession(f.config.Ledger.ID, [][]byte{[]byte("kek")})
			next, _ := f.evident()
			if name != "what is pinned, once more" {
				_, err = d.Attest(t.Context())
				wantCode(t, err, wire.CodePolicy) // without the new policy
			}
			if err := d.PinTrustPolicy(t.Context(), next.Encode()); err != nil {
				t.Fatal(err)
			}
			for _, d := range []*Device{d, f.again(d)} {
				_, err = d.Attest(t.Context())
				wantCode(t, err, c.want)
			}
		})
	}
}

// A policy that waives genesis or ledger moves no pin.
func TestWaivedGenesisMovesNoPin(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	p, _ := f.evident()
	for name, waive := range map[string]func(*policy.Ledger){
		"genesis":      func(l *policy.Ledger) { l.Genesis = policy.Waive[policy.Hex]("test") },
		"ledger":       func(l *policy.Ledger) { l.ID = policy.Waive[policy.Hex]("test") },
		"two backends": func(l *policy.Ledger) { l.Backends = []string{wire.BackendEndorsed, wire.BackendLocal} },
	} {
		q := *p
		q.Ledger.Number = 2
		waive(&q.Ledger)
		j, err := newJudge(q.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if l := j.genesis(); l != nil {
			t.Errorf("%s waived: %+v", name, l)
		}
	}
}
