package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// fake is a service in one process: enclave, ledger, store and host, with one
// account. It does what it must so that the client goes its way, and its hooks lie.
type fake struct {
	lost     bool            // the ledger lost its memory of the account
	approved []wire.DeviceID // devices that approved what is offered
	gone     []byte          // the newest entry there was, where the host went back to an older state
	brought  bool            // a device that approved has seen it

	t       *testing.T
	mu      sync.Mutex
	config  *wire.Configuration
	kem     hpke.PrivateKey
	ledger  []ed25519.PrivateKey
	signers []ledger.Signer
	account *fakeAccount
	clock   int                // makes challenges differ
	sent    []wire.CommandName // of every envelope that was opened

	// Hooks; nil does nothing.
	bundle   func(nonce []byte) []byte          // evidence; the nonce alone where nil, which fakeJudge takes
	evidence func(*Evidence)                    // what the "enclave" claims
	mute     bool                               // refusals show no history
	refuse   func(path string) (int, wire.Code) // the host, before anything; status 0: go on
	lose     func(wire.CommandName) bool        // the answer, after the command was done
	delay    func(wire.CommandName) bool        // the request: answer "unavailable", do it later with release
	respond  func(*wire.Body, *wire.Response)   // the enclave's answer, before it is sealed
	sealed   func([]byte) []byte                // the sealed answer on its way
	feed     func(*wire.FeedPage)               // the feed
	held     [][]byte
}

type fakeAccount struct {
	id       wire.AccountID
	epoch    uint64
	keys     map[uint64][]byte // account keys
	vault    map[uint64][]byte
	previous [][]byte
	entries  [][]byte
	devices  []*fakeDevice
	records  map[wire.Handle]*fakeRecord
	manifest []byte
	listed   uint64 // sequence of the newest manifest
	pin      []byte
	wrong    uint64
}

type fakeDevice struct {
	id     wire.DeviceID
	keys   wire.DeviceKeys
	name   string
	last   *wire.Outcome
	young  bool
	joined uint64
}

type fakeRecord struct {
	record   wire.Record
	encoded  []byte
	metadata wire.Metadata
	changed  uint64
}

var cheap = wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}

const (
	testPIN    = "482915"
	testCode   = "code"
	testIssuer = "https://issuer.test"
)

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t}
	id := make([]byte, 32)
	rand.Read(id)
	f.config = &wire.Configuration{
		Version:    1,
		Ledger:     wire.LedgerIdentity{ID: id, Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers:    []wire.Issuer{{Issuer: testIssuer, ClientIDs: []string{"cli"}, Algorithms: []string{"ES256"}}},
		PIN:        wire.PINConfiguration{ConsecutiveLimit: 10, LifetimeLimit: 100, Argon2id: cheap},
		KeyService: wire.KeyService{Attestation: "https://broker.test", Vault: "https://broker.test", Key: "kek"},
	}
	f.newKey()
	f.ledger, f.signers = ledger.Succession(id, [][]byte{[]byte("kek")})
	return f
}

func (f *fake) newKey() {
	var err error
	if f.kem, err = wire.KEM().GenerateKey(); err != nil {
		f.t.Fatal(err)
	}
}

// judge is what the client gets instead of a trust policy.
type fakeJudge struct {
	f        *fake
	backends []string
	refusal  error
}

func (j *fakeJudge) judge(bundle []byte, _ time.Time) (*Evidence, error) {
	if j.refusal != nil {
		return nil, j.refusal
	}
	e := &Evidence{Configuration: j.f.config, HPKE: j.f.kem.PublicKey().Bytes(), Signers: j.f.signers, Nonce: bundle}
	if j.f.evidence != nil {
		j.f.evidence(e)
	}
	return e, nil
}

func (j *fakeJudge) genesis() *pinnedLedger { return nil }

func (j *fakeJudge) freshness(backend string) bool { return slices.Contains(j.backends, backend) }

func (f *fake) options(s Storage, user string) Options {
	return Options{
		Storage: s,
		HTTP:    &http.Client{Transport: f},
		Login: func(_ context.Context, r LoginRequest) (string, error) {
			claims := fmt.Sprintf(`{"iss":%q,"sub":%q,"nonce":%q}`, r.Issuer.Issuer, user, r.Nonce)
			return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".e30", nil
		},
		Code:     func(context.Context, CodeRequest) (string, error) { return testCode, nil },
		CodeCost: cheap,
		newJudge: func([]byte) (judge, error) { return &fakeJudge{f: f, backends: []string{wire.BackendLocal}}, nil },
	}
}

