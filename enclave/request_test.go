package enclave

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/passclave/passclave/wire"
)

// Every row takes one thing from a request that would pass, and expects exactly
// the refusal that guards it.
func TestRequestsRefused(t *testing.T) {
	t.Parallel()
	stranger := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, test := range map[string]struct {
		attack func(w *world, p *phone, a *ask)
		want   wire.Code
	}{
		"no device signature":        {func(_ *world, _ *phone, a *ask) { a.mangle = func(r *wire.Request) { r.DeviceSignature = nil } }, wire.CodeSignature},
		"another device's signature": {func(_ *world, _ *phone, a *ask) { a.signWith = stranger }, wire.CodeSignature},
		"UV signature as device's": {func(_ *world, _ *phone, a *ask) {
			a.mangle = func(r *wire.Request) { r.DeviceSignature = r.UV.Signature }
		}, wire.CodeSignature},
		"no UV":                {func(_ *world, _ *phone, a *ask) { a.uv = false }, wire.CodeUVRequired},
		"UV by another key":    {func(_ *world, _ *phone, a *ask) { a.uvWith = stranger }, wire.CodeUVRequired},
		"UV by the device key": {func(_ *world, p *phone, a *ask) { a.uvWith = p.key }, wire.CodeUVRequired},
		"device signature as UV": {func(_ *world, _ *phone, a *ask) {
			a.mangle = func(r *wire.Request) { r.UV.Signature = r.DeviceSignature }
		}, wire.CodeUVRequired},
		"empty UV": {func(_ *world, _ *phone, a *ask) { a.mangle = func(r *wire.Request) { r.UV = &wire.UserVerification{} } }, wire.CodeUVRequired},
		"platform UV never registered": {func(_ *world, _ *phone, a *ask) {
			a.mangle = func(r *wire.Request) { r.UV = &wire.UserVerification{Platform: &wire.PlatformAssertion{}} }
		}, wire.CodeUVRequired},
		"no challenge": {func(_ *world, _ *phone, a *ask) { a.body.Challenge = nil }, wire.CodeChallenge},
		"old challenge": {func(w *world, _ *phone, a *ask) {
			a.body.Challenge = w.core.Challenge(w.now - challengeAge - time.Second)
		}, wire.CodeChallenge},
		"challenge of the future":   {func(w *world, _ *phone, a *ask) { a.body.Challenge = w.core.Challenge(w.now + time.Second) }, wire.CodeChallenge},
		"forged challenge":          {func(_ *world, _ *phone, a *ask) { a.body.Challenge[0]++ }, wire.CodeChallenge},
		"challenge of another boot": {func(w *world, _ *phone, a *ask) { w.restart() }, wire.CodeChallenge},
		"no vault secret":           {func(_ *world, _ *phone, a *ask) { a.body.VaultSecret = nil }, wire.CodeVaultSecret},
		"wrong vault secret":        {func(_ *world, _ *phone, a *ask) { a.body.VaultSecret = random(32) }, wire.CodeVaultSecret},
		"another epoch":             {func(_ *world, _ *phone, a *ask) { a.body.Epoch = 2 }, wire.CodeEpoch},
		"unknown device": {func(_ *world, p *phone, a *ask) {
			a.body.Device = wire.NewDeviceID(p.account, point(stranger))
			a.signWith = stranger
		}, wire.CodeUnknownDevice},
		"member's ID, stranger's key":  {func(_ *world, _ *phone, a *ask) { a.signWith = stranger }, wire.CodeSignature},
		"no number":                    {func(_ *world, _ *phone, a *ask) { a.body.Number = 0 }, wire.CodeNumber},
		"number skipped":               {func(_ *world, _ *phone, a *ask) { a.body.Number += 1 }, wire.CodeNumber},
		"number of long ago":           {func(_ *world, p *phone, a *ask) { a.body.Number = p.number - 1 }, wire.CodeNumber},
		"unknown command":              {func(_ *world, _ *phone, a *ask) { a.body.Commands[0].Name = "export" }, wire.CodeUnknownCommand},
		"arguments of another command": {func(_ *world, _ *phone, a *ask) { a.body.Commands[0].Name = wire.CommandRename; a.handles = nil }, wire.CodeMalformed},
		"handle only in the header":    {func(_ *world, _ *phone, a *ask) { a.handles = []wire.Handle{{1}} }, wire.CodeMalformed},
		"two changing commands":        {func(_ *world, _ *phone, a *ask) { a.body.Commands = append(a.body.Commands, a.body.Commands[0]) }, wire.CodeMalformed},
		"algorithm not offered": {func(_ *world, _ *phone, a *ask) {
			a.body.Commands[0] = wire.NewCommand(wire.CommandCreate, wire.Create{RPID: "rp.example", UserHandle: []byte{1}, UserName: "a", Algorithms: []int64{-65535}})
		}, wire.CodeArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.device("alice").enrol(pin)
			p.create()
			before := w.store.Snapshot()
			a := p.createAsk()
			a.body.Number = p.number + 1
			test.attack(w, p, a)
			_, err := p.send(a)
			wantCode(t, err, test.want)
			if len(w.store.Accounts[p.account].Entries) != len(before[p.account].Entries) {
				t.Fatal("a refused request changed the account")
			}
		})
	}
}

