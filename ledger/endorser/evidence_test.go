package endorser_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// attested is an endorser's decision about evidence, with a genuine enclave and a genuine
// successor. Tests change what they forge.
type attested struct {
	t             testing.TB
	releaseKey    ed25519.PrivateKey
	release       *endorser.Release
	configuration *endorser.Configuration
	file          []byte // of the endorser's configuration
	genesis       wire.Digest
	now           time.Time

	enclave       attestation.RuntimeData
	enclaveFile   []byte
	enclaveReport []attestationtest.Option
	member        attestation.RuntimeData
	memberFile    []byte
	memberReport  []attestationtest.Option
	key           []byte // of the successor
}

func newAttested(t testing.TB) *attested {
	t.Helper()
	a := &attested{t: t, releaseKey: newKey(t), genesis: digest(), now: time.Now(), key: public(newKey(t))}
	id := random(32)
	root := sha256.Sum256(attestationtest.NewMachine(t).Root().Raw)

	// As development/stack makes them: configuration and genesis of an enclave cannot be
	// named before there is a genesis.
	enclaves := policyFor(root, id)
	a.configuration = &endorser.Configuration{
		Version: endorser.ConfigurationVersion, Ledger: id, Number: 1, Operator: random(32),
		ReleaseKey: wire.Base64(public(a.releaseKey)), LeastRelease: 2, Enclaves: enclaves,
	}
	var err error
	if a.file, err = a.configuration.Encode(); err != nil {
		t.Fatal(err)
	}

	c, err := wire.ParseConfiguration(attestationtest.Configuration(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Ledger = wire.LedgerIdentity{ID: id, Backend: wire.BackendEndorsed, Genesis: a.genesis[:], Number: 1}
	if a.enclaveFile, err = c.Encode(); err != nil {
		t.Fatal(err)
	}
	a.enclave = attestationtest.ClientData(t, a.enclaveFile)
	_, signers := ledger.Succession(id, [][]byte{random(32), random(32)})
	a.enclave.Ledger.Signers = nil
	for _, s := range signers {
		a.enclave.Ledger.Signers = append(a.enclave.Ledger.Signers, attestation.Signer{Public: wire.Base64(s.Public), Signature: s.Signature})
	}

	members := policyFor(root, id)
	members.Ledger.Genesis = policy.Require(policy.Hex(make([]byte, 32)))
	a.release = endorser.NewRelease(2, members, a.releaseKey)
	hash := wire.ConfigurationHash(a.file)
	a.memberFile = a.file
	a.member = attestation.RuntimeData{
		Purpose: attestation.PurposeEndorser, Config: hash[:], Endorser: a.key,
		Ledger: &attestation.Ledger{ID: id, Backend: wire.BackendEndorsed, Genesis: make([]byte, 32), Number: 1},
	}
	return a
}

func policyFor(root wire.Digest, id []byte) *policy.TrustPolicy {
	p := policy.ForDevelopment(root, wire.Digest{}, wire.LedgerIdentity{ID: id, Backend: wire.BackendEndorsed, Genesis: make([]byte, 32), Number: 1})
	p.Releases[0].Configuration = policy.Waive[policy.Hex]("endorsers")
	p.Ledger.Genesis = policy.Waive[policy.Hex]("endorsers")
	p.MinimumArgon2id = policy.Waive[policy.Argon2id]("endorsers")
	return p
}

// reconfigure has the enclave start with another ledger.
func (a *attested) reconfigure(change func(*wire.LedgerIdentity)) {
	a.t.Helper()
	c, err := wire.ParseConfiguration(a.enclaveFile)
	if err != nil {
		a.t.Fatal(err)
	}
	change(&c.Ledger)
	if a.enclaveFile, err = c.Encode(); err != nil {
		a.t.Fatal(err)
	}
	hash := wire.ConfigurationHash(a.enclaveFile)
	a.enclave.Config = hash[:]
	l := a.enclave.Ledger
	l.ID, l.Backend, l.Genesis, l.Number = c.Ledger.ID, c.Ledger.Backend, c.Ledger.Genesis, c.Ledger.Number
}

func (a *attested) admit() endorser.Admit {
	return endorser.ByEvidence(a.configuration, a.file, func() time.Time { return a.now })
}

func (a *attested) introduce() ([]ledger.Signer, error) {
	b := attestationtest.Bundle(a.t, a.enclave, a.enclaveFile, a.enclaveReport...)
	return a.admit().Enclave(b.Encode(), a.genesis)
}

func (a *attested) succeed() error {
	b := attestationtest.Bundle(a.t, a.member, a.memberFile, a.memberReport...)
	return a.admit().Successor(b.Encode(), a.release.Encode(), a.key)
}

func TestEvidenceOfAnEnclave(t *testing.T) {
	t.Parallel()
	signers, err := newAttested(t).introduce()
	if err != nil || len(signers) != 2 {
		t.Fatal(len(signers), err)
	}
	if err := newAttested(t).succeed(); err != nil {
		t.Fatal(err)
	}
}

// anyLedger has the trust policy accept every ledger, so that the endorser's own check
// stands alone.
func anyLedger(p *policy.TrustPolicy) {
	p.Ledger.ID = policy.Waive[policy.Hex]("test")
	p.Ledger.Backends = []string{wire.BackendEndorsed, wire.BackendLocal}
}

func TestEnclavesEvidenceRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		forge func(a *attested)
		code  wire.Code
	}{
		"of an endorser":     {func(a *attested) { a.enclave, a.enclaveFile = a.member, a.memberFile }, wire.CodePolicy},
		"of purpose release": {func(a *attested) { a.enclave = attestationtest.ReleaseData(t, a.enclaveFile) }, wire.CodePolicy},
		"of another ledger": {func(a *attested) {
			anyLedger(a.configuration.Enclaves)
			a.reconfigure(func(l *wire.LedgerIdentity) { l.ID = random(32) })
		}, wire.CodeEvidence},
		"of another backend": {func(a *attested) {
			anyLedger(a.configuration.Enclaves)
			a.reconfigure(func(l *wire.LedgerIdentity) {
				l.Backend, l.Genesis = wire.BackendLocal, make([]byte, 32)
				a.genesis = wire.Digest{}
			})
		}, wire.CodeEvidence},
		"of another genesis":  {func(a *attested) { a.genesis = digest() }, wire.CodeEvidence},
		"of a later genesis":  {func(a *attested) { a.configuration.Number = 2 }, wire.CodeEvidence},
		"with debugging":      {func(a *attested) { a.enclaveReport = append(a.enclaveReport, attestationtest.Debug()) }, wire.CodePolicy},
		"of another machine":  {func(a *attested) { a.enclaveReport = append(a.enclaveReport, attestationtest.On(another(t))) }, wire.CodeEvidence},
		"of a root not named": {func(a *attested) { a.configuration.Enclaves.Simulation.Roots[0] = random(32) }, wire.CodeEvidence},
		"of another measurement": {func(a *attested) {
			a.configuration.Enclaves.Releases[0].Measurement = policy.Require(policy.Hex(random(48)))
		}, wire.CodePolicy},
		"after its policy's time": {func(a *attested) { a.now = a.now.AddDate(21, 0, 0) }, wire.CodeEvidence},
	} {
		a := newAttested(t)
		x.forge(a)
		if signers, err := a.introduce(); wire.CodeOf(err) != x.code || signers != nil {
			t.Errorf("%s: got %v, want %s", name, err, x.code)
		}
	}
	_, err := newAttested(t).admit().Enclave([]byte("garbage"), digest())
	wantCode(t, err, wire.CodeEvidence)
}

func TestSuccessorsEvidenceRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		forge func(a *attested)
		code  wire.Code
	}{
		"of another key": {func(a *attested) { a.key = public(newKey(t)) }, wire.CodeEvidence},
		"of an enclave":  {func(a *attested) { a.member, a.memberFile = a.enclave, a.enclaveFile }, wire.CodePolicy},
		"of another configuration": {func(a *attested) {
			c := *a.configuration
			c.Operator = random(32)
			a.memberFile, _ = c.Encode()
			hash := wire.ConfigurationHash(a.memberFile)
			a.member.Config = hash[:]
		}, wire.CodeEvidence},
		"of another ledger":   {func(a *attested) { a.member.Ledger.ID = random(32) }, wire.CodePolicy},
		"of another genesis":  {func(a *attested) { a.member.Ledger.Genesis = random(32) }, wire.CodePolicy},
		"with debugging":      {func(a *attested) { a.memberReport = append(a.memberReport, attestationtest.Debug()) }, wire.CodePolicy},
		"of another machine":  {func(a *attested) { a.memberReport = append(a.memberReport, attestationtest.On(another(t))) }, wire.CodeEvidence},
		"of a root not named": {func(a *attested) { a.rerelease(2, func(p *policy.TrustPolicy) { p.Simulation.Roots[0] = random(32) }) }, wire.CodeEvidence},
		"of another measurement": {func(a *attested) {
			a.rerelease(2, func(p *policy.TrustPolicy) { p.Releases[0].Measurement = policy.Require(policy.Hex(random(48))) })
		}, wire.CodePolicy},
		"of an old release": {func(a *attested) { a.rerelease(1, func(*policy.TrustPolicy) {}) }, wire.CodeEvidence},
		"an old release, renumbered": {func(a *attested) {
			a.rerelease(1, func(*policy.TrustPolicy) {})
			a.release.Number = 2
		}, wire.CodeEvidence},
		"a release with another policy": {func(a *attested) {
			p, _ := policy.Parse(a.release.Policy)
			p.Name = "mine"
			a.release.Policy = p.Encode()
		}, wire.CodeEvidence},
		"a release by another key":   {func(a *attested) { a.releaseKey = newKey(t); a.rerelease(2, func(*policy.TrustPolicy) {}) }, wire.CodeEvidence},
		"an unsigned release":        {func(a *attested) { a.release.Signature = nil }, wire.CodeEvidence},
		"a release without a policy": {func(a *attested) { a.release = unruled(a) }, wire.CodeEvidence},
		"after certificates' time":   {func(a *attested) { a.now = a.now.AddDate(50, 0, 0) }, wire.CodeEvidence},
	} {
		a := newAttested(t)
		x.forge(a)
		if err := a.succeed(); wire.CodeOf(err) != x.code {
			t.Errorf("%s: got %v, want %s", name, err, x.code)
		}
	}
	a := newAttested(t)
	wantCode(t, a.admit().Successor([]byte("garbage"), a.release.Encode(), a.key), wire.CodeEvidence)
	wantCode(t, a.admit().Successor(nil, []byte("garbage"), a.key), wire.CodeEvidence)
}

