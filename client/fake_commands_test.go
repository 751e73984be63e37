package client

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"slices"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// fakeCall is one request inside the fake's enclave.
type fakeCall struct {
	f       *fake
	raw     []byte
	header  wire.Header
	request *wire.Request
	body    *wire.Body
	opened  *wire.Opened
	device  *fakeDevice
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (c *fakeCall) run() *wire.Response {
	f := c.f
	r := &wire.Response{Request: c.body.Request, Challenge: f.challenge(), Freshness: wire.FreshnessLocal}
	result, again, err := c.do()
	if err != nil {
		r.Error = &wire.Error{Code: err.Code, AttemptsLeft: err.AttemptsLeft}
		if a := f.account; a != nil && err.Code != wire.CodeDiscontinued && err.Code != wire.CodeRollback && c.header.Known != nil && !f.mute {
			r.Newest, r.Entries = a.newest(), a.after(c.header.Known)
		}
		return r
	}
	if r.Repeated = again; again == nil {
		r.Results = [][]byte{wire.Marshal(result)}
	}
	if c.body.Commands[0].Name == wire.CommandTicket {
		return r
	}
	a := f.account
	r.Newest = a.newest()
	if c.header.Known != nil && c.device != nil {
		r.Entries = a.after(c.header.Known)
	}
	return r
}

func (a *fakeAccount) after(known *wire.Head) [][]byte {
	from := 0
	for from < len(a.entries) && sequence(a.entries[from]) <= known.Sequence {
		from++
	}
	return a.entries[from:min(len(a.entries), from+wire.MaxEntries)]
}

func sequence(entry []byte) uint64 {
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		panic(err)
	}
	return e.Sequence
}

func (a *fakeAccount) newest() wire.Head {
	if len(a.entries) == 0 {
		return wire.Head{}
	}
	return placeOf(a.entries[len(a.entries)-1])
}

func placeOf(entry []byte) wire.Head {
	return wire.Head{Sequence: sequence(entry), Hash: ledger.EntryHash(entry)}
}

func (f *fake) scope(epoch uint64) wire.Scope {
	return wire.Scope{Ledger: f.config.Ledger.ID, Account: f.account.id, Generation: 1, Epoch: epoch}
}

// entry appends a ledger entry.
func (f *fake) entry(request wire.Digest, n ledger.Note) {
	f.entryAfter(f.account.newest(), nil, request, n)
}

func (f *fake) entryAfter(at wire.Head, restored *wire.Head, request wire.Digest, n ledger.Note) {
	a := f.account
	e := ledger.Entry{
		Ledger: f.config.Ledger.ID, Stream: wire.Stream(f.config.Ledger.ID, a.id), Sequence: at.Sequence + 1, Previous: at.Hash,
		Generation: 1, Epoch: a.epoch, Request: request, Restored: restored,
	}
	e.Note = ledger.SealNote(wire.NotesKey(a.keys[a.epoch]), f.scope(a.epoch), e.Sequence, n)
	a.entries = append(a.entries, e.Sign(f.ledger[len(f.ledger)-1]))
}

// commit appends an entry and makes a manifest.
func (f *fake) commit(request wire.Digest, n ledger.Note) {
	f.entry(request, n)
	f.list()
}

// list makes the manifest of what stands.
func (f *fake) list() {
	a := f.account
	m := wire.Manifest{Sequence: a.newest().Sequence}
	a.listed = m.Sequence
	for h, k := range a.records {
		if k.changed == 0 {
			k.changed = m.Sequence
		}
		m.Records = append(m.Records, wire.Listed{Handle: h, Version: k.record.Version, Record: wire.RecordHash(k.encoded)})
	}
	a.manifest = wire.SealManifest(a.vault[a.epoch], f.scope(a.epoch), m)
}

func (f *fake) newEpoch() {
	a := f.account
	next := random(32)
	if a.epoch > 0 {
		p := wire.Previous{VaultSecret: a.vault[a.epoch], NotesKey: wire.NotesKey(a.keys[a.epoch])}
		a.previous = append([][]byte{wire.SealPrevious(next, f.scope(a.epoch+1), p)}, a.previous...)
	}
	a.epoch++
	a.vault[a.epoch], a.keys[a.epoch] = next, random(32)
}

func (f *fake) put(k *fakeRecord) {
	a := f.account
	k.record.Version, k.record.Generation, k.record.Epoch = wire.VersionID(random(16)), 1, a.epoch
	k.record.Metadata = wire.SealBox(wire.MetadataKey(a.vault[a.epoch]), wire.LabelMetadata, f.scope(a.epoch),
		wire.PadBox(wire.Marshal(k.metadata), wire.MetadataBucket), k.record.Handle, k.record.Version)
	k.record.Secret = []byte("sealed")
	k.encoded, k.changed = wire.Marshal(k.record), 0
	a.records[k.record.Handle] = k
}

