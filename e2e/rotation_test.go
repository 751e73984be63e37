package e2e

import (
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
