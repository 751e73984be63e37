package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/development/stack"
)

// resealing is a host that answers its operator with these lines.
func resealing(lines ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/reseal" || r.Header.Get("Content-Type") != "application/json" {
			http.NotFound(w, r)
			return
		}
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	})
}

// reseal runs the command in JSON and for people.
func reseal(t *testing.T, into any, args ...string) (code int, text string) {
	t.Helper()
	args = append([]string{"keys", "reseal"}, args...)
	var b, human bytes.Buffer
	a := newApp(os.Stdin, &b, os.Stderr)
	code = a.run(t.Context(), append(args, "--json"))
	if err := json.Unmarshal(b.Bytes(), into); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if again := newApp(os.Stdin, &human, null).run(t.Context(), args); again != code {
		t.Fatalf("exit code %d, in JSON %d", again, code)
	}
	return code, human.String()
}

func TestKeysReseal(t *testing.T) {
	t.Parallel()
	const begins = `{"kek":"v2","wraps":{"v1":7},"total":7}`
	for name, test := range map[string]struct {
		last string
		code int
		want resealed
		says string
	}{
		"all": {`{"kek":"v2","wraps":{"v2":7},"total":7,"done":7,"lineage":true,"finished":true}`, exitDone,
			resealed{KEK: "v2", Done: 7, Lineage: true}, "can be disabled once every enclave"},
		"not what came before": {`{"kek":"v2","wraps":{"v2":7},"total":7,"done":7,"finished":true}`, exitDone,
			resealed{KEK: "v2", Done: 7}, "do not disable"},
		"some do not open": {`{"kek":"v2","wraps":{"v1":2,"v2":5},"total":7,"done":5,"refused":2,"lineage":true,"finished":true}`, exitError,
			resealed{KEK: "v2", Done: 5, Refused: 2, Left: 2, Lineage: true}, "cannot open 2 accounts"},
		"some came meanwhile": {`{"kek":"v2","wraps":{"v1":1,"v2":6},"total":7,"done":7,"lineage":true,"finished":true}`, exitError,
			resealed{KEK: "v2", Done: 7, Left: 1, Lineage: true}, "Do it again later"},
	} {
		server := httptest.NewServer(resealing(begins, test.last))
		t.Cleanup(server.Close)
		var out resealed
		code, text := reseal(t, &out, "--host", server.URL)
		out.Wraps = nil
		if code != test.code || fmt.Sprint(out) != fmt.Sprint(test.want) || !strings.Contains(text, test.says) {
			t.Errorf("%s: exit code %d, %+v, %s", name, code, out, text)
		}
	}
	for name, lines := range map[string][]string{
		"unavailable": {begins, `{"kek":"v2","finished":true,"error":"unavailable"}`}, // the code it ends with
		"error":       {begins},                                                       // it stopped
	} {
		server := httptest.NewServer(resealing(lines...))
		t.Cleanup(server.Close)
		var out failure
		if code, _ := reseal(t, &out, "--host", server.URL); code != exitError || out.Error.Code != name {
			t.Errorf("%s: exit code %d, %+v", name, code, out.Error)
		}
	}
	var out failure
	if code, _ := reseal(t, &out, "--host", "127.0.0.1:1"); code != exitUsage {
		t.Errorf("no URL: exit code %d", code)
	}
	if code, _ := reseal(t, &out, "--state", t.TempDir()); code != exitError || !strings.Contains(out.Error.Message, "operator.sock") {
		t.Errorf("no host: exit code %d, %+v", code, out.Error)
	}
}

// The host of a state folder is found by its socket.
func TestHostOfAState(t *testing.T) {
	t.Parallel()
	state, err := os.MkdirTemp("", "state") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	socket := stack.OperatorSocket(state)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(resealing(`{"kek":"v2","wraps":{"v2":5},"done":3,"lineage":true,"finished":true}`))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	var out resealed
	if code, _ := reseal(t, &out, "--state", state); code != exitDone || out.Done != 3 {
		t.Fatalf("exit code %d, %+v", code, out)
	}
}
