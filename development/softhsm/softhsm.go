// Package softhsm finds SoftHSM on this machine and lays the folder of its tokens out: for
// development and tests, the HSM of those who have none. SoftHSM is a library that keeps
// keys in files and uses them in the process that loaded it.
//
// The package owns the folder that it is given. It makes no token: that takes the library
// itself (keystore/pkcs11).
package softhsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/passclave/passclave/statefile"
)

// ErrNotFound means that there is no SoftHSM on this machine.
var ErrNotFound = errors.New("SoftHSM is not on this machine: install it (Debian: apt install softhsm2)")

// Variable of the environment that names the file from [Configure] to the library.
const Variable = "SOFTHSM2_CONF"

// Find returns the file of SoftHSM's PKCS#11 library, where packages put it. [ErrNotFound].
func Find() (string, error) {
	for _, pattern := range []string{
		"/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib/*/softhsm/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so",
		"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 { // the patterns are well formed
			return found[0], nil
		}
	}
	return "", ErrNotFound
}

// tokensFolder is where SoftHSM keeps the tokens, configurationFile what tells it so.
const (
	tokensFolder      = "tokens"
	configurationFile = "softhsm2.conf"
)

// Configure makes a folder (0700) in which SoftHSM can keep tokens, if there is none yet,
// and returns the file that [Variable] must name. The file is written anew each time: it
// holds an absolute path, and folders are moved.
func Configure(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(Tokens(dir), 0o700); err != nil {
		return "", err
	}
	return Configuration(dir), statefile.Write(Configuration(dir), fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", Tokens(dir)))
}

// Configuration returns the file that [Configure] writes in a folder.
func Configuration(dir string) string { return filepath.Join(dir, configurationFile) }

// Tokens returns the folder of the tokens in a folder from [Configure].
func Tokens(dir string) string { return filepath.Join(dir, tokensFolder) }
