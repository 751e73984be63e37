package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/broker"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

// office is a folder in which operators of a key broker type commands.
type office struct {
	dir, url string
	store    *file.Store
}

// typed runs a command with --json as somebody whose key is in a file, and returns its exit code and
// answer.
func (o *office) typed(t *testing.T, who string, command ...string) (int, map[string]any) {
	t.Helper()
	args := append([]string{"--json", "keys"}, command...)
	if who != "" {
		args = append(args, "--broker", o.url, "--roots", o.path("roots.pem"), "--operator", o.path(who+".pem"))
	}
	var out bytes.Buffer
	code := run(t.Context(), args, os.Stdin, &out, os.Stderr)
	var answer map[string]any
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out.Bytes())
	}
	return code, answer
}

func (o *office) path(name string) string { return filepath.Join(o.dir, name) }

// does is typed for what must succeed.
func (o *office) does(t *testing.T, who string, command ...string) map[string]any {
	t.Helper()
	code, answer := o.typed(t, who, command...)
	if code != exitDone {
		t.Fatalf("%v: exit code %d, %v", command, code, answer)
	}
	return answer
}

// fails is typed for what must not, with an error's code.
func (o *office) fails(t *testing.T, exit int, want, who string, command ...string) string {
	t.Helper()
	code, answer := o.typed(t, who, command...)
	e, _ := answer["error"].(map[string]any)
	if code != exit || e["code"] != want {
		t.Errorf("%v: exit code %d, %v", command, code, answer)
	}
	message, _ := e["message"].(string)
	return message
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{dir: t.TempDir()}
	var operators []operator.Operator
	for _, name := range []string{"alice", "bob"} {
		made := o.does(t, "", "operator", "new", name, "-o", o.path(name+".pem"))
		key, err := publicKey("", made["key"].(string))
		if err != nil {
			t.Fatal(err)
		}
		operators = append(operators, operator.Operator{Name: name, Key: wire.Base64(key)})
	}
	var handler http.Handler
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	server.StartTLS()
	t.Cleanup(server.Close)
	o.url = server.URL
	o.write(t, "roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	o.write(t, "first.json", o.policy("first"))
	o.write(t, "second.json", o.policy("second"))
	var err error
	if o.store, err = file.Open(o.path("broker")); err != nil {
		t.Fatal(err)
	}
	trail, err := audit.Open(o.path("broker"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	if handler, err = broker.New(broker.Config{URL: o.url, Store: o.store, Certificate: server.TLS.Certificates[0], Audit: trail, Operators: operators, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) policy(value string) []byte {
	return releasepolicy.Require(o.url, map[string]any{"claim": value})
}

func (o *office) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(o.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Two people run a key, from its making on, by what they type.
func TestKeysOfTwoOperators(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	first := o.does(t, "alice", "create", "--policy", o.path("first.json"))["version"].(string)
	second := o.does(t, "bob", "rotate")["version"].(string)
	listed := o.does(t, "alice", "list")
	versions := listed["versions"].([]any)
	if v := versions[0].(map[string]any); len(versions) != 2 || v["version"] != first || v["enabled"] != true || v["policy"] != hashOf(o.policy("first")) || v["accounts"] != nil {
		t.Errorf("listed %v", listed)
	}

	waits := o.does(t, "alice", "policy", "set", o.path("second.json"))
	proposal := waits["proposal"].(map[string]any)
	id := proposal["id"].(string)
	if waits["done"] != false || proposal["by"] != "alice" || proposal["policy"] != hashOf(o.policy("second")) {
		t.Errorf("proposed %v", waits)
	}
	if listed := o.does(t, "bob", "list"); len(listed["proposals"].([]any)) != 1 {
		t.Errorf("listed %v", listed)
	}
	if words := o.fails(t, exitError, "broker-refused", "alice", "policy", "approve", id, "--yes"); !strings.Contains(words, "SecondOperatorNeeded") {
		t.Errorf("refused with %s", words)
	}
	o.fails(t, exitUsage, "usage", "bob", "policy", "approve", id) // nobody can be asked here
	if done := o.does(t, "bob", "policy", "approve", id, "--yes"); done["done"] != true {
		t.Errorf("approved %v", done)
	}
	for _, version := range []string{first, second} {
		if shown := o.does(t, "alice", "policy", "show", version); shown["policy"] != string(o.policy("second")) {
			t.Errorf("shown %v", shown)
		}
	}
	if waits := o.does(t, "bob", "rotate", "--policy", o.path("first.json")); waits["done"] != false {
		t.Errorf("rotated %v", waits)
	}

	// A version is not switched off by the way.
	if words := o.fails(t, exitError, "key-needed", "alice", "disable", first); !strings.Contains(words, "--force") {
		t.Errorf("refused with %s", words)
	}
	o.fails(t, exitError, "error", "alice", "disable", "00")
	o.does(t, "alice", "disable", first, "--force")
	if v, err := o.store.Versions(t.Context(), "passclave-kek"); err != nil || v[0].Enabled {
		t.Errorf("got %+v, %v", v, err)
	}
	o.does(t, "bob", "enable", first)

	o.fails(t, exitUsage, "usage", "alice", "create", "--key", "other", "--policy", o.path("first.json"), "--immutable")
	o.does(t, "alice", "create", "--key", "other", "--policy", o.path("first.json"), "--immutable", "--yes")
	o.fails(t, exitError, "broker-refused", "alice", "policy", "set", o.path("second.json"), "--key", "other")

	audited := o.does(t, "bob", "audit", "--head", o.path("head.json"))
	o.does(t, "bob", "audit", "--head", o.path("head.json"))
	if audited["whole"] != true || len(audited["records"].([]any)) < 20 {
		t.Errorf("audited %v", audited)
	}
	// The same from the file; and cut behind what was kept.
	o.does(t, "", "audit", o.path("broker"), "--head", o.path("head.json"))
	log, err := os.ReadFile(o.path("broker/" + audit.FileName))
	if err != nil {
		t.Fatal(err)
	}
	o.write(t, audit.FileName, log[:len(log)/2])
	if code, cut := o.typed(t, "", "audit", o.path(audit.FileName), "--head", o.path("head.json")); code != exitAlarm || cut["whole"] != false {
		t.Errorf("exit code %d, %v", code, cut)
	}
}

func TestKeysWrongUse(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.fails(t, exitError, "file-exists", "", "operator", "new", "eve", "-o", o.path("alice.pem"))
	o.fails(t, exitUsage, "usage", "", "operator", "new", "a b", "-o", o.path("eve.pem"))
	o.fails(t, exitUsage, "usage", "", "operator", "new", "eve")
	o.fails(t, exitUsage, "usage", "alice", "create")
	o.fails(t, exitUsage, "usage", "", "list", "--broker", o.url)
	o.fails(t, exitUsage, "usage", "", "list", "--broker", "http://127.0.0.1", "--operator", o.path("alice.pem"))
	o.fails(t, exitUsage, "usage", "alice", "audit", o.path("broker"))
	o.fails(t, exitError, "error", "", "list", "--state", o.path("nowhere"))
	o.fails(t, exitError, "error", "", "list", "--broker", o.url, "--operator", o.path("alice.pem")) // a certificate of nobody's
	o.fails(t, exitError, "error", "", "list", "--broker", o.url, "--operator", o.path("roots.pem"))
	o.does(t, "", "operator", "new", "eve", "-o", o.path("eve.pem"))
	if words := o.fails(t, exitError, "broker-refused", "eve", "list"); !strings.Contains(words, "no operator") {
		t.Errorf("refused with %s", words)
	}
	if code := exitCode(&operator.Error{}); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if j := toJSON(errors.Join(errKeyNeeded)); j.Code != "key-needed" {
		t.Errorf("%+v", j)
	}
}

// What changes from one policy to the next is marked.
func TestMarked(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"a\nb\nb\nc\n", "a\nb\nd\n", "  a\n  b\n+ d\n- b\n- c"},
		{"a\nb\nc\n", "a\nx\nc\n", "  a\n+ x\n- b\n  c"},
		{"a\na\n", "a\n", "  a\n- a"},
		{"a\n", "a\na\n", "  a\n+ a"},
		{"a\n", "a\n", "  a"},
	} {
		if got := marked(c[0], c[1]); got != c[2] {
			t.Errorf("got %q, want %q", got, c[2])
		}
	}
}

// How a policy is laid out marks nothing, and hides nothing.
func TestReadable(t *testing.T) {
	t.Parallel()
	one, two := readable([]byte(`{"version":"1.0.0","anyOf":[{"b":1}]}`)), readable([]byte("{\"version\":\"1.0.0\",\n\"anyOf\":[{ \"b\": 2 }]}\n"))
	if got, want := marked(one, two), "  {\n    \"version\": \"1.0.0\",\n    \"anyOf\": [\n      {\n+       \"b\": 2\n-       \"b\": 1\n      }\n    ]\n  }"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A policy of the same lines in another order may let in anybody.
func TestMovedClauseIsMarked(t *testing.T) {
	t.Parallel()
	const measurement, either = `{"claim":"x-ms-sevsnpvm-launchmeasurement","equals":"11"},`, `{"anyOf":[`
	policy := func(lines ...string) string {
		text := `{"version":"1.0.0","anyOf":[{"authority":"https://a.test","allOf":[` + "\n" + strings.Join(lines, "\n") + "\n" +
			`{"claim":"a","equals":1},` + "\n" + `{"claim":"b","equals":1}` + "\n]}\n]}]}\n"
		if _, err := releasepolicy.Parse([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return text
	}
	got := marked(policy(measurement, either), policy(either, measurement))
	if !strings.Contains(got, "\n+ "+either) || !strings.Contains(got, "\n- "+measurement) {
		t.Errorf("got %s", got)
	}
}
