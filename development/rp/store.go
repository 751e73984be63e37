package rp

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/passclave/passclave/statefile"
)

// account is one user of the relying party. It implements [webauthn.User].
type account struct {
	Name        string                `json:"name"`
	ID          []byte                `json:"id"` // user handle: 32 random bytes
	Credentials []webauthn.Credential `json:"credentials"`
}

func (a *account) WebAuthnID() []byte                         { return a.ID }
func (a *account) WebAuthnName() string                       { return a.Name }
func (a *account) WebAuthnDisplayName() string                { return a.Name }
func (a *account) WebAuthnCredentials() []webauthn.Credential { return a.Credentials }

func (a *account) replace(c webauthn.Credential) {
	for i := range a.Credentials {
		if bytes.Equal(a.Credentials[i].ID, c.ID) {
			a.Credentials[i] = c
		}
	}
}

// store is the file accounts.json, whole in memory. Its owner locks.
type store struct {
	path     string
	Accounts []*account `json:"accounts"`
}

func openStore(folder string) (*store, error) {
	s := &store{path: filepath.Join(folder, "accounts.json")}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	return s, nil
}

func (s *store) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return statefile.Write(s.path, append(data, '\n'))
}

// make returns the account of that name, which it adds where there is none. It is
// kept in the file together with its first passkey.
func (s *store) make(name string) (*account, error) {
	if a := s.byName(name); a != nil {
		return a, nil
	}
	if len(s.Accounts) >= maxAccounts {
		return nil, &Refusal{Refused: "user", Detail: "this demo has no room for more"}
	}
	a := &account{Name: name, ID: make([]byte, 32)}
	rand.Read(a.ID)
	s.Accounts = append(s.Accounts, a)
	return a, nil
}

const maxAccounts = 10_000

func (s *store) byName(name string) *account {
	return s.find(func(a *account) bool { return a.Name == name })
}

func (s *store) byID(id []byte) *account {
	return s.find(func(a *account) bool { return bytes.Equal(a.ID, id) })
}

func (s *store) byCredential(id []byte) *account {
	return s.find(func(a *account) bool {
		for _, c := range a.Credentials {
			if bytes.Equal(c.ID, id) {
				return true
			}
		}
		return false
	})
}

func (s *store) find(is func(*account) bool) *account {
	for _, a := range s.Accounts {
		if is(a) {
			return a
		}
	}
	return nil
}
