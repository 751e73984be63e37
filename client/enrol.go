package client

import (
	"context"
	"errors"

	"github.com/passclave/passclave/wire"
)

// Admission is the result of [Device.Enrol] and [Device.Join].
type Admission struct {
	// Completed: an earlier enrol or join had been done and its answer was lost. It
	// stands as it was sent then, with the PIN and the name of then.
	Completed bool
}

// Enrol makes the account of the person that logs in, with this device as its first
// and pin as its PIN. [wire.CodeAccountExists]: join instead.
//
// name is shown to the other devices, at most wire.MaxDeviceName bytes.
func (d *Device) Enrol(ctx context.Context, name, pin string) (*Admission, error) {
	if err := CheckPIN(pin); err != nil {
		return nil, err
	}
	return d.admit(ctx, wire.CommandEnrol, name, pin)
}

// Join makes this device a member of the account of the person that logs in, by
// the PIN. It is one PIN attempt: [wire.CodePINWrong] and [wire.CodePINLocked] come
// sealed, with the attempts left. It is never repeated; where the answer is lost,
// Join asks once whether it was a member's, and else the attempt may be spent.
//
// The device's passkeys come with the next [Device.Sync].
func (d *Device) Join(ctx context.Context, name, pin string) (*Admission, error) {
	return d.admit(ctx, wire.CommandJoin, name, pin)
}

func (d *Device) admit(ctx context.Context, command wire.CommandName, name, pin string) (*Admission, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.p
	if p.Member {
		return nil, ErrMember
	}
	if name == "" || len(name) > wire.MaxDeviceName {
		return nil, wire.Errorf(wire.CodeArgument, "a device's name has 1 to %d bytes", wire.MaxDeviceName)
	}
	if p.Joining != "" {
		switch err := d.syncAccount(ctx, nil); {
		case err == nil:
			return &Admission{Completed: true}, nil
		case !notMember(err):
			return nil, err
		}
	}
	uv, err := d.firstUV(ctx)
	if err != nil {
		return nil, err
	}
	ticket, configuration, err := d.ticket(ctx, false)
	if err != nil {
		return nil, err
	}
	arguments := wire.Enrol{Ticket: ticket.Ticket, Name: name, Keys: wire.DeviceKeys{
		Device:     d.key.Public(),
		Encryption: d.kem.PublicKey().Bytes(),
	}}
	arguments.Keys.UV, arguments.Keys.Platform = uv.Credential()
	salt, cost := ticket.Salt, ticket.Argon2id
	if command == wire.CommandEnrol {
		salt, cost = ticket.FreshSalt, ticket.FreshParams
	}
	if err := checkStretching(salt, cost, configuration.PIN.Argon2id); err != nil {
		return nil, err
	}
	arguments.StretchedPIN = stretch([]byte(pin), salt, cost)
	r := &request{
		account:  p.Account,
		uv:       uv,
		change:   true,
		number:   1,
		once:     command == wire.CommandJoin,
		founds:   true,
		stranger: true,
	}
	if command == wire.CommandEnrol {
		r.commands = []wire.Command{wire.NewCommand(command, arguments)}
	} else {
		r.commands = []wire.Command{wire.NewCommand(command, wire.Join(arguments))}
	}
	repeated, remembers := false, p.Known.Sequence != 0
	r.apply = func(a *answer) error {
		if repeated = a.repeated != nil; repeated {
			return nil
		}
		var m wire.Membership
		if err := a.result(&m); err != nil {
			return err
		}
		return p.admitted(&m)
	}
	p.Joining, p.Name = command, name
	if err := d.save(ctx); err != nil {
		return nil, err
	}
	err = d.call(ctx, r)
	if err == nil && !repeated && !remembers {
		return &Admission{}, nil
	}
	if err != nil && r.refused && r.sent == 1 && notDone[wire.CodeOf(err)] {
		p.Joining, p.UV = "", nil // the UV key is registered nowhere
		return nil, joinErrors(err, d.save(ctx))
	}
	// The answer was lost, or says that a request before this one was done: a
	// member's sync tells, and is no PIN attempt.
	if ctx.Err() != nil {
		return nil, err
	}
	switch serr := d.syncAccount(ctx, nil); {
	case serr == nil:
		return &Admission{}, nil
	case err == nil:
		return nil, serr
	case wire.CodeOf(serr) == wire.CodeFork:
		return nil, errors.Join(serr, err)
	}
	return nil, err
}

// notDone are the sealed refusals after which nothing of an enrol or join can stand, if
// no other copy of it went out.
var notDone = map[wire.Code]bool{
	wire.CodePINWrong: true, wire.CodePINLocked: true, wire.CodeNoAccount: true,
	wire.CodeChallenge: true, wire.CodeArgument: true, wire.CodeLimit: true, wire.CodeSignature: true,
	wire.CodeUVRequired: true, wire.CodeUntrusted: true, wire.CodeSealed: true,
}

// firstUV is the user verifier to register. A software UV key that an earlier try
// may have registered is kept, with its code.
func (d *Device) firstUV(ctx context.Context) (UserVerifier, error) {
	if d.options.UV != nil || d.p.UV != nil {
		return d.uv(ctx)
	}
	uv, sealed, err := d.makeUV(ctx)
	if err != nil {
		return nil, err
	}
	d.p.UV = sealed
	return uv, nil
}

// admitted takes the first secrets of a new member, on the enclave's word.
func (p *profile) admitted(m *wire.Membership) error {
	if len(m.VaultSecret) != wire.SecretSize || len(m.NotesKey) != wire.SecretSize || m.Epoch == 0 {
		return wire.Errorf(wire.CodeMalformed, "membership without its secrets")
	}
	p.Gen, p.Epochs = m.Generation, []epochSecrets{{Epoch: m.Epoch, Vault: m.VaultSecret, Notes: m.NotesKey}}
	p.Feed, p.Number = m.FeedToken, 1
	p.Member, p.Removed, p.Joining = true, false, ""
	return nil
}

func notMember(err error) bool {
	var e *wire.Error
	return errors.As(err, &e) && (e.Code == wire.CodeUnknownDevice || e.Code == wire.CodeNoAccount)
}
