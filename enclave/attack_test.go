package enclave

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/local"
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

// What the host loads is checked against the newest entry.
func TestHostsDataRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attack func(w *world, p, bob *phone, old *world0, s *wire.State)
		want   wire.Code
	}{
		"older state":     {func(_ *world, _, _ *phone, old *world0, s *wire.State) { *s = old.state }, wire.CodeRollback},
		"no such account": {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { *s = wire.State{} }, wire.CodeRollback},
		"another account's state": {func(w *world, _, bob *phone, _ *world0, s *wire.State) {
			*s = w.store.Load(wire.Need{Account: bob.account, State: true})
		}, wire.CodeRollback},
		"entry of garbage":         {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Newest = []byte{1} }, wire.CodeEntry},
		"older head, newest entry": {func(_ *world, _, _ *phone, old *world0, s *wire.State) { s.Head = old.state.Head }, wire.CodeHeadMismatch},
		"no head":                  {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Head = nil }, wire.CodeHeadMismatch},
		"no wraps":                 {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Wraps = nil }, wire.CodeWrap},
		"wrap flipped":             {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Wraps[0].Box = flipped(s.Wraps[0].Box) }, wire.CodeWrap},
		"another account's wrap": {func(w *world, _, bob *phone, _ *world0, s *wire.State) {
			s.Wraps = w.store.Load(wire.Need{Account: bob.account, State: true}).Wraps
		}, wire.CodeWrap},
		"wrap of an unknown KEK": {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Wraps[0].KEK = "v9" }, wire.CodeWrap},
		"no record":              {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Records = nil }, wire.CodeRecordMismatch},
		"older record":           {func(_ *world, _, _ *phone, old *world0, s *wire.State) { s.Records = old.state.Records }, wire.CodeRecordMismatch},
		"record of garbage":      {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Records = [][]byte{{1, 2, 3}} }, wire.CodeRecordMismatch},
		"record with swapped secret": {func(w *world, p, _ *phone, old *world0, s *wire.State) {
			r, other := must(wire.ParseRecord(s.Records[0])), must(wire.ParseRecord(old.other))
			r.Secret = other.Secret
			s.Records[0] = wire.Marshal(r)
		}, wire.CodeRecordMismatch},
		"record under another's handle": {func(w *world, p, _ *phone, old *world0, s *wire.State) {
			r, other := must(wire.ParseRecord(s.Records[0])), must(wire.ParseRecord(old.other))
			other.Handle, other.Version = r.Handle, r.Version
			s.Records[0] = wire.Marshal(other)
		}, wire.CodeRecordMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p, bob := w.device("alice").enrol(pin), w.device("bob").enrol(pin)
			made, second := p.create(), p.create()
			old := &world0{state: w.store.Load(wire.Need{Account: p.account, State: true, Records: []wire.Handle{made.Handle}})}
			old.other = w.store.Accounts[p.account].Records[second.Handle]
			a := p.ask(wire.NewCommand(wire.CommandRename, wire.Rename{Handle: made.Handle, Replaces: made.Version, Label: "new"}))
			a.handles = []wire.Handle{made.Handle}
			if _, err := p.change(a); err != nil {
				t.Fatal(err)
			}
			if err := p.assert(made.Handle); err != nil {
				t.Fatal(err)
			}
			w.onState = func(s *wire.State) { test.attack(w, p, bob, old, s) }
			wantCode(t, p.assert(made.Handle), test.want)
			if w.reply.Refusal != test.want {
				t.Fatalf("the host is told %q", w.reply.Refusal)
			}
		})
	}
}

// world0 is what a host kept of earlier.
type world0 struct {
	state wire.State
	other []byte // another record of the same account
}

func flipped(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// A state that is behind by one commit is asked for again, not refused.
func TestStaleStateIsLoadedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	old := w.store.Load(wire.Need{Account: p.account, State: true})
	made := p.create()
	first := true
	w.onState = func(s *wire.State) {
		if first {
			*s, first = old, false
		}
	}
	if err := p.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
}

func TestLoginsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	claim := func(name string, v any) func(*login) { return func(l *login) { l.claims[name] = v } }
	for name, test := range map[string]struct {
		attack func(*login)
		want   wire.Code
	}{
		"sub in capitals":       {func(l *login) { l.claims["sub"], l.claims["SUB"] = "mallory", "alice" }, wire.CodeLogin},
		"sub in other letters":  {func(l *login) { l.claims["sub"], l.claims["\u017fub"] = "mallory", "alice" }, wire.CodeLogin},
		"nonce in capitals":     {func(l *login) { l.claims["Nonce"] = l.claims["nonce"]; l.claims["nonce"] = "x" }, wire.CodeLogin},
		"other issuer":          {claim("iss", "https://evil.example"), wire.CodeLogin},
		"other audience":        {claim("aud", "shop"), wire.CodeLogin},
		"two audiences":         {claim("aud", []string{"passclave", "shop"}), wire.CodeLogin},
		"other party":           {claim("azp", "shop"), wire.CodeLogin},
		"other nonce":           {claim("nonce", "x"), wire.CodeLogin},
		"other subject":         {claim("sub", "mallory"), wire.CodeLogin},
		"no subject":            {claim("sub", ""), wire.CodeLogin},
		"no iat":                {func(l *login) { delete(l.claims, "iat") }, wire.CodeLogin},
		"other key":             {func(l *login) { l.key = other }, wire.CodeLogin},
		"unknown key ID":        {func(l *login) { l.kid = "2" }, wire.CodeLogin},
		"HS256, the public key": {func(l *login) { l.alg, l.key = jose.HS256, point(w.issuer) }, wire.CodeLogin},
		"old challenge":         {func(l *login) { l.age = loginAge + time.Second }, wire.CodeChallenge},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.device("alice")
			_, err := p.send(p.ticketAsk(p.login(test.attack)))
			wantCode(t, err, test.want)
		})
	}
	t.Run("none", func(t *testing.T) {
		p := w.device("alice")
		_, err := p.send(p.ticketAsk(nil))
		wantCode(t, err, wire.CodeLoginRequired)
	})
	t.Run("another device's", func(t *testing.T) {
		p, thief := w.device("alice"), w.device("alice")
		_, err := thief.send(thief.ticketAsk(p.login()))
		wantCode(t, err, wire.CodeLogin)
	})
	t.Run("alg none", func(t *testing.T) {
		p := w.device("alice")
		l := p.login()
		l.Token = "eyJhbGciOiJub25lIn0." + l.Token[len(l.Token)/3:] + "."
		_, err := p.send(p.ticketAsk(l))
		wantCode(t, err, wire.CodeLogin)
	})
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

func TestYoungDeviceCannotRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	young := w.device("alice")
	if err := young.join(pin); err != nil {
		t.Fatal(err)
	}
	revoke := func(p, target *phone, uv bool) *ask {
		a := p.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: target.id}))
		a.uv = uv
		return a
	}
	_, err := young.change(revoke(young, first, true))
	wantCode(t, err, wire.CodeYoung)
	a := revoke(young, first, true)
	a.body.Login = young.login()
	_, err = young.change(a)
	wantCode(t, err, wire.CodeYoung)
	_, err = first.change(revoke(first, young, false))
	wantCode(t, err, wire.CodeUVRequired)
	_, err = first.change(revoke(first, w.device("alice"), true))
	wantCode(t, err, wire.CodeNotFound)
	// A day of login time later it may.
	w.iat += youth
	a = revoke(young, first, true)
	a.body.Login = young.login()
	r, err := young.change(a)
	young.member(result[wire.Membership](t, r, err))
	_, err = first.sync()
	wantCode(t, err, wire.CodeUnknownDevice)
}

// A refusal tells a device that knows the account where it stands, so that a
// revocation read out of an older state is found out.
func TestRefusalCarriesHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	gone := w.device("alice")
	if err := gone.join(pin); err != nil {
		t.Fatal(err)
	}
	a := first.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: gone.id}))
	a.uv = true
	if _, err := first.change(a); err != nil {
		t.Fatal(err)
	}
	known := *gone.known
	r, err := gone.send(gone.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})))
	wantCode(t, err, wire.CodeUnknownDevice)
	_, head, err := w.core.Verifier().VerifyChain(wire.Stream(w.config.Ledger.ID, gone.account), known, r.Entries)
	if err != nil || head != r.Newest || head.Sequence == known.Sequence {
		t.Fatalf("%v, newest %v: %v", head, r.Newest, err)
	}
}

func TestDeviceRevokesItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	next := w.device("alice")
	if err := next.join(pin); err != nil {
		t.Fatal(err)
	}
	a := next.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: next.id}))
	r, err := next.change(a) // young, and without UV
	m := result[wire.Membership](t, r, err)
	if m.VaultSecret != nil || m.FeedToken != nil || m.NotesKey != nil {
		t.Fatal("the leaver got the new epoch's secrets")
	}
	if s, err := first.sync(); err != nil || s.Epoch != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if tokens := w.store.Accounts[first.account].FeedTokens; len(tokens) != 1 {
		t.Fatalf("%d feed tokens", len(tokens))
	}
}

