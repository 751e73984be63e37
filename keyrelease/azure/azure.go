// Package azure holds the shapes of Azure Attestation's and Key Vault's REST
// bodies that key release needs, as the client sends and the broker answers them.
//
// It owns the shapes and the two encodings in which services and SDKs differ
// (padded base64url, numeric nonces); it checks nothing about what they say.
// [Decode] takes untrusted bytes. Members that are not listed are ignored, as
// both services may add some. The references are docs/keyrelease.md and
// Microsoft's REST API reference (attestation 2022-08-01 and 2025-06-01, keys 7.4).
package azure

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	strict "github.com/go-jose/go-jose/v4/json"
)

const (
	AttestationVersion    = "2022-08-01" // api-version of Azure Attestation
	AttestationVersionTDX = "2025-06-01" // the first that documents TDX
	VaultVersion          = "7.4"        // api-version of Key Vault and Managed HSM
	ContentType           = "application/json"
	PolicyContentType     = "application/json; charset=utf-8"

	AttestSNPPath         = "/attest/SevSnpVm"
	AttestTDXPath         = "/attest/TdxVm"
	AttestOpenEnclavePath = "/attest/OpenEnclave" // SGX

	RequestIDHeader       = "x-ms-request-id"        // set by the service
	ClientRequestIDHeader = "x-ms-client-request-id" // set by the client, echoed

	// CodeEnc is the code of a 400 from a vault whose HSM cannot wrap by the "enc" asked
	// for, and can by CKM_RSA_AES_KEY_WRAP. It is the project's own: Azure's vaults have all.
	CodeEnc = "EncNotSupported"
)

// ErrMalformed is returned for a body that is not the JSON it should be.
var ErrMalformed = errors.New("malformed body")

// Decode reads one JSON value. Unlike encoding/json it refuses a member that
// stands twice and tells upper from lower case in names.
func Decode(data []byte, v any) error {
	if !shallow(data) || strict.Unmarshal(data, v) != nil {
		return ErrMalformed // the parser's own words may quote the input
	}
	return nil
}

// shallow bounds nesting before a recursive parser sees it. It counts brackets
// inside of strings too: no body of either service comes near the bound.
func shallow(data []byte) bool {
	depth, most := 0, 0
	for _, c := range data {
		switch c {
		case '[', '{':
			depth++
			most = max(most, depth)
		case ']', '}':
			depth--
		}
	}
	return most <= 32
}

// Bytes is a byte string that JSON carries as base64url: written without
// padding, read with or without.
type Bytes []byte

func (b Bytes) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(b)), nil
}

func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(string(text), "="))
	if err != nil {
		return ErrMalformed
	}
	*b = v
	return nil
}

// Nonce is a string; Microsoft's own sidecar sends a number, whose text is taken. Null is none.
type Nonce string

func (n *Nonce) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var s string
		err := json.Unmarshal(data, &s)
		*n = Nonce(s)
		return err
	}
	if string(data) == "null" {
		return nil
	}
	if len(data) == 0 || len(data) > 20 || len(bytes.Trim(data, "0123456789")) > 0 {
		return ErrMalformed
	}
	*n = Nonce(data)
	return nil
}

// AttestRequest is the body of POST /attest/SevSnpVm.
type AttestRequest struct {
	Report      Bytes       `json:"report"` // JSON of an SNPReport
	RuntimeData RuntimeData `json:"runtimeData"`
	Nonce       Nonce       `json:"nonce,omitempty"`
}

// AttestTDXRequest is the body of POST /attest/TdxVm. Its initTimeData, what
// MRCONFIGID is the hash of, is not sent.
type AttestTDXRequest struct {
	Quote       Bytes       `json:"quote"`
	RuntimeData RuntimeData `json:"runtimeData"`
	Nonce       Nonce       `json:"nonce,omitempty"`
}

// AttestOpenEnclaveRequest is the body of POST /attest/OpenEnclave.
type AttestOpenEnclaveRequest struct {
	Report      Bytes       `json:"report"` // a quote of SGX behind Open Enclave's header
	RuntimeData RuntimeData `json:"runtimeData"`
	Nonce       Nonce       `json:"nonce,omitempty"`
}

