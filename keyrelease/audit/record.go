package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/passclave/passclave/wire"
)

// Kind is what a record is about.
type Kind string

const (
	KindStart    Kind = "start"    // a broker began to serve
	KindAttest   Kind = "attest"   // evidence was refused
	KindRelease  Kind = "release"  // a key was asked for
	KindOperator Kind = "operator" // an operator's act
)

// Outcome is how it ended.
type Outcome string

const (
	Done     Outcome = "done"     // released, or the act took effect
	Refused  Outcome = "refused"  //
	Failed   Outcome = "failed"   // by a fault of the broker or its store
	Begun    Outcome = "begun"    // an act that changes the store; its end follows, unless the broker was stopped in between
	Proposed Outcome = "proposed" // an act that waits for another operator
)

// Record is one record of the log. [Log.Append] sets the first three members.
type Record struct {
	Sequence uint64    `json:"sequence"` // from 1
	Previous string    `json:"previous"` // hash of the record before: 64 hex digits, zeros for the first
	Time     time.Time `json:"time"`     // UTC, milliseconds

	Kind    Kind    `json:"kind"`
	Outcome Outcome `json:"outcome"`

	Request       string `json:"request,omitempty"`        // the broker's name for it
	ClientRequest string `json:"client_request,omitempty"` // the caller's; proves nothing
	From          string `json:"from,omitempty"`           // network address; proves nothing

	Evidence *Evidence `json:"evidence,omitempty"`
	Operator *Operator `json:"operator,omitempty"`
	Act      string    `json:"act,omitempty"`

	Key        string   `json:"key,omitempty"`
	Version    string   `json:"version,omitempty"`
	Versions   []string `json:"versions,omitempty"`    // of an act on several
	Policy     string   `json:"policy,omitempty"`      // SHA-256 of the release policy that decided, or that an act gives: hex
	PolicyText string   `json:"policy_text,omitempty"` // of an act that brings a policy
	Immutable  bool     `json:"immutable,omitempty"`   // of an act that makes a key
	Proposal   string   `json:"proposal,omitempty"`
	Clauses    []string `json:"clauses,omitempty"` // done: those that released; refused: those that were missed

	Code    string `json:"code,omitempty"` // of a refusal or failure
	Message string `json:"message,omitempty"`

	Start   *Start `json:"start,omitempty"`
	LeftOut uint64 `json:"left_out,omitempty"` // refusals of strangers since the record before that were counted only
}

// Evidence says who asked. All of it was verified, but for what a refused attestation only claimed.
type Evidence struct {
	Platform    string `json:"platform"` // "sevsnpvm", "tdxvm", "sgx"
	Simulated   bool   `json:"simulated"`
	Measurement string `json:"measurement"`      // hex
	HostData    string `json:"host_data"`        // hex
	Report      string `json:"report,omitempty"` // SEV-SNP's REPORT_ID, one launch of one guest: hex
	Chip        string `json:"chip,omitempty"`   // SHA-256 of SEV-SNP's CHIP_ID: hex
	RSA         string `json:"rsa,omitempty"`    // thumbprint of the key that was wrapped to (RFC 7638, SHA-256): hex
	Token       string `json:"token,omitempty"`  // its ID, no part of its signature
}

// Operator is who signed an act.
type Operator struct {
	Name string      `json:"name"`
	Key  wire.Base64 `json:"key"` // Ed25519 public key
}

// Start is what a broker was started with.
type Start struct {
	Broker    string     `json:"broker"`     // URL
	Simulated bool       `json:"simulation"` // simulated evidence is accepted
	Operators []Operator `json:"operators"`
	Removed   int64      `json:"removed,omitempty"` // bytes behind the last whole record, which a crash left
}

// Limits of a record. Texts of others are shortened to theirs.
const (
	maxLine    = 1 << 20
	maxText    = 512
	maxClauses = 32
)

// ErrRecord is returned for a line that is not one record in the form that this package writes.
var ErrRecord = errors.New("not a record of an audit log")

type line struct {
	Record    json.RawMessage `json:"record"`
	Signature wire.Base64     `json:"signature"`
}

const firstPrevious = "0000000000000000000000000000000000000000000000000000000000000000"

// digest names a record: H("audit record", its JSON).
func digest(record []byte) wire.Digest { return wire.Hash("audit record", record) }

// encode signs a record and returns its line, with the line feed, and its hash.
func encode(r *Record, key ed25519.PrivateKey) ([]byte, wire.Digest, error) {
	record, err := json.Marshal(r)
	if err != nil {
		return nil, wire.Digest{}, err
	}
	d := digest(record)
	b, err := json.Marshal(line{record, ed25519.Sign(key, d[:])})
	return append(b, '\n'), d, err
}

// parse reads a line without its line feed. It takes only what encode makes of the
// record that it holds ([ErrRecord]), and does not verify the signature.
func parse(b []byte) (r *Record, d wire.Digest, signature []byte, err error) {
	var l line
	if json.Unmarshal(b, &l) != nil || json.Unmarshal(l.Record, &r) != nil || r == nil {
		return nil, d, nil, ErrRecord
	}
	record, err := json.Marshal(r)
	if err != nil {
		return nil, d, nil, ErrRecord
	}
	again, err := json.Marshal(line{record, l.Signature})
	if err != nil || !bytes.Equal(again, b) {
		return nil, d, nil, ErrRecord
	}
	return r, digest(record), l.Signature, nil
}

// clean makes what others chose harmless to the form of a record: valid UTF-8 of bounded length.
func (r *Record) clean() {
	for _, s := range []*string{&r.Request, &r.ClientRequest, &r.From, &r.Act, &r.Key, &r.Version, &r.Proposal, &r.Code, &r.Message} {
		*s = shorten(*s)
	}
	if more := len(r.Clauses) - maxClauses; more > 0 {
		r.Clauses = append(r.Clauses[:maxClauses:maxClauses], "…")
	}
	for i, c := range r.Clauses {
		r.Clauses[i] = shorten(c)
	}
	if e := r.Evidence; e != nil {
		for _, s := range []*string{&e.Platform, &e.Measurement, &e.HostData, &e.Report, &e.Chip, &e.RSA, &e.Token} {
			*s = shorten(*s)
		}
	}
}

func shorten(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func hexDigest(d wire.Digest) string { return hex.EncodeToString(d[:]) }
