package enclave

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/passclave/passclave/enclave/passkey/platform"
	"github.com/passclave/passclave/wire"
)

// lax makes a passkey that needs no user verification.
func (p *phone) lax() *wire.CreateResult {
	p.w.t.Helper()
	a := p.ask(wire.NewCommand(wire.CommandCreate, wire.Create{
		RPID: "rp.example", UserHandle: []byte("user"), UserName: p.subject, Algorithms: []int64{-7}, NoUVNeeded: true,
	}))
	a.uv = true
	r, err := p.change(a)
	return result[wire.CreateResult](p.w.t, r, err)
}

// The UV flag is set by user verification in this request, and by nothing else: one
// that does not verify is refused also where none would do.
func TestInvalidUVIsNoUV(t *testing.T) {
	t.Parallel()
	const flagUV = 0x04
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.lax()
	stranger := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	blob := func() *ask {
		a := p.ask(wire.NewCommand(wire.CommandBlob, wire.WriteBlob{Handle: made.Handle, Replaces: made.Version, Blob: []byte("b")}))
		a.handles = []wire.Handle{made.Handle}
		return a
	}
	for _, verified := range []bool{true, false} {
		a := p.assertAsk(made.Handle)
		a.uv = verified
		r, err := p.send(a)
		if flags := result[wire.AssertResult](t, r, err).AuthenticatorData[32]; (flags&flagUV != 0) != verified {
			t.Fatalf("flags %x with user verification %v", flags, verified)
		}
	}
	for name, spoil := range map[string]func(*ask){
		"by another key":    func(a *ask) { a.uv, a.uvWith = true, stranger },
		"by the device key": func(a *ask) { a.uv, a.uvWith = true, p.key },
		"of another role":   func(a *ask) { a.uv, a.uvRole = true, wire.RoleDevice },
		"empty":             func(a *ask) { a.mangle = func(r *wire.Request) { r.UV = &wire.UserVerification{} } },
	} {
		t.Run(name, func(t *testing.T) {
			a := p.assertAsk(made.Handle)
			a.uv = false
			spoil(a)
			_, err := p.send(a)
			wantCode(t, err, wire.CodeUVRequired)
			a = blob()
			spoil(a)
			_, err = p.change(a)
			wantCode(t, err, wire.CodeUVRequired)
		})
	}
	if _, err := p.change(blob()); err != nil {
		t.Fatal(err)
	}
}

// A device whose user verification is the platform authenticator's is as well
// guarded as one with a UV key.
func TestPlatformUV(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.UserVerification = platformUV
	p, other := w.device("alice"), newAuthenticator()
	p.platform = newAuthenticator()
	for name, spoil := range map[string]func(*ask){
		"no possession at enrolment":      func(a *ask) { a.uv = false },
		"possession by the device's role": func(a *ask) { a.uvRole = wire.RoleDevice },
		"possession by a UV key": func(a *ask) {
			a.mangle = func(r *wire.Request) { r.UV = &wire.UserVerification{Signature: r.DeviceSignature} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.enrolAsk(pin)
			spoil(a)
			_, err := p.send(a)
			wantCode(t, err, wire.CodeUVRequired)
		})
	}
	p.enrol(pin)
	made := p.create()
	if err := p.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*ask){
		"none":           func(a *ask) { a.uv = false },
		"over T(device)": func(a *ask) { a.uvRole = wire.RoleDevice },
		"of another request": func(a *ask) {
			a.mangle = func(r *wire.Request) { r.UV.Platform = p.platform.assert(wire.Hash("another")) }
		},
		"by another credential": func(a *ask) { a.mangle = func(r *wire.Request) { r.UV.Platform = other.assert(wire.Hash("another")) } },
		"a signature beside it": func(a *ask) { a.mangle = func(r *wire.Request) { r.UV.Signature = r.DeviceSignature } },
		"a signature alone": func(a *ask) {
			a.mangle = func(r *wire.Request) { r.UV = &wire.UserVerification{Signature: r.DeviceSignature} }
		},
		"flipped": func(a *ask) {
			a.mangle = func(r *wire.Request) { r.UV.Platform.AuthenticatorData[36]++ }
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.createAsk()
			spoil(a)
			_, err := p.change(a)
			wantCode(t, err, wire.CodeUVRequired)
		})
	}
	w.config.UserVerification = wire.PlatformUserVerification{}
	wantCode(t, p.assert(made.Handle), wire.CodeUVRequired)
}