// RuntimeData is what REPORT_DATA binds: SHA-256(Data), then 32 zero bytes.
type RuntimeData struct {
	Data     Bytes  `json:"data"`
	DataType string `json:"dataType"` // "JSON": the claims become x-ms-runtime
}

// SNPReport is the JSON inside of AttestRequest.Report.
type SNPReport struct {
	Report       Bytes `json:"SnpReport"`
	Certificates Bytes `json:"VcekCertChain"`          // PEM: VCEK, ASK, ARK
	Endorsements Bytes `json:"Endorsements,omitempty"` // JSON of Endorsements
}

// Endorsements is the JSON inside of SNPReport.Endorsements.
type Endorsements struct {
	UVM []Bytes `json:"Uvm"` // COSE_Sign1 of the utility VM's measurement
}

// AttestResponse is the answer to every attest request.
type AttestResponse struct {
	Token string `json:"token"` // JWT
}

// Attributes are those of a key version. Times are seconds since 1970.
type Attributes struct {
	Enabled    bool   `json:"enabled"`
	Created    uint64 `json:"created,omitempty"`
	Updated    uint64 `json:"updated,omitempty"`
	Exportable bool   `json:"exportable,omitempty"`
}

// KeyItem is one element of a list of versions.
type KeyItem struct {
	KID        string     `json:"kid"` // {vault}/keys/{name}/{version}
	Attributes Attributes `json:"attributes"`
}

// KeyList is the answer to GET /keys/{name}/versions.
type KeyList struct {
	Value    []KeyItem `json:"value"`
	NextLink *string   `json:"nextLink"` // absolute URL of the next page, or null
}

// ReleaseRequest is the body of POST /keys/{name}/{version}/release.
type ReleaseRequest struct {
	Target string `json:"target"` // attestation token
	Enc    string `json:"enc,omitempty"`
	Nonce  Nonce  `json:"nonce,omitempty"`
}

// ReleaseResponse is the answer to a release.
type ReleaseResponse struct {
	Value string `json:"value"` // compact JWS whose payload is a ReleasedKey
}

// ReleasedKey is the payload of ReleaseResponse.Value.
type ReleasedKey struct {
	Request  ReleasedRequest  `json:"request"`
	Response ReleasedResponse `json:"response"`
}

// ReleasedRequest repeats what was asked for.
type ReleasedRequest struct {
	APIVersion string `json:"api-version"`
	Enc        string `json:"enc"`
	KID        string `json:"kid"`
	Nonce      Nonce  `json:"nonce,omitempty"`
}

// ReleasedResponse holds the key.
type ReleasedResponse struct {
	Key ReleasedBundle `json:"key"`
}

// ReleasedBundle is a key version with its material.
type ReleasedBundle struct {
	Attributes    Attributes     `json:"attributes"`
	Key           ReleasedJWK    `json:"key"`
	ReleasePolicy *ReleasePolicy `json:"release_policy,omitempty"`
}

// ReleasedJWK is a JWK whose secret part is wrapped.
type ReleasedJWK struct {
	KID    string   `json:"kid"`
	Kty    string   `json:"kty"` // oct-HSM, RSA-HSM, …
	KeyOps []string `json:"key_ops,omitempty"`
	KeyHSM Bytes    `json:"key_hsm"` // JSON of a KeyHSM
}

// KeyHSM is the JSON inside of ReleasedJWK.KeyHSM.
type KeyHSM struct {
	SchemaVersion string       `json:"schema_version"`
	Header        KeyHSMHeader `json:"header"`
	Ciphertext    Bytes        `json:"ciphertext"` // package keywrap
}

// KeyHSMHeader names the wrapping.
type KeyHSMHeader struct {
	KID string `json:"kid"` // of the key that it is wrapped to
	Alg string `json:"alg"` // "dir"
	Enc string `json:"enc"`
}

// ReleasePolicy is a policy in transport.
type ReleasePolicy struct {
	ContentType string `json:"contentType"`
	Data        Bytes  `json:"data"` // package releasepolicy
}

// ErrorResponse is the body of every refusal.
type ErrorResponse struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody says what was wrong.
type ErrorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}
