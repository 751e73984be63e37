package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/policy"
)

// makers are who gives what evidence lacks: certificates of a chip, revocation lists,
// Intel's statements about TCBs. None is believed, nor is what was kept of their answers.
type makers struct {
	http   *http.Client
	snp    []collateral.Source
	intel  []collateral.IntelSource
	cache  string        // folder where their answers are kept; empty: nowhere
	within time.Duration // of one completion; 0: the package's
}

// realMakers are reached through the proxy that the environment names, as everything else
// is that a person types. AMD knows every chip; Azure's cache is for when it has too much
// to do.
func realMakers() makers {
	m := makers{
		http:  &http.Client{Transport: http.DefaultTransport},
		snp:   []collateral.Source{collateral.AMD(collateral.AMDBase), collateral.Azure(collateral.AzureBase)},
		intel: []collateral.IntelSource{collateral.Intel()},
	}
	if folder, err := os.UserCacheDir(); err == nil {
		m.cache = filepath.Join(folder, "passclave", "collateral")
	}
	return m
}

// wanted is what evidence should bring along beside what shows that it is genuine.
type wanted struct{ revocation, tcb bool }

func wantedBy(p *policy.TrustPolicy) (w wanted) {
	w.revocation, w.tcb = p.Collateral()
	return w
}

// lacks returns what has to be looked for, and whether anything has: certificates or
// collateral that are not there, or too old, or another machine's. For what is complete
// nobody is asked, nor for a simulation or a root that no maker has, nor for what no
// other certificate or list would mend.
func lacks(b *attestation.Bundle, roots attestation.Roots, want wanted, now time.Time) (wanted, bool) {
	if b == nil || b.Platform == attestation.PlatformAzureAttestation {
		return want, false
	}
	if attestation.Simulated(b, now) {
		return want, false
	}
	c, err := attestation.Hardware(b, roots, now)
	if err == nil {
		want.revocation = want.revocation && !c.RevocationChecked
		want.tcb = want.tcb && c.Intel != nil && c.Intel.TCBStatus == ""
		return want, want.revocation || want.tcb
	}
	is := func(list ...attestation.Check) bool {
		return slices.ContainsFunc(list, func(c attestation.Check) bool { return errors.Is(err, &attestation.Error{Check: c}) })
	}
	snp := b.Platform == attestation.PlatformSEVSNP
	switch {
	case errors.Is(err, attestation.ErrRevoked):
		return want, false
	case is(attestation.CheckRevocation):
		want.revocation = true
		return want, true
	case is(attestation.CheckTCBInfo, attestation.CheckQEIdentity):
		want.tcb = true
		return want, true
	case snp && is(attestation.CheckChain):
		return want, len(b.HostAMD) == 0 && len(b.Certificates) < 3
	}
	return want, snp && is(attestation.CheckValidity, attestation.CheckTCB, attestation.CheckChip, attestation.CheckHostAMD)
}

// complete puts into b what it lacks, and returns the names of it. The error is a
// [*collateral.Incomplete], but where the command was stopped.
func (a *app) complete(ctx context.Context, b *attestation.Bundle, roots attestation.Roots, want wanted) ([]string, error) {
	want, any := lacks(b, roots, want, a.now())
	if !any {
		return nil, nil
	}
	a.working("asking the hardware's maker for what the evidence lacks")
	o := collateral.Options{
		HTTP: a.makers.http, Sources: a.makers.snp, Intel: a.makers.intel, Roots: roots, Now: a.now, Limit: a.makers.within,
		Revocation: want.revocation, TCB: want.tcb,
	}
	if a.makers.cache != "" {
		o.Store = collateral.Folder(a.makers.cache)
	}
	before := *b
	if err := collateral.New(o).Complete(ctx, b); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return fetched(&before, b), nil
}

// fetched names what a bundle has that it had not before.
func fetched(before, after *attestation.Bundle) (names []string) {
	if len(after.Certificates) > 0 && !slices.EqualFunc(before.Certificates, after.Certificates, slices.Equal) {
		names = append(names, collateral.Certificates)
	}
	for _, x := range after.Collateral {
		if !slices.ContainsFunc(before.Collateral, func(y attestation.Collateral) bool { return x.Name == y.Name && slices.Equal(x.Data, y.Data) }) {
			names = append(names, x.Name)
		}
	}
	return names
}

// completeEvidence completes what was given, as far as a verdict needs it. Where that
// proves it false, the evidence has that as its problem. An error is an [*undecided]: nobody
// gave what is missing.
func (a *app) completeEvidence(ctx context.Context, e *evidence, roots attestation.Roots, want wanted) error {
	var err error
	e.fetched, err = a.complete(ctx, e.bundle, roots, want)
	var missing *collateral.Incomplete
	if !errors.As(err, &missing) {
		return err
	}
	if refused := missing.Decided(); refused != nil {
		e.problem = refused
		return nil
	}
	return &undecided{missing}
}

// errUndecided is every [undecided].
var errUndecided = errors.New("could not tell")

// undecided is evidence that is neither genuine nor false as far as anybody here knows.
type undecided struct{ missing *collateral.Incomplete }

func (e *undecided) Unwrap() []error { return []error{errUndecided, e.missing} }

func (e *undecided) Error() string { return errUndecided.Error() + ": " + e.incomplete() }

// incomplete says what is missing, and who was asked.
func (e *undecided) incomplete() string {
	text := "the evidence lacks " + missingWords(e.missing.Missing)
	if len(e.missing.Stapled) > 0 {
		text = "the evidence has " + missingWords(e.missing.Missing) + " that does not hold"
	}
	for _, err := range e.missing.Stapled {
		text += "\n  in the evidence: " + err.Error()
	}
	for _, err := range e.missing.Tried {
		text += "\n  asked: " + strings.ReplaceAll(err.Error(), "\n", "\n  asked: ")
	}
	switch {
	case errors.Is(e.missing, collateral.ErrUnknown):
		return text + "\n  Nobody can be asked for it: ask the operator for evidence with its certificates stapled"
	case !e.missing.Unreachable():
		return text + "\n  Who has it answered, and has nothing that fits: ask the operator what machine and firmware this is; this machine's clock may be wrong"
	}
	return text + "\n  Try again where " + e.hosts() + " can be reached (HTTPS_PROXY is honoured), or verify a file that `passclave evidence save` made there"
}

func (e *undecided) hosts() string {
	switch e.missing.Missing {
	case collateral.Certificates:
		return "kdsintf.amd.com (for machines of Azure, or global.acccache.azure.net)"
	case attestation.CollateralAMDCRL:
		return "kdsintf.amd.com"
	}
	return "api.trustedservices.intel.com and certificates.trustedservices.intel.com"
}

// missingWords are people's words for what a completion looks for.
func missingWords(name string) string {
	switch name {
	case collateral.Certificates:
		return "the certificates (" + name + ") that show whose chip it is"
	case attestation.CollateralAMDCRL:
		return "AMD's revocation list (" + name + ")"
	case "pck-crl", "root-crl":
		return "Intel's revocation list (" + name + ")"
	}
	return "Intel's statement about the firmware (" + name + ")"
}
