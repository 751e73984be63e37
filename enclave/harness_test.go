package enclave

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// world is an enclave with its host, driven without goroutines: tests stand
// between any two steps.
type world struct {
	t      testing.TB
	config *wire.Configuration
	keks   []KEK
	core   *Core
	store  *ledgertest.Store
	ledger ledger.Ledger
	open   func() ledger.Ledger // the ledger as a new process has it; nil: local
	hpke   hpke.PrivateKey
	issuer *ecdsa.PrivateKey
	jwks   *jose.JSONWebKeySet
	now    time.Duration // monotonic
	wall   uint64        // the host's clock
	iat    int64         // the issuer's clock

	// Tests set these to interfere.
	onState  func(*wire.State)            // on the state that the host forwards or loads
	onLoad   func(wire.Need, *wire.State) // on whatever it loads
	onCommit func(*wire.Commit)
	onKeep   func(*Kept)
	effects  []Effect // of the last request, in order
	reply    Reply    // its end

	approvals map[wire.AccountID][][]byte // of discontinued accounts, as the host keeps them
	shown     *wire.Head                  // to people who restore: the newest entry there was
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: ledgertest.NewStore(), now: time.Hour, wall: 1_800_000_000, iat: 1_800_000_000}
	w.config = &wire.Configuration{
		Version: 1,
		Ledger:  wire.LedgerIdentity{ID: random(32), Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers: []wire.Issuer{{Issuer: "https://issuer.example", ClientIDs: []string{"passclave"}, Algorithms: []string{"ES256"}}},
		PIN:     wire.PINConfiguration{ConsecutiveLimit: 3, LifetimeLimit: 8, Argon2id: wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}},
		KeyService: wire.KeyService{
			Attestation: "https://keys.example", Vault: "https://keys.example", Key: "kek",
		},
	}
	w.keks = []KEK{{Version: "v1", Key: random(32)}}
	w.restart()
	w.hpke = must(wire.KEM().GenerateKey())
	w.issuer = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	w.jwks = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: w.issuer.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}}
	return w
}

// restart is a new process of the enclave on the same store.
func (w *world) restart() {
	w.t.Helper()
	core, err := NewCore(w.config, random(32), w.keks)
	if err != nil {
		w.t.Fatal(err)
	}
	w.core = core
	if w.open != nil {
		w.ledger = w.open()
		return
	}
	w.ledger = local.New(func() *ledger.Verifier { return w.core.Verifier() }).Over(w.store)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) state(need wire.Need) wire.State {
	s := w.store.Load(need)
	if w.onState != nil && need.State {
		w.onState(&s)
	}
	if w.onLoad != nil {
		w.onLoad(need, &s)
	}
	return s
}

// run drives one envelope to its reply.
func (w *world) run(raw []byte) (*wire.Opened, *wire.Response) {
	w.t.Helper()
	envelope, err := wire.ParseEnvelope(raw)
	if err != nil {
		w.t.Fatalf("envelope: %v", err)
	}
	opened, err := envelope.Open(w.hpke)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	need := wire.Need{Account: envelope.Header.Account, State: true, Records: envelope.Header.Handles}
	if envelope.Header.Known != nil {
		need.After = &envelope.Header.Known.Sequence
	}
	w.effects = nil
	var state State
	var event Event = Received{Envelope: envelope, Raw: raw, Opened: opened, State: w.state(need), Now: w.wall, Time: w.now}
	for range 100 {
		var effects []Effect
		state, effects = w.core.Step(state, event)
		if len(effects) != 1 {
			w.t.Fatalf("%d effects", len(effects))
		}
		w.effects = append(w.effects, effects[0])
		if reply, ok := effects[0].(Reply); ok {
			w.reply = reply
			return opened, reply.Response
		}
		event = w.do(effects[0])
	}
	w.t.Fatal("request never ends")
	return nil, nil
}

func (w *world) do(e Effect) Event {
	ctx := context.Background()
	switch e := e.(type) {
	case ReadHead:
		h, err := w.ledger.ReadHead(ctx, e.Account, e.Stream, e.Nonce, e.Hint)
		return HeadRead{h, err}
	case Load:
		return Loaded{State: w.state(e.Need)}
	case FetchKeys:
		return KeysFetched{Keys: w.jwks}
	case Keep:
		return w.keep(e.Keep)
	case Commit:
		if w.onCommit != nil {
			w.onCommit(&e.Commit)
		}
		r, err := w.ledger.CompareAndAppend(ctx, &e.Commit)
		return Committed{r, err}
	}
	w.t.Fatalf("effect %T", e)
	return nil
}

// keep is the host's part in a confirmation.
func (w *world) keep(k wire.Keep) Kept {
	if w.approvals == nil {
		w.approvals = map[wire.AccountID][][]byte{}
	}
	if len(k.Approval) > 0 {
		w.approvals[k.Account] = append(w.approvals[k.Account], k.Approval)
	}
	e := Kept{Approvals: slices.Clone(w.approvals[k.Account])}
	if w.onKeep != nil {
		w.onKeep(&e)
	}
	return e
}

