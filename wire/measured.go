package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
)

// Configuration is the measured configuration: everything outside the enclave's
// binary that decides what the enclave accepts. Its file is canonical JSON, and
// the SHA-256 of that file stands in the evidence (HOST_DATA, and "config" in
// the runtime data). What is not in it can weaken no check.
type Configuration struct {
	Version          int                      `json:"version"` // ConfigurationVersion
	Ledger           LedgerIdentity           `json:"ledger"`
	Issuers          []Issuer                 `json:"issuers"`
	PIN              PINConfiguration         `json:"pin"`
	UserVerification PlatformUserVerification `json:"user_verification"`
	KeyService       KeyService               `json:"key_service"`
	AzureLedger      *AzureLedger             `json:"azure_ledger,omitempty"` // with BackendAzure only
}

// ConfigurationVersion is the only version of the measured configuration's format.
const ConfigurationVersion = 1

// Base64 is a byte string that JSON carries as unpadded base64url (RFC 4648, section 5).
type Base64 []byte

func (b Base64) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(b)), nil
}

func (b *Base64) UnmarshalText(text []byte) error {
	v, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	*b = v
	return err
}

// LedgerIdentity names the one ledger that this service's accounts stand in. A
// verifier that pins it cannot be given a genuine but new ledger instead.
type LedgerIdentity struct {
	ID      Base64 `json:"id"`      // 32 random bytes, drawn at founding
	Backend string `json:"backend"` // BackendLocal, BackendEndorsed or BackendAzure
	Genesis Base64 `json:"genesis"` // 32 bytes: hash of the first view or of the service's key; zero for local
	Number  uint64 `json:"number"`  // counts geneses from 1; a higher one discontinues every stream
}

// Backends of the ledger.
const (
	BackendLocal    = "local"    // embedded: the host's database, and the enclave's memory as endorser
	BackendEndorsed = "endorsed" // the host's database, and attested endorsers in separate failure domains
	BackendAzure    = "azure"    // an Azure Confidential Ledger
)

// AzureLedger is the Azure Confidential Ledger of [BackendAzure].
type AzureLedger struct {
	URL           string `json:"url"`                   // https://NAME.confidential-ledger.azure.com
	Service       string `json:"service_certificate"`   // PEM; its key's SHA-256 (SubjectPublicKeyInfo) is the ledger's genesis
	CollectionKey Base64 `json:"collection_key"`        // 32 random bytes: collection IDs tell nobody which accounts exist
	APIVersion    string `json:"api_version,omitempty"` // empty: the one that this release speaks
	ClientID      string `json:"client_id,omitempty"`   // of the managed identity; empty: the machine's only one
}

// Issuer is an OpenID Connect provider whose ID tokens count as a login.
type Issuer struct {
	Issuer        string   `json:"issuer"`                   // exact "iss"
	AccountIssuer string   `json:"account_issuer,omitempty"` // stands for Issuer in the account ID, so that a move to another provider loses nobody
	ClientIDs     []string `json:"client_ids"`               // exact "aud" and, when present, "azp"
	Algorithms    []string `json:"algorithms"`               // exact JWS "alg" list, from ES256, RS256, PS256, EdDSA
	Roots         string   `json:"roots,omitempty"`          // PEM; where empty, the roots compiled into the enclave
}

// PINConfiguration bounds guesses and fixes how clients stretch a PIN.
type PINConfiguration struct {
	ConsecutiveLimit uint64   `json:"consecutive_limit"` // failed attempts in a row that lock the account
	LifetimeLimit    uint64   `json:"lifetime_limit"`    // attempts of any kind between two PIN sets that lock it
	Argon2id         Argon2id `json:"argon2id"`
}

// Argon2id holds the parameters of RFC 9106; the output has 32 bytes.
type Argon2id struct {
	MemoryKiB   uint32 `json:"memory_kib" cbor:"1,keyasint"`
	Time        uint32 `json:"time" cbor:"2,keyasint"`
	Parallelism uint8  `json:"parallelism" cbor:"3,keyasint"`
}

// PlatformUserVerification says which WebAuthn assertions of a platform
// authenticator count as user verification. An empty RPID switches them off.
type PlatformUserVerification struct {
	RPID    string   `json:"rp_id"`
	Origins []string `json:"origins"`
}

// KeyService is where the KEK comes from: Azure Attestation with a Managed HSM,
// or the project's broker, which speaks the same protocol.
type KeyService struct {
	Attestation string `json:"attestation"`     // base URL of the attestation service
	Vault       string `json:"vault"`           // base URL of the vault
	Key         string `json:"key"`             // name of the key
	Roots       string `json:"roots,omitempty"` // PEM; where empty, the roots compiled into the enclave
	// Identity is the client ID of the managed identity that may release the key, or
	// IdentitySystem. Empty: the vault asks for none, as the project's broker.
	Identity string `json:"identity,omitempty"`
}

// IdentitySystem is the managed identity that the machine has of its own.
const IdentitySystem = "system"

