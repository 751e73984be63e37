package enclave

import (
	"crypto/rand"
	"errors"

	"github.com/passclave/passclave/enclave/passkey/platform"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// tx runs the commands of one request on one state of the account.
type tx struct {
	core    *Core
	state   *State
	in      *Received
	body    *wire.Body
	account *account // nil: no live account
	device  *device  // the member that asks; nil for ticket, enrol and join
	command int      // index of the one that runs

	results    [][]byte
	again      *wire.Outcome // this number was done before
	change     *change
	reserve    *attempt    // a PIN attempt is to begin
	confirming *confirming // approvals are to be counted
	who        *person     // the login, once verified

	uvProven    bool
	vaultProven bool
	secrets     *wire.Secrets // of all epochs
}

// change is what a command does to the account: the new head, and what goes with it.
type change struct {
	kind     ledger.Kind
	account  *account // the head in it is the new one, the key that of the new epoch
	previous wire.Head
	restored *wire.Head // the account is taken back to it
	note     ledger.Note
	secret   []byte // vault secret in force afterwards
	commit   wire.Commit
	outcome  *wire.Outcome
}

// begin opens the account and finds out who asks.
func (c *Core) begin(s *State) (*tx, error) {
	t := &tx{core: c, state: s, in: &s.in, body: s.body, command: -1}
	var err error
	t.account, err = c.open(s.in.Envelope.Header.Account, s.at.Head, &s.have)
	if err != nil {
		return t, err
	}
	if stranger(s.body) {
		return t, nil
	}
	if t.account != nil {
		t.device = t.account.head.device(s.body.Device)
	}
	if t.device == nil { // the same for an account that does not exist: nobody has logged in yet
		return t, wire.Errorf(wire.CodeUnknownDevice, "not a member")
	}
	return t, t.signedBy(t.device.Key)
}

// stranger reports whether the request is one that needs no membership. Such a
// command stands alone.
func stranger(b *wire.Body) bool {
	switch b.Commands[0].Name {
	case wire.CommandTicket, wire.CommandEnrol, wire.CommandJoin:
		return true
	}
	return false
}

// signedBy checks the device signature, and that the device ID is this key's.
func (t *tx) signedBy(key []byte) error {
	if wire.NewDeviceID(t.in.Envelope.Header.Account, key) != t.body.Device ||
		!wire.VerifySignature(key, t.transcript(wire.RoleDevice), t.state.request.DeviceSignature) {
		return wire.Errorf(wire.CodeSignature, "device signature")
	}
	return nil
}

func (t *tx) transcript(role wire.Role) wire.Digest {
	return wire.Transcript(role, t.in.Opened.Binding, t.body, t.state.request.Body)
}

// run executes all commands, or the first that fails tells why none has an effect.
func (t *tx) run() error {
	if err := t.order(); err != nil || t.again != nil {
		return err
	}
	if err := t.brought(); err != nil {
		return err
	}
	for i, command := range t.body.Commands {
		t.command = i
		run, ok := commands[command.Name]
		if !ok {
			return wire.Errorf(wire.CodeUnknownCommand, "unknown command")
		}
		result, err := run.do(t, command.Arguments)
		if err != nil {
			return err
		}
		if t.reserve != nil || t.confirming != nil {
			return nil
		}
		t.results = append(t.results, wire.Marshal(result))
	}
	return nil
}

// order checks what the commands are together: strangers' alone, at most one that
// changes, the device's number, and that the handles which the host saw are those
// that the commands name.
func (t *tx) order() error {
	changing := 0
	named := map[wire.Handle]bool{}
	for i, command := range t.body.Commands {
		t.command = i
		run, ok := commands[command.Name]
		if !ok {
			return wire.Errorf(wire.CodeUnknownCommand, "unknown command")
		}
		if run.alone && len(t.body.Commands) > 1 {
			return wire.Errorf(wire.CodeMalformed, "a command that stands alone does not")
		}
		if run.changes {
			changing++
		}
		if run.handle != nil {
			h, err := run.handle(command.Arguments)
			if err != nil {
				return err
			}
			named[h] = true
		}
	}
	t.command = -1
	handles := t.in.Envelope.Header.Handles
	for _, h := range handles {
		if !named[h] && t.body.Commands[0].Name != wire.CommandReseal {
			return wire.Errorf(wire.CodeMalformed, "the header names a handle that no command does")
		}
		delete(named, h)
	}
	if len(named) > 0 {
		return wire.Errorf(wire.CodeMalformed, "a command names a handle that the header does not")
	}
	if changing > 1 {
		return wire.Errorf(wire.CodeMalformed, "more than one command that changes the account")
	}
	if t.device == nil {
		return nil
	}
	return t.number(changing == 1)
}

// number checks the device's numbering of changing requests. The last one again is
// answered from its outcome.
func (t *tx) number(changing bool) error {
	var last uint64
	if t.device.Last != nil {
		last = t.device.Last.Number
	}
	switch {
	case !changing && t.body.Number == 0:
		return nil
	case changing && t.body.Number == last && last > 0:
		t.again = t.device.Last
		return nil
	case changing && t.body.Number == last+1:
		return nil
	}
	return wire.Errorf(wire.CodeNumber, "number %d, last was %d", t.body.Number, last)
}

// named says which command was refused.
func (t *tx) named(err error) error {
	e := asError(err)
	if e == nil || t == nil || t.command < 0 {
		return err
	}
	named := *e
	index := uint64(t.command)
	named.Command = &index
	return &named
}

func asError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// vault checks that the request brings the vault secret in force, and that it
// authenticates the membership: the KEK alone cannot add a device.
func (t *tx) vault() ([]byte, error) {
	if t.vaultProven {
		return t.body.VaultSecret, nil
	}
	h := t.account.head
	switch {
	case len(t.body.VaultSecret) != wire.SecretSize:
		return nil, wire.Errorf(wire.CodeVaultSecret, "no vault secret")
	case t.body.Epoch != h.Epoch:
		return nil, wire.Errorf(wire.CodeEpoch, "epoch %d is in force", h.Epoch)
	case !h.authentic(t.body.VaultSecret):
		return nil, wire.Errorf(wire.CodeVaultSecret, "membership is not authenticated by this vault secret")
	}
	t.vaultProven = true
	return t.body.VaultSecret, nil
}

// brought checks the vault secret of a request also where no command asks for it.
// One of an earlier epoch is no attack: sync and history bring a device on.
func (t *tx) brought() error {
	if t.device == nil || len(t.body.VaultSecret) == 0 || t.body.Epoch < t.account.head.Epoch {
		return nil
	}
	_, err := t.vault()
	return err
}

// epoch returns the account key and vault secret of an epoch that a record stands under.
func (t *tx) epoch(epoch uint64) (accountKey, vaultSecret []byte, err error) {
	h := t.account.head
	if epoch == h.Epoch {
		return t.account.key, t.body.VaultSecret, nil
	}
	if t.secrets == nil {
		t.secrets, err = wire.FollowPrevious(t.body.VaultSecret, h.scope(t.core.config.Ledger.ID), h.Previous)
		if err != nil {
			return nil, nil, wire.NewError(wire.CodeHeadMismatch, err)
		}
	}
	for _, e := range h.Earlier {
		if e.Epoch == epoch {
			return e.Key, t.secrets.Vault[epoch], nil
		}
	}
	return nil, nil, wire.Errorf(wire.CodeHeadMismatch, "no account key of epoch %d", epoch)
}

// uv checks the user verification of this request, by the device's own UV key or
// platform credential.
func (t *tx) uv() error {
	if t.uvProven {
		return nil
	}
	if !t.device.trusted() {
		return wire.Errorf(wire.CodeUntrusted, "the device has no UV key")
	}
	if err := t.verifyUV(t.state.request.UV, t.transcript(wire.RoleUV), t.device.UV, t.device.Platform); err != nil {
		return err
	}
	t.uvProven = true
	return nil
}

// verifyUV checks that uv is over digest and by the key, or the platform credential.
func (t *tx) verifyUV(uv *wire.UserVerification, digest wire.Digest, key []byte, credential *wire.PlatformCredential) error {
	switch {
	case uv == nil:
		return wire.Errorf(wire.CodeUVRequired, "no user verification")
	case uv.Platform != nil && len(uv.Signature) == 0 && credential != nil:
		return platform.Verify(t.core.config.UserVerification, credential, digest, uv.Platform)
	case uv.Platform == nil && len(key) > 0 && wire.VerifySignature(key, digest, uv.Signature):
		return nil
	}
	return wire.Errorf(wire.CodeUVRequired, "user verification does not verify")
}

// grown refuses a young device, unless the person's login shows that it is no
// longer one. It then stays grown with the change.
func (t *tx) grown(who *person) error {
	if !t.device.young() {
		return nil
	}
	if who == nil && t.body.Login != nil {
		var err error
		if who, err = t.login(t.device.Key); err != nil {
			return err
		}
	}
	if who == nil || who.Issued < t.device.Joined+youth {
		return wire.Errorf(wire.CodeYoung, "joined by PIN less than 24 hours of login time ago")
	}
	t.device.Grown = true
	return nil
}

// youth is how long a device that joined by PIN stays young, in seconds between the iats of two logins.
const youth = 24 * 60 * 60

// blob returns a blob that the head names.
func (t *tx) blob(hashes ...wire.Digest) ([][]byte, error) {
	out := make([][]byte, len(hashes))
	var missing []wire.Digest
	for i, h := range hashes {
		b, ok := t.state.have.blobs[h]
		if !ok {
			missing = append(missing, h)
		}
		out[i] = b
	}
	if missing != nil {
		return nil, &lack{need: &wire.Need{Account: t.in.Envelope.Header.Account, Blobs: missing}}
	}
	return out, nil
}

// begins starts a change of the account as it stands.
func (t *tx) begins(kind ledger.Kind, vaultSecret []byte) *change {
	a := *t.account
	t.change = &change{
		kind: kind, account: &a, previous: a.at, secret: vaultSecret,
		note: ledger.Note{Kind: kind, Consecutive: a.note.Consecutive, Lifetime: a.note.Lifetime, Device: t.body.Device, Time: t.in.Now},
	}
	if t.device != nil {
		t.change.note.Name = t.device.Name
		t.change.outcome = &wire.Outcome{Number: t.body.Number}
		t.device.Last = t.change.outcome
	}
	return t.change
}

// seal makes the commit of a change: head, manifest and entry.
func (t *tx) seal() *pending {
	ch, ledgerID := t.change, t.core.config.Ledger.ID
	h := ch.account.head
	t.purge(ch)
	if len(ch.commit.Wraps) == 0 && !hasWrap(t.state.have.state.Wraps, h.Epoch, t.core.newestKEK().Version) {
		ch.commit.Wraps = []wire.Wrap{t.core.wrap(h.scope(ledgerID), ch.account.key)}
	}
	h.Members = h.members(ch.secret)
	h.Listed = ch.previous.Sequence + 1
	var digest wire.Digest
	ch.commit.Head, digest = h.seal(ch.account.key, ledgerID)
	ch.commit.Manifest = wire.SealManifest(ch.secret, h.scope(ledgerID), h.Records.manifest(h.Listed))
	if ch.commit.SetFeedTokens {
		ch.commit.FeedTokens = nil
		for _, d := range h.Devices {
			ch.commit.FeedTokens = append(ch.commit.FeedTokens, wire.FeedTokenHash(d.FeedToken))
		}
	}
	p := t.core.append(ch.account, ch.previous, ch.restored, digest, requestHash(t.in.Raw), ch.note)
	ch.commit.Append = p.commit.Append
	p.commit = ch.commit
	p.response = t.responseAfter(p)
	return p
}

func hasWrap(wraps []wire.Wrap, epoch uint64, version string) bool {
	for _, w := range wraps {
		if w.Epoch == epoch && w.KEK == version {
			return true
		}
	}
	return false
}

// append makes the entry that follows previous. restored is nil but for a restore.
func (c *Core) append(a *account, previous wire.Head, restored *wire.Head, head, request wire.Digest, note ledger.Note) *pending {
	h := a.head
	e := ledger.Entry{
		Ledger: c.config.Ledger.ID, Stream: wire.Stream(c.config.Ledger.ID, h.Account),
		Sequence: previous.Sequence + 1, Previous: previous.Hash,
		Generation: h.Generation, Epoch: h.Epoch, Head: head, Request: request, Restored: restored,
	}
	e.Note = ledger.SealNote(wire.NotesKey(a.key), h.scope(c.config.Ledger.ID), e.Sequence, note)
	encoded := c.sign(&e)
	return &pending{
		head: ledger.HeadOf(&e, encoded),
		commit: wire.Commit{Append: wire.Append{
			Account: h.Account, Stream: e.Stream, Expected: previous, Entry: encoded,
		}},
	}
}

// response answers a request that changed nothing.
func (t *tx) response() *wire.Response {
	r := &wire.Response{Results: t.results, Repeated: t.again}
	if t.device != nil {
		t.state.showHistory(r, true)
		r.Newest = t.account.at
	}
	return r
}

// responseAfter answers with the new entry behind those that the device does not
// know yet, if they reach up to it.
func (t *tx) responseAfter(p *pending) *wire.Response {
	r := t.response()
	r.Newest = p.head
	known := t.in.Envelope.Header.Known
	if t.device == nil || known == nil {
		return r
	}
	shown := known.Sequence
	if n := len(r.Entries); n > 0 {
		if last, err := ledger.ParseEntry(r.Entries[n-1]); err == nil {
			shown = last.Sequence
		}
	}
	if shown == t.account.at.Sequence && len(r.Entries) < wire.MaxEntries || t.change != nil && t.change.restored != nil && shown > t.account.at.Sequence {
		r.Entries = append(r.Entries[:len(r.Entries):len(r.Entries)], p.commit.Append.Entry)
	}
	return r
}

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