// commits counts the writes that the last request asked for.
func (w *world) commits() (n int) {
	for _, e := range w.effects {
		if _, ok := e.(Commit); ok {
			n++
		}
	}
	return n
}

// phone is a device with all its keys.
type phone struct {
	w          *world
	subject    string
	account    wire.AccountID
	id         wire.DeviceID
	key, uvKey *ecdsa.PrivateKey
	platform   *authenticator // instead of uvKey
	encryption hpke.PrivateKey
	number     uint64
	epoch      uint64
	vault      []byte
	notes      []byte
	known      *wire.Head
	meta       map[wire.Handle]wire.VersionID
}

func point(k *ecdsa.PrivateKey) []byte { return must(k.PublicKey.Bytes()) }

func (w *world) device(subject string) *phone {
	p := &phone{w: w, subject: subject, account: w.config.Issuers[0].AccountID(subject), meta: map[wire.Handle]wire.VersionID{}}
	p.key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p.uvKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p.encryption = must(wire.DeviceKEM().GenerateKey())
	p.id = wire.NewDeviceID(p.account, point(p.key))
	return p
}

func (p *phone) keys() wire.DeviceKeys {
	k := wire.DeviceKeys{Device: point(p.key), Encryption: p.encryption.PublicKey().Bytes(), UV: point(p.uvKey)}
	if p.platform != nil {
		k.UV, k.Platform = nil, &p.platform.credential
	}
	return k
}

// ask is one request; tests change what they attack.
type ask struct {
	body    wire.Body
	handles []wire.Handle
	uv      bool
	known   bool
	// attacks
	signWith, uvWith *ecdsa.PrivateKey
	uvRole           wire.Role // of what user verification is made over
	mangle           func(*wire.Request)
}

func (p *phone) ask(commands ...wire.Command) *ask {
	return &ask{body: wire.Body{
		Request: wire.RequestID(random(16)), Device: p.id, Challenge: p.w.core.Challenge(p.w.now),
		Epoch: p.epoch, VaultSecret: p.vault, Commands: commands,
	}, signWith: p.key, uvWith: p.uvKey, uvRole: wire.RoleUV, known: true}
}

func sign(k *ecdsa.PrivateKey, message []byte) []byte {
	d := sha256.Sum256(message)
	return must(ecdsa.SignASN1(rand.Reader, k, d[:]))
}

// envelope seals the request.
func (p *phone) envelope(a *ask) ([]byte, *wire.Sealer) {
	header := wire.Header{Account: p.account, Handles: a.handles}
	if a.known {
		header.Known = p.known
	}
	sealer := must(wire.NewSealer(p.w.hpke.PublicKey(), header))
	body := wire.Marshal(a.body)
	request := wire.Request{Body: body}
	request.DeviceSignature = sign(a.signWith, must(wire.TranscriptMessage(wire.RoleDevice, sealer.Binding(), body)))
	if a.uv {
		message := must(wire.TranscriptMessage(a.uvRole, sealer.Binding(), body))
		if p.platform != nil {
			request.UV = &wire.UserVerification{Platform: p.platform.assert(sha256.Sum256(message))}
		} else {
			request.UV = &wire.UserVerification{Signature: sign(a.uvWith, message)}
		}
	}
	if a.mangle != nil {
		a.mangle(&request)
	}
	return must(sealer.Seal(wire.Marshal(request))), sealer
}

// send runs the request; the answer's error, if any, is the error.
func (p *phone) send(a *ask) (*wire.Response, error) {
	p.w.t.Helper()
	raw, sealer := p.envelope(a)
	opened, r := p.w.run(raw)
	plain := must(sealer.OpenResponse(must(opened.SealResponse(wire.Marshal(r)))))
	var got wire.Response
	if err := wire.Unmarshal(plain, &got); err != nil {
		p.w.t.Fatalf("response: %v", err)
	}
	if got.Error != nil {
		return &got, got.Error
	}
	if got.Newest.Sequence > 0 {
		p.known = &got.Newest
	}
	return &got, nil
}

// change numbers and sends a changing request.
func (p *phone) change(a *ask) (*wire.Response, error) {
	p.w.t.Helper()
	a.body.Number = p.number + 1
	r, err := p.send(a)
	if err == nil {
		p.number++
	}
	return r, err
}

func result[T any](t testing.TB, r *wire.Response, err error) *T {
	t.Helper()
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	if len(r.Results) == 0 {
		t.Fatalf("no results; repeated: %v", r.Repeated)
	}
	v := new(T)
	if err := wire.Unmarshal(r.Results[0], v); err != nil {
		t.Fatal(err)
	}
	return v
}

