// Command claimcheck shows that the tests behind docs/claims.md can fail: it
// deletes the check that each claim rests on, in an overlay that leaves the tree
// alone, and demands that the claim's test then fails. Building takes far longer
// than testing, so all mutations that one package's tests must notice are built
// into one test binary, and a variable of the environment selects one a run.
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
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
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
	only := flag.String("only", "", "check only mutations whose claim's heading or whose package contains this")
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
	all, err := parse(string(data))
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m *mutation) bool { return !strings.Contains(m.claim, only) && !strings.Contains(m.pkg, only) })
	if len(all) == 0 {
		return errors.New("no mutation to check")
	}
	var failed []error
	err = check(all, func(m *mutation, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s:%d: %s: %w", document, m.line, m.claim, err))
			fmt.Println("NOT SHOWN", m.claim, m.file)
			return
		}
		fmt.Println("ok", m.claim)
	})
	fmt.Printf("%d mutations, %d not noticed\n", len(all), len(failed))
	return errors.Join(append(failed, err)...)
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
			return "", fmt.Errorf("%w: %s has them twice", errLines, m.file)
		}
		if match {
			at = i
		}
	}
	if at < 0 {
		return "", fmt.Errorf("%w: %s has none", errLines, m.file)
	}
	out := append([]string{}, lines[:at]...)
	out = append(out, m.new...)
	return strings.Join(append(out, lines[at+len(m.old):]...), "\n"), nil
}
