package client

import (
	"context"

	"github.com/passclave/passclave/wire"
)

// SyncReport says what a sync did.
type SyncReport struct {
	Epoch    uint64
	NewEpoch bool     // another device was revoked, or the PIN was set
	Resealed int      // records that this sync moved into the epoch in force
	Settled  *Settled // a request of before whose outcome is known now
	Notices  []Notice // not shown yet: see [Device.NoticesShown]
	Young    bool
}

// Sync brings the device up to date: vault epoch, notices, the outcome of a request
// that was left open, records of earlier epochs sealed anew, and the record cache.
// It can be stopped anywhere; the next one goes on.
//
// A device whose enrol or join got no answer completes it by this.
func (d *Device) Sync(ctx context.Context) (*SyncReport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.p.Member && d.p.Joining == "" {
		return nil, ErrNotMember
	}
	return d.sync(ctx)
}

func (d *Device) sync(ctx context.Context) (*SyncReport, error) {
	var before uint64
	if e := d.p.epoch(); e != nil {
		before = e.Epoch
	}
	if err := d.syncAccount(ctx, nil); err != nil {
		return nil, err
	}
	r := &SyncReport{}
	if err := d.reseal(ctx, r); err != nil {
		return nil, err
	}
	if err := d.refresh(ctx); err != nil {
		return nil, err
	}
	r.Epoch, r.Young = d.p.epoch().Epoch, d.p.Young
	r.NewEpoch = before != 0 && r.Epoch > before
	r.Settled, r.Notices = d.p.Settled, append([]Notice(nil), d.p.Notices...)
	if r.Settled != nil {
		d.p.Settled = nil
		if err := d.save(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// refresh pulls the feed. Where its manifest is of a later epoch than the device
// holds, or one began meanwhile, a sync brings it and the feed is pulled again, at most
// maxTries times.
func (d *Device) refresh(ctx context.Context) error {
	for try := 1; ; try++ {
		err := d.pull(ctx)
		if wire.CodeOf(err) != wire.CodeEpoch || try == maxTries {
			return err
		}
		if err := d.syncAccount(ctx, nil); err != nil {
			return err
		}
	}
}

// reseal moves records of earlier epochs into the one in force, a page at a time,
// until none is left. Others may do the same: a conflict only means that.
func (d *Device) reseal(ctx context.Context, report *SyncReport) error {
	conflicts := 0
	for rounds := 0; len(d.p.Left) > 0; rounds++ {
		if rounds > wire.MaxRecords {
			return wire.Errorf(wire.CodeInternal, "re-sealing does not come to an end")
		}
		page := d.p.Left[:min(len(d.p.Left), wire.PageSize)]
		var result wire.ResealResult
		repeated := false
		err := d.call(ctx, &request{
			account:  d.p.Account,
			commands: []wire.Command{wire.NewCommand(wire.CommandReseal, wire.ResealPage{})},
			handles:  append([]wire.Handle(nil), page...),
			secret:   true,
			change:   true,
			apply: func(a *answer) error {
				if repeated = a.repeated != nil; repeated {
					return nil
				}
				if err := a.result(&result); err != nil {
					return err
				}
				d.p.Left = result.Left
				return nil
			},
		})
		switch {
		case wire.CodeOf(err) == wire.CodeConflict && conflicts < maxTries:
			conflicts++ // end synced: Left is new
		case err != nil:
			return err
		case repeated:
			if err := d.syncAccount(ctx, nil); err != nil {
				return err
			}
		}
		report.Resealed += len(result.Done)
	}
	return nil
}
