package operator

import (
	"encoding/hex"
	"time"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/wire"
)

// Paths of the endpoints begin with Path.
const Path = "/admin"

// Challenge is the answer to GET /admin/challenge.
type Challenge struct {
	Challenge wire.Base64 `json:"challenge"`
}

// Key is the answer to GET /admin/keys/{name}.
type Key struct {
	Name      string     `json:"name"`
	Versions  []Version  `json:"versions"` // oldest first
	Proposals []Proposal `json:"proposals"`
}

// Version is one of a key.
type Version struct {
	ID        string      `json:"version"`
	Created   uint64      `json:"created"` // seconds since 1970
	Enabled   bool        `json:"enabled"`
	Immutable bool        `json:"immutable"`
	Policy    azure.Bytes `json:"release_policy"`
}

// Create is the body of POST /admin/keys/{name}.
type Create struct {
	Policy    azure.Bytes `json:"release_policy"`
	Immutable bool        `json:"immutable,omitempty"`
}

// Policy is the body of POST /admin/keys/{name}/rotate, where it may be absent (the newest
// version's), and of /policy.
type Policy struct {
	Policy azure.Bytes `json:"release_policy,omitempty"`
}

// Approve is the body of POST /admin/proposals/{id}/approve.
type Approve struct {
	Digest string `json:"digest"` // [Proposal.Digest] of what the approver was shown: hex
}

// Outcome is the answer to an act: it took effect, or waits for another operator.
type Outcome struct {
	Version  string    `json:"version,omitempty"` // that was made
	Proposal *Proposal `json:"proposal,omitempty"`
}

// Acts that may need a second operator.
const (
	ActPolicy = "set policy" // of all versions
	ActRotate = "rotate"     // with another policy than the newest version's
	ActEnable = "enable"     // a version with another policy than the newest one's
)

// Proposal is an act that waits for another operator.
type Proposal struct {
	ID       string      `json:"id"`
	Act      string      `json:"act"`
	Key      string      `json:"key"`
	Versions []string    `json:"versions"` // ActEnable: the one; else all that the key has
	Policy   azure.Bytes `json:"release_policy"`
	By       Operator    `json:"by"`
	Expires  time.Time   `json:"expires"`
}

// Digest is what an approval names: H("operator proposal", broker's URL, ID, act, key, number
// of versions, versions…, release policy), hex.
func (p *Proposal) Digest(broker string) string {
	fields := []any{broker, p.ID, p.Act, p.Key, uint64(len(p.Versions))}
	for _, v := range p.Versions {
		fields = append(fields, v)
	}
	d := wire.Hash("operator proposal", append(fields, []byte(p.Policy))...)
	return hex.EncodeToString(d[:])
}

// Audit is the answer to GET /admin/audit.
type Audit struct {
	Lines azure.Bytes `json:"lines"` // whole ones from the offset on; none: the end
	Head  audit.Head  `json:"head"`  // signed over the request's challenge
}