// The fourth row of the threat table: KEK and database do not make a member.
func TestForgedMemberIsNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	made := first.create()
	spy := w.device("alice")
	w.forge(t, first, func(h *head) {
		added := h.Devices[0]
		added.ID, added.Key, added.UV = spy.id, point(spy.key), point(spy.uvKey)
		h.Devices = append(h.Devices, added)
	})
	wantCode(t, first.assert(made.Handle), wire.CodeVaultSecret)
	spy.vault, spy.epoch = random(32), 1
	wantCode(t, spy.assert(made.Handle), wire.CodeVaultSecret)
}

func TestDeletedPasskey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.create()
	remove := func(uv bool) error {
		a := p.ask(wire.NewCommand(wire.CommandDelete, wire.Delete{Handle: made.Handle, Replaces: p.meta[made.Handle]}))
		a.handles, a.uv = []wire.Handle{made.Handle}, uv
		_, err := p.change(a)
		return err
	}
	wantCode(t, remove(false), wire.CodeUVRequired)
	if err := remove(true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.assert(made.Handle), wire.CodeNotFound)
	if len(w.store.Accounts[p.account].Records) != 1 {
		t.Fatal("a deleted record is gone at once")
	}
	w.wall += keepDeleted - 1
	p.create()
	if len(w.store.Accounts[p.account].Records) != 2 {
		t.Fatal("purged a second too early")
	}
	w.wall++
	p.create()
	if _, ok := w.store.Accounts[p.account].Records[made.Handle]; ok {
		t.Fatal("not purged after 30 days")
	}
}

func TestEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.create()
	rename := func(replaces wire.VersionID) error {
		a := p.ask(wire.NewCommand(wire.CommandRename, wire.Rename{Handle: made.Handle, Replaces: replaces, Label: "mail"}))
		a.handles = []wire.Handle{made.Handle}
		_, err := p.change(a)
		return err
	}
	if err := rename(made.Version); err != nil {
		t.Fatal(err)
	}
	wantCode(t, rename(made.Version), wire.CodeConflict) // two devices edit one version: the second is told
	a := p.createAsk()
	var c wire.Create
	_ = wire.Unmarshal(a.body.Commands[0].Arguments, &c)
	c.Exclude = [][]byte{made.CredentialID}
	a.body.Commands[0] = wire.NewCommand(wire.CommandCreate, c)
	_, err := p.change(a)
	wantCode(t, err, wire.CodeExcluded)
	a = p.assertAsk(made.Handle)
	a.body.Commands[0] = wire.NewCommand(wire.CommandAssert, wire.Assert{Handle: made.Handle, RPID: "evil.example"})
	_, err = p.send(a)
	wantCode(t, err, wire.CodeArgument)
	a = p.assertAsk(made.Handle)
	a.uv = false
	_, err = p.send(a)
	wantCode(t, err, wire.CodeUVRequired)
}

func TestSealedWithoutKEK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	w.keks = nil
	w.restart()
	for name := range commands {
		_, err := p.send(p.ask(wire.NewCommand(name, wire.None{})))
		wantCode(t, err, wire.CodeSealed)
	}
}

func TestReplaceUV(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	fresh := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := wire.UVPossession(p.account, p.id, point(fresh))
	replace := func(possession []byte) *ask {
		a := p.ask(wire.NewCommand(wire.CommandReplaceUV, wire.ReplaceUV{UV: point(fresh), Possession: possession}))
		a.uv = true
		return a
	}
	a := replace(must(ecdsa.SignASN1(rand.Reader, p.uvKey, digest[:])))
	_, err := p.change(a)
	wantCode(t, err, wire.CodeSignature)
	a = replace(must(ecdsa.SignASN1(rand.Reader, fresh, digest[:])))
	a.uvWith = fresh
	_, err = p.change(a)
	wantCode(t, err, wire.CodeUVRequired)
	a = replace(must(ecdsa.SignASN1(rand.Reader, fresh, digest[:])))
	if _, err := p.change(a); err != nil {
		t.Fatal(err)
	}
	p.uvKey = fresh
	p.create()
}

// A KEK rotation rewraps an account with its next commit. The old version stays all
// the same: it is the ledger keys' beginning, and untouched accounts need it.
func TestRewrap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	w.keks = append(w.keks, KEK{Version: "v2", Key: random(32)})
	w.restart()
	p.create()
	var versions []string
	for _, wrap := range w.store.Accounts[p.account].Wraps {
		versions = append(versions, wrap.KEK)
	}
	if !slices.Contains(versions, "v2") {
		t.Fatalf("wraps of %v", versions)
	}
	entries := w.store.Accounts[p.account].Entries
	if _, _, err := w.core.Verifier().VerifyChain(wire.Stream(w.config.Ledger.ID, p.account), wire.Head{}, entries); err != nil {
		t.Fatalf("chain over two ledger keys: %v", err)
	}
	old := ledger.SignerID{}
	for i, b := range entries {
		if e := must(ledger.ParseEntry(b)); i == 0 {
			old = e.Signer
		} else if i == len(entries)-1 && e.Signer == old {
			t.Fatal("the new entry is signed by the old ledger key")
		}
	}
}