// A device that took a key it does not hold for its user verification would be
// untrusted from then on.
func TestReplaceUVByPlatform(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.UserVerification = platformUV
	p, fresh, other := w.device("alice").enrol(pin), newAuthenticator(), newAuthenticator()
	digest := wire.UVPossession(p.account, p.id, fresh.credential.PublicKey)
	replace := func(possession *wire.UserVerification) error {
		a := p.ask(wire.NewCommand(wire.CommandReplaceUV, wire.ReplaceUV{Platform: &fresh.credential, Possession: possession}))
		a.uv = true
		_, err := p.change(a)
		return err
	}
	good := func() *wire.UserVerification { return &wire.UserVerification{Platform: fresh.assert(digest)} }
	foreign := other.assert(digest)
	foreign.CredentialID = fresh.credential.ID
	otherDevice := wire.UVPossession(p.account, wire.DeviceID{1}, fresh.credential.PublicKey)
	for name, possession := range map[string]*wire.UserVerification{
		"none":                    nil,
		"by the old UV key":       {Signature: must(ecdsa.SignASN1(rand.Reader, p.uvKey, digest[:]))},
		"by another credential":   {Platform: foreign},
		"for another device":      {Platform: fresh.assert(otherDevice)},
		"for another credential":  {Platform: fresh.assert(wire.UVPossession(p.account, p.id, other.credential.PublicKey))},
		"a signature and another": {Platform: fresh.assert(digest), Signature: []byte{1}},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, replace(possession), wire.CodeSignature) })
	}
	t.Run("not configured", func(t *testing.T) {
		w.config.UserVerification = wire.PlatformUserVerification{}
		defer func() { w.config.UserVerification = platformUV }()
		wantCode(t, replace(good()), wire.CodeSignature)
	})
	if err := replace(good()); err != nil {
		t.Fatal(err)
	}
	_, err := p.change(p.createAsk())
	wantCode(t, err, wire.CodeUVRequired) // by the old UV key
	p.platform = fresh
	p.create()
}

func TestReplaceUVChecksKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.UserVerification = platformUV
	p, hello := w.device("alice").enrol(pin), newAuthenticator()
	signed := func(key []byte) *wire.UserVerification {
		return &wire.UserVerification{Signature: sign(p.key, wire.UVPossessionMessage(p.account, p.id, key))}
	}
	broken := bytes.Repeat([]byte{4}, 65)
	for name, args := range map[string]wire.ReplaceUV{
		"none":                  {},
		"the device key":        {UV: point(p.key), Possession: signed(point(p.key))},
		"no point":              {UV: broken, Possession: signed(broken)},
		"key and credential":    {UV: point(p.uvKey), Platform: &hello.credential},
		"credential of garbage": {Platform: &wire.PlatformCredential{ID: []byte{1}, PublicKey: []byte{2}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.ask(wire.NewCommand(wire.CommandReplaceUV, args))
			a.uv = true
			_, err := p.change(a)
			wantCode(t, err, wire.CodeArgument)
		})
	}
}

// The reason of a platform refusal stays for the enclave's own log.
func TestPlatformRefusalKeepsItsReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tx := &tx{core: w.core}
	err := tx.verifyUV(&wire.UserVerification{Platform: &wire.PlatformAssertion{}}, wire.Digest{}, nil, &newAuthenticator().credential)
	var r *platform.Refusal
	if !errors.As(err, &r) || r.Reason != platform.ReasonOff {
		t.Fatalf("got %v", err)
	}
}
