// Package softhsmtest gives tests SoftHSM: for each a folder of tokens of its own, although
// one test binary runs them all.
//
// SoftHSM's locks keep processes apart, and not two of its libraries in one process: what
// uses a token at the same time as another does must be a process of its own ([Place.Environ]).
// And it reads its configuration by strtok, whose state they share: see [Initializing].
//
// Where SoftHSM is not on the machine, tests that need it are skipped; in CI they fail.
package softhsmtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/passclave/passclave/development/softhsm"
)

// Initializing is held while a library is initialised in this process.
var Initializing sync.Mutex

var (
	folder string // of all places
	places atomic.Int32
)

// maxPlaces is how many a test binary can have: their variables are set before a library
// is loaded, as C may not read its environment while it is changed.
const maxPlaces = 1000

// variable is one as long as [softhsm.Variable], so that it can stand in its place.
func variable(n int) string { return fmt.Sprintf("SOFTHSM2_%04d", n) }

func place(n int) string { return filepath.Join(folder, fmt.Sprint(n)) }

// Main runs the tests. TestMain calls it.
func Main(m *testing.M) (code int) {
	var err error
	if folder, err = os.MkdirTemp("", "softhsm"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	for n := range maxPlaces {
		os.Setenv(variable(n), softhsm.Configuration(place(n)))
	}
	return m.Run()
}

// Place is a folder of tokens.
type Place struct {
	Tokens string // with a folder for each token

	number  int
	library string // the machine's
}

// New makes an empty place.
func New(t testing.TB) *Place {
	t.Helper()
	path, err := softhsm.Find()
	switch {
	case errors.Is(err, softhsm.ErrNotFound) && os.Getenv("CI") == "":
		t.Skipf("NOT TESTED: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	n := int(places.Add(1) - 1)
	if n >= maxPlaces {
		t.Fatal("too many folders of tokens")
	}
	if _, err := softhsm.Configure(place(n)); err != nil {
		t.Fatal(err)
	}
	return &Place{Tokens: softhsm.Tokens(place(n)), number: n, library: path}
}

// Library returns the file of a PKCS#11 library for this process, which nobody else has
// loaded: a copy, as the loader gives every file a state of its own, and one that looks
// for its configuration in another variable.
func (p *Place) Library(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(p.library)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte(softhsm.Variable)); n != 1 {
		t.Fatalf("%s names %s %d times", p.library, softhsm.Variable, n)
	}
	data = bytes.Replace(data, []byte(softhsm.Variable), []byte(variable(p.number)), 1)
	f, err := os.CreateTemp(t.TempDir(), "libsofthsm2-*.so")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// Environ is what a process of its own needs to use the place, by the machine's library.
func (p *Place) Environ() (environment []string, library string) {
	return []string{softhsm.Variable + "=" + softhsm.Configuration(place(p.number))}, p.library
}
