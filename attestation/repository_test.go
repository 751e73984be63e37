//go:build !js

package attestation_test

import (
	"os"
	"strings"
	"testing"

	"github.com/passclave/passclave/attestation"
)

// js.mod is go.mod with one replace, for js/wasm alone. This fails when they drift
// apart, and says how to make it anew.
func TestModuleForJS(t *testing.T) {
	t.Parallel()
	const replace = "\nreplace github.com/google/logger => ./third_party/google-logger-js\n"
	for _, pair := range []struct{ of, js, more string }{{"../go.mod", "../js.mod", replace}, {"../go.sum", "../js.sum", ""}} {
		want, err := os.ReadFile(pair.of)
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(pair.js)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != string(want)+pair.more {
			t.Errorf("%s is not %s%q: run `make js.mod`, or\n"+
				`(cat go.mod; printf '\nreplace github.com/google/logger => ./third_party/google-logger-js\n') > js.mod; cp go.sum js.sum`,
				pair.js, pair.of, pair.more)
		}
	}
}

// docs/attestation.md has a row for every check.
func TestChecksAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/attestation.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range attestation.Platforms() {
		for _, c := range attestation.Checks(p) {
			if !strings.Contains(string(doc), "\n| `"+string(c)+"` | ") {
				t.Errorf("check %q has no row in docs/attestation.md", c)
			}
		}
	}
}
