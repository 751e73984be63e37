package operator

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/wire"
)

// ErrOperators is returned for an operators' file that cannot be read, or that would let
// one person be two.
var ErrOperators = errors.New("operators' file")

// Operator is who may ask a key broker for what its public endpoints do not give.
type Operator struct {
	Name string      `json:"name"` // for people: 1 to 64 letters, digits and . _ -
	Key  wire.Base64 `json:"key"`  // Ed25519 public key
}

type operatorsFile struct {
	Version   int        `json:"version"`
	Operators []Operator `json:"operators"`
}

const fileVersion = 1

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ParseName refuses what cannot be an operator's name ([ErrOperators]).
func ParseName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%w: %q is not a name of 1 to 64 letters, digits and . _ -", ErrOperators, name)
	}
	return nil
}

// Parse reads an operators' file. A name or a key that stands twice is refused
// ([ErrOperators]): the same key under two names is one operator. That different keys are in
// different hands it cannot know.
func Parse(data []byte) ([]Operator, error) {
	var f operatorsFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: not its JSON: %w", ErrOperators, err)
	}
	if err := azure.Decode(data, &f); err != nil { // which takes no member twice
		return nil, fmt.Errorf("%w: not its JSON: %w", ErrOperators, err)
	}
	if d.More() || f.Version != fileVersion || len(f.Operators) == 0 {
		return nil, fmt.Errorf("%w: must have version %d and at least one operator, and nothing behind", ErrOperators, fileVersion)
	}
	for i, o := range f.Operators {
		if err := ParseName(o.Name); err != nil {
			return nil, err
		}
		if len(o.Key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: %s: not an Ed25519 public key", ErrOperators, o.Name)
		}
		for _, other := range f.Operators[:i] {
			if other.Name == o.Name {
				return nil, fmt.Errorf("%w: the name %s stands twice", ErrOperators, o.Name)
			}
			if bytes.Equal(other.Key, o.Key) {
				return nil, fmt.Errorf("%w: %s and %s have the same key", ErrOperators, other.Name, o.Name)
			}
		}
	}
	return f.Operators, nil
}

// Encode returns the operators' file.
func Encode(operators []Operator) ([]byte, error) {
	data, err := json.MarshalIndent(operatorsFile{fileVersion, operators}, "", "  ")
	return append(data, '\n'), err
}
