package stack

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/statefile"
	"github.com/passclave/passclave/wire"
)

// The broker's operators in the state folder: both keys lie there. In a simulation one person
// owns the folder; a service that is meant has two people, each with a key at home.
const (
	operatorsFolder = "operators"
	operatorsFile   = operatorsFolder + "/operators.json" // the broker's
)

var operatorNames = []string{"operator-1", "operator-2"}

// foundOperators makes the operators, where the folder has none.
func (s *Stack) foundOperators() error {
	if !missing(s.path(operatorsFile)) {
		return nil
	}
	if err := os.MkdirAll(s.path(operatorsFolder), 0o700); err != nil {
		return err
	}
	var list []operator.Operator
	for _, name := range operatorNames {
		key, err := statefile.Key(s.path(operatorsFolder + "/" + name + ".pem"))
		if err != nil {
			return err
		}
		list = append(list, operator.Operator{Name: name, Key: wire.Base64(key.Public().(ed25519.PublicKey))})
	}
	data, err := operator.Encode(list)
	if err != nil {
		return err
	}
	return statefile.Write(s.path(operatorsFile), data)
}

// Service is what a state folder says of its key broker.
type Service struct {
	Broker    string   // URL
	Roots     string   // PEM file: what the broker's certificate chains to
	Key       string   // name of the KEK
	Operators []string // key files
}

// ServiceOf returns the key broker of a state folder.
func ServiceOf(state string) (*Service, error) {
	data, err := os.ReadFile(filepath.Join(state, factsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no service in %s: %w", state, err)
	}
	if err != nil {
		return nil, err
	}
	var f facts
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(state, factsFile), err)
	}
	s := &Service{Broker: "https://" + f.Broker, Roots: filepath.Join(state, caFile), Key: keyName}
	for _, name := range operatorNames {
		s.Operators = append(s.Operators, filepath.Join(state, operatorsFolder, name+".pem"))
	}
	return s, nil
}
