package webauthn

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/passclave/passclave/wire"
)

// maxOptions bounds a relying party's options, in bytes.
const maxOptions = 256 << 10

// maxListed bounds excludeCredentials and allowCredentials, each.
const maxListed = 1024

// decode reads a relying party's options into v: the JSON form that
// parseCreationOptionsFromJSON takes, bare or as the member "publicKey". Unknown
// members are ignored, as WebAuthn wants it.
func decode(data []byte, v any) error {
	if len(data) > maxOptions {
		return refuse(TypeError, "options of %d bytes", len(data))
	}
	var outer struct {
		PublicKey json.RawMessage `json:"publicKey"`
	}
	if err := json.Unmarshal(data, &outer); err != nil {
		return refuse(TypeError, "options are no JSON object")
	}
	if outer.PublicKey != nil {
		data = outer.PublicKey
	}
	if err := json.Unmarshal(data, v); err != nil {
		return refuse(TypeError, "options: %v", err)
	}
	return nil
}

// creationOptions is PublicKeyCredentialCreationOptionsJSON (WebAuthn L3, section 5.1.8).
type creationOptions struct {
	RP struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"rp"`
	User struct {
		ID          wire.Base64 `json:"id"`
		Name        string      `json:"name"`
		DisplayName string      `json:"displayName"`
	} `json:"user"`
	Challenge  wire.Base64 `json:"challenge"`
	Parameters []struct {
		Type      string `json:"type"`
		Algorithm int64  `json:"alg"`
	} `json:"pubKeyCredParams"`
	Exclude   []descriptor `json:"excludeCredentials"`
	Selection struct {
		Attachment       string `json:"authenticatorAttachment"`
		UserVerification string `json:"userVerification"`
	} `json:"authenticatorSelection"`
	Extensions struct {
		CredProps      bool            `json:"credProps"`
		PRF            *prfInputs      `json:"prf"`
		LargeBlob      *largeBlobInput `json:"largeBlob"`
		Protection     string          `json:"credentialProtectionPolicy"`
		EnforceProtect bool            `json:"enforceCredentialProtectionPolicy"`
	} `json:"extensions"`
}

// requestOptions is PublicKeyCredentialRequestOptionsJSON (WebAuthn L3, section 5.1.9).
type requestOptions struct {
	Challenge        wire.Base64  `json:"challenge"`
	RPID             string       `json:"rpId"`
	Allow            []descriptor `json:"allowCredentials"`
	UserVerification string       `json:"userVerification"`
	Extensions       struct {
		PRF       *prfInputs      `json:"prf"`
		LargeBlob *largeBlobInput `json:"largeBlob"`
	} `json:"extensions"`
}

type descriptor struct {
	Type string      `json:"type"`
	ID   wire.Base64 `json:"id"`
}

type prfInputs struct {
	Eval             *prfValues           `json:"eval"`
	EvalByCredential map[string]prfValues `json:"evalByCredential"` // by base64url of the credential ID
}

type prfValues struct {
	First  wire.Base64 `json:"first"`
	Second wire.Base64 `json:"second"`
}

func (v *prfValues) hashed() *wire.PRF {
	p := &wire.PRF{First: PRFInput(v.First)}
	if v.Second != nil {
		second := PRFInput(v.Second)
		p.Second = &second
	}
	return p
}

type largeBlobInput struct {
	Support string      `json:"support"`
	Read    bool        `json:"read"`
	Write   wire.Base64 `json:"write"`
}

// listed returns the IDs of the descriptors whose type is known.
func listed(name string, all []descriptor) ([][]byte, error) {
	if len(all) > maxListed {
		return nil, refuse(TypeError, "%s has %d members", name, len(all))
	}
	var ids [][]byte
	for _, d := range all {
		if d.Type == publicKey {
			ids = append(ids, d.ID)
		}
	}
	return ids, nil
}

// publicKey is the one credential type.
const publicKey = "public-key"

// Requirement is a relying party's wish for user verification.
type Requirement string

const (
	Required    Requirement = "required"
	Preferred   Requirement = "preferred"
	Discouraged Requirement = "discouraged"
)

// requirement takes an unknown value for the default (WebAuthn L3, section 5.8.6).
func requirement(s string) Requirement {
	if r := Requirement(s); slices.Contains([]Requirement{Required, Preferred, Discouraged}, r) {
		return r
	}
	return Preferred
}

// truncate cuts s to the enclave's limit at a code point (WebAuthn L3, section 6.4.1).
func truncate(s string) string {
	if len(s) <= wire.MaxName {
		return s
	}
	end := wire.MaxName
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