func refusal(code wire.Code) *wire.Error { return &wire.Error{Code: code} }

func arguments[A any](c *fakeCall) *A {
	a := new(A)
	if err := wire.Unmarshal(c.body.Commands[0].Arguments, a); err != nil {
		c.f.t.Error(err)
	}
	return a
}

func (c *fakeCall) signed(key []byte, role wire.Role, signature []byte) bool {
	return wire.VerifySignature(key, wire.Transcript(role, c.opened.Binding, c.body, c.request.Body), signature)
}

func (c *fakeCall) uv() bool {
	return c.request.UV != nil && c.signed(c.device.keys.UV, wire.RoleUV, c.request.UV.Signature)
}

// possesses takes for an assertion what only names the right challenge: the fake
// verifies no WebAuthn.
func (c *fakeCall) possesses(args *wire.ReplaceUV) bool {
	key := args.UV
	if args.Platform != nil {
		key = args.Platform.PublicKey
	}
	digest := wire.UVPossession(c.f.account.id, c.device.id, key)
	switch p := args.Possession; {
	case p == nil:
		return false
	case args.Platform != nil:
		return p.Platform != nil && bytes.Equal(p.Platform.ClientDataJSON, digest[:])
	default:
		return wire.VerifySignature(key, digest, p.Signature)
	}
}

var fakeChanges = map[wire.CommandName]bool{
	wire.CommandCreate: true, wire.CommandRename: true, wire.CommandDelete: true, wire.CommandPINSet: true,
	wire.CommandRevoke: true, wire.CommandReseal: true, wire.CommandReplaceUV: true,
}

func (c *fakeCall) do() (result any, again *wire.Outcome, refused *wire.Error) {
	f, name := c.f, c.body.Commands[0].Name
	switch name {
	case wire.CommandTicket:
		return c.ticket(), nil, nil
	case wire.CommandEnrol:
		return c.admit(arguments[wire.Enrol](c), false)
	case wire.CommandJoin:
		j := wire.Enrol(*arguments[wire.Join](c))
		return c.admit(&j, true)
	}
	if f.account == nil || f.account.id != c.header.Account {
		return nil, nil, refusal(wire.CodeNoAccount)
	}
	for _, d := range f.account.devices {
		if d.id == c.body.Device {
			c.device = d
		}
	}
	if c.device == nil {
		return nil, nil, refusal(wire.CodeUnknownDevice)
	}
	if !c.signed(c.device.keys.Device, wire.RoleDevice, c.request.DeviceSignature) {
		return nil, nil, refusal(wire.CodeSignature)
	}
	if name == wire.CommandConfirm {
		return c.confirm()
	}
	if f.lost {
		return nil, nil, refusal(wire.CodeDiscontinued)
	}
	if f.gone != nil {
		return nil, nil, refusal(wire.CodeRollback)
	}
	if fakeChanges[name] {
		switch last := c.device.last.Number; {
		case c.body.Number == last:
			return nil, c.device.last, nil
		case c.body.Number != last+1:
			return nil, nil, refusal(wire.CodeNumber)
		}
	}
	a := f.account
	brought := len(c.body.VaultSecret) > 0 && c.body.Epoch >= a.epoch
	if brought || name != wire.CommandSync && name != wire.CommandHistory {
		if c.body.Epoch != a.epoch {
			return nil, nil, refusal(wire.CodeEpoch)
		}
		if !bytes.Equal(c.body.VaultSecret, a.vault[a.epoch]) {
			return nil, nil, refusal(wire.CodeVaultSecret)
		}
	}
	return c.member(name)
}

