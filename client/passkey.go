package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/passclave/passclave/wire"
)

// Created is a new passkey, and what its relying party gets.
type Created struct {
	Handle            wire.Handle
	Version           wire.VersionID
	CredentialID      []byte
	AttestationObject []byte // format "none"
	PRF               *wire.PRFResult
	// Rebuilt: the answer was lost and the passkey is the one made then. The
	// attestation object is the same; PRF is absent, an assertion evaluates it.
	Rebuilt bool
}

// Create makes a passkey, with user verification. c.Created is filled in where it is
// zero. That c.RPID fits the origin is not checked here: see client/webauthn.
//
// An [AfterError] comes beside the result: the passkey exists.
func (d *Device) Create(ctx context.Context, c wire.Create) (*Created, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return nil, err
	}
	uv, err := d.uv(ctx)
	if err != nil {
		return nil, err
	}
	if c.Created == 0 {
		c.Created = uint64(time.Now().Unix())
	}
	var out *Created
	var again *wire.Handle
	err = d.call(ctx, &request{
		account:  d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandCreate, c)},
		uv:       uv,
		secret:   true,
		change:   true,
		apply: func(a *answer) error {
			if a.repeated != nil {
				again = a.repeated.Handle
				return nil
			}
			var r wire.CreateResult
			if err := a.result(&r); err != nil {
				return err
			}
			out = &Created{r.Handle, r.Version, r.CredentialID, r.AttestationObject, r.PRF, false}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	err = d.refresh(ctx)
	if out != nil {
		return out, afterEdit(err)
	}
	if err != nil {
		return nil, after(err)
	}
	return d.rebuild(ctx, &c, again)
}

// afterEdit leaves out that the host did not answer: the next sync fetches what changed.
func afterEdit(err error) error {
	var host *HostError
	if errors.As(err, &host) {
		return nil
	}
	return after(err)
}

// Assertion is what a relying party verifies.
type Assertion struct {
	Handle            wire.Handle
	CredentialID      []byte
	UserHandle        []byte
	AuthenticatorData []byte
	Signature         []byte
	PRF               *wire.PRFResult
	Blob              []byte // where it was asked for
}

// AssertRequest asks for an assertion of one passkey.
type AssertRequest struct {
	Handle         wire.Handle
	ClientDataHash wire.Digest
	PRF            *wire.PRF
	ReadBlob       bool
	NoUV           bool // do without user verification, where the passkey was made for that
}

// Assert signs with a passkey. The passkey must be in the record cache.
func (d *Device) Assert(ctx context.Context, q AssertRequest) (*Assertion, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err := d.find(ctx, q.Handle)
	if err != nil {
		return nil, err
	}
	return d.assert(ctx, k, q)
}

func (d *Device) assert(ctx context.Context, k *Passkey, q AssertRequest) (*Assertion, error) {
	var uv UserVerifier
	if !q.NoUV || !k.Metadata.NoUVNeeded {
		var err error
		if uv, err = d.uv(ctx); err != nil {
			return nil, err
		}
	}
	var r wire.AssertResult
	err := d.call(ctx, &request{
		account: d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandAssert, wire.Assert{
			Handle: k.Handle, ClientDataHash: q.ClientDataHash, RPID: k.Metadata.RPID, PRF: q.PRF, ReadBlob: q.ReadBlob,
		})},
		handles: []wire.Handle{k.Handle},
		uv:      uv,
		secret:  true,
		apply:   func(a *answer) error { return a.result(&r) },
	})
	if err != nil {
		return nil, err
	}
	return &Assertion{
		Handle: k.Handle, CredentialID: k.Metadata.CredentialID, UserHandle: k.Metadata.UserHandle,
		AuthenticatorData: r.AuthenticatorData, Signature: r.Signature, PRF: r.PRF, Blob: r.Blob,
	}, nil
}

// SignInRequest asks for an assertion of a passkey of one relying party.
type SignInRequest struct {
	RPID           string
	Allow          [][]byte // credential IDs; empty: any of the relying party's
	ClientDataHash wire.Digest
	PRF            *wire.PRF
	NoUV           bool
	// Choose picks one of several; nil: the newest. It is not called for one.
	Choose func([]Passkey) (wire.Handle, error)
}

// SignIn finds the passkey and asserts with it. Where the record cache has none, it
// asks the feed once; then [wire.CodeNotFound].
func (d *Device) SignIn(ctx context.Context, q SignInRequest) (*Assertion, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, err := d.candidates(ctx, q.RPID, q.Allow)
	if err == nil && len(keys) == 0 {
		if _, err = d.sync(ctx); err == nil {
			keys, err = d.candidates(ctx, q.RPID, q.Allow)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, wire.Errorf(wire.CodeNotFound, "no passkey for this site")
	}
	chosen := &keys[0]
	for i := range keys {
		if keys[i].Metadata.Created > chosen.Metadata.Created {
			chosen = &keys[i]
		}
	}
	if len(keys) > 1 && q.Choose != nil {
		h, err := q.Choose(keys)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(keys, func(k Passkey) bool { return k.Handle == h })
		if i < 0 {
			return nil, wire.Errorf(wire.CodeNotFound, "not one of the passkeys offered")
		}
		chosen = &keys[i]
	}
	return d.assert(ctx, chosen, AssertRequest{ClientDataHash: q.ClientDataHash, PRF: q.PRF, NoUV: q.NoUV})
}

// candidates are the passkeys for a site that are neither hidden nor deleted; a
// hidden one still answers where the site names it.
func (d *Device) candidates(ctx context.Context, rpID string, allow [][]byte) ([]Passkey, error) {
	l, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(l.Passkeys, func(k Passkey) bool {
		named := slices.ContainsFunc(allow, func(id []byte) bool { return bytes.Equal(id, k.Metadata.CredentialID) })
		return k.Metadata.RPID != rpID || k.Metadata.Deleted || len(allow) > 0 && !named || len(allow) == 0 && k.Metadata.Hidden
	}), nil
}

// PRFInput hashes an input of the prf extension as WebAuthn L3, section 10.1.4 says.
func PRFInput(input []byte) wire.Digest {
	return sha256.Sum256(append([]byte("WebAuthn PRF\x00"), input...))
}

// PRF evaluates a passkey's prf extension apart from any sign-in, with user
// verification. The assertion that the enclave makes on the way is over a random
// value and dropped.
func (d *Device) PRF(ctx context.Context, h wire.Handle, in wire.PRF) (*wire.PRFResult, error) {
	a, err := d.Assert(ctx, AssertRequest{Handle: h, ClientDataHash: randomDigest(), PRF: &in})
	if err != nil {
		return nil, err
	}
	if a.PRF == nil {
		return nil, wire.Errorf(wire.CodeMalformed, "no PRF result")
	}
	return a.PRF, nil
}

// ReadBlob returns a passkey's large blob, nil where there is none.
func (d *Device) ReadBlob(ctx context.Context, h wire.Handle) ([]byte, error) {
	a, err := d.Assert(ctx, AssertRequest{Handle: h, ClientDataHash: randomDigest(), ReadBlob: true})
	if err != nil {
		return nil, err
	}
	return a.Blob, nil
}

func randomDigest() (d wire.Digest) {
	rand.Read(d[:])
	return d
}

// find returns a passkey from the record cache.
func (d *Device) find(ctx context.Context, h wire.Handle) (*Passkey, error) {
	l, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	for i := range l.Passkeys {
		if l.Passkeys[i].Handle == h {
			return &l.Passkeys[i], nil
		}
	}
	return nil, wire.Errorf(wire.CodeNotFound, "no such passkey in the record cache")
}
