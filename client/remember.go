package client

import (
	"context"
	"errors"
	"slices"

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
	if e := response.Error; e != nil && response.Newest.Sequence == 0 && e.Code != wire.CodeNoAccount && e.Code != wire.CodeUnknownDevice {
		return nil // whoever says that this device is not a member must show what became of the history
	}
	err := d.extend(s, response)
	behind := response.Error != nil && response.Error.Code == wire.CodeEpoch || r.pages
	for err == nil && !behind && d.p.Known.Sequence < response.Newest.Sequence {
		err = d.catchUp(ctx, s, response.Newest)
	}
	if errors.Is(err, &wire.Error{Code: wire.CodeFork}) {
		d.p.Alarm = &Alarm{Remembered: d.p.Known, Offered: response.Newest}
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
	known, newest := d.p.Known, response.Newest
	switch {
	case newest.Sequence < known.Sequence:
		return fork("the newest entry is %d, this device remembers entry %d", newest.Sequence, known.Sequence)
	case newest.Sequence == known.Sequence && newest.Hash != known.Hash:
		return fork("another entry %d than the one this device remembers", known.Sequence)
	case newest.Sequence == known.Sequence:
		return nil
	case len(response.Entries) == 0:
		return fork("no entry that follows entry %d", known.Sequence)
	}
	if first, err := ledger.ParseEntry(response.Entries[0]); err == nil && first.Sequence == known.Sequence+1 && first.Previous != known.Hash {
		return fork("entry %d follows another entry %d than the one this device remembers", first.Sequence, known.Sequence)
	}
	return d.follow(s, response.Entries, []wire.Head{newest}, len(response.Entries) >= wire.MaxEntries)
}

// follow verifies entries behind the remembered head and moves it. All heads given
// must lie on the way; unless partial, the last entry must be the last of them.
func (d *Device) follow(s *Attested, encoded [][]byte, through []wire.Head, partial bool) error {
	p := d.p
	entries, reached, err := s.verifier.VerifyChain(p.stream(), p.Known, encoded)
	if err != nil {
		return err
	}
	if len(entries) > 0 && (entries[0].Generation < p.KnownGen || entries[0].Generation == p.KnownGen && entries[0].Epoch < p.KnownEp) {
		return fork("entry %d goes back to an earlier epoch", entries[0].Sequence)
	}
	if len(entries) > 0 && len(p.KnownKey) == len(ledger.SignerID{}) && s.verifier.Superseded(entries[0].Signer, ledger.SignerID(p.KnownKey)) {
		return fork("entry %d is signed by an older ledger key than the one this device remembers", entries[0].Sequence)
	}
	for _, h := range through {
		i := slices.IndexFunc(entries, func(e *ledger.Entry) bool { return e.Sequence == h.Sequence })
		if i < 0 && reached.Sequence > h.Sequence || i < 0 && !partial {
			return fork("the entries do not lead to entry %d", h.Sequence)
		}
		if i >= 0 && ledger.HeadOf(entries[i], encoded[i]) != h {
			return fork("the entries lead to another entry %d than the newest", h.Sequence)
		}
	}
	for i, e := range entries {
		d.note(e, encoded[i])
	}
	if n := len(entries); n > 0 {
		p.Known, p.KnownGen, p.KnownEp, p.KnownKey = reached, entries[n-1].Generation, entries[n-1].Epoch, entries[n-1].Signer[:]
	}
	return nil
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
	}
	return nil
}