// confirm counts approvals of the head in force.
func (c *fakeCall) confirm() (any, *wire.Outcome, *wire.Error) {
	f, at, args := c.f, c.f.account.newest(), arguments[wire.Confirm](c)
	if !f.lost && !args.Restore || f.gone == nil && args.Restore {
		return wire.ConfirmResult{Confirmed: true, Offered: at}, nil, nil
	}
	known := args.Restore && bytes.Equal(args.Newest, f.gone)
	if approve := args.Approve; approve != nil {
		switch {
		case args.Restore && !bytes.Equal(c.body.VaultSecret, f.account.vault[f.account.epoch]):
			return nil, nil, refusal(wire.CodeVaultSecret)
		case *approve != at || args.Restore && (args.Lost == nil || *args.Lost != placeOf(f.gone)):
			return nil, nil, refusal(wire.CodeConflict)
		case !c.uv():
			return nil, nil, refusal(wire.CodeUVRequired)
		case c.body.Login == nil:
			return nil, nil, refusal(wire.CodeLoginRequired)
		}
		f.approved = append(f.approved, c.device.id)
		f.brought = f.brought || known
	}
	needed := len(f.account.devices)/2 + 1
	r := wire.ConfirmResult{Offered: at, Needed: uint64(needed)}
	for _, d := range f.account.devices {
		r.Devices = append(r.Devices, wire.ConfirmDevice{ID: d.id, Name: d.name, Approved: slices.Contains(f.approved, d.id)})
	}
	if args.Restore {
		lost := placeOf(f.gone)
		r.Lost, r.Known = &lost, known || f.brought
		if len(f.approved) >= needed && r.Known && args.Approve != nil {
			f.entryAfter(lost, &at, wire.Digest{}, ledger.Note{Kind: ledger.KindRestore, Device: c.device.id, Name: c.device.name})
			f.list()
			f.gone, f.approved = nil, nil
			r.Confirmed, r.Offered = true, f.account.newest()
		}
		return r, nil, nil
	}
	if len(f.approved) >= needed {
		f.lost = false
		f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindConfirm, Device: c.device.id, Name: c.device.name})
		r.Confirmed, r.Offered = true, f.account.newest()
	}
	return r, nil, nil
}

func (c *fakeCall) ticket() any {
	salt := bytes.Repeat([]byte{7}, wire.SaltSize)
	return wire.TicketResult{Ticket: []byte("ticket"), Salt: salt, FreshSalt: salt, Argon2id: cheap, FreshParams: cheap, AttemptsLeft: 10}
}

func (c *fakeCall) admit(args *wire.Enrol, join bool) (any, *wire.Outcome, *wire.Error) {
	f := c.f
	if !c.signed(args.Keys.Device, wire.RoleDevice, c.request.DeviceSignature) || c.request.UV == nil ||
		!c.signed(args.Keys.UV, wire.RoleUV, c.request.UV.Signature) || c.body.Number != 1 {
		return nil, nil, refusal(wire.CodeSignature)
	}
	kind := ledger.KindEnrol
	hash := wire.Hash("envelope", c.raw)
	if join {
		kind = ledger.KindJoin
		if f.account == nil {
			return nil, nil, refusal(wire.CodeNoAccount)
		}
		a := f.account
		a.wrong++
		f.entry(hash, ledger.Note{Kind: ledger.KindReserve, Consecutive: a.wrong, Device: c.body.Device, Name: args.Name})
		if !bytes.Equal(a.pin, args.StretchedPIN) {
			left := 10 - a.wrong
			f.entry(hash, ledger.Note{Kind: ledger.KindWrong, Consecutive: a.wrong, Device: c.body.Device, Name: args.Name, Attempt: a.newest().Sequence})
			return nil, nil, &wire.Error{Code: wire.CodePINWrong, AttemptsLeft: &left}
		}
		a.wrong = 0
	} else {
		if f.account != nil {
			return nil, nil, refusal(wire.CodeAccountExists)
		}
		f.account = &fakeAccount{
			id: c.header.Account, keys: map[uint64][]byte{}, vault: map[uint64][]byte{}, records: map[wire.Handle]*fakeRecord{}, pin: args.StretchedPIN,
		}
		f.newEpoch()
	}
	a := f.account
	a.devices = append(a.devices, &fakeDevice{id: c.body.Device, keys: args.Keys, name: args.Name, last: &wire.Outcome{Number: 1}})
	f.commit(hash, ledger.Note{Kind: kind, Device: c.body.Device, Name: args.Name, Attempt: a.newest().Sequence})
	return c.membership(), nil, nil
}

func (c *fakeCall) membership() wire.Membership {
	a := c.f.account
	return wire.Membership{Generation: 1, Epoch: a.epoch, VaultSecret: a.vault[a.epoch], NotesKey: wire.NotesKey(a.keys[a.epoch]), FeedToken: []byte("token")}
}

