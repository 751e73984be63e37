package client

import (
	"cmp"
	"context"
	"slices"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Notice is something that another device did, or tried, and that the person should
// know: a join, a PIN set, a revocation, a UV key replaced, a PIN attempt, a confirmation.
type Notice struct {
	Sequence uint64        `cbor:"1,keyasint"`
	Kind     ledger.Kind   `cbor:"2,keyasint"` // KindReserve: a PIN attempt whose result was never recorded
	Device   wire.DeviceID `cbor:"3,keyasint"` // who did it
	Target   wire.DeviceID `cbor:"4,keyasint"` // whom it concerns
	Name     string        `cbor:"5,keyasint,omitempty"`
	Time     uint64        `cbor:"6,keyasint"` // by the host's clock, Unix seconds
	Attempts uint64        `cbor:"7,keyasint"` // failed PIN attempts in a row, this one counted
	// Lost is 0, but for one notice: it stands for so many entries, Sequence the newest
	// of them, that were too many to keep. The rest of it is zero; see [Device.History].
	Lost uint64 `cbor:"8,keyasint,omitempty"`
}

// maxUnread bounds the entries stored until their notes' key comes, maxNotices the
// notices kept until they are shown. The oldest are lost first, and counted.
const (
	maxUnread  = 512
	maxNotices = 512
)

// note takes a verified entry: it recognizes the device's own pending request, and
// keeps what others did. What cannot be read yet is bounded where it is stored, not
// here: the same answer may bring the notes' key.
func (d *Device) note(e *ledger.Entry, encoded []byte) {
	p := d.p
	if p.Pending != nil && slices.Contains(p.Pending.Envelopes, e.Request) {
		p.Pending.Entry = e.Sequence
	}
	if !d.read(e) {
		p.Unread = append(p.Unread, encoded)
	}
}

// read decodes an entry's note and keeps a notice of it where it is one. It reports
// false where the notes' key of its epoch is not held yet. A note that its key does
// not open is kept as a notice without content: the entry is signed all the same.
func (d *Device) read(e *ledger.Entry) bool {
	p := d.p
	key := p.notesKey(e)
	if key == nil {
		return false
	}
	n, err := ledger.OpenNote(key, p.Account, e)
	if err != nil {
		p.keep(Notice{Sequence: e.Sequence})
		return true
	}
	if n.Kind != ledger.KindReserve && n.Kind != ledger.KindWrong && n.Kind != ledger.KindConfirm {
		p.Edited = max(p.Edited, e.Sequence)
	}
	switch n.Kind {
	case ledger.KindCreate, ledger.KindEdit, ledger.KindDelete, ledger.KindReseal:
		return true
	case ledger.KindWrong, ledger.KindJoin:
		p.Notices = slices.DeleteFunc(p.Notices, func(o Notice) bool { return o.Kind == ledger.KindReserve && o.Sequence == n.Attempt })
	}
	if n.Device != d.id() {
		p.keep(Notice{
			Sequence: e.Sequence, Kind: n.Kind, Device: n.Device, Target: n.Target,
			Name: n.Name, Time: n.Time, Attempts: n.Consecutive,
		})
	}
	return true
}

// keep adds a notice, in the order of their sequences.
func (p *profile) keep(n Notice) {
	p.Notices = append(p.Notices, n)
	slices.SortStableFunc(p.Notices, func(a, b Notice) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if len(p.Notices) > maxNotices {
		i := slices.IndexFunc(p.Notices, func(n Notice) bool { return n.Lost == 0 })
		oldest := p.Notices[i].Sequence
		p.Notices = slices.Delete(p.Notices, i, i+1)
		p.lose(oldest)
	}
}

// lose counts an entry that is not kept, in the one notice that says so.
func (p *profile) lose(sequence uint64) {
	var lost Notice
	if i := slices.IndexFunc(p.Notices, func(n Notice) bool { return n.Lost > 0 }); i >= 0 {
		lost = p.Notices[i]
		p.Notices = slices.Delete(p.Notices, i, i+1)
	}
	p.keep(Notice{Sequence: max(lost.Sequence, sequence), Lost: lost.Lost + 1})
}

// trim bounds the entries that cannot be read, before they are stored.
func (p *profile) trim() {
	for len(p.Unread) > maxUnread {
		if e, err := ledger.ParseEntry(p.Unread[0]); err == nil {
			p.lose(e.Sequence)
		}
		p.Unread = p.Unread[1:]
	}
}

// readAgain tries the entries whose notes' key was missing.
func (d *Device) readAgain() {
	unread := d.p.Unread
	d.p.Unread = nil
	for _, encoded := range unread {
		if e, err := ledger.ParseEntry(encoded); err == nil && !d.read(e) {
			d.p.Unread = append(d.p.Unread, encoded)
		}
	}
}

// Notices returns what others did since the notices were last marked as shown,
// oldest first. It reads the profile only.
func (d *Device) Notices() []Notice {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.p.Notices)
}

// NoticesShown forgets the notices up to a sequence: a person has seen them.
func (d *Device) NoticesShown(ctx context.Context, upTo uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p.Notices = slices.DeleteFunc(d.p.Notices, func(n Notice) bool { return n.Sequence <= upTo })
	return d.save(ctx)
}
