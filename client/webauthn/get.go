package webauthn

import (
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/passclave/passclave/wire"
)

// A Request is one navigator.credentials.get, from the relying party's options to
// its answer (WebAuthn L3, section 5.1.4).
type Request struct {
	RPID             string
	ClientData       ClientData
	UserVerification Requirement
	Allow            [][]byte // credential IDs that may answer; none means every passkey of the RP ID
	Blob             []byte   // largeBlob to write, nil where there is none: a command of its own, wire.WriteBlob
	options          requestOptions
}

// NewRequest reads a relying party's PublicKeyCredentialRequestOptionsJSON on behalf
// of origin. The refusal is an [Error].
func NewRequest(origin string, options []byte) (*Request, error) {
	host, err := checkOrigin(origin)
	if err != nil {
		return nil, err
	}
	var o requestOptions
	if err := decode(options, &o); err != nil {
		return nil, err
	}
	r := &Request{options: o, UserVerification: requirement(o.UserVerification)}
	if r.RPID, err = checkRPID(o.RPID, host); err != nil {
		return nil, err
	}
	if r.Allow, err = listed("allowCredentials", o.Allow); err != nil {
		return nil, err
	}
	switch {
	case len(o.Challenge) == 0:
		return nil, refuse(TypeError, "no challenge")
	case len(o.Allow) > 0 && len(r.Allow) == 0:
		return nil, refuse(NotSupportedError, "allowCredentials has no public-key")
	}
	if err := r.checkPRF(); err != nil {
		return nil, err
	}
	if err := r.checkLargeBlob(); err != nil {
		return nil, err
	}
	r.ClientData = newClientData("webauthn.get", o.Challenge, origin)
	return r, nil
}

// checkPRF is the client's part of section 10.1.4 at get.
func (r *Request) checkPRF() error {
	prf := r.options.Extensions.PRF
	if prf == nil || len(prf.EvalByCredential) == 0 {
		return nil
	}
	if len(r.Allow) == 0 {
		return refuse(NotSupportedError, "prf.evalByCredential without allowCredentials")
	}
	for key := range prf.EvalByCredential {
		id, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil || len(id) == 0 || !r.allows(id) {
			return refuse(SyntaxError, "prf.evalByCredential names a credential outside allowCredentials")
		}
	}
	return nil
}

// checkLargeBlob is the client's part of section 10.1.5 at get.
func (r *Request) checkLargeBlob() error {
	b := r.options.Extensions.LargeBlob
	switch {
	case b == nil:
		return nil
	case b.Support != "":
		return refuse(NotSupportedError, "largeBlob.support at get")
	case b.Read && b.Write != nil:
		return refuse(NotSupportedError, "largeBlob read and write at once")
	case b.Write != nil && len(r.Allow) != 1:
		return refuse(NotSupportedError, "largeBlob.write without exactly one allowed credential")
	}
	r.Blob = b.Write
	return nil
}

func (r *Request) allows(id []byte) bool {
	return slices.ContainsFunc(r.Allow, func(a []byte) bool { return slices.Equal(a, id) })
}

// Matches reports whether a passkey may answer: one of the RP ID and, where the
// relying party lists any, a listed one. Hidden and deleted ones are the caller's
// to leave out.
func (r *Request) Matches(m *wire.Metadata) bool {
	return m.RPID == r.RPID && (len(r.Allow) == 0 || r.allows(m.CredentialID))
}

// Command returns the enclave's command for one passkey: handle and metadata are of
// one record.
func (r *Request) Command(handle wire.Handle, m *wire.Metadata) wire.Assert {
	command := wire.Assert{Handle: handle, ClientDataHash: r.ClientData.Hash, RPID: r.RPID}
	if prf := r.options.Extensions.PRF; prf != nil {
		if v, ok := prf.EvalByCredential[base64.RawURLEncoding.EncodeToString(m.CredentialID)]; ok {
			command.PRF = v.hashed()
		} else if prf.Eval != nil {
			command.PRF = prf.Eval.hashed()
		}
	}
	command.ReadBlob = r.options.Extensions.LargeBlob != nil && r.options.Extensions.LargeBlob.Read
	return command
}

type authenticationResponse struct {
	ID         wire.Base64      `json:"id"`
	RawID      wire.Base64      `json:"rawId"`
	Type       string           `json:"type"`
	Attachment string           `json:"authenticatorAttachment"`
	Extensions extensionResults `json:"clientExtensionResults"`
	Response   struct {
		ClientDataJSON    wire.Base64 `json:"clientDataJSON"`
		AuthenticatorData wire.Base64 `json:"authenticatorData"`
		Signature         wire.Base64 `json:"signature"`
		UserHandle        wire.Base64 `json:"userHandle,omitempty"`
	} `json:"response"`
}

// Response returns the AuthenticationResponseJSON (WebAuthn L3, section 5.1) of the
// enclave's result for the passkey with metadata m; blobWritten says whether
// Request.Blob was stored. It refuses as [Creation.Response] does, and a passkey that
// does not match the request with [ConstraintError]. That the signature is by this
// passkey's key is the relying party's to check.
func (r *Request) Response(m *wire.Metadata, a *wire.AssertResult, blobWritten bool) ([]byte, error) {
	if err := checkResult(a.AuthenticatorData, r.RPID, r.UserVerification); err != nil {
		return nil, err
	}
	if !r.Matches(m) {
		return nil, refuse(ConstraintError, "the passkey is of another RP ID, or outside allowCredentials")
	}
	out := authenticationResponse{ID: m.CredentialID, RawID: m.CredentialID, Type: publicKey, Attachment: "platform"}
	out.Response.ClientDataJSON = r.ClientData.JSON
	out.Response.AuthenticatorData = a.AuthenticatorData
	out.Response.Signature = a.Signature
	out.Response.UserHandle = m.UserHandle
	x := r.options.Extensions
	if x.PRF != nil && a.PRF != nil {
		out.Extensions.PRF = &prfResult{Results: prfOutputsOf(a.PRF)}
	}
	switch {
	case x.LargeBlob == nil:
	case x.LargeBlob.Read:
		out.Extensions.LargeBlob = &largeBlobResult{Blob: a.Blob}
	case r.Blob != nil:
		out.Extensions.LargeBlob = &largeBlobResult{Written: &blobWritten}
	}
	return json.Marshal(out)
}