func (c *fakeCall) member(name wire.CommandName) (any, *wire.Outcome, *wire.Error) {
	f, a := c.f, c.f.account
	hash := wire.Hash("envelope", c.raw)
	done := func(kind ledger.Kind, k *fakeRecord) {
		c.device.last = &wire.Outcome{Number: c.body.Number}
		if k != nil {
			c.device.last.Handle, c.device.last.Version = &k.record.Handle, &k.record.Version
		}
		f.commit(hash, ledger.Note{Kind: kind, Device: c.device.id, Name: c.device.name})
	}
	switch name {
	case wire.CommandSync:
		envelope, err := wire.SealVaultSecret(c.device.keys.Encryption, f.scope(a.epoch), c.device.id, a.vault[a.epoch])
		if err != nil {
			f.t.Error(err)
		}
		r := wire.SyncResult{
			Generation: 1, Epoch: a.epoch, Envelope: envelope, Previous: a.previous, FeedToken: []byte("token"),
			Manifest: a.manifest, Last: c.device.last, Young: c.device.young, NotesKey: wire.NotesKey(a.keys[a.epoch]),
			Listed: a.listed,
		}
		for h, k := range a.records {
			if k.record.Epoch < a.epoch && len(r.Unsealed) < wire.MaxHandles {
				r.Unsealed = append(r.Unsealed, h)
			}
		}
		return r, nil, nil
	case wire.CommandCreate:
		if !c.uv() {
			return nil, nil, refusal(wire.CodeUVRequired)
		}
		args := arguments[wire.Create](c)
		k := &fakeRecord{record: wire.Record{Handle: wire.Handle(random(16))}, metadata: wire.Metadata{
			CredentialID: random(32), PublicKey: []byte("cose"), RPID: args.RPID, UserHandle: args.UserHandle, UserName: args.UserName, Created: args.Created,
		}}
		f.put(k)
		done(ledger.KindCreate, k)
		return wire.CreateResult{Handle: k.record.Handle, Version: k.record.Version, CredentialID: k.metadata.CredentialID,
			AttestationObject: attestationObject(&k.metadata, true)}, nil, nil
	case wire.CommandRename:
		args := arguments[wire.Rename](c)
		k := a.records[args.Handle]
		if k.record.Version != args.Replaces {
			return nil, nil, refusal(wire.CodeConflict)
		}
		k.metadata.Label = args.Label
		f.put(k)
		done(ledger.KindEdit, k)
		return wire.Edited{Handle: k.record.Handle, Version: k.record.Version}, nil, nil
	case wire.CommandReseal:
		var r wire.ResealResult
		for _, h := range c.header.Handles {
			f.put(a.records[h])
			r.Done = append(r.Done, wire.Edited{Handle: h, Version: a.records[h].record.Version})
		}
		done(ledger.KindReseal, nil)
		for h, k := range a.records {
			if k.record.Epoch < a.epoch && len(r.Left) < wire.MaxHandles {
				r.Left = append(r.Left, h)
			}
		}
		return r, nil, nil
	case wire.CommandAssert:
		args := arguments[wire.Assert](c)
		if !c.uv() {
			return nil, nil, refusal(wire.CodeUVRequired)
		}
		rp := sha256.Sum256([]byte(args.RPID))
		return wire.AssertResult{AuthenticatorData: rp[:], Signature: args.ClientDataHash[:]}, nil, nil
	case wire.CommandPINSet:
		args := arguments[wire.PINSet](c)
		if !c.uv() {
			return nil, nil, refusal(wire.CodeUVRequired)
		}
		a.pin, a.wrong = args.StretchedPIN, 0
		f.newEpoch()
		done(ledger.KindPINSet, nil)
		return c.membership(), nil, nil
	case wire.CommandRevoke:
		args := arguments[wire.Revoke](c)
		if c.device.young && c.body.Login == nil {
			return nil, nil, refusal(wire.CodeYoung)
		}
		var left []*fakeDevice
		for _, d := range a.devices {
			if d.id != args.Device {
				left = append(left, d)
			}
		}
		a.devices = left
		f.newEpoch()
		done(ledger.KindRevoke, nil)
		return c.membership(), nil, nil
	case wire.CommandReplaceUV:
		args := arguments[wire.ReplaceUV](c)
		if !c.uv() {
			return nil, nil, refusal(wire.CodeUVRequired)
		}
		if !c.possesses(args) {
			return nil, nil, refusal(wire.CodeSignature)
		}
		c.device.keys.UV, c.device.keys.Platform = args.UV, args.Platform
		done(ledger.KindReplaceUV, nil)
		return wire.None{}, nil, nil
	case wire.CommandDevices:
		var r wire.DevicesResult
		for _, d := range a.devices {
			r.Devices = append(r.Devices, wire.DeviceInfo{ID: d.id, Name: d.name, Young: d.young, Joined: d.joined})
		}
		return r, nil, nil
	case wire.CommandHistory:
		args := arguments[wire.History](c)
		return wire.HistoryResult{Entries: a.after(&wire.Head{Sequence: args.From - 1})}, nil, nil
	}
	f.t.Errorf("the fake does not know %q", name)
	return nil, nil, refusal(wire.CodeUnknownCommand)
}
