package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"passclave": func() {
		os.Exit(mainCode())
	}})
}

// TestScripts runs what needs no service: help, wrong use, exit codes, JSON of
// errors, files. `exits N COMMAND…` demands an exit code.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PASSCLAVE_HOME", filepath.Join(e.WorkDir, "profiles"))
			e.Setenv("SERVICE", service(t, honest))
			e.Setenv("REPLAYING", service(t, func([]byte) []byte { return make([]byte, 32) }))
			e.Setenv("ELSEWHERE", answering(t, http.StatusNotFound))
			e.Setenv("BUSY", answering(t, http.StatusTooManyRequests))
			e.Setenv("ROOT", attestationtest.Roots(attestationtest.NewMachine(t)).Simulation[0].String())
			return errors.Join(writePolicies(e.WorkDir), writeKeys(e.WorkDir), writeEvidence(t, e.WorkDir), writeReleases(t, e.WorkDir))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// writePolicies writes policy.json; weaker.json, which waives the measurement; later.json,
// which names the next genesis.
func writePolicies(dir string) error {
	p := policy.ForDevelopment(wire.Digest{1}, wire.Digest{2}, wire.LedgerIdentity{
		ID: bytes.Repeat([]byte{3}, 32), Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1,
	})
	weaker := p.Encode()
	p.Releases[0].Measurement = policy.Require(policy.Hex(make([]byte, 48)))
	strict := p.Encode()
	p.Ledger.Number = 2
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "policy.json"), strict, 0o600),
		os.WriteFile(filepath.Join(dir, "later.json"), p.Encode(), 0o600),
		os.WriteFile(filepath.Join(dir, "weaker.json"), weaker, 0o600))
}

// writeEvidence writes strict.json, which accepts the evidence of $SERVICE; debug.cbor,
// saved evidence of an enclave that the host can read; and the folder aci, with what
// Azure Container Instances would give: genuine, of that simulation.
func writeEvidence(t *testing.T, dir string) error {
	configuration := attestationtest.Configuration(t)
	debug := attestationtest.Bundle(t, attestationtest.ClientData(t, configuration), configuration, attestationtest.Debug())
	policyText := []byte("package policy\n\napi_version := \"0.10.0\"\n\nexec_in_container := {\"allowed\": true}\n")
	hash := sha256.Sum256(policyText)
	b := attestationtest.BundleOver(t, []byte("of somebody else"), configuration, attestationtest.HostData(hash[:]))
	tcb := binary.LittleEndian.Uint64(b.Report[0x180:])
	folder := filepath.Join(dir, "aci")
	write := func(name string, data []byte) error { return os.WriteFile(filepath.Join(dir, name), data, 0o600) }
	return errors.Join(
		os.Mkdir(folder, 0o700),
		write("strict.json", strict(t).Encode()),
		write("debug.cbor", debug.Encode()),
		write("aci/report.bin", b.Report),
		write("aci/host-amd-cert-base64", encode(attestationtest.HostAMD(t, b.Certificates, tcb))),
		write("aci/security-policy-base64", encode(policyText)),
	)
}

func encode(data []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(data)) }

// writeKeys writes keys/keys.json: the broker's file with one key.
func writeKeys(dir string) error {
	s, err := file.Open(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	_, err = s.Create(context.Background(), "kek", releasepolicy.Require("https://127.0.0.1:1", map[string]any{"claim": "value"}), false)
	return err
}

// writeReleases writes release.json, by which the evidence of $SERVICE has a key, and
// other.json, by which it has none; ours.jwt, azure.jwt and expired.jwt, which nobody signed; and trail, an audit
// log of three records, beside trail-of-others.
func writeReleases(t *testing.T, dir string) error {
	claims := map[string]any{"x-ms-attestation-type": "sevsnpvm", "x-passclave-simulated": true, "x-ms-sevsnpvm-launchmeasurement": strings.Repeat("4d", 48)}
	good := releasepolicy.Require("https://broker.test", claims)
	claims["x-ms-sevsnpvm-launchmeasurement"] = strings.Repeat("00", 48)
	claims["x-ms-sevsnpvm-vmpl"] = 0
	other := releasepolicy.Require("https://broker.test", claims)
	azure := releasepolicy.Require("https://azure.test", map[string]any{"x-ms-attestation-type": "sevsnpvm"})
	token := func(claims string) []byte {
		return []byte("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl\n")
	}
	const measured = `"x-ms-attestation-type":"sevsnpvm","x-ms-sevsnpvm-launchmeasurement":"` +
		"4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d" +
		`","x-ms-sevsnpvm-is-debuggable":false,"x-ms-sevsnpvm-migration-allowed":false`
	write := func(name string, data []byte) error { return os.WriteFile(filepath.Join(dir, name), data, 0o600) }
	err := errors.Join(
		write("release.json", good), write("other.json", other), write("azure.json", azure),
		write("ours.jwt", token(`{"iss":"https://broker.test","exp":9999999999,"x-passclave-simulated":true,"x-passclave-vlek":false,`+measured+`}`)),
		write("azure.jwt", token(`{"iss":"https://azure.test","exp":9999999999,`+measured+`}`)),
		write("expired.jwt", token(`{"iss":"https://broker.test","exp":9,"x-passclave-simulated":true,`+measured+`}`)),
	)
	for name, n := range map[string]int{"trail": 3, "trail-of-others": 4} {
		l, e := audit.Open(filepath.Join(dir, name))
		if e != nil {
			return e
		}
		for i := range n {
			err = errors.Join(err, l.Append(audit.Record{
				Kind: audit.KindRelease, Outcome: audit.Refused, Key: "kek", Version: strconv.Itoa(i), Clauses: []string{"clause\x1b of " + strconv.Itoa(i)},
				Evidence: &audit.Evidence{Platform: "sevsnpvm", Simulated: true, Measurement: strings.Repeat("4d", 48)},
			}))
		}
		err = errors.Join(err, l.Close())
	}
	return err
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}
