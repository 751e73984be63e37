package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// device is a device of an account with its keys in the clear.
type device struct {
	account    wire.AccountID
	id         wire.DeviceID
	key, uv    *ecdsa.PrivateKey
	encryption hpke.PrivateKey // nil for seeded devices
	vault      []byte
	epoch      uint64
	number     uint64 // of the last changing request
	known      *wire.Head
	handles    []wire.Handle
}

// newDevice makes a device that is not a member of its account yet.
func newDevice(account wire.AccountID) *device {
	d := &device{account: account, key: newKey(), uv: newKey()}
	d.id = wire.NewDeviceID(account, point(d.key))
	var err error
	if d.encryption, err = wire.DeviceKEM().GenerateKey(); err != nil {
		panic(err) // only without randomness
	}
	return d
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // only without randomness
	}
	return key
}

func point(k *ecdsa.PrivateKey) []byte {
	b, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err) // the key was made here
	}
	return b
}

func (d *device) publicKeys() wire.DeviceKeys {
	return wire.DeviceKeys{Device: point(d.key), Encryption: d.encryption.PublicKey().Bytes(), UV: point(d.uv)}
}

// session is the enclave as its newest evidence names it. The evidence is not
// verified here: whoever measures started the enclave himself.
type session struct {
	key       hpke.PublicKey
	challenge []byte
}

func newSession(attested []byte) (*session, error) {
	var a wire.Attestation
	if err := wire.Unmarshal(attested, &a); err != nil {
		return nil, err
	}
	bundle, err := attestation.ParseBundle(a.Evidence)
	if err != nil {
		return nil, err
	}
	data, err := attestation.ParseRuntimeData(bundle.RuntimeData)
	if err != nil {
		return nil, err
	}
	key, err := wire.KEM().NewPublicKey(data.HPKE)
	return &session{key, a.Challenge}, err
}

// ask is one request before it is sealed.
type ask struct {
	device  *device
	handles []wire.Handle
	member  bool // brings the vault secret
	change  bool // numbered
	uv      bool
	login   *wire.Login
	command wire.Command
}

// prepared is a sealed request, and its answer once it was sent.
type prepared struct {
	envelope []byte
	device   *device
	sealer   *wire.Sealer
	answer   []byte
}

// prepare seals a request. The enclave takes it for two minutes.
func (s *session) prepare(a ask) (*prepared, error) {
	d := a.device
	sealer, err := wire.NewSealer(s.key, wire.Header{Account: d.account, Handles: a.handles, Known: d.known})
	if err != nil {
		return nil, err
	}
	body := wire.Body{Device: d.id, Challenge: s.challenge, Login: a.login, Commands: []wire.Command{a.command}}
	rand.Read(body.Request[:])
	if a.member {
		body.Epoch, body.VaultSecret = d.epoch, d.vault
	}
	if a.change {
		body.Number = d.number + 1
	}
	request := wire.Request{Body: wire.Marshal(body)}
	if request.DeviceSignature, err = sign(d.key, wire.RoleDevice, sealer, request.Body); err != nil {
		return nil, err
	}
	if a.uv {
		request.UV = &wire.UserVerification{}
		if request.UV.Signature, err = sign(d.uv, wire.RoleUV, sealer, request.Body); err != nil {
			return nil, err
		}
	}
	p := &prepared{device: d, sealer: sealer}
	p.envelope, err = sealer.Seal(wire.Marshal(request))
	return p, err
}

func sign(key *ecdsa.PrivateKey, role wire.Role, s *wire.Sealer, body []byte) ([]byte, error) {
	message, err := wire.TranscriptMessage(role, s.Binding(), body)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, key, digest[:])
}

// response opens the answer. A refusal is an error.
func (p *prepared) response() (*wire.Response, error) {
	plain, err := p.sealer.OpenResponse(p.answer)
	if err != nil {
		return nil, err
	}
	var r wire.Response
	if err := wire.Unmarshal(plain, &r); err != nil {
		return nil, err
	}
	if r.Error != nil {
		return nil, r.Error
	}
	if len(r.Results) != 1 {
		return nil, fmt.Errorf("%d results of one command", len(r.Results))
	}
	p.device.known = &r.Newest
	return &r, nil
}

// open opens the answer and decodes the command's result.
func (p *prepared) open(result any) error {
	r, err := p.response()
	if err != nil {
		return err
	}
	return wire.Unmarshal(r.Results[0], result)
}

var clientDataHash = wire.Digest(sha256.Sum256([]byte("client data")))

func (d *device) assert(handle wire.Handle) ask {
	return ask{device: d, handles: []wire.Handle{handle}, member: true, uv: true, command: wire.NewCommand(wire.CommandAssert,
		wire.Assert{Handle: handle, RPID: seededRP, ClientDataHash: clientDataHash})}
}

func (d *device) create() ask {
	return ask{device: d, member: true, change: true, uv: true, command: wire.NewCommand(wire.CommandCreate, wire.Create{
		ClientDataHash: clientDataHash, RPID: seededRP, RPName: "Example", UserHandle: d.id[:], UserName: "alice@example.org",
		DisplayName: "Alice", Algorithms: []int64{-7}, Created: seededAt,
	})}
}

func (d *device) ticket(l *wire.Login) ask {
	return ask{device: d, login: l, command: wire.NewCommand(wire.CommandTicket, wire.Ticket{DeviceKey: point(d.key)})}
}

func (d *device) enrol(t *wire.TicketResult, pin string) ask {
	return ask{device: d, change: true, uv: true, command: wire.NewCommand(wire.CommandEnrol, wire.Enrol{
		Ticket: t.Ticket, StretchedPIN: stretch(pin, t.FreshSalt), Keys: d.publicKeys(), Name: "laptop",
	})}
}

func (d *device) join(t *wire.TicketResult, pin string) ask {
	return ask{device: d, change: true, uv: true, command: wire.NewCommand(wire.CommandJoin, wire.Join{
		Ticket: t.Ticket, StretchedPIN: stretch(pin, t.Salt), Keys: d.publicKeys(), Name: "phone",
	})}
}

// stretch stands for Argon2id, which is the client's work: the enclave cannot tell.
func stretch(pin string, salt []byte) []byte {
	h := wire.Hash("bench stretch", pin, salt)
	return h[:]
}
