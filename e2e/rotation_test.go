package e2e

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/wire"
)

func newKEK(version string) enclave.KEK {
	k := enclave.KEK{Version: version, Key: make([]byte, wire.SecretSize)}
	rand.Read(k.Key)
	return k
}

// When the first version of the KEK is gone, what it signed verifies on every device, and
// who knows the ledger's keys finds the same ones. A host that loses what was left of it
// is refused by every device that knows them, and nothing else comes of it.
func TestFirstVersionGone(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	laptop := s.enrolled("alice")
	first, second := s.keks[0], newKEK("v2")
	s.keks = []enclave.KEK{first, second}
	s.made = s.keks
	s.restart()
	if _, err := laptop.Create(t.Context(), site("under the second")); err != nil { // wraps the account under it
		t.Fatal(err)
	}

	s.keks = []enclave.KEK{second}
	s.restart()
	laptop.sync()
	phone := s.joined("alice", "phone", pin)
	for _, d := range []*device{laptop, phone} {
		d.sync()
		if n := len(d.counted()); n < 3 {
			t.Fatalf("a history of %d kinds of entries", n)
		}
	}
	s.whole(1)

	s.stopHost()
	database, err := sqlite.Open(s.folder)
	if err != nil {
		t.Fatal(err)
	}
	note := store.NoteLineage("v2")
	kept, err := database.Note(t.Context(), note)
	if err != nil || len(kept) == 0 {
		t.Fatalf("%d bytes kept, %v", len(kept), err)
	}
	if err := database.SetNote(t.Context(), note, append(kept, 0)); err != nil {
		t.Fatal(err)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	s.startHost()
	s.restart()
	_, err = laptop.Sync(t.Context())
	wantCode(t, err, wire.CodeEntry)
	misled := s.joined("alice", "misled", pin) // it pinned no list yet, and pins the shorter one

	s.keks = []enclave.KEK{first, second} // enabled again: which also mends what the host lost
	s.restart()
	laptop.sync()
	s.keks = []enclave.KEK{second}
	s.restart()
	laptop.sync()
	s.joined("alice", "tablet", pin)
	_, err = misled.Sync(t.Context())
	wantCode(t, err, wire.CodeEntry)
	s.whole(1)
}

// rewrapped has another enclave, which holds these versions, rewrap every account.
func (s *service) rewrapped(keks ...enclave.KEK) {
	s.t.Helper()
	core, err := enclave.NewCore(s.configuration, make([]byte, wire.SecretSize), keks)
	if err != nil {
		s.t.Fatal(err)
	}
	found, _, err := s.store.Wrapped(s.t.Context(), keks[len(keks)-1].Version, nil, 100)
	if err != nil || len(found) == 0 {
		s.t.Fatalf("%d accounts, %v", len(found), err)
	}
	var wraps []store.Rewrap
	for i, w := range core.Rewrap(found).Wraps {
		r := store.Rewrap{Account: found[i].Account, Wrap: w}
		for _, former := range found[i].Wraps {
			r.Former = append(r.Former, former.KEK)
		}
		wraps = append(wraps, r)
	}
	if n, err := s.store.Rewrap(s.t.Context(), wraps); err != nil || n != len(wraps) {
		s.t.Fatalf("%d rewrapped, %v", n, err)
	}
}

// An enclave that does not have the newest version of the KEK yet gets it when it meets
// what another one sealed or signed with it: nobody is refused meanwhile.
func TestAnotherEnclaveWasFaster(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	laptop := s.enrolled("alice")
	first, second := s.keks[0], newKEK("v2")
	s.made = []enclave.KEK{first, second}
	s.newer = func() []enclave.KEK { return clones(first, second) }

	s.rewrapped(first, second)
	laptop.sync() // its wrap was of a version that the enclave did not have
	if _, err := laptop.Create(t.Context(), site("under the second")); err != nil {
		t.Fatal(err)
	}
	s.restart() // which has the first version alone, at first
	s.joined("alice", "phone", pin)
	laptop.sync()
	if n := s.whatItHolds(); n != "v2" {
		t.Fatalf("the enclave holds %q", n)
	}

	// Where there is no newer one, it says so, and at once from the second time on.
	s.newer = nil
	s.keks = []enclave.KEK{first}
	s.rewrapped(first, second, newKEK("v3"))
	for range 2 {
		_, err := laptop.Sync(t.Context())
		wantCode(t, err, wire.CodeWrap)
	}
	s.whole(1)
}

// clones are versions of the KEK as a key service gives them: whoever takes them clears them.
func clones(keks ...enclave.KEK) (out []enclave.KEK) {
	for _, k := range keks {
		out = append(out, enclave.KEK{Version: k.Version, Key: bytes.Clone(k.Key)})
	}
	return out
}

// whatItHolds is the newest version that the enclave says it holds.
func (s *service) whatItHolds() string {
	s.t.Helper()
	status, err := s.link.Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return status.KEK
}
