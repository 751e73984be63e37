package main

import (
	"testing"

	"github.com/passclave/passclave/attestation"
)

// Every check says what its failure means, in words of its own.
func TestCheckRemedies(t *testing.T) {
	t.Parallel()
	of, listed := map[string]attestation.Check{}, map[attestation.Check]bool{}
	for _, p := range []attestation.Platform{attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX, attestation.PlatformAzureAttestation} {
		for _, c := range attestation.Checks(p) {
			text := checkRemedies[c]
			if other, twice := of[text]; text == "" || twice && other != c {
				t.Errorf("%s has no remedy of its own, but %q", c, text)
			}
			of[text], listed[c] = c, true
		}
	}
	for c := range checkRemedies {
		if !listed[c] {
			t.Errorf("a remedy of %q, which is no check", c)
		}
	}
}
