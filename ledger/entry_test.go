package ledger_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

func chain(t *testing.T, k *ledgertest.Keys, account wire.AccountID, n int) [][]byte {
	t.Helper()
	var out [][]byte
	var at wire.Head
	for range n {
		var c *wire.Commit
		c, at = k.Entry(account, at)
		out = append(out, c.Append.Entry)
	}
	return out
}

func TestChain(t *testing.T) {
	t.Parallel()
	k, account := ledgertest.NewKeys(t), wire.AccountID{1}
	stream := wire.Stream(k.LedgerID, account)
	c := chain(t, k, account, 4)
	entries, head, err := k.Verifier.VerifyChain(stream, wire.Head{}, c)
	if err != nil || len(entries) != 4 || head.Sequence != 4 || head.Hash != ledger.EntryHash(c[3]) {
		t.Fatalf("%v, %v", head, err)
	}
	other := chain(t, k, account, 4)
	for name, bad := range map[string][][]byte{
		"one left out":   {c[0], c[2], c[3]},
		"out of order":   {c[0], c[2], c[1], c[3]},
		"one twice":      {c[0], c[1], c[1]},
		"other branch":   {c[0], other[1]},
		"first left out": c[1:],
		"other stream's": chain(t, k, wire.AccountID{2}, 1),
		"other ledger's": chain(t, ledgertest.NewKeys(t), account, 1),
	} {
		if _, _, err := k.Verifier.VerifyChain(stream, wire.Head{}, bad); wire.CodeOf(err) != wire.CodeEntry {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A restore goes on from the place that it names, over a gap, and from its previous entry
// where that is there; from nowhere else, and it takes something back.
func TestRestoreInAChain(t *testing.T) {
	t.Parallel()
	k, account := ledgertest.NewKeys(t), wire.AccountID{1}
	stream := wire.Stream(k.LedgerID, account)
	c := chain(t, k, account, 6)
	place := func(i int) wire.Head { return wire.Head{Sequence: uint64(i), Hash: ledger.EntryHash(c[i-1])} }
	restore := func(change func(*ledger.Entry)) []byte {
		e := *must(ledger.ParseEntry(c[5]))
		back := place(2)
		e.Sequence, e.Previous, e.Restored = 7, ledger.EntryHash(c[5]), &back
		change(&e)
		return e.Sign(k.Private)
	}
	none := func(*ledger.Entry) {}
	for name, test := range map[string]struct {
		encoded [][]byte
		from    wire.Head
		good    bool
	}{
		"over the gap":    {[][]byte{c[0], c[1], restore(none)}, wire.Head{}, true},
		"without a gap":   {append(slices.Clone(c), restore(none)), wire.Head{}, true},
		"from elsewhere":  {[][]byte{c[0], c[1], c[2], restore(none)}, wire.Head{}, false},
		"from inside":     {[][]byte{restore(none)}, place(4), false},
		"from another":    {[][]byte{restore(func(e *ledger.Entry) { e.Restored.Hash[0]++ })}, place(2), false},
		"takes none back": {[][]byte{restore(func(e *ledger.Entry) { *e.Restored = place(6) })}, place(6), false},
		"the very first":  {[][]byte{restore(func(e *ledger.Entry) { *e.Restored = wire.Head{} })}, wire.Head{}, false},
		"earlier epoch":   {[][]byte{c[0], c[1], restore(func(e *ledger.Entry) { e.Epoch = 0 })}, wire.Head{}, false},
	} {
		if _, _, err := k.Verifier.VerifyChain(stream, test.from, test.encoded); (err == nil) != test.good || err != nil && wire.CodeOf(err) != wire.CodeEntry {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What it restores stands under the signature.
	e := must(ledger.ParseEntry(restore(none)))
	e.Restored.Sequence = 1
	if _, err := k.Verifier.Verify(stream, wire.Marshal(e)); wire.CodeOf(err) != wire.CodeEntry {
		t.Errorf("another sequence: %v", err)
	}
	e.Restored = nil
	if _, err := k.Verifier.Verify(stream, wire.Marshal(e)); wire.CodeOf(err) != wire.CodeEntry {
		t.Errorf("taken away: %v", err)
	}

	e = must(ledger.ParseEntry(restore(none)))
	for at, want := range map[wire.Head]bool{place(1): false, place(2): false, place(3): true, place(5): true, place(6): false, {Sequence: 6}: true, {Sequence: 2}: false, {Sequence: 7}: false} {
		if got := e.TakesBack(at); got != want {
			t.Errorf("takes back entry %d: %v", at.Sequence, got)
		}
	}
	r := ledger.Remembered{Head: place(4), Generation: 1, Epoch: 1}
	newest := ledger.HeadOf(e, restore(none))
	if _, err := r.Extend(k.Verifier, stream, newest, [][]byte{restore(none)}); wire.CodeOf(err) != wire.CodeFork || r.Head != place(4) {
		t.Errorf("a device that remembers what was taken back: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Epochs never fall along a chain.
func TestChainGoesBackAnEpoch(t *testing.T) {
	t.Parallel()
	k, account := ledgertest.NewKeys(t), wire.AccountID{1}
	e := ledger.Entry{Ledger: k.LedgerID, Stream: wire.Stream(k.LedgerID, account), Sequence: 1, Generation: 1, Epoch: 2, Note: make([]byte, ledger.NoteSize)}
	first := e.Sign(k.Private)
	e.Sequence, e.Previous, e.Epoch = 2, ledger.EntryHash(first), 1
	if _, _, err := k.Verifier.VerifyChain(e.Stream, wire.Head{}, [][]byte{first, e.Sign(k.Private)}); wire.CodeOf(err) != wire.CodeEntry {
		t.Fatal(err)
	}
}

// Ledger keys succeed one another along a chain and never go back, however they are
// signed: who holds an old KEK cannot write history behind what a newer one signed.
func TestChainGoesBackAKey(t *testing.T) {
	t.Parallel()
	id, account := bytes.Repeat([]byte{1}, 32), wire.AccountID{1}
	keys, signers := ledger.Succession(id, [][]byte{{2}, {3}, {4}})
	v, err := ledger.NewVerifier(id, signers)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		by []int
		ok bool
	}{
		{[]int{0, 0, 1, 1, 2}, true},
		{[]int{0, 2}, true},
		{[]int{1, 0}, false},
		{[]int{0, 2, 2, 1}, false},
		{[]int{0, 2, 0, 2}, false},
	} {
		e := ledger.Entry{Ledger: id, Stream: wire.Stream(id, account), Generation: 1, Epoch: 1, Note: make([]byte, ledger.NoteSize)}
		var chain [][]byte
		for _, key := range test.by {
			e.Sequence++
			chain = append(chain, e.Sign(keys[key]))
			e.Previous = ledger.EntryHash(chain[len(chain)-1])
		}
		want := wire.Code("")
		if !test.ok {
			want = wire.CodeEntry
		}
		if _, _, err := v.VerifyChain(e.Stream, wire.Head{}, chain); wire.CodeOf(err) != want {
			t.Errorf("signed by %v: got %v, want %q", test.by, err, want)
		}
	}
}

// Every byte of an entry is signed, or is the signature.
func TestEntryBitFlips(t *testing.T) {
	t.Parallel()
	k, account := ledgertest.NewKeys(t), wire.AccountID{1}
	stream := wire.Stream(k.LedgerID, account)
	entry := chain(t, k, account, 1)[0]
	for i := range entry {
		bad := slices.Clone(entry)
		bad[i] ^= 1
		if _, err := k.Verifier.Verify(stream, bad); wire.CodeOf(err) != wire.CodeEntry {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

func TestSuccession(t *testing.T) {
	t.Parallel()
	id, one, two := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)
	_, signers := ledger.Succession(id, [][]byte{one, two})
	if _, err := ledger.NewVerifier(id, signers); err != nil {
		t.Fatal(err)
	}
	_, stranger := ledger.Succession(id, [][]byte{two})
	_, otherLedger := ledger.Succession(bytes.Repeat([]byte{4}, 32), [][]byte{one, two})
	for name, bad := range map[string][]ledger.Signer{
		"none":                       nil,
		"unsigned successor":         {signers[0], stranger[0]},
		"signed for another ledger":  otherLedger,
		"successor before the first": {signers[1], signers[0]},
	} {
		if _, err := ledger.NewVerifier(id, bad); wire.CodeOf(err) != wire.CodeEntry {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	key, s := bytes.Repeat([]byte{1}, 32), wire.Scope{Ledger: bytes.Repeat([]byte{2}, 32), Account: wire.AccountID{3}, Generation: 1, Epoch: 1}
	note := ledger.Note{Kind: ledger.KindWrong, Consecutive: 2, Name: "phone"}
	e := &ledger.Entry{Ledger: s.Ledger, Sequence: 5, Generation: 1, Epoch: 1, Note: ledger.SealNote(key, s, 5, note)}
	if got, err := ledger.OpenNote(key, s.Account, e); err != nil || *got != note || len(e.Note) != ledger.NoteSize {
		t.Fatalf("%+v, %v", got, err)
	}
	long := note
	long.Name = string(bytes.Repeat([]byte("x"), wire.MaxDeviceName))
	if n := len(ledger.SealNote(key, s, 5, long)); n != ledger.NoteSize {
		t.Fatalf("the longest note has %d bytes", n)
	}
	for name, change := range map[string]func(*ledger.Entry){
		"another place":      func(e *ledger.Entry) { e.Sequence++ },
		"another epoch":      func(e *ledger.Entry) { e.Epoch++ },
		"another generation": func(e *ledger.Entry) { e.Generation++ },
	} {
		moved := *e
		change(&moved)
		if _, err := ledger.OpenNote(key, s.Account, &moved); wire.CodeOf(err) != wire.CodeEntry {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ledger.OpenNote(key, wire.AccountID{4}, e); wire.CodeOf(err) != wire.CodeEntry {
		t.Errorf("another account: %v", err)
	}
}

func FuzzEntry(f *testing.F) {
	e := ledger.Entry{Ledger: make([]byte, 32), Sequence: 1, Note: make([]byte, ledger.NoteSize)}
	_, signers := ledger.Succession(make([]byte, 32), [][]byte{make([]byte, 32)})
	keys, _ := ledger.Succession(make([]byte, 32), [][]byte{make([]byte, 32)})
	f.Add(e.Sign(keys[0]))
	v, err := ledger.NewVerifier(make([]byte, 32), signers)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := v.Verify(wire.StreamID{}, data); err == nil && !bytes.Equal(wire.Marshal(p), data) {
			t.Fatal("accepted entry encodes to something else")
		}
	})
}
