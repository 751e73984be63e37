package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module is what TestCheck mutates.
var module = map[string]string{
	"go.mod": "module example.org/m\n\ngo 1.26\n",
	"m.go": `package m

const limit = 3

func tested(n int) bool {
	if n > limit {
		return false
	}
	return true
}

func untested(n int) bool {
	if n > limit+1 {
		return false
	}
	return true
}
`,
	"m_test.go": `package m

import (
	"os"
	"testing"
)

func TestTested(t *testing.T) {
	if !tested(3) || tested(4) {
		t.Error()
	}
}

func TestUntested(t *testing.T) {
	untested(9)
}

func TestExit(t *testing.T) {
	if tested(9) {
		os.Exit(3)
	}
}
`,
	"label/l.go": `package label

func f(n int) bool {
outer:
	for n > 0 {
		if n > 3 {
			break outer
		}
		n--
	}
	return n == 0
}
`,
	"label/l_test.go": `package label

import "testing"

func TestF(t *testing.T) {
	if f(4) {
		t.Error()
	}
}
`,
	"result/r.go": `package result

import "errors"

var closed bool

func open() (err error) {
	n, err := 3, error(nil)
	defer func() {
		if err != nil {
			closed = true
		}
	}()
	if n > 2 {
		return errors.New("too many")
	}
	return nil
}
`,
	"result/r_test.go": `package result

import "testing"

func TestOpen(t *testing.T) {
	if open() == nil || !closed {
		t.Error()
	}
}
`,
	"unsound/u.go": `package unsound

func f() bool {
	return false
}
`,
	"unsound/u_test.go": `package unsound

import "testing"

func TestF(t *testing.T) {
	f()
	t.Error()
}
`,
}

const claims = `
## noticed

§mutation
test: . TestTested
file: m.go
- if n > limit {
- return false
- }
§

## noticed by another test, not by this

§mutation
test: . TestUntested
file: m.go
- if n > limit {
+ if false {
§

## unnoticed

§mutation
test: . TestUntested
file: m.go
- if n > limit+1 {
+ if false {
§

## outside of functions

§mutation
test: . TestTested
file: m.go
- const limit = 3
+ const limit = 4
§

## outside of functions, unnoticed

§mutation
test: . TestUntested
file: m.go
- const limit = 3
+ const limit = 4
§

## label

§mutation
test: ./label TestF
file: label/l.go
- if n > 3 {
+ if n > 9 {
§

## label, unnoticed

§mutation
test: ./label TestF
file: label/l.go
- return n == 0
+ return false
§

## a result assigned by :=

§mutation
test: ./result TestOpen
file: result/r.go
- if n > 2 {
+ if n > 3 {
§

## not Go

§mutation
test: . TestTested
file: m.go
- if n > limit+1 {
+ if {
§

## not typed

§mutation
test: ./label TestF
file: label/l.go
- if n > 3 {
+ if n > "" {
§

## without the end of a function

§mutation
test: ./label TestF
file: label/l.go
- return n == 0
§

## without such lines

§mutation
test: . TestTested
file: m.go
- if n > limit+2 {
§

## lines that stand there twice

§mutation
test: . TestTested
file: m.go
- return true
§

## without a test

§mutation
test: . TestMissing
file: m.go
- if n > limit {
+ if false {
§

## ended without a word

§mutation
test: . TestExit
file: m.go
- if n > limit {
+ if false {
§

## failing anyway

§mutation
test: ./unsound TestF
file: unsound/u.go
- return false
+ return true
§
`

// A mutation that no test notices is reported, and so is everything that could
// pass for one that is noticed; what is built together decides as what is alone.
func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range module {
		err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]error{
		"noticed":                              nil,
		"noticed by another test, not by this": errPasses,
		"unnoticed":                            errPasses,
		"outside of functions":                 nil,
		"outside of functions, unnoticed":      errPasses,
		"label":                                nil,
		"label, unnoticed":                     errPasses,
		"a result assigned by :=":              nil,
		"not Go":                               errNotBuilt,
		"not typed":                            errNotBuilt,
		"without the end of a function":        errNotBuilt,
		"without such lines":                   errLines,
		"lines that stand there twice":         errLines,
		"without a test":                       errNoTest,
		"ended without a word":                 errNotRun,
		"failing anyway":                       errUnsound,
	}
	all, err := parse(strings.ReplaceAll(claims, "§", "```"))
	if err != nil || len(all) != len(want) {
		t.Fatalf("%d mutations, want %d: %v", len(all), len(want), err)
	}
	var reported int
	err = check(all, func(m *mutation, err error) {
		reported++
		if !errors.Is(err, want[m.claim]) {
			t.Errorf("%s: got %v, want %v", m.claim, err, want[m.claim])
		}
	})
	if err != nil || reported != len(all) {
		t.Errorf("%d of %d reported: %v", reported, len(all), err)
	}
}
