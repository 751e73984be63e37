package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/policy"
)

// Real evidence of Azure Container Instances, as a person would look at it: a policy is
// made from it, accepts it, and still says loudly that its security policy allows
// everything.
func TestRealFolder(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("PASSCLAVE_EVIDENCE")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "evidence")
	}
	folder = filepath.Join(folder, "aci-snp")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skipf("no real evidence: %v", err)
	}
	file := filepath.Join(t.TempDir(), "policy.json")
	run := func(want int, out any, args ...string) {
		t.Helper()
		var b bytes.Buffer
		if code := run(t.Context(), append(args, "--json"), os.Stdin, &b, os.Stderr); code != want {
			t.Fatalf("exit code %d, not %d: %s", code, want, b.Bytes())
		}
		if err := json.Unmarshal(b.Bytes(), out); err != nil {
			t.Fatal(err)
		}
	}
	var made initialized
	run(exitDone, &made, "policy", "init", "--evidence", folder, "-o", file)
	var v verification
	run(exitDone, &v, "verify", folder, "--policy", file)
	if v.Source != sourceFolder || v.Simulation || v.Fresh || v.Verdict != verdictAccepted ||
		!slices.ContainsFunc(v.Warnings, func(w string) bool { return strings.HasPrefix(w, "SECURITY POLICY: create_container") }) {
		t.Errorf("%+v", v)
	}
	var l linted
	run(exitWeak, &l, "policy", "lint", file)
	if !slices.ContainsFunc(l.Findings, func(f policy.LintFinding) bool { return f.Field == policy.FieldUVM && f.Level == policy.LevelWarning }) {
		t.Errorf("SVN 22 is nothing to warn of: %+v", l.Findings)
	}

	p, err := readPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	p.Releases[0].UVM.MinimumSVN = 100
	if err := os.WriteFile(file, p.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	run(exitPolicy, &v, "verify", folder, "--policy", file)
	var refused []string
	for _, l := range v.Findings {
		if l.Verdict == string(policy.Refused) {
			refused = append(refused, l.Name)
		}
	}
	if !slices.Equal(refused, []string{string(policy.FieldUVM)}) {
		t.Errorf("refused %v", refused)
	}
}
