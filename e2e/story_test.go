package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/client/webauthn"
	"github.com/passclave/passclave/development/rp"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

const origin = "http://localhost:8080"

// relyingParty is the demo's, with go-webauthn behind it.
type relyingParty struct {
	t           testing.TB
	url, origin string
}

func newRelyingParty(t testing.TB) *relyingParty {
	t.Helper()
	h, err := rp.New(rp.Config{RPID: "localhost", Origin: origin, Folder: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &relyingParty{t, server.URL, origin}
}

func (r *relyingParty) post(path string, body []byte) []byte {
	r.t.Helper()
	answer, err := http.Post(r.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: status %d, %v: %s", path, answer.StatusCode, err, b)
	}
	return b
}

// begin returns the options of a ceremony.
func (r *relyingParty) begin(path, user string) []byte {
	r.t.Helper()
	var options struct {
		PublicKey json.RawMessage `json:"publicKey"`
	}
	if err := json.Unmarshal(r.post(path, []byte(`{"user":"`+user+`"}`)), &options); err != nil {
		r.t.Fatal(err)
	}
	return options.PublicKey
}

// finish has go-webauthn verify an answer, and demands what a synced passkey with
// user verification must show.
func (r *relyingParty) finish(path, user string, response []byte) {
	r.t.Helper()
	var verified rp.Result
	if err := json.Unmarshal(r.post(path, response), &verified); err != nil {
		r.t.Fatal(err)
	}
	if verified.User != user || !verified.UserVerified || !verified.BackupEligible || !verified.BackedUp {
		r.t.Fatalf("the relying party saw %+v", verified)
	}
}

// register makes a passkey at the relying party.
func (r *relyingParty) register(d *device, user string) *client.Created {
	r.t.Helper()
	c, err := webauthn.NewCreation(r.origin, r.begin("/register/begin", user))
	if err != nil {
		r.t.Fatal(err)
	}
	made, err := d.Create(r.t.Context(), c.Command(1_800_000_000, false))
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := c.Response(&wire.CreateResult{
		Handle: made.Handle, Version: made.Version, CredentialID: made.CredentialID, AttestationObject: made.AttestationObject,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.finish("/register/finish", user, response)
	return made
}

// signIn signs in with whatever passkey of the device the relying party's options allow.
func (r *relyingParty) signIn(d *device, user string) {
	r.t.Helper()
	q, err := webauthn.NewRequest(r.origin, r.begin("/sign-in/begin", user))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := d.List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	i := slices.IndexFunc(l.Passkeys, func(k client.Passkey) bool { return q.Matches(&k.Metadata) })
	if i < 0 {
		r.t.Fatalf("none of %d passkeys is for this sign-in", len(l.Passkeys))
	}
	k := &l.Passkeys[i]
	command := q.Command(k.Handle, &k.Metadata)
	a, err := d.Assert(r.t.Context(), client.AssertRequest{Handle: k.Handle, ClientDataHash: command.ClientDataHash, PRF: command.PRF})
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := q.Response(&k.Metadata, &wire.AssertResult{AuthenticatorData: a.AuthenticatorData, Signature: a.Signature, PRF: a.PRF}, false)
	if err != nil {
		r.t.Fatal(err)
	}
	r.finish("/sign-in/finish", user, response)
}

// The whole story: one person, three devices, a thief, and everything restarted in
// between.
func TestStory(t *testing.T) {
	t.Parallel()
	s, site := newService(t, options{}), newRelyingParty(t)
	laptop := s.enrolled("alice")
	made := site.register(laptop, "alice")
	site.signIn(laptop, "alice")

	phone := s.joined("alice", "phone", pin)
	site.signIn(phone, "alice")
	if n := laptop.sync().Notices; len(n) != 1 || n[0].Kind != ledger.KindJoin || n[0].Device != phone.ID() || n[0].Name != "phone" {
		t.Fatalf("the laptop is told of the join by %+v", n)
	}

	// What a device that joined by PIN today may not do.
	wantCode(t, phone.Revoke(t.Context(), laptop.ID()), wire.CodeYoung)
	wantCode(t, phone.PINSet(t.Context(), newPIN), wire.CodeYoung)

	// The success of the phone took its own attempt back: three are left.
	thief := s.newDevice("alice")
	for left := uint64(2); left > 0; left-- {
		_, err := thief.Join(t.Context(), "thief", wrongPIN)
		wantLeft(t, err, wire.CodePINWrong, left)
	}
	_, err := thief.Join(t.Context(), "thief", wrongPIN)
	wantLeft(t, err, wire.CodePINLocked, 0)
	_, err = thief.Join(t.Context(), "thief", pin)
	wantLeft(t, err, wire.CodePINLocked, 0)
	s.restart()
	_, err = thief.Join(t.Context(), "thief", pin)
	wantLeft(t, err, wire.CodePINLocked, 0)
	site.signIn(phone, "alice") // a lock is on joining; members go on, also with an enclave that is new

	if err := laptop.PINSet(t.Context(), newPIN); err != nil {
		t.Fatal(err)
	}
	_, err = thief.Join(t.Context(), "thief", pin)
	wantLeft(t, err, wire.CodePINWrong, 2)
	tablet := s.joined("alice", "tablet", newPIN)
	site.signIn(tablet, "alice")

	if err := laptop.Revoke(t.Context(), phone.ID()); err != nil {
		t.Fatal(err)
	}
	_, err = phone.Assert(t.Context(), client.AssertRequest{Handle: made.Handle})
	wantCode(t, err, wire.CodeUnknownDevice)
	if !phone.Status().Removed {
		t.Error("the phone does not know that it was revoked")
	}
	if r := tablet.sync(); !r.NewEpoch || r.Epoch != 3 || len(laptop.sync().Notices) == 0 {
		t.Fatalf("after a PIN set and a revocation the tablet reports %+v", r)
	}
	site.signIn(tablet, "alice")
	site.signIn(laptop, "alice")

	// A day later by the issuer's clock the tablet is no longer young.
	tablet.skew.Store(25 * 3600)
	if err := tablet.PINSet(t.Context(), "918273"); err != nil {
		t.Fatal(err)
	}
	if d, err := laptop.Devices(t.Context()); err != nil || len(d) != 2 {
		t.Fatal(d, err)
	}

	want := map[ledger.Kind]uint64{
		ledger.KindEnrol: 1, ledger.KindCreate: 1, ledger.KindJoin: 2, ledger.KindReserve: 6, ledger.KindWrong: 4,
		ledger.KindPINSet: 2, ledger.KindRevoke: 1,
	}
	laptop.sync()
	kinds := laptop.counted()
	delete(kinds, ledger.KindReseal) // how many commits that takes is nobody's promise
	for k, n := range want {
		if kinds[k] != n {
			t.Errorf("%d entries of kind %s, want %d", kinds[k], k, n)
		}
	}
	if len(kinds) != len(want) {
		t.Errorf("the history holds %v", kinds)
	}
	site.signIn(laptop.reopened(s.place(), "alice"), "alice")
	s.whole(1)
}

// Edits reach the other device; old vault epochs are re-sealed to the last record.
func TestPasskeysAcrossEpochs(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	laptop := s.enrolled("bob")
	const many = wire.PageSize + 3
	for n := range many {
		if _, err := laptop.Create(t.Context(), site(string(rune('a'+n%26))+string(rune('a'+n/26)))); err != nil {
			t.Fatal(err)
		}
	}
	phone := s.joined("bob", "phone", pin)
	first := phone.passkeysOf("aa")[0]
	secret, err := phone.PRF(t.Context(), first.Handle, wire.PRF{First: client.PRFInput([]byte("x"))})
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.WriteBlob(t.Context(), first.Handle, []byte("a large blob")); err != nil {
		t.Fatal(err)
	}
	if err := phone.Rename(t.Context(), first.Handle, "mine"); err != nil {
		t.Fatal(err)
	}
	if err := phone.Delete(t.Context(), phone.passkeysOf("ba")[0].Handle); err != nil {
		t.Fatal(err)
	}
	if err := laptop.Revoke(t.Context(), phone.ID()); err != nil {
		t.Fatal(err)
	}
	if r := laptop.sync(); r.Epoch != 2 || r.Resealed != 0 {
		t.Fatalf("the revocation left records behind: %+v", r)
	}
	s.restart()
	k := laptop.passkeysOf("aa")
	if len(k) != 1 || k[0].Metadata.Label != "mine" || !laptop.passkeysOf("ba")[0].Metadata.Deleted {
		t.Fatalf("the laptop lists %+v", k)
	}
	again, err := laptop.PRF(t.Context(), first.Handle, wire.PRF{First: client.PRFInput([]byte("x"))})
	if err != nil || !bytes.Equal(again.First, secret.First) {
		t.Fatal("the PRF secret did not survive the new epoch", err)
	}
	if b, err := laptop.ReadBlob(t.Context(), first.Handle); err != nil || string(b) != "a large blob" {
		t.Fatalf("large blob %q, %v", b, err)
	}
	if l, err := laptop.List(t.Context()); err != nil || len(l.Passkeys) != many {
		t.Fatal(len(l.Passkeys), err)
	}
	s.whole(1)
}
