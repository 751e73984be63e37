package client

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/passclave/passclave/wire"
)

// request is one call of the enclave, before it is sealed.
type request struct {
	account  wire.AccountID
	commands []wire.Command
	handles  []wire.Handle
	login    *wire.Login
	uv       UserVerifier // signs too where not nil
	secret   bool         // brings the vault secret
	change   bool         // numbered
	once     bool         // a PIN attempt: sent once, whatever happens
	number   uint64       // of enrol and join; other changes are numbered by call
	stranger bool         // needs no membership: the answer says nothing about the history
	pages    bool         // asked again by its caller until its entries reach the newest
	restores bool         // asks for a restore: what is older than the device remembers raises no alarm
	founds   bool         // its success makes the newest entry the first one remembered
	back     *wire.Head   // out: with restores, the place that the account was taken back to already
	refused  bool         // out: the last answer was a sealed refusal
	sent     int          // out: copies that went to the host

	// apply takes the results into the profile and out to the caller. It runs after
	// every check; the profile is saved once behind it, then the caller returns.
	apply func(*answer) error
}

// answer is a sealed answer that passed every check of this package.
type answer struct {
	results  [][]byte
	repeated *wire.Outcome // instead of results: an earlier copy of the request was done
	newest   wire.Head
}

// result decodes the only result into v. There is one: take has counted.
func (a *answer) result(v any) error {
	return wire.Unmarshal(a.results[0], v)
}

// errTaken: the number was used by an earlier request of this device that had been
// given up. It never leaves call.
var errTaken = errors.New("number taken")

const maxTries = 4 // of one call, the first counted

// call sends r until it has a sealed answer, and applies it.
//
// A refusal in the clear, or no answer, makes it attest again and repeat itself, at
// most maxTries times with a growing pause; but never where r is a PIN attempt. A
// sealed refusal ends the call, with four exceptions: [wire.CodeChallenge] and
// [wire.CodeUnavailable] are tried again, [wire.CodeEpoch] and [wire.CodeNumber]
// once, after a sync. [wire.CodeConflict] syncs and is then reported.
func (d *Device) call(ctx context.Context, r *request) error {
	if r.numbered() {
		if err := d.settle(ctx); err != nil {
			return err
		}
		d.begin(r)
	}
	synced := false
	for try := 1; ; try++ {
		err := d.attempt(ctx, r)
		if err == nil || r.once || try == maxTries || ctx.Err() != nil {
			return d.end(ctx, r, err)
		}
		pause := time.Duration(0)
		var host *HostError
		switch code := wire.CodeOf(err); {
		case errors.Is(err, errTaken):
			d.begin(r)
		case errors.As(err, &host) && host.passing():
			d.session = nil
			pause = backoff(try)
		case r.refused && code == wire.CodeChallenge:
		case r.refused && code == wire.CodeUnavailable:
			pause = backoff(try)
		case r.refused && r.secret && !synced && (code == wire.CodeEpoch || code == wire.CodeNumber):
			synced = true
			if serr := d.syncAccount(ctx, nil); serr != nil {
				return serr
			}
			if r.numbered() {
				if done, derr := d.doneMeanwhile(ctx, r); done {
					return derr
				}
				d.begin(r)
			}
		default:
			return d.end(ctx, r, err)
		}
		if pause > 0 {
			if werr := d.wait(ctx, pause); werr != nil {
				return err
			}
		}
	}
}

func (r *request) numbered() bool { return r.change && r.number == 0 }

// begin takes the device's next number for r.
func (d *Device) begin(r *request) {
	d.p.Pending = &pending{Number: d.p.Number + 1, Command: r.commands[0].Name}
	if len(r.handles) == 1 {
		d.p.Pending.Handle = &r.handles[0]
	}
}

// end closes a numbered request that a sealed refusal ended. Where the refusal was
// decided before anything was written, and no other copy of the request is on its way,
// its number is free. Otherwise a sync tells what became of it: the enclave says no more
// than the host told it, and a host can store a commit and deny it. A request that was
// done is then taken as one whose answer was lost.
func (d *Device) end(ctx context.Context, r *request, err error) error {
	if err == nil || !r.refused || !r.numbered() {
		return err
	}
	if decided[wire.CodeOf(err)] && len(d.p.Pending.Envelopes) == 1 {
		d.p.Pending = nil
		return joinErrors(err, d.save(ctx))
	}
	if serr := d.syncAccount(ctx, nil); serr != nil {
		return errors.Join(err, serr)
	}
	if done, derr := d.doneMeanwhile(ctx, r); done {
		return derr
	}
	return err
}

