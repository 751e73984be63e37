// Command claimcheck shows that the tests behind docs/claims.md can fail: it
// deletes the check that each claim rests on, in an overlay that leaves the tree
// alone, and demands that the claim's test then fails.
//
// A claim is a section of docs/claims.md with fenced blocks of the form
//
//	```mutation
//	test: ./enclave TestName
//	file: enclave/pin.go
//	- one line of the file, or several, standing there exactly once
//	+ what takes their place; no such line deletes them
//	```
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

type mutation struct {
	claim string
	line  int // in the document
	pkg   string
	test  string
	file  string
	old   []string
	new   []string
}

func main() {
	document := flag.String("claims", "docs/claims.md", "the claims")
	only := flag.String("only", "", "check only claims whose heading contains this")
	flag.Parse()
	if err := run(*document, *only); err != nil {
		fmt.Fprintln(os.Stderr, "claimcheck:", err)
		os.Exit(1)
	}
}

func run(document, only string) error {
	data, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	mutations, err := parse(string(data))
	if err != nil {
		return err
	}
	var (
		mu     sync.Mutex
		failed []error
		wait   sync.WaitGroup
		slots  = make(chan struct{}, runtime.NumCPU())
		count  int
	)
	for _, m := range mutations {
		if !strings.Contains(m.claim, only) {
			continue
		}
		count++
		wait.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wait.Done() }()
			err := m.check()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("%s:%d: %s: %w", document, m.line, m.claim, err))
				fmt.Println("NOT SHOWN", m.claim, m.file)
				return
			}
			fmt.Println("ok", m.claim)
		}()
	}
	wait.Wait()
	if count == 0 {
		return errors.New("no mutation to check")
	}
	fmt.Printf("%d mutations, %d not noticed\n", count, len(failed))
	return errors.Join(failed...)
}

// parse finds the mutations of a document.
func parse(text string) ([]*mutation, error) {
	var out []*mutation
	var claim string
	var m *mutation
	for i, line := range strings.Split(text, "\n") {
		switch {
		case m == nil && strings.HasPrefix(line, "## "):
			claim = strings.TrimPrefix(line, "## ")
		case m == nil && line == "```mutation":
			m = &mutation{claim: claim, line: i + 1}
		case m == nil:
		case line == "```":
			if m.pkg == "" || m.file == "" || len(m.old) == 0 {
				return nil, fmt.Errorf("line %d: a mutation needs test, file and a line to take away", m.line)
			}
			out, m = append(out, m), nil
		case strings.HasPrefix(line, "test: "):
			m.pkg, m.test, _ = strings.Cut(strings.TrimPrefix(line, "test: "), " ")
		case strings.HasPrefix(line, "file: "):
			m.file = strings.TrimPrefix(line, "file: ")
		case strings.HasPrefix(line, "-"):
			m.old = append(m.old, strings.TrimPrefix(strings.TrimPrefix(line, "-"), " "))
		case strings.HasPrefix(line, "+"):
			m.new = append(m.new, strings.TrimPrefix(strings.TrimPrefix(line, "+"), " "))
		default:
			return nil, fmt.Errorf("line %d: %q", i+1, line)
		}
	}
	return out, nil
}

// check mutates, runs the test, and returns nil if it failed as a test fails.
func (m *mutation) check() error {
	data, err := os.ReadFile(m.file)
	if err != nil {
		return err
	}
	mutated, err := m.apply(string(data))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "claimcheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	replaced, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	path, err := filepath.Abs(m.file)
	if err != nil {
		return err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: replaced}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(replaced, []byte(mutated), 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		return err
	}
	out, err := exec.Command("go", "test", "-vet=off", "-count=1", "-timeout=120s", "-overlay="+overlay, "-run", "^"+m.test+"$", m.pkg).CombinedOutput()
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return fmt.Errorf("no test %s in %s", m.test, m.pkg)
	case err == nil:
		return fmt.Errorf("%s still passes", m.test)
	case bytes.Contains(out, []byte("[build failed]")):
		return fmt.Errorf("the mutated file does not build:\n%s", out)
	case !bytes.Contains(out, []byte("--- FAIL")) && !bytes.Contains(out, []byte("panic:")):
		return fmt.Errorf("the test did not run:\n%s", out)
	}
	return nil
}

// apply replaces the old lines, whose indentation does not matter.
func (m *mutation) apply(text string) (string, error) {
	lines := strings.Split(text, "\n")
	at := -1
	for i := 0; i+len(m.old) <= len(lines); i++ {
		match := true
		for j, old := range m.old {
			match = match && strings.TrimSpace(lines[i+j]) == strings.TrimSpace(old)
		}
		if match && at >= 0 {
			return "", fmt.Errorf("%s: the lines stand there twice", m.file)
		}
		if match {
			at = i
		}
	}
	if at < 0 {
		return "", fmt.Errorf("%s: no such lines", m.file)
	}
	out := append([]string{}, lines[:at]...)
	out = append(out, m.new...)
	return strings.Join(append(out, lines[at+len(m.old):]...), "\n"), nil
}
