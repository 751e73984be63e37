package client

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// revoked enrols a device that makes a passkey and revokes another, and returns the
// vault secret that the other one still has, of epoch 1.
func (f *fake) revoked() (d *Device, secret []byte) {
	f.t.Helper()
	d = f.enrolled()
	create(f.t, d, "bank.test", "alice")
	phone := f.joined()
	secret = phone.p.epoch().Vault
	if err := d.Revoke(f.t.Context(), phone.ID()); err != nil {
		f.t.Fatal(err)
	}
	return d, secret
}

// metadata forges a record's metadata.
func (f *fake) metadata(secret []byte, r *wire.Record) {
	r.Metadata = wire.SealBox(wire.MetadataKey(secret), wire.LabelMetadata, f.scope(r.Epoch),
		wire.PadBox(wire.Marshal(wire.Metadata{RPID: "bank.test", UserName: "mallory"}), wire.MetadataBucket), r.Handle, r.Version)
}

// Manifests that do not come from the enclave, made with what a device held or holds.
// None is believed, and none leaves anything behind that refuses the true one.
func TestForgedManifest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		forge    func(s *wire.Scope, m *wire.Manifest)
		former   bool // sealed with the revoked device's secret
		want     wire.Code
		answered bool // the sync in whose answer it stands goes through, without it
	}{
		{"of an earlier epoch", func(s *wire.Scope, m *wire.Manifest) { s.Epoch = 1 }, true, wire.CodeRollback, false},
		{"of an earlier epoch, far ahead", func(s *wire.Scope, m *wire.Manifest) { s.Epoch, m.Sequence = 1, 1<<40 }, true, wire.CodeRollback, false},
		{"with an earlier epoch's secret", func(s *wire.Scope, m *wire.Manifest) {}, true, wire.CodeMalformed, false},
		{"of a later epoch", func(s *wire.Scope, m *wire.Manifest) { s.Epoch = 3 }, false, wire.CodeEpoch, false},
		{"of another generation", func(s *wire.Scope, m *wire.Manifest) { s.Generation = 2 }, false, wire.CodeEpoch, false},
		{"of the next entry", func(s *wire.Scope, m *wire.Manifest) { m.Sequence++ }, false, wire.CodeConflict, true},
		{"far ahead", func(s *wire.Scope, m *wire.Manifest) { m.Sequence = 1 << 40 }, false, wire.CodeConflict, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d, secret := f.revoked()
			if !tt.former {
				secret = d.p.epoch().Vault
			}
			scope, m := f.scope(2), wire.Manifest{Sequence: d.p.Known.Sequence}
			tt.forge(&scope, &m)
			forged := wire.SealManifest(secret, scope, m)
			before := d.p.Manifest

			f.feed = func(p *wire.FeedPage) { p.Manifest, p.Records = forged, nil }
			_, err := d.Sync(t.Context())
			wantCode(t, err, tt.want)
			f.feed = nil

			f.respond = func(b *wire.Body, r *wire.Response) {
				var s wire.SyncResult
				if err := wire.Unmarshal(r.Results[0], &s); err != nil {
					t.Error(err)
				}
				s.Manifest = forged
				r.Results[0] = wire.Marshal(s)
			}
			_, err = d.Sync(t.Context())
			if tt.answered {
				tt.want = ""
			}
			wantCode(t, err, tt.want)
			f.respond = nil

			d = f.again(d)
			if d.p.Manifest != before || d.p.Listed != before {
				t.Errorf("manifest %d, cache of %d; want %d", d.p.Manifest, d.p.Listed, before)
			}
			if _, err := d.Sync(t.Context()); err != nil {
				t.Errorf("the honest service is refused: %v", err)
			}
			if k := passkeys(t, d); len(k) != 1 || k[0].Metadata.UserName != "alice" {
				t.Errorf("listed %+v", k)
			}
		})
	}
}

// Another device is faster than every pull and every sync that follows it: one sync
// settles what was read, however busy the other one is.
func TestManifestOvertakes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	create(t, d, "a.test", "a")
	f.sent = nil
	var read uint64
	f.feed = func(p *wire.FeedPage) {
		f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
		p.Manifest, read = f.account.manifest, f.account.newest().Sequence
		f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
	}
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.count(wire.CommandSync) != 2 || d.p.Listed != read || d.p.Manifest != read+1 {
		t.Errorf("sent %v; read a manifest of %d, kept %d, seen %d", f.sent, read, d.p.Listed, d.p.Manifest)
	}
	if l, err := d.List(t.Context()); err != nil || !l.Stale || len(l.Passkeys) != 1 {
		t.Errorf("listed %+v, %v", l, err)
	}
}

// The manifest read is ahead, and the sync that tells so brings a new epoch, too: only
// the secret now in force vouches for a manifest, so that another is read.
func TestManifestOvertakenByEpoch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	create(t, d, "a.test", "a")
	f.feed = func(p *wire.FeedPage) {
		f.feed = nil
		f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
		p.Manifest = f.account.manifest
		f.newEpoch()
		f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindRevoke})
	}
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if newest := f.account.newest().Sequence; d.p.epoch().Epoch != 2 || d.p.Listed != newest {
		t.Errorf("epoch %d, listed %d of %d", d.p.epoch().Epoch, d.p.Listed, newest)
	}
	if k := passkeys(t, d); len(k) != 1 {
		t.Errorf("listed %+v", k)
	}
}