// doneMeanwhile reports whether a sync has found the pending request r done, and takes
// it as one whose answer was lost.
func (d *Device) doneMeanwhile(ctx context.Context, r *request) (done bool, err error) {
	s := d.p.Settled
	if s == nil || !s.Done {
		return false, nil
	}
	d.p.Settled = nil
	if err := r.apply(&answer{repeated: &wire.Outcome{Number: d.p.Number, Handle: s.Handle}, newest: d.p.Known}); err != nil {
		return true, err
	}
	return true, d.save(ctx)
}

// decided are the refusals that commands end in before anything is written. All others
// may hide a commit that stands, [wire.CodeConflict] too.
var decided = map[wire.Code]bool{
	wire.CodeMalformed: true, wire.CodeUnknownCommand: true, wire.CodeChallenge: true, wire.CodeSealed: true,
	wire.CodeSignature: true, wire.CodeUVRequired: true, wire.CodeLoginRequired: true, wire.CodeLogin: true, wire.CodeLoginStale: true,
	wire.CodeUnknownDevice: true, wire.CodeYoung: true, wire.CodeUntrusted: true, wire.CodeNoAccount: true, wire.CodeVaultSecret: true,
	wire.CodeEpoch: true, wire.CodeMembers: true, wire.CodeNotFound: true, wire.CodeExcluded: true, wire.CodeLimit: true, wire.CodeArgument: true,
}

// passing reports whether the host's word, true or not, is a reason to try again.
func (e *HostError) passing() bool {
	switch e.Hint {
	case wire.CodeUnknownKey, wire.CodeChallenge, wire.CodeUnavailable, wire.CodeReplayed:
		return true
	}
	return e.Status == 0
}

// backoff is the pause before another try: 100 ms, 200 ms, 400 ms.
func backoff(try int) time.Duration { return 50 * time.Millisecond << try }

// attempt sends r once and takes its answer.
func (d *Device) attempt(ctx context.Context, r *request) error {
	r.refused = false
	s, err := d.attested(ctx)
	if err != nil {
		return err
	}
	response, err := d.send(ctx, s, r)
	if err != nil {
		return err
	}
	if err := d.remember(ctx, s, response, r); err != nil {
		return err
	}
	err = d.take(response, r)
	if serr := d.save(ctx); serr != nil {
		return serr // nobody gets a result that the device would forget
	}
	return err
}

// take gives a response whose history was checked to the request.
func (d *Device) take(response *wire.Response, r *request) error {
	p := d.p
	if e := response.Error; e != nil {
		r.refused = true
		if e.Code == wire.CodeUnknownDevice && p.Member && r.account == p.Account && !r.restores { // an older copy says nothing
			p.Removed = true
		}
		return e
	}
	p.Removed = p.Removed && r.account != p.Account
	a := &answer{results: response.Results, repeated: response.Repeated, newest: response.Newest}
	if a.repeated != nil {
		if !r.change {
			return wire.Errorf(wire.CodeMalformed, "an outcome for a request without a number")
		}
		if r.numbered() && p.Pending.Entry == 0 {
			p.Number = max(p.Number, a.repeated.Number)
			return errTaken
		}
	} else if len(a.results) != len(r.commands) {
		return wire.Errorf(wire.CodeMalformed, "%d results of %d commands", len(a.results), len(r.commands))
	}
	if r.numbered() {
		p.Number, p.Pending = p.Pending.Number, nil
	}
	return r.apply(a)
}

// send seals r for the attested enclave, posts it and opens the answer. It checks
// that the answer belongs to this request and that its freshness is one that the
// trust policy accepts; not its history, which is remember's, by the ledger keys of
// evidence that is new enough for it.
func (d *Device) send(ctx context.Context, s *Attested, r *request) (*wire.Response, error) {
	p := d.p
	header := wire.Header{Account: r.account, Handles: r.handles}
	if r.account == p.Account && p.Known.Sequence != 0 {
		known := p.Known
		header.Known = &known
	}
	sealer, err := wire.NewSealer(s.key, header)
	if err != nil {
		return nil, err
	}
	body := wire.Body{
		Device:    wire.NewDeviceID(r.account, d.key.Public()),
		Challenge: s.challenge,
		Number:    r.number,
		Login:     r.login,
		Commands:  r.commands,
	}
	rand.Read(body.Request[:])
	if r.numbered() {
		body.Number = p.Pending.Number
	}
	if r.secret {
		e := p.epoch()
		if e == nil {
			return nil, ErrNotMember
		}
		body.Epoch, body.VaultSecret = e.Epoch, e.Vault
	}
	envelope, err := d.seal(ctx, sealer, &body, r.uv)
	if err != nil {
		return nil, err
	}
	if r.numbered() {
		p.Pending.Envelopes = append(p.Pending.Envelopes, wire.Hash("envelope", envelope))
		if err := d.save(ctx); err != nil {
			return nil, err
		}
	}
	r.sent++
	sealed, err := d.service.postRequest(ctx, envelope)
	if err != nil {
		return nil, err
	}
	plain, err := sealer.OpenResponse(sealed)
	if err != nil {
		return nil, wire.NewError(wire.CodeUnsealedAnswer, err)
	}
	var response wire.Response
	if err := wire.Unmarshal(plain, &response); err != nil {
		return nil, err
	}
	if early := response.Error != nil && response.Request == (wire.RequestID{}); response.Request != body.Request && !early {
		return nil, wire.Errorf(wire.CodeUnsealedAnswer, "the answer belongs to another request")
	}
	if !d.service.judge.freshness(response.Freshness) {
		return nil, wire.Errorf(wire.CodePolicy, "the trust policy does not accept this freshness of answers")
	}
	if n := len(response.Challenge); n > 0 && n <= maxChallenge {
		s.challenge = response.Challenge
	}
	return &response, d.succeeded(ctx, s, &response)
}

func (d *Device) seal(ctx context.Context, sealer *wire.Sealer, body *wire.Body, uv UserVerifier) ([]byte, error) {
	q := wire.Request{Body: wire.Marshal(body)}
	message, err := wire.TranscriptMessage(wire.RoleDevice, sealer.Binding(), q.Body)
	if err != nil {
		return nil, err
	}
	if q.DeviceSignature, err = d.key.Sign(ctx, message); err != nil {
		return nil, err
	}
	if uv != nil {
		message, err := wire.TranscriptMessage(wire.RoleUV, sealer.Binding(), q.Body)
		if err != nil {
			return nil, err
		}
		if q.UV, err = uv.Verify(ctx, message); err != nil {
			return nil, err
		}
	}
	return sealer.Seal(wire.Marshal(q))
}

// settle finds out what became of a changing request that a crash or a lost answer
// left open: its number must not be used for another one before.
func (d *Device) settle(ctx context.Context) error {
	if d.p.Pending == nil {
		return nil
	}
	return d.syncAccount(ctx, nil)
}

// uv returns the device's user verifier, unlocked for one call.
func (d *Device) uv(ctx context.Context) (UserVerifier, error) {
	if d.options.UV != nil {
		return d.options.UV, nil
	}
	if d.p.UV == nil {
		return nil, wire.Errorf(wire.CodeUntrusted, "this device has no UV key")
	}
	code, err := d.askCode(ctx, CodeRequest{})
	if err != nil {
		return nil, err
	}
	return d.p.UV.unlock(code)
}

// makeUV makes a software UV key under a code that the person chooses now, one that
// [CheckCode] takes.
func (d *Device) makeUV(ctx context.Context) (*unlockedUV, *sealedUV, error) {
	code, err := d.askCode(ctx, CodeRequest{New: true})
	if err != nil {
		return nil, nil, err
	}
	if err := CheckCode(code); err != nil {
		return nil, nil, err
	}
	cost := d.options.CodeCost
	if cost == (wire.Argon2id{}) {
		cost = DefaultCodeCost
	}
	sealed, unlocked, err := sealUV(code, cost)
	return unlocked, sealed, err
}

func (d *Device) askCode(ctx context.Context, r CodeRequest) (string, error) {
	if d.options.Code == nil {
		return "", ErrNoCode
	}
	return d.options.Code(ctx, r)
}
