package client

import (
	"context"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Restore approves, with a fresh login and user verification, that an account goes on from
// an older copy, because its service lost what came after. More than half of the account's
// trusted devices must, one after another; among them one that has seen the newest entry there
// was. PIN attempts are not taken back, and nothing is from before a revocation or a PIN set:
// that is refused with [wire.CodeEarlierEpoch].
//
// Until then the copy is a rollback to the enclave and to every device. agree is shown what
// would be lost, and decides for this device; whether the service really lost it, and has no
// newer copy, only its operator can tell.
//
// Where other devices restored the account already, and this one remembers something that was
// taken back, agree is asked the same, with Confirmed set: the device goes on from the older
// place, and its alarm ends.
func (d *Device) Restore(ctx context.Context, agree func(*Confirmation) (bool, error)) (*Confirmation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return nil, err
	}
	var offer *Confirmation
	var place *wire.Head
	err := d.undecided(ctx, func() (keep bool, err error) {
		offer, place, err = d.choose(ctx, agree)
		return err == nil && (offer.Confirmed || place != nil || d.approvedBy(offer)), err
	})
	switch {
	case err != nil || place == nil:
		return offer, err
	case offer.Confirmed:
		return offer, d.goBack(ctx, offer, place)
	}
	lost := offer.Lost
	uv, err := d.uv(ctx)
	if err != nil {
		return nil, err
	}
	login, _, err := d.login(ctx, wire.CommandConfirm, true)
	if err != nil {
		return nil, err
	}
	approve := &wire.Confirm{Restore: true, Newest: d.p.Newest, Approve: place, Lost: &lost}
	if offer, _, err = d.restore(ctx, approve, func(r *request) { r.login, r.uv, r.secret = login, uv, true }); err != nil {
		return nil, err
	}
	return offer, d.goBack(ctx, offer, place)
}

// choose asks what is offered and has a person decide. It returns the place that the person
// agreed to: with offer.Confirmed one that the account was taken back to already, otherwise
// one that is to be approved; nil: none.
func (d *Device) choose(ctx context.Context, agree func(*Confirmation) (bool, error)) (offer *Confirmation, place *wire.Head, err error) {
	offer, back, err := d.offered(ctx)
	for ; err == nil && back != nil; offer, back, err = d.offered(ctx) {
		offer.Offered, offer.Lost = *back, d.p.Known
		stands := offer.Confirmed // if not, the host has gone back again since
		offer.Confirmed = true
		if yes, err := agree(offer); err != nil || !yes {
			return offer, nil, err
		}
		if stands {
			return offer, back, nil
		}
		d.p.Back = back
	}
	if err != nil {
		return nil, nil, err
	}
	newest := offer.Lost // that there was
	if offer.Confirmed {
		newest = offer.Offered
	}
	switch known := d.p.Known; {
	case newest.Sequence < known.Sequence || newest.Sequence == known.Sequence && newest != known:
		// Where a local ledger forgot it, this device does not have the entry to show.
		d.p.Alarm = &Alarm{Remembered: known, Offered: offer.Offered}
		return nil, nil, fork("the newest entry there was is %d, this device remembers entry %d", newest.Sequence, known.Sequence)
	case offer.Confirmed || d.approvedBy(offer) && (!offer.Known || offer.Approved() < offer.Needed):
		return offer, nil, nil
	}
	if yes, err := agree(offer); err != nil || !yes {
		return offer, nil, err
	}
	return offer, &offer.Offered, nil
}

// goBack keeps that a person agreed to a place, and follows the account from there where
// it was restored.
func (d *Device) goBack(ctx context.Context, offer *Confirmation, place *wire.Head) error {
	d.p.Back = place
	if err := d.save(ctx); err != nil || !offer.Confirmed {
		return err
	}
	if err := d.syncAccount(ctx, nil); err != nil {
		return err
	}
	d.p.Alarm = nil
	return d.save(ctx)
}

// offered asks what is offered, page by page as [Device.offer] does. back is the place that
// other devices took the account back to, from something that this one remembers.
func (d *Device) offered(ctx context.Context) (offer *Confirmation, back *wire.Head, err error) {
	for {
		from := d.p.Known
		offer, back, err = d.restore(ctx, &wire.Confirm{Restore: true, Newest: d.p.Newest}, func(*request) {})
		if err != nil || back != nil || offer.Offered.Sequence <= d.p.Known.Sequence {
			return offer, back, err
		}
		if d.p.Known == from {
			return nil, nil, wire.Errorf(wire.CodeEntry, "the history ends at entry %d of %d", from.Sequence, offer.Offered.Sequence)
		}
	}
}

func (d *Device) restore(ctx context.Context, arguments *wire.Confirm, with func(*request)) (out *Confirmation, back *wire.Head, err error) {
	var sent *request
	out, err = d.confirm(ctx, arguments, func(r *request) {
		with(r)
		r.restores, sent = true, r
	})
	return out, sent.back, err
}

// mayGoBack reports whether an answer to a restore is one that moves nothing: a refusal; an
// offer older than what is remembered, about which a person decides; or a restore that
// others made, until a person agreed to it. Any other must contain what is remembered, as
// everywhere.
func (d *Device) mayGoBack(s *Attested, response *wire.Response, r *request) bool {
	if e := d.takenBack(s, response); e != nil {
		if d.agreed(e) {
			return false
		}
		r.back = e.Restored
		return true
	}
	return response.Error != nil || response.Newest.Sequence < d.p.Known.Sequence
}

// takenBack returns the restore that took back what this device remembers, if an answer
// begins with one: signed by a ledger key, and no more than that.
func (d *Device) takenBack(s *Attested, response *wire.Response) *ledger.Entry {
	if len(response.Entries) == 0 {
		return nil
	}
	e, err := s.verifier.Verify(d.p.stream(), response.Entries[0])
	if err != nil || !e.TakesBack(d.p.Known) {
		return nil
	}
	return e
}

// agreed reports whether a person agreed to what a restore goes back to.
func (d *Device) agreed(e *ledger.Entry) bool { return d.p.Back != nil && *e.Restored == *d.p.Back }