// The manifest is the true one. A revoked device makes other content for a record
// that it has never seen, of the version listed, under the epoch that it has.
func TestForgedRecord(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d, secret := f.revoked()
	made := create(t, d, "late.test", "alice")
	if err := d.storage.Save(t.Context(), ItemRecords, wire.Marshal(recordCache{})); err != nil {
		t.Fatal(err)
	}
	d = f.again(d)
	f.feed = func(p *wire.FeedPage) {
		for i, encoded := range p.Records {
			r, err := wire.ParseRecord(encoded)
			if err != nil {
				t.Error(err)
			}
			if r.Handle == made.Handle {
				r.Epoch = 1
				f.metadata(secret, r)
				p.Records[i] = wire.Marshal(r)
			}
		}
	}
	_, err := d.Sync(t.Context())
	wantCode(t, err, wire.CodeRecordMismatch)
	l, err := d.List(t.Context())
	if err != nil || l.Missing != 1 || len(l.Passkeys) != 1 || l.Passkeys[0].Metadata.RPID != "bank.test" {
		t.Errorf("listed %+v, %v", l, err)
	}
}

// The cached record is exchanged where it is stored.
func TestForgedCache(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d, secret := f.revoked()
	c := d.mustCache(t)
	r, err := wire.ParseRecord(c.Records[0])
	if err != nil {
		t.Fatal(err)
	}
	r.Epoch = 1
	f.metadata(secret, r)
	c.Records[0] = wire.Marshal(r)
	if err := d.storage.Save(t.Context(), ItemRecords, wire.Marshal(c)); err != nil {
		t.Fatal(err)
	}
	if l, err := f.again(d).List(t.Context()); err != nil || l.Missing != 1 || len(l.Passkeys) != 0 {
		t.Errorf("listed %+v, %v", l, err)
	}
}

// One bad answer of the feed costs nothing once the host is honest again.
func TestFeedHeals(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(*wire.Record){
		"metadata": func(r *wire.Record) { r.Metadata[len(r.Metadata)-1] ^= 1 },
		"secret":   func(r *wire.Record) { r.Secret[0] ^= 1 },
		"epoch":    func(r *wire.Record) { r.Epoch = 99 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			laptop := f.enrolled()
			create(t, laptop, "a.test", "a")
			phone := f.joined()
			create(t, laptop, "b.test", "b")
			f.feed = func(p *wire.FeedPage) {
				r, err := wire.ParseRecord(p.Records[0])
				if err != nil {
					t.Error(err)
				}
				attack(r)
				p.Records[0] = wire.Marshal(r)
			}
			_, err := phone.Sync(t.Context())
			wantCode(t, err, wire.CodeRecordMismatch)
			if l, err := phone.List(t.Context()); err != nil || l.Missing != 1 || len(l.Passkeys) != 1 {
				t.Errorf("listed %+v, %v", l, err)
			}
			f.feed = nil
			phone = f.again(phone)
			if _, err := phone.Sync(t.Context()); err != nil || len(passkeys(t, phone)) != 2 {
				t.Errorf("not healed: %v", err)
			}
		})
	}
}

// A record that is listed as it is and does not open hides no other.
func TestListedAndDoesNotOpen(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	made := create(t, d, "a.test", "a")
	create(t, d, "b.test", "b")
	k := f.account.records[made.Handle]
	k.record.Metadata[0] ^= 1
	k.encoded, k.changed = wire.Marshal(k.record), 0
	f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit, Device: d.ID()})
	_, err := d.Sync(t.Context())
	wantCode(t, err, wire.CodeRecordMismatch)
	if l, err := d.List(t.Context()); err != nil || l.Missing != 1 || len(l.Passkeys) != 1 {
		t.Errorf("listed %+v, %v", l, err)
	}
}

// A device that has joined holds one epoch. What another has not sealed anew yet is no attack.
func TestRecordOfEarlierEpoch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	create(t, f.enrolled(), "a.test", "a")
	f.newEpoch()
	f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindPINSet})
	phone := f.joined()
	create(t, phone, "b.test", "b")
	if l, err := phone.List(t.Context()); err != nil || l.Missing != 1 || len(l.Passkeys) != 1 {
		t.Errorf("listed %+v, %v", l, err)
	}
	if _, err := phone.Sync(t.Context()); err != nil || len(passkeys(t, phone)) != 2 {
		t.Errorf("after a sync: %v", err)
	}
}

func TestEndlessFeed(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"of many records": 100, "of a record a page": 1, "of empty pages": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			pages, records := 0, 0
			f.feed = func(p *wire.FeedPage) {
				pages++
				p.More, p.Next = pages < 2*maxFeedPages, uint64(1000+pages)
				for range size {
					records++
					p.Records = append(p.Records, wire.Marshal(wire.Record{Handle: wire.Handle(random(16))}))
				}
			}
			_, err := d.Sync(t.Context())
			wantCode(t, err, wire.CodeTooLarge)
			if pages > maxFeedPages || records > maxFeedRecords+size {
				t.Errorf("%d pages, %d records", pages, records)
			}
			f.feed = nil
			create(t, d, "a.test", "a")
			if len(passkeys(t, d)) != 1 {
				t.Error("the passkey is not listed")
			}
		})
	}
}
