package client

import (
	"context"

	"github.com/passclave/passclave/wire"
)

// Confirmation is how far the confirming of a discontinued account came.
type Confirmation struct {
	Confirmed bool      // the account goes on
	Offered   wire.Head // the newest entry that the service has; this device remembers nothing outside its chain
	Needed    int       // approvals
	Devices   []wire.ConfirmDevice

	// Of a restore:
	Lost  wire.Head // the newest entry there was: what came behind Offered, up to it, is gone
	Known bool      // some device has brought that entry; without it nothing is restored
}

// Approved is how many devices approved what is offered.
func (c *Confirmation) Approved() (n int) {
	for _, d := range c.Devices {
		if d.Approved {
			n++
		}
	}
	return n
}

// Confirm approves what the service has of an account that its ledger lost the memory of,
// with a fresh login and user verification: this device vouches that it remembers nothing
// that is missing there. More than half of the account's trusted devices must, one after
// another; then the account goes on.
//
// agree is shown what is offered, and decides; it is not asked where there is nothing to
// approve any more. Before that the device compares the offer with what it remembers: an
// offer that does not contain it ends in [wire.CodeFork] with an [Alarm], and nothing is
// approved. That a device's approval is still missing is no error.
//
// A device whose enrol got no answer may do it too: where the account's very first entry
// was stored, and endorsers of a later genesis did not hear of it, it looks the same as an
// old one. It remembers nothing, and takes what is offered on trust, as it would with a sync.
func (d *Device) Confirm(ctx context.Context, agree func(*Confirmation) (bool, error)) (*Confirmation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.p.Member && d.p.Joining == "" {
		return nil, ErrNotMember
	}
	var offer *Confirmation
	agreed := false
	err := d.undecided(ctx, func() (keep bool, err error) {
		if offer, err = d.offer(ctx); err != nil || offer.Confirmed || d.approvedBy(offer) {
			return err == nil, err
		}
		agreed, err = agree(offer)
		agreed = agreed && err == nil
		return agreed, err
	})
	if err != nil || !agreed {
		return offer, err
	}
	uv, err := d.uv(ctx)
	if err != nil {
		return nil, err
	}
	login, _, err := d.login(ctx, wire.CommandConfirm, true)
	if err != nil {
		return nil, err
	}
	return d.confirm(ctx, &wire.Confirm{Approve: &offer.Offered}, func(r *request) { r.login, r.uv = login, uv })
}

// undecided runs what follows an offer and asks a person about it. What the device remembers
// of the offer it keeps only where it is to be kept: once the person agreed, or the ledger
// vouches for it. A host may offer what never stood, and a device that went on to that would
// take the true history for a fork. An alarm is kept in any case.
func (d *Device) undecided(ctx context.Context, f func() (keep bool, err error)) error {
	before := wire.Marshal(d.p)
	d.held = true
	keep, err := f()
	d.held = false
	if !keep {
		p, perr := parseProfile(before)
		if perr != nil {
			return joinErrors(err, perr)
		}
		p.Alarm = d.p.Alarm
		d.p = p
	}
	return joinErrors(err, d.save(ctx))
}

func (d *Device) approvedBy(c *Confirmation) bool {
	for _, o := range c.Devices {
		if o.ID == d.id() {
			return o.Approved
		}
	}
	return false
}

// offer asks what is offered, page by page, until the device has followed its chain from
// what it remembers to its end.
func (d *Device) offer(ctx context.Context) (*Confirmation, error) {
	for {
		from := d.p.Known
		c, err := d.confirm(ctx, &wire.Confirm{}, func(*request) {})
		if err != nil {
			return nil, err
		}
		if d.p.Known == c.Offered {
			return c, nil
		}
		if d.p.Known == from {
			return nil, wire.Errorf(wire.CodeEntry, "the history ends at entry %d of %d", from.Sequence, c.Offered.Sequence)
		}
	}
}

func (d *Device) confirm(ctx context.Context, arguments *wire.Confirm, with func(*request)) (*Confirmation, error) {
	out := &Confirmation{}
	r := &request{
		account:  d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandConfirm, arguments)},
		pages:    true,
		founds:   d.p.Known.Sequence == 0,
		apply: func(a *answer) error {
			var result wire.ConfirmResult
			if err := a.result(&result); err != nil {
				return err
			}
			if result.Offered != a.newest {
				return wire.Errorf(wire.CodeMalformed, "another head is offered than the newest")
			}
			*out = Confirmation{
				Confirmed: result.Confirmed, Offered: result.Offered, Needed: int(result.Needed), Devices: result.Devices,
				Known: result.Known,
			}
			if result.Lost != nil {
				out.Lost = *result.Lost
			}
			return nil
		},
	}
	with(r)
	if err := d.call(ctx, r); err != nil {
		return nil, err
	}
	return out, nil
}
