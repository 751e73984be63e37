package client

import (
	"bytes"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func TestFeedRefused(t *testing.T) {
	t.Parallel()
	type before struct {
		manifest []byte
		first    []byte // the renamed record's first version
	}
	tests := []struct {
		name   string
		attack func(f *fake, b before)
		want   wire.Code
		listed int // passkeys still shown
	}{
		{"older manifest", func(f *fake, b before) {
			f.feed = func(p *wire.FeedPage) { p.Manifest = b.manifest }
		}, wire.CodeRollback, 2},
		{"older manifest, and its records", func(f *fake, b before) {
			f.feed = func(p *wire.FeedPage) { p.Manifest, p.Records = b.manifest, [][]byte{b.first} }
		}, wire.CodeRollback, 2},
		{"older version of a record", func(f *fake, b before) {
			f.feed = func(p *wire.FeedPage) {
				for i, r := range p.Records {
					if bytes.Equal(r[:20], b.first[:20]) {
						p.Records[i] = b.first
					}
				}
			}
		}, wire.CodeRecordMismatch, 1},
		{"a record left out", func(f *fake, b before) {
			f.feed = func(p *wire.FeedPage) {
				var kept [][]byte
				for _, r := range p.Records {
					if !bytes.Equal(r[:20], b.first[:20]) {
						kept = append(kept, r)
					}
				}
				p.Records = kept
			}
		}, wire.CodeRecordMismatch, 1},
		{"another record's content under a listed name", func(f *fake, b before) {
			f.feed = func(p *wire.FeedPage) {
				x, err := wire.ParseRecord(p.Records[0])
				if err != nil {
					f.t.Error(err)
				}
				y, err := wire.ParseRecord(p.Records[1])
				if err != nil {
					f.t.Error(err)
				}
				x.Metadata = y.Metadata
				p.Records[0] = wire.Marshal(x)
			}
		}, wire.CodeRecordMismatch, 1},
		{"no manifest", func(f *fake, _ before) {
			f.feed = func(p *wire.FeedPage) { p.Manifest = nil }
		}, wire.CodeMalformed, 2},
		{"foreign manifest", func(f *fake, _ before) {
			m := wire.SealManifest(random(32), f.scope(1), wire.Manifest{Sequence: 99})
			f.feed = func(p *wire.FeedPage) { p.Manifest = m }
		}, wire.CodeMalformed, 2},
		{"a feed without an end", func(f *fake, _ before) {
			f.feed = func(p *wire.FeedPage) { p.More, p.Next = true, 0 }
		}, wire.CodeMalformed, 2},
		{"a record that does not parse", func(f *fake, _ before) {
			f.feed = func(p *wire.FeedPage) { p.Records = append(p.Records, []byte{0xa0, 0}) }
		}, wire.CodeMalformed, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			made := create(t, d, "a.test", "a")
			b := before{manifest: f.account.manifest, first: f.account.records[made.Handle].encoded}
			create(t, d, "a.test", "b")
			if err := d.Rename(t.Context(), made.Handle, "new name"); err != nil {
				t.Fatal(err)
			}
			if tt.listed < 2 { // the attacks on records need an empty cache to bite
				if err := d.storage.Save(t.Context(), ItemRecords, wire.Marshal(recordCache{})); err != nil {
					t.Fatal(err)
				}
				d = f.again(d)
			}
			tt.attack(f, b)
			_, err := d.Sync(t.Context())
			wantCode(t, err, tt.want)
			l, err := f.again(d).List(t.Context())
			if err != nil || len(l.Passkeys) != tt.listed || l.Missing != 2-tt.listed {
				t.Errorf("listed %+v, %v", l, err)
			}
			for _, k := range l.Passkeys {
				if k.Handle == made.Handle && k.Metadata.Label != "new name" {
					t.Error("an older version is shown")
				}
			}
		})
	}
}

// The sealed sync hands on a manifest from the store. It must not be older than an
// entry which says that there is a newer one.
func TestManifestOlderThanEntry(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	phone := f.joined()
	if _, err := phone.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, listed := f.account.manifest, f.account.listed
	create(t, laptop, "a.test", "a")
	f.account.manifest, f.account.listed = old, listed // the entry's note alone tells
	_, err := phone.Sync(t.Context())
	wantCode(t, err, wire.CodeRollback)
}

// The record cache is replaced by an older one behind the device's back.
func TestOfflineRollback(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	create(t, d, "a.test", "a")
	old, err := d.storage.Load(t.Context(), ItemRecords)
	if err != nil {
		t.Fatal(err)
	}
	create(t, d, "b.test", "b")
	for name, stored := range map[string][]byte{"older": old, "empty": wire.Marshal(recordCache{})} {
		if err := d.storage.Save(t.Context(), ItemRecords, stored); err != nil {
			t.Fatal(err)
		}
		again := f.again(d)
		_, err = again.List(t.Context())
		if wire.CodeOf(err) != wire.CodeRollback {
			t.Errorf("%s cache: %v", name, err)
		}
		if _, err := again.Sync(t.Context()); err != nil || len(passkeys(t, again)) != 2 {
			t.Errorf("%s cache: a sync does not heal it: %v", name, err)
		}
	}
}

func TestDeletedGoes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	made := create(t, d, "a.test", "a")
	delete(f.account.records, made.Handle) // a purge
	f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit, Device: d.ID()})
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(passkeys(t, d)) != 0 || len(f.again(d).mustCache(t).records) != 0 {
		t.Fatal("a purged passkey is listed, or kept")
	}
}

func (d *Device) mustCache(t *testing.T) *recordCache {
	t.Helper()
	c, err := d.loadCache(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A device that has seen no entry yet still goes by the manifests that it has seen.
func TestManifestOlderThanSeen(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	create(t, laptop, "a.test", "a")
	old := f.account.manifest
	phone := f.joined()
	f.feed = func(p *wire.FeedPage) { p.Manifest = old }
	_, err := phone.Sync(t.Context())
	wantCode(t, err, wire.CodeRollback)
}
