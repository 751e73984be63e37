package stack

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"

	"github.com/passclave/passclave/host/endorsers"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/statefile"
	"github.com/passclave/passclave/wire"
)

// The endorsed ledger's part of the state folder. The operator's keys lie beside what
// they sign: in a simulation there is one operator, who owns all of it.
const (
	endorserFolder     = "endorsers"
	endorserConfig     = endorserFolder + "/configuration.json" // measured
	operatorFile       = endorserFolder + "/operator.pem"
	releaseKeyFile     = endorserFolder + "/release-key.pem"
	endorserRelease    = endorserFolder + "/release.cbor"
	endorsersFile      = endorserFolder + "/endorsers.json" // the host's
	endorserTEESocket  = runFolder + "/endorser-tee.sock"
	endorserCount      = 3
	endorserReleaseNum = 1
)

// EndorserParts are the endorsers, each a process of its own.
var EndorserParts = []Part{"endorser-1", "endorser-2", "endorser-3"}

// EndorserTEE is the simulated machine on which endorsers run: the same maker's, with
// their configuration in its HOST_DATA.
const EndorserTEE Part = "endorser-tee"

// EndorsersFile is the absolute path of the file that names endorsers and views; empty
// without an endorsed ledger.
func (s *Stack) EndorsersFile() string {
	if !s.facts.endorsed() {
		return ""
	}
	return s.path(endorsersFile)
}

// OperatorFiles are the operator's key and the release of endorsers, for a view change.
func (s *Stack) OperatorFiles() (key, release string) {
	return s.path(operatorFile), s.path(endorserRelease)
}

// makeRoot has the simulated TEE make its root, where there is none.
func (s *Stack) makeRoot(ctx context.Context) error {
	c := exec.CommandContext(ctx, s.binary(SimTEE), "root", "-platform", string(s.facts.platform()), "-state", string(SimTEE))
	c.Dir = s.Dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("simulated TEE: %w: %s", err, out)
	}
	der, err := readPEM(s.path(s.facts.rootFile()), "CERTIFICATE")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	s.facts.Root = sum[:]
	return nil
}

// foundEndorsers writes what endorsers start with: the operator's keys, whom they admit
// as enclaves and as successors, and their measured configuration.
func (s *Stack) foundEndorsers(ctx context.Context, ledgerID []byte, number uint64) error {
	for i := range EndorserParts {
		address, err := freeAddress(firstPort+4+i, s.options.Founding.AnyPorts)
		if err != nil {
			return err
		}
		s.facts.Endorsers = append(s.facts.Endorsers, address)
	}
	if err := s.makeRoot(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(s.path(endorserFolder), 0o700); err != nil {
		return err
	}
	var measurement []byte
	if s.options.Founding.Strict {
		var err error
		if measurement, err = s.Measurement(ctx, s.binary(Enclave)); err != nil {
			return err
		}
	}
	return s.configureEndorsers(ctx, ledgerID, number, measurement)
}

// configureEndorsers writes the measured configuration of the endorsers of a genesis, and
// their release. measurement is the enclave's; where it is nil, theirs is waived too.
func (s *Stack) configureEndorsers(ctx context.Context, ledgerID []byte, number uint64, measurement []byte) error {
	operator, err := statefile.Key(s.path(operatorFile))
	if err != nil {
		return err
	}
	release, err := statefile.Key(s.path(releaseKeyFile))
	if err != nil {
		return err
	}
	c := endorser.Configuration{
		Version: endorser.ConfigurationVersion, Ledger: ledgerID, Number: number,
		Operator: wire.Base64(public(operator)), ReleaseKey: wire.Base64(public(release)), LeastRelease: endorserReleaseNum,
		Enclaves: s.endorsedPolicy(ledgerID, number, measurement),
	}
	file, err := c.Encode()
	if err != nil {
		return err
	}
	if err := statefile.Write(s.path(endorserConfig), file); err != nil {
		return err
	}
	if measurement != nil {
		if measurement, err = s.Measurement(ctx, s.binary(EndorserParts[0])); err != nil {
			return err
		}
	}
	p := s.endorsedPolicy(ledgerID, number, measurement)
	p.Ledger.Genesis = policy.Require(policy.Hex(make([]byte, 32))) // an endorser is before the genesis
	return statefile.Write(s.path(endorserRelease), endorser.NewRelease(endorserReleaseNum, p, release).Encode())
}

// endorsedPolicy is the development policy for evidence among enclaves and endorsers.
// Which configuration an enclave has cannot be said before there is a genesis, which
// stands in it: endorsers compare the genesis instead, and each other's configuration.
func (s *Stack) endorsedPolicy(ledgerID []byte, number uint64, measurement []byte) *policy.TrustPolicy {
	const reason = "endorsers"
	p := policy.ForDevelopment(wire.Digest(s.facts.Root), wire.Digest{}, wire.LedgerIdentity{
		ID: ledgerID, Backend: wire.BackendEndorsed, Genesis: make([]byte, 32), Number: number,
	}, s.facts.platform())
	p.Releases[0].Configuration = policy.Waive[policy.Hex](reason)
	p.Ledger.Genesis = policy.Waive[policy.Hex](reason)
	p.MinimumArgon2id = policy.Waive[policy.Argon2id](reason)
	if measurement != nil {
		p.Releases[0].Measurement = policy.Require(policy.Hex(measurement))
	}
	return p
}

// foundView makes the first view of the endorsers that were started, and returns the
// ledger that it founds.
func (s *Stack) foundView(ctx context.Context, ledgerID []byte, number uint64) (l wire.LedgerIdentity, err error) {
	o, err := endorsers.ReadOperator(s.OperatorFiles())
	if err != nil {
		return l, err
	}
	f, err := o.Found(ctx, ledgerID, number, 1, s.facts.endorserAddresses())
	if err != nil {
		return l, err
	}
	if err := f.Write(s.path(endorsersFile)); err != nil {
		return l, err
	}
	chain, err := f.Views()
	if err != nil {
		return l, err
	}
	v, err := endorsement.ParseView(chain.Links[0].View)
	if err != nil {
		return l, err
	}
	genesis := v.Hash()
	return wire.LedgerIdentity{ID: ledgerID, Backend: wire.BackendEndorsed, Genesis: genesis[:], Number: number}, nil
}

// launchEndorsers starts PostgreSQL and the endorsers: empty ones, which serve nothing yet.
func (s *Stack) launchEndorsers(ctx context.Context) error {
	if err := s.StartDatabase(ctx); err != nil {
		return err
	}
	for _, p := range append([]Part{EndorserTEE}, EndorserParts...) {
		if err := s.launch(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// startEndorsers starts the endorsers and makes their first view: that of a founding, or
// of the next genesis.
func (s *Stack) startEndorsers(ctx context.Context) error {
	if !s.Founded {
		return s.nextGenesis(ctx)
	}
	if err := s.launchEndorsers(ctx); err != nil {
		return err
	}
	file, err := os.ReadFile(s.path(endorserConfig))
	if err != nil {
		return err
	}
	c, err := endorser.ParseConfiguration(file)
	if err != nil {
		return err
	}
	l, err := s.foundView(ctx, c.Ledger, c.Number)
	if err != nil {
		return err
	}
	return s.foundConfiguration(l)
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }
