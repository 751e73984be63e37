package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/passclave/passclave/development/softhsm"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/statefile"
)

// Where the broker keeps the KEK, in its folder either way: in the clear, or in a token
// of SoftHSM, which is then reached as any HSM is.
const (
	KeysFile    = "file"
	KeysSoftHSM = "softhsm"
)

// The token's PINs lie beside it: in a simulation there is nobody else to keep them.
const (
	tokenLabel  = "passclave"
	pinFile     = string(Broker) + "/pin"
	officerFile = string(Broker) + "/so-pin"
)

// token is how the broker reaches SoftHSM.
type token struct {
	library string
	env     []string
}

// openToken finds SoftHSM and tells it where its tokens are.
func (s *Stack) openToken() error {
	library, err := softhsm.Find()
	if err != nil {
		return &RefusedError{"The KEK is to be in SoftHSM, and this machine has none", "Install it (Debian: apt-get install softhsm2), or keep the KEK in a file"}
	}
	configuration, err := softhsm.Configure(s.path(string(Broker)))
	if err != nil {
		return err
	}
	s.token = &token{library, []string{softhsm.Variable + "=" + configuration}}
	return nil
}

// foundToken makes the token, with PINs that nobody knows.
func (s *Stack) foundToken(ctx context.Context) error {
	if err := s.openToken(); err != nil {
		return err
	}
	for _, name := range []string{pinFile, officerFile} {
		if err := statefile.Write(s.path(name), []byte(rand.Text()+"\n")); err != nil {
			return err
		}
	}
	_, err := s.runBroker(ctx, append([]string{"init-token", "-so-pin-file", officerFile}, s.tokenFlags()...)...)
	return err
}

// tokenFlags are the broker's flags that name its token; none for a file.
func (s *Stack) tokenFlags() []string {
	if s.token == nil {
		return nil
	}
	return []string{"-pkcs11-module", s.token.library, "-pkcs11-token", tokenLabel, "-pkcs11-pin-file", pinFile}
}

// runBroker runs one of the broker's commands to its end and returns what it printed.
func (s *Stack) runBroker(ctx context.Context, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, s.binary(Broker), args...)
	c.Dir, c.Env = s.Dir, append(environment(), s.token.env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("key broker, %s: %w: %s", args[0], err, readable(lines[len(lines)-1]))
	}
	return out, nil
}

// keyCommand runs a command on the KEK in its token.
func (s *Stack) keyCommand(ctx context.Context, command string, more ...string) ([]byte, error) {
	return s.runBroker(ctx, slices.Concat([]string{command, "-state", string(Broker), "-key", keyName}, s.tokenFlags(), more)...)
}

// keyVersions lists the KEK's versions, whether or not the broker runs.
func (s *Stack) keyVersions(ctx context.Context) ([]string, error) {
	if s.token != nil {
		out, err := s.keyCommand(ctx, "versions")
		return strings.Fields(string(out)), err
	}
	store, err := file.Open(s.path(string(Broker)))
	if err != nil {
		return nil, err
	}
	versions, err := store.Versions(ctx, keyName)
	var ids []string
	for _, v := range versions {
		ids = append(ids, v.ID)
	}
	return ids, err
}

// SetReleasePolicy gives all versions of the KEK another release policy, as whoever
// administers a key store can.
func (s *Stack) SetReleasePolicy(ctx context.Context, policy []byte) error {
	if s.token == nil {
		store, err := file.Open(s.path(string(Broker)))
		if err != nil {
			return err
		}
		versions, err := store.Versions(ctx, keyName)
		if err != nil {
			return err
		}
		for _, v := range versions {
			if err := store.SetPolicy(ctx, keyName, v.ID, policy); err != nil {
				return err
			}
		}
		return nil
	}
	const name = runFolder + "/set-policy.json"
	if err := statefile.Write(s.path(name), policy); err != nil {
		return err
	}
	_, err := s.keyCommand(ctx, "set-policy", "-policy", name)
	return errors.Join(err, os.Remove(s.path(name)))
}

// ReleasePolicy is what the founding asked of an enclave before it gets the KEK.
func (s *Stack) ReleasePolicy() ([]byte, error) { return os.ReadFile(s.path(releaseFile)) }

// checkKeys refuses an existing database without its KEK.
func (s *Stack) checkKeys(f *facts) error {
	where, remedy := s.path(string(Broker)), "Bring it back with `passclave keys restore` from a backup. Without its KEK nothing in the database opens; to begin anew, use another --state folder"
	if f.keyStore() == KeysSoftHSM {
		if err := s.openToken(); err != nil {
			return err
		}
		where, remedy = "the token in "+where, "Bring that folder, with token and PIN, back from a backup. Without its KEK nothing in the database opens; to begin anew, use another --state folder"
	}
	versions, err := s.keyVersions(context.Background())
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return &RefusedError{"There is a database, but its KEK is gone from " + where, remedy}
	case err != nil:
		return &RefusedError{"There is a database, but its KEK cannot be read: " + err.Error(), remedy}
	}
	for _, id := range f.Keys {
		if !slices.Contains(versions, id) {
			return &RefusedError{"There is a database, but the KEK in " + where + " is another: version " + id + " is missing", remedy}
		}
	}
	return nil
}
