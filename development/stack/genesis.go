package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/statefile"
	"github.com/passclave/passclave/wire"
)

// A stack's endorsers run beside everything else, so that a start finds none that
// remembers anything: which entry of an account is the newest, nobody could tell from an
// old copy of the database any more. Nothing starts by itself then. The operator may
// found the next genesis, on the same ledger ID: a new first view, and so a new measured
// configuration, trust policy and release policy.
//
// It can be cut short anywhere. stack.json names the configuration that is to come
// before the file is replaced, and a later start, which must be asked for a next genesis
// anyway, goes on from whichever of the two it finds.

// checkGenesis refuses what a start may not do by itself.
func (s *Stack) checkGenesis() error {
	switch next := s.options.NextGenesis; {
	case next && s.facts == nil:
		return &RefusedError{s.Dir + " holds no service whose ledger could have a next genesis", "Leave --next-genesis out: the first start founds the first one"}
	case next && !s.facts.endorsed():
		return &RefusedError{s.Dir + " was founded with the local ledger, which has no endorsers and one genesis only", "Leave --next-genesis out"}
	case !next && s.facts != nil && s.facts.endorsed():
		return &RefusedError{
			"All endorsers of " + s.Dir + " were stopped, and what they remembered is gone: which entry of each account is the newest. Fresh ones would take an old copy of the database for the newest",
			"If the database is the newest that there is, found the next genesis: passclave up --next-genesis (make run GENESIS=next). Every account is discontinued then, and answers nothing, until a majority of its devices confirmed it: passclave confirm --policy FILE",
		}
	}
	return nil
}

// nextGenesis founds the next genesis with endorsers that it starts.
func (s *Stack) nextGenesis(ctx context.Context) error {
	before, err := os.ReadFile(s.path(configurationFile))
	if err != nil {
		return err
	}
	c, err := wire.ParseConfiguration(before)
	if err != nil {
		return err
	}
	measurement, err := s.pinnedMeasurement()
	if err != nil {
		return err
	}
	number := c.Ledger.Number + 1
	if err := s.configureEndorsers(ctx, c.Ledger.ID, number, measurement); err != nil {
		return err
	}
	if err := s.launchEndorsers(ctx); err != nil {
		return err
	}
	if c.Ledger, err = s.foundView(ctx, c.Ledger.ID, number); err != nil {
		return err
	}
	configuration, err := c.Encode()
	if err != nil {
		return err
	}
	sum := wire.ConfigurationHash(configuration)
	s.facts.NextConfiguration = sum[:]
	if err := s.writeFacts(); err != nil {
		return err
	}
	if err := statefile.Write(s.path(configurationFile), configuration); err != nil {
		return err
	}
	s.facts.Configuration = sum[:]
	trust, err := s.trustPolicy(measurement)
	if err != nil {
		return err
	}
	if err := statefile.Write(s.path(policyFile), trust); err != nil {
		return err
	}
	release := s.releasePolicy(measurement)
	if err := statefile.Write(s.path(releaseFile), release); err != nil {
		return err
	}
	if err := s.SetReleasePolicy(ctx, release); err != nil { // or the KEK is released to the former configuration alone
		return err
	}
	s.Genesis = number
	s.facts.NextConfiguration = nil
	return s.writeFacts()
}

// pinnedMeasurement is the enclave's that the clients' trust policy demands; nil where it
// is waived. A next genesis is no occasion to accept another enclave.
func (s *Stack) pinnedMeasurement() ([]byte, error) {
	trust, err := os.ReadFile(s.path(policyFile))
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(trust)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(policyFile), err)
	}
	if m := p.Releases[0].Measurement; m.Waived == "" {
		return m.Want, nil
	}
	return nil, nil
}

// fitsConfiguration reports whether a measured configuration is the one founded, or the
// one that a next genesis was about to put in its place.
func (f *facts) fitsConfiguration(configuration []byte) bool {
	sum := sha256.Sum256(configuration)
	return bytes.Equal(sum[:], f.Configuration) || bytes.Equal(sum[:], f.NextConfiguration)
}