// ParseConfiguration reads a measured configuration. The file must be exactly
// what [Configuration.Encode] gives for its content, so duplicate, unknown and
// reordered members are refused, and one content has one hash.
func ParseConfiguration(data []byte) (*Configuration, error) {
	var c Configuration
	if err := canonicalJSON(data, &c); err != nil {
		return nil, fmt.Errorf("measured configuration: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("measured configuration: %w", err)
	}
	return &c, nil
}

func canonicalJSON(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	again, err := encodeJSON(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("not in canonical form: members in order and once each, two spaces of indentation, one newline at the end")
	}
	return nil
}

func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// Encode returns the canonical file of c, or why c is not a valid configuration.
func (c *Configuration) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("measured configuration: %w", err)
	}
	return encodeJSON(c)
}

// ConfigurationHash is the plain SHA-256 of a configuration file, as HOST_DATA has it.
func ConfigurationHash(file []byte) Digest { return sha256.Sum256(file) }

// AccountID names the account of subject at the issuer whose ID tokens say iss.
func (i *Issuer) AccountID(subject string) AccountID {
	issuer := i.Issuer
	if i.AccountIssuer != "" {
		issuer = i.AccountIssuer
	}
	return AccountID(Hash("account", issuer, subject))
}

func (c *Configuration) check() error {
	switch {
	case c.Version != ConfigurationVersion:
		return fmt.Errorf("version %d is not %d", c.Version, ConfigurationVersion)
	case len(c.Ledger.ID) != 32 || bytes.Equal(c.Ledger.ID, make([]byte, 32)):
		return fmt.Errorf("ledger.id must be 32 random bytes")
	case c.Ledger.Backend != BackendLocal && c.Ledger.Backend != BackendEndorsed && c.Ledger.Backend != BackendAzure:
		return fmt.Errorf("ledger.backend %q is not known; this version has %q, %q and %q", c.Ledger.Backend, BackendLocal, BackendEndorsed, BackendAzure)
	case (c.Ledger.Backend == BackendAzure) != (c.AzureLedger != nil):
		return fmt.Errorf("azure_ledger goes with ledger.backend %q, and with no other", BackendAzure)
	case c.AzureLedger != nil && (len(c.AzureLedger.CollectionKey) != 32 || c.AzureLedger.Service == ""):
		return fmt.Errorf("azure_ledger needs service_certificate and collection_key of 32 bytes")
	case len(c.Ledger.Genesis) != 32:
		return fmt.Errorf("ledger.genesis must have 32 bytes")
	case (c.Ledger.Backend == BackendLocal) != bytes.Equal(c.Ledger.Genesis, make([]byte, 32)):
		return fmt.Errorf("ledger.genesis is zero for %q, and for no other", BackendLocal)
	case c.Ledger.Number == 0:
		return fmt.Errorf("ledger.number counts from 1")
	case len(c.Issuers) == 0:
		return fmt.Errorf("issuers is empty: nobody could log in")
	case c.PIN.ConsecutiveLimit == 0 || c.PIN.LifetimeLimit < c.PIN.ConsecutiveLimit || c.PIN.LifetimeLimit > 10000:
		return fmt.Errorf("pin limits must satisfy 1 <= consecutive_limit <= lifetime_limit <= 10000")
	case c.PIN.Argon2id.MemoryKiB < 8 || c.PIN.Argon2id.Time == 0 || c.PIN.Argon2id.Parallelism == 0:
		return fmt.Errorf("pin.argon2id needs memory_kib >= 8, time >= 1, parallelism >= 1 (RFC 9106)")
	case (c.UserVerification.RPID == "") != (len(c.UserVerification.Origins) == 0):
		return fmt.Errorf("user_verification needs both rp_id and origins, or neither")
	case c.KeyService.Key == "":
		return fmt.Errorf("key_service.key is empty")
	}
	for _, u := range []string{c.KeyService.Attestation, c.KeyService.Vault} {
		if err := checkHTTPS(u); err != nil {
			return fmt.Errorf("key_service: %w", err)
		}
	}
	if c.AzureLedger != nil {
		if err := checkHTTPS(c.AzureLedger.URL); err != nil {
			return fmt.Errorf("azure_ledger: %w", err)
		}
	}
	seen := map[string]bool{}
	for _, i := range c.Issuers {
		if err := checkHTTPS(i.Issuer); err != nil {
			return fmt.Errorf("issuers: %w", err)
		}
		if seen[i.Issuer] {
			return fmt.Errorf("issuers: %q stands twice", i.Issuer)
		}
		seen[i.Issuer] = true
		if len(i.ClientIDs) == 0 || len(i.Algorithms) == 0 {
			return fmt.Errorf("issuers: %q needs client_ids and algorithms", i.Issuer)
		}
		for _, a := range i.Algorithms {
			switch a {
			case "ES256", "RS256", "PS256", "EdDSA":
			default:
				return fmt.Errorf("issuers: algorithm %q is not accepted", a)
			}
		}
	}
	return nil
}

func checkHTTPS(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not an https URL without query", s)
	}
	return nil
}