// rerelease signs another release.
func (a *attested) rerelease(number uint64, change func(*policy.TrustPolicy)) {
	p, err := policy.Parse(a.release.Policy)
	if err != nil {
		a.t.Fatal(err)
	}
	change(p)
	a.release = endorser.NewRelease(number, p, a.releaseKey)
}

// unruled is a release whose policy is empty: it would accept everything, if it were read so.
func unruled(a *attested) *endorser.Release {
	return endorser.NewRelease(2, &policy.TrustPolicy{}, a.releaseKey)
}

func another(t testing.TB) *machine.Machine {
	t.Helper()
	m, err := machine.FoundFast(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A configuration is read only in its canonical form, and whole.
func TestConfigurationRefused(t *testing.T) {
	t.Parallel()
	a := newAttested(t)
	if c, err := endorser.ParseConfiguration(a.file); err != nil || c.LeastRelease != 2 {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *endorser.Configuration){
		"version":     func(c *endorser.Configuration) { c.Version = 2 },
		"ledger":      func(c *endorser.Configuration) { c.Ledger = c.Ledger[1:] },
		"number":      func(c *endorser.Configuration) { c.Number = 0 },
		"operator":    func(c *endorser.Configuration) { c.Operator = nil },
		"release key": func(c *endorser.Configuration) { c.ReleaseKey = c.ReleaseKey[1:] },
		"no enclaves": func(c *endorser.Configuration) { c.Enclaves = nil },
	} {
		c := *a.configuration
		change(&c)
		if _, err := c.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	for name, file := range map[string][]byte{
		"nothing":         nil,
		"something after": append(append([]byte{}, a.file...), ' '),
		"twice":           append(append([]byte{}, a.file...), a.file...),
		"another member":  append([]byte(`{"waived":1,`), a.file[1:]...),
		"no policy":       []byte(`{"version":1}`),
	} {
		if _, err := endorser.ParseConfiguration(file); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}
