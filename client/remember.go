package client

import (
	"context"
	"errors"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// remember checks that the history of an answer goes on from the remembered head
// and takes the newest entry as the new one, fetching the entries between where one
// answer does not hold them all. A history that does not contain what is remembered
// leaves an [Alarm] in the profile and ends in [wire.CodeFork].
//
// A refusal without a newest entry says nothing about the history, with one
// exception: that no such account exists, told to a device that remembers it.
//
// A refusal because of a newer epoch is followed one page far only: the sync behind it
// goes on, and brings the notes' keys with the entries.
//
// An answer to confirm is followed one page far, too: a discontinued account has no
// other command that would bring the next one.
//
// Where nothing is remembered it takes the newest entry on trust once r succeeded
// and r is what makes the device a member; entries that came along must be signed
// and lead there.
func (d *Device) remember(ctx context.Context, s *Attested, response *wire.Response, r *request) error {
	if r.stranger && (!r.founds || d.p.Known.Sequence != 0) {
		return nil // a stranger is shown no history; a former member's next sync checks it
	}
	if d.p.Known.Sequence == 0 {
		return d.found(s, response, r)
	}
	if r.restores && d.mayGoBack(s, response, r) {
		return nil
	}
	if e := response.Error; e != nil && response.Newest.Sequence == 0 && e.Code != wire.CodeNoAccount && e.Code != wire.CodeUnknownDevice {
		return nil // whoever says that this device is not a member must show what became of the history
	}
	err := d.extend(s, response)
	behind := response.Error != nil && response.Error.Code == wire.CodeEpoch || r.pages
	for err == nil && !behind && d.p.Known.Sequence < response.Newest.Sequence {
		err = d.catchUp(ctx, s, response.Newest)
	}
	if errors.Is(err, &wire.Error{Code: wire.CodeFork}) {
		d.p.Alarm = &Alarm{Remembered: d.p.Known, Offered: response.Newest, Restored: d.takenBack(s, response) != nil}
		d.session = nil
		if serr := d.save(ctx); serr != nil {
			return errors.Join(err, serr)
		}
	}
	return err
}

// extend moves the remembered head along the response's entries: to its newest
// entry, or as far as a full page reaches.
func (d *Device) extend(s *Attested, response *wire.Response) error {
	r := d.p.remembered()
	if e := d.takenBack(s, response); e != nil && d.agreed(e) {
		r.Head = *e.Restored // a person agreed; the restore itself is judged as any other entry
	}
	entries, err := r.Extend(s.verifier, d.p.stream(), response.Newest, response.Entries)
	return d.took(r, entries, response.Entries, err)
}

// follow verifies entries behind the remembered head and moves it. All heads given
// must lie on the way; unless partial, the last entry must be the last of them.
func (d *Device) follow(s *Attested, encoded [][]byte, through []wire.Head, partial bool) error {
	r := d.p.remembered()
	entries, err := r.Follow(s.verifier, d.p.stream(), encoded, through, partial)
	return d.took(r, entries, encoded, err)
}

// took keeps what the device remembers now, and reads the notes of the entries passed.
func (d *Device) took(r ledger.Remembered, entries []*ledger.Entry, encoded [][]byte, err error) error {
	if err != nil {
		return err
	}
	for i, e := range entries {
		d.note(e, encoded[i])
	}
	d.p.remember(r)
	d.p.Back = nil // gone back, or there is nothing to go back from
	if n := len(encoded); n > 0 {
		d.p.Newest = encoded[n-1]
	}
	return nil
}

func (p *profile) remembered() ledger.Remembered {
	return ledger.Remembered{Head: p.Known, Generation: p.KnownGen, Epoch: p.KnownEp, Signer: p.KnownKey}
}

func (p *profile) remember(r ledger.Remembered) {
	p.Known, p.KnownGen, p.KnownEp, p.KnownKey = r.Head, r.Generation, r.Epoch, r.Signer
}

// catchUp fetches another page of entries towards target, which a sealed answer
// named as the newest.
func (d *Device) catchUp(ctx context.Context, s *Attested, target wire.Head) error {
	from := d.p.Known.Sequence
	response, err := d.send(ctx, s, &request{
		account:  d.p.Account,
		secret:   d.p.epoch() != nil,
		commands: []wire.Command{wire.NewCommand(wire.CommandHistory, wire.History{From: from + 1, To: from + wire.MaxEntries})},
	})
	if err != nil {
		return err
	}
	if e := response.Error; e != nil && response.Newest.Sequence == 0 {
		return e // says nothing about the history
	}
	if len(response.Entries) == 0 {
		return fork("no entry that follows entry %d", from)
	}
	full := len(response.Entries) >= wire.MaxEntries
	return d.follow(s, response.Entries, []wire.Head{target, response.Newest}, full)
}

// found takes the first memory of an account.
func (d *Device) found(s *Attested, response *wire.Response, r *request) error {
	ledgerID := s.Evidence.Configuration.Ledger.ID
	var last *ledger.Entry
	if n := len(response.Entries); n > 0 {
		first, err := ledger.ParseEntry(response.Entries[0])
		if err != nil {
			return err
		}
		from := wire.Head{Sequence: first.Sequence - 1, Hash: first.Previous}
		entries, reached, err := s.verifier.VerifyChain(wire.Stream(ledgerID, r.account), from, response.Entries)
		if err != nil {
			return err
		}
		if reached != response.Newest && n < wire.MaxEntries {
			return wire.Errorf(wire.CodeEntry, "the entries do not lead to the newest")
		}
		if reached == response.Newest {
			last = entries[n-1]
		}
	}
	if !r.founds || response.Error != nil {
		return nil
	}
	if response.Newest.Sequence == 0 {
		return wire.Errorf(wire.CodeEntry, "a member of an account without an entry")
	}
	d.p.Known = response.Newest
	if last != nil {
		d.p.KnownGen, d.p.KnownEp, d.p.KnownKey = last.Generation, last.Epoch, last.Signer[:]
		d.p.Newest = response.Entries[len(response.Entries)-1]
	}
	return nil
}
