package pkcs11

import (
	"bytes"
	"encoding/json"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

const (
	metadataFormat = 1
	keyType        = "oct-HSM"
)

// metadata is the value of a version's data object: all of the version but its key.
type metadata struct {
	Format   int         `json:"format"`
	Name     string      `json:"key"`
	ID       string      `json:"version"`
	Revision uint64      `json:"revision"` // of the objects of one version the highest counts
	Created  uint64      `json:"created"`
	Enabled  bool        `json:"enabled"`
	Policy   azure.Bytes `json:"release_policy"`

	Immutable bool `json:"immutable,omitempty"` // Policy is, in all versions of the key
}

func (m *metadata) encode() []byte {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // no member can fail
	}
	return data
}

// parseMetadata reads what encode wrote and nothing else: a member that this version
// does not know may matter. [ErrCorrupt].
func parseMetadata(data []byte) (*metadata, error) {
	m := new(metadata)
	if azure.Decode(data, m) != nil || m.Format != metadataFormat || !bytes.Equal(m.encode(), data) {
		return nil, ErrCorrupt
	}
	if _, err := releasepolicy.Parse(m.Policy); err != nil || !keystore.ValidName(m.Name) || !keystore.ValidName(m.ID) {
		return nil, ErrCorrupt
	}
	return m, nil
}

func (m *metadata) public() keystore.Version {
	return keystore.Version{ID: m.ID, Created: m.Created, Enabled: m.Enabled, Kty: keyType, Policy: m.Policy, Immutable: m.Immutable}
}
