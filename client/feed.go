package client

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/passclave/passclave/wire"
)

// recordCache is the record cache: sealed records and the manifest they were
// checked against. Everything in it came from the host.
type recordCache struct {
	After    uint64   `cbor:"1,keyasint"` // position in the feed
	Manifest []byte   `cbor:"2,keyasint"` // sealed
	Records  [][]byte `cbor:"3,keyasint"` // encoded, ascending by handle

	records map[wire.Handle]cached
}

type cached struct {
	encoded []byte
	record  *wire.Record
}

func (d *Device) loadCache(ctx context.Context) (*recordCache, error) {
	if d.cache != nil {
		return d.cache, nil
	}
	c := &recordCache{records: map[wire.Handle]cached{}}
	data, err := d.storage.Load(ctx, ItemRecords)
	switch {
	case errors.Is(err, ErrNoProfile):
	case err != nil:
		return nil, err
	default:
		if err := wire.Unmarshal(data, c); err != nil {
			return nil, err
		}
	}
	for _, encoded := range c.Records {
		if err := c.put(encoded); err != nil {
			return nil, err
		}
	}
	d.cache = c
	return c, nil
}

func (c *recordCache) put(encoded []byte) error {
	r, err := wire.ParseRecord(encoded)
	if err != nil {
		return err
	}
	c.records[r.Handle] = cached{encoded, r}
	return nil
}

// check keeps the records that are the ones listed and open, drops all others and
// returns how many of those listed are missing then. A record of an epoch that the
// device does not hold stays, to be sealed anew by a sync.
func (d *Device) check(c *recordCache, m *wire.Manifest) (missing int) {
	kept := make(map[wire.Handle]cached, len(m.Records))
	for _, e := range m.Records {
		if _, err := d.open(c, e); err != nil && wire.CodeOf(err) != wire.CodeEpoch {
			missing++
			continue
		}
		kept[e.Handle] = c.records[e.Handle]
	}
	c.records = kept
	return missing
}

func (d *Device) saveCache(ctx context.Context, c *recordCache, m *wire.Manifest) error {
	c.Records = c.Records[:0]
	for _, r := range c.records {
		c.Records = append(c.Records, r.encoded)
	}
	slices.SortFunc(c.Records, bytes.Compare) // the handle stands first
	if err := d.storage.Save(ctx, ItemRecords, wire.Marshal(c)); err != nil {
		return err
	}
	d.cache = c
	d.p.Listed = m.Sequence
	return d.save(ctx)
}

// pull brings the record cache up to date with the feed. The manifest at its end
// must not be older than what the device has seen ([wire.CodeRollback]), and every
// record that it lists must be there, exactly as listed: after one attempt from
// the feed's beginning the rest is refused with [wire.CodeRecordMismatch], and what
// does fit is kept and shown.
func (d *Device) pull(ctx context.Context) error {
	c, err := d.loadCache(ctx)
	if err != nil {
		c = &recordCache{records: map[wire.Handle]cached{}} // damaged: fetched anew
	}
	start := c.After
	missing, m, err := d.pullFrom(ctx, c)
	if err == nil && missing > 0 && start > 0 {
		c = &recordCache{records: map[wire.Handle]cached{}}
		missing, m, err = d.pullFrom(ctx, c)
	}
	if err != nil {
		d.cache = nil // half changed: what is stored stands
		return err
	}
	if err := d.saveCache(ctx, c, m); err != nil {
		return err
	}
	if missing > 0 {
		return wire.Errorf(wire.CodeRecordMismatch, "%d records of the manifest are not in the feed", missing)
	}
	return nil
}

// What one pull takes from the host: a record can come again on a later page where
// it changed meanwhile, and a host's page holds 32 records or 2 MiB at least.
const (
	maxFeedRecords = 2 * wire.MaxRecords
	maxFeedPages   = 256
)

func (d *Device) pullFrom(ctx context.Context, c *recordCache) (missing int, m *wire.Manifest, err error) {
	floor := d.p.manifestFloor()
	for pages, records := 1, 0; ; pages++ {
		page, err := d.feedPage(ctx, c.After)
		if err != nil {
			return 0, nil, err
		}
		if records += len(page.Records); records > maxFeedRecords || page.More && pages == maxFeedPages {
			return 0, nil, wire.Errorf(wire.CodeTooLarge, "a feed of %d records on %d pages", records, pages)
		}
		for _, encoded := range page.Records {
			if err := c.put(encoded); err != nil {
				return 0, nil, err
			}
		}
		if page.More && page.Next <= c.After {
			return 0, nil, wire.Errorf(wire.CodeMalformed, "the feed does not go on")
		}
		c.After, c.Manifest = max(c.After, page.Next), page.Manifest
		if !page.More {
			m, err := d.p.manifest(c.Manifest, floor)
			if wire.CodeOf(err) == wire.CodeConflict {
				m, err = d.ahead(ctx, c.Manifest, floor)
			}
			if err != nil {
				return 0, nil, err
			}
			return d.check(c, m), m, nil
		}
	}
}