func wantCode(t testing.TB, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

// login is what an ID token says; tests change what they attack.
type login struct {
	claims map[string]any
	key    any
	alg    jose.SignatureAlgorithm
	kid    string
	age    time.Duration // of its challenge
}

func (p *phone) login(change ...func(*login)) *wire.Login {
	l := &login{key: p.w.issuer, alg: jose.ES256, kid: "1"}
	l.claims = map[string]any{"iss": "https://issuer.example", "sub": p.subject, "aud": "passclave", "iat": p.w.iat, "auth_time": p.w.iat}
	for _, f := range change {
		f(l)
	}
	challenge := p.w.core.Challenge(p.w.now - l.age)
	if _, ok := l.claims["nonce"]; !ok {
		l.claims["nonce"] = wire.LoginNonce(point(p.key), challenge)
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: l.alg, Key: jose.JSONWebKey{Key: l.key, KeyID: l.kid}}, nil))
	return &wire.Login{Token: must(must(signer.Sign(must(json.Marshal(l.claims)))).CompactSerialize()), Challenge: challenge}
}

func (p *phone) ticketAsk(l *wire.Login) *ask {
	a := p.ask(wire.NewCommand(wire.CommandTicket, wire.Ticket{DeviceKey: point(p.key)}))
	a.body.Login, a.body.VaultSecret, a.body.Epoch = l, nil, 0
	return a
}

func (p *phone) ticket() *wire.TicketResult {
	p.w.t.Helper()
	r, err := p.send(p.ticketAsk(p.login()))
	return result[wire.TicketResult](p.w.t, r, err)
}

// stretch stands for Argon2id, which is the client's work.
func stretch(pin string, salt []byte) []byte {
	h := wire.Hash("test stretch", pin, salt)
	return h[:]
}

func (p *phone) enrolAsk(pin string) *ask {
	p.w.t.Helper()
	k := p.ticket()
	a := p.ask(wire.NewCommand(wire.CommandEnrol, wire.Enrol{
		Ticket: k.Ticket, StretchedPIN: stretch(pin, k.FreshSalt), Keys: p.keys(), Name: p.subject + "'s first",
	}))
	a.uv, a.body.Number = true, 1
	return a
}

func (p *phone) member(m *wire.Membership) {
	p.epoch, p.vault, p.notes = m.Epoch, m.VaultSecret, m.NotesKey
}

func (p *phone) enrol(pin string) *phone {
	p.w.t.Helper()
	r, err := p.change(p.enrolAsk(pin))
	p.member(result[wire.Membership](p.w.t, r, err))
	return p
}

func (p *phone) joinAsk(pin string) *ask {
	p.w.t.Helper()
	k := p.ticket()
	a := p.ask(wire.NewCommand(wire.CommandJoin, wire.Join{
		Ticket: k.Ticket, StretchedPIN: stretch(pin, k.Salt), Keys: p.keys(), Name: p.subject + "'s next",
	}))
	a.uv, a.body.Number = true, 1
	return a
}

func (p *phone) join(pin string) error {
	p.w.t.Helper()
	r, err := p.change(p.joinAsk(pin))
	if err != nil {
		return err
	}
	p.member(result[wire.Membership](p.w.t, r, err))
	return nil
}

func (p *phone) createAsk() *ask {
	a := p.ask(wire.NewCommand(wire.CommandCreate, wire.Create{
		RPID: "rp.example", RPName: "RP", UserHandle: []byte("user"), UserName: p.subject, Algorithms: []int64{-7}, Created: 1,
	}))
	a.uv = true
	return a
}

func (p *phone) create() *wire.CreateResult {
	p.w.t.Helper()
	r, err := p.change(p.createAsk())
	c := result[wire.CreateResult](p.w.t, r, err)
	p.meta[c.Handle] = c.Version
	return c
}

func (p *phone) assertAsk(h wire.Handle) *ask {
	a := p.ask(wire.NewCommand(wire.CommandAssert, wire.Assert{Handle: h, RPID: "rp.example", ClientDataHash: sha256.Sum256([]byte("client data"))}))
	a.handles, a.uv = []wire.Handle{h}, true
	return a
}

func (p *phone) assert(h wire.Handle) error {
	p.w.t.Helper()
	_, err := p.send(p.assertAsk(h))
	return err
}

func (p *phone) sync() (*wire.SyncResult, error) {
	p.w.t.Helper()
	a := p.ask(wire.NewCommand(wire.CommandSync, wire.Sync{}))
	a.body.VaultSecret, a.body.Epoch = nil, 0
	r, err := p.send(a)
	if err != nil {
		return nil, err
	}
	s := result[wire.SyncResult](p.w.t, r, err)
	scope := wire.Scope{Ledger: p.w.config.Ledger.ID, Account: p.account, Generation: s.Generation, Epoch: s.Epoch}
	p.vault = must(wire.OpenVaultSecret(p.encryption, scope, p.id, s.Envelope))
	p.epoch, p.notes = s.Epoch, s.NotesKey
	if s.Last != nil {
		p.number = s.Last.Number
	}
	return s, nil
}

// counts reads the newest note as a device would.
func (p *phone) counts() *ledger.Note {
	p.w.t.Helper()
	entries := p.w.store.Accounts[p.account].Entries
	e := must(ledger.ParseEntry(entries[len(entries)-1]))
	return must(ledger.OpenNote(p.notes, p.account, e))
}