// A signature is good for one request under one key, whatever else is equal.
func TestSignatureOfAnotherRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	var kept wire.Request
	a := p.ask(wire.NewCommand(wire.CommandDevices, wire.Devices{}))
	a.mangle = func(r *wire.Request) { kept = *r }
	if _, err := p.send(a); err != nil {
		t.Fatal(err)
	}
	a.mangle = func(r *wire.Request) { *r = kept }
	_, err := p.send(a) // the same plaintext in a new envelope: another exporter value
	wantCode(t, err, wire.CodeSignature)
}

func TestEnrolRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	t.Run("live account", func(t *testing.T) {
		p := w.device("alice")
		_, err := p.change(p.enrolAsk(pin))
		wantCode(t, err, wire.CodeAccountExists)
	})
	edit := func(p *phone, f func(*wire.Enrol)) *ask {
		a := p.enrolAsk(pin)
		var e wire.Enrol
		if err := wire.Unmarshal(a.body.Commands[0].Arguments, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		a.body.Commands[0] = wire.NewCommand(wire.CommandEnrol, e)
		return a
	}
	for name, test := range map[string]struct {
		f    func(*wire.Enrol)
		uv   bool
		want wire.Code
	}{
		"no UV key":                  {func(e *wire.Enrol) { e.Keys.UV = nil }, false, wire.CodeUntrusted},
		"UV key not possessed":       {func(e *wire.Enrol) {}, false, wire.CodeUVRequired},
		"UV key is no point":         {func(e *wire.Enrol) { e.Keys.UV = make([]byte, 65) }, true, wire.CodeArgument},
		"encryption key is no key":   {func(e *wire.Enrol) { e.Keys.Encryption = []byte{1} }, true, wire.CodeArgument},
		"PIN not stretched":          {func(e *wire.Enrol) { e.StretchedPIN = []byte(pin) }, true, wire.CodeArgument},
		"UV key is the device key":   {func(*wire.Enrol) {}, true, wire.CodeArgument},
		"no name":                    {func(e *wire.Enrol) { e.Name = "" }, true, wire.CodeArgument},
		"device key is another's":    {func(e *wire.Enrol) { e.Keys.Device = point(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))) }, true, wire.CodeChallenge},
		"both UV key and credential": {func(e *wire.Enrol) { e.Keys.Platform = &wire.PlatformCredential{} }, true, wire.CodeArgument},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.device("eve")
			if name == "UV key is the device key" {
				p.uvKey = p.key
			}
			a := edit(p, test.f)
			a.uv = test.uv
			_, err := p.send(a)
			wantCode(t, err, test.want)
		})
	}
}

func TestRepeatedChangeIsDoneOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	// The write persists and the answer is lost: the device asks again with the
	// same number, and gets the outcome, before any precondition.
	a := p.createAsk()
	a.body.Number = p.number + 1
	if _, err := p.send(a); err != nil {
		t.Fatal(err)
	}
	a = p.createAsk()
	a.body.Number, a.uv, a.body.VaultSecret = p.number+1, false, nil
	r, err := p.send(a)
	if err != nil {
		t.Fatal(err)
	}
	if r.Repeated == nil || r.Repeated.Handle == nil || r.Repeated.Number != p.number+1 || len(r.Results) != 0 {
		t.Fatalf("answer %+v", r)
	}
	if n := len(w.store.Accounts[p.account].Records); n != 1 {
		t.Fatalf("%d records", n)
	}
	if w.commits() != 0 {
		t.Fatal("a repeated request committed")
	}
}
