package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Why a mutation is not shown to be noticed.
var (
	errLines    = errors.New("the lines do not stand there once")
	errPasses   = errors.New("the test still passes")
	errNoTest   = errors.New("there is no such test")
	errNotRun   = errors.New("the test did not run")
	errNotBuilt = errors.New("the mutated file does not build")
	errUnsound  = errors.New("the test fails without a mutation")
)

type checker struct {
	dir    string        // for what is built
	slots  chan struct{} // one for each build or test that runs
	report func(*mutation, error)
}

// check runs every mutation's test and reports, one call at a time, nil for a
// mutation whose test failed as a test fails.
func check(all []*mutation, report func(*mutation, error)) error {
	dir, err := os.MkdirTemp("", "claimcheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var mu sync.Mutex
	c := &checker{dir: dir, slots: make(chan struct{}, runtime.NumCPU()), report: func(m *mutation, err error) {
		mu.Lock()
		defer mu.Unlock()
		report(m, err)
	}}
	groups := map[string][]*mutation{}
	for _, m := range all {
		groups[m.pkg] = append(groups[m.pkg], m)
	}
	var wait sync.WaitGroup
	for _, group := range groups {
		wait.Go(func() { c.together(group) })
	}
	wait.Wait()
	return nil
}

// together checks mutations that one package's tests must notice with one
// binary. Where they do not build so, halves are tried, down to the one that
// does not.
func (c *checker) together(group []*mutation) {
	var joined []*mutation
	files := schemata{}
	for _, m := range group {
		if err := files.add(m); err != nil {
			c.alone(m)
			continue
		}
		joined = append(joined, m)
	}
	if len(joined) == 0 {
		return
	}
	binary, err := c.build(joined[0].pkg, files.overlay())
	switch {
	case err != nil && len(joined) == 1:
		c.alone(joined[0])
		return
	case err != nil:
		c.together(joined[:len(joined)/2])
		c.together(joined[len(joined)/2:])
		return
	}
	// A test that fails in this binary anyway would show nothing.
	sound := sync.OnceValue(func() error { return c.sound(binary, joined) })
	var wait sync.WaitGroup
	for _, m := range joined {
		wait.Go(func() {
			err := sound()
			if err == nil {
				err = c.noticed(binary, m)
			}
			if errors.Is(err, errPasses) {
				// A test may start programs in an environment of its own, which does not
				// tell them what is selected.
				c.alone(m)
				return
			}
			c.report(m, err)
		})
	}
	wait.Wait()
	os.Remove(binary)
}

// alone checks a mutation with a binary of its own that holds nothing else.
func (c *checker) alone(m *mutation) {
	original, err := os.ReadFile(m.file)
	if err != nil {
		c.report(m, err)
		return
	}
	text, err := m.apply(string(original))
	if err != nil {
		c.report(m, err)
		return
	}
	binary, err := c.build(m.pkg, map[string]string{m.file: text})
	if err == nil {
		err = c.noticed(binary, m)
		os.Remove(binary)
	}
	c.report(m, err)
}

// build makes the test binary of a package with the texts of some files replaced.
func (c *checker) build(pkg string, files map[string]string) (string, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	dir, err := os.MkdirTemp(c.dir, "")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for file, text := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "test")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay="+overlay, "-o", binary, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w:\n%s", errNotBuilt, out)
	}
	if _, err := os.Stat(binary); err != nil { // a package without test files
		return "", errNoTest
	}
	return binary, nil
}

// noticed returns nil if the mutation's test fails as a test fails.
func (c *checker) noticed(binary string, m *mutation) error {
	out, err := c.run(binary, m.pkg, "^"+m.test+"$", m.id())
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return fmt.Errorf("%w: %s in %s", errNoTest, m.test, m.pkg)
	case err == nil:
		return fmt.Errorf("%w: %s", errPasses, m.test)
	case !bytes.Contains(out, []byte("--- FAIL")) && !bytes.Contains(out, []byte("panic:")):
		return fmt.Errorf("%w: %w:\n%s", errNotRun, err, out)
	}
	return nil
}

// sound returns nil if the tests of all these mutations pass when none is selected.
func (c *checker) sound(binary string, group []*mutation) error {
	var tests []string
	for _, m := range group {
		tests = append(tests, "^"+m.test+"$")
	}
	slices.Sort(tests)
	out, err := c.run(binary, group[0].pkg, strings.Join(slices.Compact(tests), "|"), "")
	if err != nil {
		return fmt.Errorf("%w:\n%s", errUnsound, out)
	}
	return nil
}

// run runs tests as go test does, in the package's folder.
func (c *checker) run(binary, pkg, tests, selected string) ([]byte, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	cmd := exec.Command(binary, "-test.failfast", "-test.timeout=120s", "-test.run="+tests)
	cmd.Dir = pkg
	cmd.Env = append(os.Environ(), variable+"="+selected)
	cmd.WaitDelay = 5 * time.Second // for what a test left behind that holds its output
	return cmd.CombinedOutput()
}