// Whoever has not logged in learns nothing of an account, not even that it exists.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin).create()
	for _, known := range []*wire.Head{nil, {}, {Sequence: 1}, {Sequence: 1, Hash: wire.Digest{1}}} {
		var size int
		for _, subject := range []string{"alice", "nobody"} {
			p := w.device(subject)
			p.known = known
			r, err := p.send(p.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})))
			wantCode(t, err, wire.CodeUnknownDevice)
			if r.Newest != (wire.Head{}) || r.Entries != nil || w.reply.Least != 0 {
				t.Fatalf("%s: %+v", subject, r)
			}
			if n := len(wire.Marshal(r)); size != 0 && n != size {
				t.Fatalf("answers of %d and %d bytes", size, n)
			} else {
				size = n
			}
		}
	}
	if n := w.ledger.(*local.Ledger).Streams(); n != 1 {
		t.Fatalf("%d streams are remembered for one account", n)
	}
}

// Wrong, locked and unenrolled joins answer with as many bytes, whatever the joiner
// says to know.
func TestJoinRefusalsHaveOneSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.device("alice").enrol(pin)
	size := map[int]bool{}
	try := func(subject string) {
		p := w.device(subject)
		a := p.joinAsk(wrongPIN)
		p.known = alice.known
		raw, _ := p.envelope(a)
		opened, r := w.run(raw)
		size[len(must(opened.SealResponse(wire.Marshal(r))))] = true
		if w.reply.Least != leastPINTime {
			t.Fatalf("%s: answered after %s", subject, w.reply.Least)
		}
	}
	for range 4 {
		try("alice")
	}
	try("nobody")
	if len(size) != 1 {
		t.Fatalf("sizes %v", size)
	}
}

// Whatever a host puts beside the state, an answer fits its envelope.
func TestAnswersFit(t *testing.T) {
	t.Parallel()
	for name, junk := range map[string]func(*wire.State){
		"one large entry":    func(s *wire.State) { s.Entries = [][]byte{make([]byte, 2<<20)} },
		"many entries":       func(s *wire.State) { s.Entries = slices.Repeat(s.Entries, 1+wire.MaxEntries) },
		"large behind small": func(s *wire.State) { s.Entries = append(slices.Clone(s.Entries), make([]byte, 2<<20)) },
	} {
		w := newWorld(t)
		p := w.device("alice").enrol(pin)
		old := *p.known
		p.create()
		p.known = &old
		w.onState = junk
		a := p.createAsk()
		a.body.Number = p.number + 1
		raw, _ := p.envelope(a)
		opened, r := w.run(raw)
		if _, err := opened.SealResponse(wire.Marshal(r)); err != nil || r.Error != nil {
			t.Errorf("%s: %v, %v", name, err, r.Error)
		}
	}
}

// A device that shares another's encryption key would take it along when it goes.
func TestEncryptionKeyOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	thief := w.device("alice")
	thief.encryption = first.encryption
	wantCode(t, thief.join(pin), wire.CodeArgument)
	if w.commits() != 0 {
		t.Fatal("an attempt was spent on it")
	}
}

// A revoked device holds the vault secret of the epoch that records still stand
// under. With the host it can make metadata, and the enclave must not seal that anew.
func TestForgedMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	gone := w.device("alice")
	if err := gone.join(pin); err != nil {
		t.Fatal(err)
	}
	made := first.create()
	a := first.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: gone.id}))
	a.uv = true
	r, err := first.change(a)
	first.member(result[wire.Membership](t, r, err))

	record := must(wire.ParseRecord(w.store.Accounts[first.account].Records[made.Handle]))
	m := must(record.OpenMetadata(w.config.Ledger.ID, first.account, gone.vault))
	m.UserName = "mallory"
	record.Metadata = wire.SealBox(wire.MetadataKey(gone.vault), wire.LabelMetadata, record.Scope(w.config.Ledger.ID, first.account),
		wire.PadBox(wire.Marshal(m), wire.MetadataBucket), record.Handle, record.Version)
	w.store.Accounts[first.account].Records[made.Handle] = wire.Marshal(record)

	a = first.ask(wire.NewCommand(wire.CommandReseal, wire.ResealPage{}))
	a.handles = []wire.Handle{made.Handle}
	_, err = first.change(a)
	wantCode(t, err, wire.CodeRecordMismatch)
	wantCode(t, first.assert(made.Handle), wire.CodeRecordMismatch)
}