// ahead judges a manifest that is ahead of what sealed answers have named: another
// device was faster, or somebody made it. A sync tells. That may name a newer one in
// turn; the one at hand is then still as new as what was asked for. Where the epoch
// has changed, [wire.CodeEpoch]: the secret that vouched for it is a former one.
func (d *Device) ahead(ctx context.Context, sealed []byte, floor uint64) (*wire.Manifest, error) {
	held := d.p.epoch().Epoch
	if err := d.syncAccount(ctx, nil); err != nil {
		return nil, err
	}
	if d.p.epoch().Epoch != held {
		return nil, wire.Errorf(wire.CodeEpoch, "a new epoch began while the feed was read")
	}
	return d.p.manifest(sealed, floor)
}

func (d *Device) feedPage(ctx context.Context, after uint64) (*wire.FeedPage, error) {
	for try := 1; ; try++ {
		body, err := d.service.getFeed(ctx, d.p.Account, d.p.Feed, after)
		if err == nil {
			var page wire.FeedPage
			return &page, wire.Unmarshal(body, &page)
		}
		var host *HostError
		if !errors.As(err, &host) || !host.passing() || try == maxTries {
			return nil, err
		}
		if d.wait(ctx, backoff(try)) != nil {
			return nil, err
		}
	}
}

// Passkey is one passkey as the device knows it.
type Passkey struct {
	Handle   wire.Handle
	Version  wire.VersionID
	Metadata wire.Metadata
}

// Listing is what the record cache holds.
type Listing struct {
	Passkeys []Passkey // by RP ID, then user name; hidden and deleted ones too
	Missing  int       // records that the manifest lists and the host did not give, or that do not open
	Stale    bool      // a newer manifest exists: sync
}

// List returns the account's passkeys from the record cache; it asks nobody. A
// cache older than the one last saved is refused with [wire.CodeRollback].
func (d *Device) List(ctx context.Context) (*Listing, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list(ctx)
}

func (d *Device) list(ctx context.Context) (*Listing, error) {
	if err := d.member(); err != nil {
		return nil, err
	}
	c, err := d.loadCache(ctx)
	if err != nil {
		return nil, err
	}
	if len(c.Manifest) == 0 {
		if d.p.Listed > 0 {
			return nil, wire.Errorf(wire.CodeRollback, "the record cache is gone: sync")
		}
		return &Listing{Stale: true}, nil
	}
	p := d.p
	m, err := wire.OpenManifest(c.Manifest, p.Ledger.ID, p.Account, p.vaultSecret)
	if err != nil {
		return nil, err
	}
	if m.Sequence < p.Listed {
		return nil, wire.Errorf(wire.CodeRollback, "the record cache is older than the one last saved: sync")
	}
	l := &Listing{Stale: m.Sequence < max(p.Manifest, p.Edited)}
	for _, e := range m.Records {
		k, err := d.open(c, e)
		if err != nil {
			l.Missing++
			continue
		}
		l.Passkeys = append(l.Passkeys, *k)
	}
	slices.SortFunc(l.Passkeys, func(a, b Passkey) int {
		if c := strings.Compare(a.Metadata.RPID, b.Metadata.RPID); c != 0 {
			return c
		}
		if c := strings.Compare(a.Metadata.UserName, b.Metadata.UserName); c != 0 {
			return c
		}
		return bytes.Compare(a.Handle[:], b.Handle[:])
	})
	return l, nil
}

// open opens the record that a manifest lists. Another one in its place, in any byte,
// is refused with [wire.CodeRecordMismatch], one of an epoch that the device does not
// hold with [wire.CodeEpoch].
func (d *Device) open(c *recordCache, e wire.Listed) (*Passkey, error) {
	here, ok := c.records[e.Handle]
	if !ok || wire.RecordHash(here.encoded) != e.Record {
		return nil, wire.Errorf(wire.CodeRecordMismatch, "not the record that the manifest lists")
	}
	r := here.record
	secret := d.p.vaultSecret(r.Generation, r.Epoch)
	if secret == nil {
		return nil, wire.Errorf(wire.CodeEpoch, "no vault secret of epoch %d", r.Epoch)
	}
	m, err := r.OpenMetadata(d.p.Ledger.ID, d.p.Account, secret)
	if err != nil {
		return nil, err
	}
	return &Passkey{Handle: r.Handle, Version: r.Version, Metadata: *m}, nil
}
