// Package softhsmtest gives tests SoftHSM: one folder of tokens a test binary, and for each
// user of a token a library of its own, as if it were a process of its own.
//
// Where SoftHSM is not on the machine, tests that need it are skipped; in CI they fail.
package softhsmtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/development/softhsm"
)

// folder holds the tokens of this test binary.
var folder string

// Main runs the tests with an empty folder of tokens. TestMain calls it.
func Main(m *testing.M) (code int) {
	var err error
	if folder, err = os.MkdirTemp("", "softhsm"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	configuration, err := softhsm.Configure(folder)
	if err != nil {
		panic(err)
	}
	os.Setenv(softhsm.Variable, configuration)
	return m.Run()
}

// Tokens is the folder with one folder for each token that tests made.
func Tokens() string { return softhsm.Tokens(folder) }

// Library returns the file of a PKCS#11 library that nobody else has loaded: the loader
// gives every file its own state, so that a test can be several processes.
func Library(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(find(t))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(t.TempDir(), "libsofthsm2-*.so")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func find(t testing.TB) string {
	t.Helper()
	path, err := softhsm.Find()
	switch {
	case errors.Is(err, softhsm.ErrNotFound) && os.Getenv("CI") == "":
		t.Skipf("NOT TESTED: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	return path
}