// device is a new device of the user alice that does not wait between tries.
func (f *fake) device() *Device {
	f.t.Helper()
	d, err := New(f.t.Context(), "http://service.test", []byte("policy"), f.options(&MemoryStorage{}, "alice"))
	if err != nil {
		f.t.Fatal(err)
	}
	d.wait = func(context.Context, time.Duration) error { return nil }
	return d
}

// again opens the device's profile anew, as after a crash.
func (f *fake) again(d *Device) *Device {
	f.t.Helper()
	n, err := Open(f.t.Context(), d.options)
	if err != nil {
		f.t.Fatal(err)
	}
	n.wait = d.wait
	return n
}

func (f *fake) enrolled() *Device {
	f.t.Helper()
	d := f.device()
	if _, err := d.Enrol(f.t.Context(), "laptop", testPIN); err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (f *fake) joined() *Device {
	f.t.Helper()
	d := f.device()
	if _, err := d.Join(f.t.Context(), "phone", testPIN); err != nil {
		f.t.Fatal(err)
	}
	return d
}

// RoundTrip is the host.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		switch status, code := f.refuse(r.URL.Path); {
		case status < 0:
			return nil, errors.New("connection lost")
		case status > 0:
			return answerHTTP(status, wire.Marshal(wire.Error{Code: code})), nil
		}
	}
	switch r.URL.Path {
	case "/v1/attestation":
		var nonce wire.Base64
		if err := nonce.UnmarshalText([]byte(r.URL.Query().Get("nonce"))); err != nil {
			f.t.Error(err)
		}
		evidence := []byte(nonce)
		if f.bundle != nil {
			evidence = f.bundle(nonce)
		}
		return answerHTTP(200, wire.Marshal(wire.Attestation{Evidence: evidence, Challenge: f.challenge()})), nil
	case "/v1/request":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		return f.request(body)
	case "/v1/feed":
		return f.feedPage(r)
	}
	return answerHTTP(404, nil), nil
}

func answerHTTP(status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
}

func (f *fake) challenge() []byte {
	f.clock++
	return fmt.Appendf(nil, "challenge %d", f.clock)
}

func (f *fake) request(raw []byte) (*http.Response, error) {
	e, err := wire.ParseEnvelope(raw)
	if err != nil {
		f.t.Error(err)
		return answerHTTP(400, nil), nil
	}
	if e.Header.Key != wire.NewKeyID(f.kem.PublicKey().Bytes()) {
		return answerHTTP(409, wire.Marshal(wire.Error{Code: wire.CodeUnknownKey})), nil
	}
	o, err := e.Open(f.kem)
	if err != nil {
		f.t.Error(err)
		return answerHTTP(400, nil), nil
	}
	var q wire.Request
	if err := wire.Unmarshal(o.Plaintext, &q); err != nil {
		f.t.Error(err)
		return answerHTTP(400, nil), nil
	}
	body, err := wire.ParseBody(q.Body)
	if err != nil {
		f.t.Error(err)
		return answerHTTP(400, nil), nil
	}
	name := body.Commands[0].Name
	f.sent = append(f.sent, name)
	if f.delay != nil && f.delay(name) {
		f.held = append(f.held, raw)
		return answerHTTP(503, wire.Marshal(wire.Error{Code: wire.CodeUnavailable})), nil
	}
	c := &fakeCall{f: f, raw: raw, header: e.Header, request: &q, body: body, opened: o}
	response := c.run()
	if f.respond != nil {
		f.respond(body, response)
	}
	if f.lose != nil && f.lose(name) {
		return nil, errors.New("connection lost")
	}
	sealed, err := o.SealResponse(wire.Marshal(response))
	if err != nil {
		f.t.Error(err)
		return answerHTTP(500, nil), nil
	}
	if f.sealed != nil {
		sealed = f.sealed(sealed)
	}
	return answerHTTP(200, sealed), nil
}

// release does the requests that were held back.
func (f *fake) release() {
	f.delay = nil
	held := f.held
	f.held = nil
	for _, raw := range held {
		f.mu.Lock()
		f.request(raw)
		f.mu.Unlock()
	}
}

func (f *fake) feedPage(r *http.Request) (*http.Response, error) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		f.t.Error(err)
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		return answerHTTP(401, nil), nil
	}
	page := &wire.FeedPage{Manifest: f.account.manifest, Next: f.account.newest().Sequence}
	for _, k := range f.account.records {
		if k.changed > after {
			page.Records = append(page.Records, k.encoded)
		}
	}
	if f.feed != nil {
		f.feed(page)
	}
	return answerHTTP(200, wire.Marshal(page)), nil
}

// count returns how often a command was sent.
func (f *fake) count(name wire.CommandName) (n int) {
	for _, s := range f.sent {
		if s == name {
			n++
		}
	}
	return n
}

func wantCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if wire.CodeOf(err) != code {
		t.Fatalf("got %v, want code %q", err, code)
	}
}
