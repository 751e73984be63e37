package azure_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure"
	"github.com/passclave/passclave/ledger/azure/azuretest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// Whoever answers under another key is nobody, also with "no such collection".
func TestWrongCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	w.server.Set(func(s *azuretest.Server) { s.MissingIs404 = true })
	if got := w.read(w.enclave()); got != (wire.Head{}) {
		t.Fatalf("head %v of no stream", got)
	}
	w.pinned = newWorld(t, w.keys).server.Service()
	l := w.enclave()
	_, err := w.tryRead(l)
	want(t, err, wire.CodeUnavailable)
	if !errors.Is(err, azure.ErrNotPinned) {
		t.Fatal(err)
	}
	if _, err = w.write(l, wire.Head{}); !errors.Is(err, azure.ErrNotPinned) || len(w.server.Entries()) != 0 {
		t.Fatal(err)
	}
}

// After a disaster recovery nothing is believed until the new certificate is pinned.
func TestRecoveredService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	at := w.append(l)
	w.server.Recover()
	for _, l := range []*azure.Ledger{l, w.enclave()} {
		if _, err := w.tryRead(l); !errors.Is(err, azure.ErrNotPinned) {
			t.Fatal(err)
		}
		if _, err := w.write(l, at); !errors.Is(err, azure.ErrNotPinned) {
			t.Fatal(err)
		}
	}
	w.pinned = w.server.Service()
	if got := w.read(w.enclave()); got != at {
		t.Fatalf("read %v, want %v", got, at)
	}
}

// The service's certificate is renewed over the same key, long after the pinned one has
// run out; a node's must be in its time.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	at := w.append(w.enclave())
	later := time.Now().Add(200 * 24 * time.Hour)
	w.server.Renew(later)
	if _, err := w.tryRead(w.enclave()); wire.CodeOf(err) != wire.CodeUnavailable || errors.Is(err, azure.ErrNotPinned) {
		t.Fatalf("a node of the future: %v", err)
	}
	w.now = func() time.Time { return later.Add(time.Hour) }
	l := w.enclave()
	if got := w.read(l); got != at {
		t.Fatalf("read %v, want %v", got, at)
	}
	w.append(l)
	w.now = func() time.Time { return later.Add(100 * 24 * time.Hour) }
	if _, err := w.tryRead(w.enclave()); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("a node whose time is over: %v", err)
	}
}

// The node must be the one that was asked for, not another of the same service.
func TestOtherHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	c := w.config()
	c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1)
	_, err := w.tryRead(w.with(c))
	want(t, err, wire.CodeUnavailable)
}

func encode(w *world, entry []byte, signers []ledger.Signer) string {
	type signer struct {
		Public    []byte `cbor:"1,keyasint"`
		Signature []byte `cbor:"2,keyasint,omitempty"`
	}
	out := struct {
		Entry   []byte   `cbor:"1,keyasint"`
		Signers []signer `cbor:"2,keyasint"`
	}{Entry: entry}
	for _, s := range signers {
		out.Signers = append(out.Signers, signer{s.Public, s.Signature})
	}
	return base64.RawURLEncoding.EncodeToString(wire.Marshal(out))
}

// What others put into the collection is not there, whatever it looks like.
func TestForeignEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	first := w.append(l)
	collection := l.Collection(w.stream)
	old := w.server.Entries()[0].Contents
	at := w.append(l)

	stranger := ledgertest.NewKeys(t)
	stranger.LedgerID = w.keys.LedgerID
	forged, _ := stranger.Entry(w.account, at)
	elsewhere, _ := ledgertest.NewKeys(t).Entry(w.account, at)
	otherStream, _ := w.keys.Entry(wire.AccountID{9}, at)
	loser, _ := w.keys.Entry(w.account, first)
	flipped, _ := w.keys.Entry(w.account, at)
	flipped.Append.Entry[len(flipped.Append.Entry)-1] ^= 1
	_, rogue := ledger.Succession(w.keys.LedgerID, [][]byte{{1}, {2}})
	rogue[0] = w.keys.Signers[0] // the second is not signed by it
	keys, _ := ledger.Succession(w.keys.LedgerID, [][]byte{{1}, {2}})
	byRogue := &ledger.Entry{Ledger: w.keys.LedgerID, Stream: w.stream, Sequence: at.Sequence + 1, Previous: at.Hash, Generation: 1, Epoch: 1, Note: make([]byte, ledger.NoteSize)}
	byKeys := *byRogue
	_, own := ledger.Succession(w.keys.LedgerID, [][]byte{{1}, {2}})
	for name, contents := range map[string]string{
		"text": "hello", "nothing": "", "too long": strings.Repeat("A", 1<<17), "base64 of nothing": "AAAA",
		"a stranger's entry":         encode(w, forged.Append.Entry, stranger.Signers),
		"a stranger's, with our key": encode(w, forged.Append.Entry, w.keys.Signers),
		"another ledger's":           encode(w, elsewhere.Append.Entry, w.keys.Signers),
		"another stream's":           encode(w, otherStream.Append.Entry, w.keys.Signers),
		"a bit of the signature":     encode(w, flipped.Append.Entry, w.keys.Signers),
		"a copy":                     old,
		"a loser":                    encode(w, loser.Append.Entry, w.keys.Signers),
		"a successor of its own":     encode(w, byRogue.Sign(keys[1]), rogue),
		"keys of its own":            encode(w, byKeys.Sign(keys[1]), own),
	} {
		w.server.Put(collection, contents)
		for _, l := range []*azure.Ledger{l, w.enclave()} {
			if got, err := w.tryRead(l); err != nil || got != at {
				t.Fatalf("%s: read %v, %v, want %v", name, got, err, at)
			}
		}
	}
	w.append(l)
}

// An entry of this ledger's key that follows nothing in the ledger means that this
// enclave does not see all: it must not begin a branch.
func TestGapIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	at := w.append(l)
	ahead, _ := w.keys.Entry(w.account, wire.Head{Sequence: at.Sequence + 1, Hash: wire.Digest{1}})
	w.server.Put(l.Collection(w.stream), encode(w, ahead.Append.Entry, w.keys.Signers))
	_, err := w.tryRead(l)
	want(t, err, wire.CodeEntry)

	w = newWorld(t, w.keys)
	l = w.enclave()
	at = w.append(l)
	branch, _ := w.keys.Entry(w.account, wire.Head{Sequence: at.Sequence, Hash: wire.Digest{1}})
	w.server.Put(l.Collection(w.stream), encode(w, branch.Append.Entry, w.keys.Signers))
	_, err = w.tryRead(l)
	want(t, err, wire.CodeEntry)
}

// versions returns the keys of a ledger with as many versions of the KEK, as an enclave
// has them that knows those versions.
func versions(t *testing.T, id []byte, n int) *ledgertest.Keys {
	t.Helper()
	private, signers := ledger.Succession(id, [][]byte{{1}, {2}, {3}}[:n])
	v, err := ledger.NewVerifier(id, signers)
	if err != nil {
		t.Fatal(err)
	}
	return &ledgertest.Keys{LedgerID: id, Private: private[n-1], Verifier: v, Signers: signers}
}

// An enclave that has not got the newest KEK yet follows the entries of one that has,
// and cannot go on without them.
func TestEnclaveBehindAKey(t *testing.T) {
	t.Parallel()
	id := bytes.Repeat([]byte{7}, 32)
	w := newWorld(t, versions(t, id, 1))
	l := w.enclave()
	first := w.append(l)
	newer := *w
	newer.keys = versions(t, id, 2)
	at := newer.append(newer.enclave())
	if got := w.read(l); got != at {
		t.Fatalf("read %v, want %v", got, at)
	}
	_, err := w.write(l, at)
	want(t, err, wire.CodeEntry) // signed by the older key
	_, err = w.write(l, first)
	want(t, err, wire.CodeConflict)

	// Whoever holds a replaced key puts in an entry: void, for all.
	leaked, _ := w.keys.Entry(w.account, at)
	w.server.Put(l.Collection(w.stream), encode(w, leaked.Append.Entry, w.keys.Signers))
	for _, l := range []*azure.Ledger{l, w.enclave(), newer.enclave()} {
		if got, err := w.tryRead(l); err != nil || got != at {
			t.Fatalf("read %v, %v, want %v", got, err, at)
		}
	}

	// One that lacks the oldest key cannot tell that there was a stream before.
	late := *w
	late.keys = versions(t, id, 2)
	late.keys.Signers = late.keys.Signers[1:]
	_, err = late.tryRead(late.enclave())
	want(t, err, wire.CodeEntry)
}

// Epochs never fall along a stream, whoever signed.
func TestEpochGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	sign := func(at wire.Head, epoch uint64) []byte {
		e := ledger.Entry{Ledger: w.keys.LedgerID, Stream: w.stream, Sequence: at.Sequence + 1, Previous: at.Hash, Generation: 1, Epoch: epoch, Note: make([]byte, ledger.NoteSize)}
		return e.Sign(w.keys.Private)
	}
	entry := sign(wire.Head{}, 2)
	w.server.Put(l.Collection(w.stream), encode(w, entry, w.keys.Signers))
	at := wire.Head{Sequence: 1, Hash: ledger.EntryHash(entry)}
	w.server.Put(l.Collection(w.stream), encode(w, sign(at, 1), w.keys.Signers))
	if got := w.read(l); got != at {
		t.Fatalf("read %v, want %v", got, at)
	}
	_, err := w.write(l, at) // of epoch 1
	want(t, err, wire.CodeEntry)
}

// A receipt must be of this transaction, this collection and these contents.
func TestReceiptOfAnother(t *testing.T) {
	t.Parallel()
	for name, intercept := range map[string]func(other string, r *http.Request){
		"transaction": func(other string, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/receipt") {
				r.URL.Path = "/app/transactions/" + other + "/receipt"
			}
		},
		"collection": func(_ string, r *http.Request) {
			if r.Method == http.MethodPost {
				r.URL.RawQuery = "collectionId=other&api-version=2023-01-18-preview"
			}
		},
		"contents": func(_ string, r *http.Request) {
			if r.Method == http.MethodPost {
				r.Body = io.NopCloser(strings.NewReader(`{"contents":"x"}`))
			}
		},
		"API version, without claims": func(_ string, r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, azure.APIVersion, "2022-05-13", 1)
		},
	} {
		w := newWorld(t, ledgertest.NewKeys(t))
		l := w.enclave()
		at := w.append(l)
		other := w.server.Entries()[0].Transaction
		w.server.Set(func(s *azuretest.Server) {
			s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool { intercept(other, r); return false }
		})
		_, err := w.write(l, at)
		if wire.CodeOf(err) != wire.CodeReceipt || w.settled() != at {
			t.Errorf("receipt of another %s: %v", name, err)
		}
	}
}

// The same contents in the same collection, at another place.
func TestReceiptOfCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	at := w.append(l)
	w.once(azuretest.Twice)
	w.server.Set(func(s *azuretest.Server) {
		s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
			var view, sequence uint64
			if n, _ := fmt.Sscanf(r.URL.Path, "/app/transactions/%d.%d/receipt", &view, &sequence); n == 2 && strings.HasSuffix(r.URL.Path, "/receipt") {
				r.URL.Path = fmt.Sprintf("/app/transactions/%d.%d/receipt", view, sequence+1)
			}
			return false
		}
	})
	_, err := w.write(l, at)
	want(t, err, wire.CodeReceipt)
}

// What cannot win is not sent: in the ledger it would stand for ever.
func TestUselessAppendSendsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	first := w.append(l)
	at := w.append(l)
	for _, l := range []*azure.Ledger{l, w.enclave()} {
		_, err := w.write(l, first)
		want(t, err, wire.CodeConflict)
		c, _ := w.keys.Entry(w.account, wire.Head{Sequence: at.Sequence + 1, Hash: at.Hash})
		c.Append.Expected = at
		_, err = l.CompareAndAppend(t.Context(), c)
		want(t, err, wire.CodeEntry)
	}
	if n := len(w.server.Entries()); n != 2 {
		t.Fatalf("%d entries in the ledger", n)
	}
}

// A node that was cut off shows an older end. A process that has seen more finds it
// out; one that has not believes it, and every answer says so.
func TestNodeCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l, other := w.enclave(), w.enclave()
	first := w.append(l)
	sequence := w.server.Committed()
	w.read(other)
	w.append(l)
	w.server.Set(func(s *azuretest.Server) { s.Frozen = sequence })
	if h, err := l.ReadHead(w.patience(2), w.account, w.stream, [32]byte{}, nil); !errors.Is(err, azure.ErrBehind) {
		t.Fatalf("%v, %v", h, err)
	}
	// Also for a stream that it never read.
	another := wire.AccountID{5}
	if h, err := l.ReadHead(w.patience(2), another, wire.Stream(w.keys.LedgerID, another), [32]byte{}, nil); !errors.Is(err, azure.ErrBehind) {
		t.Fatalf("%v, %v", h, err)
	}
	// Also where it says by 404, which does not name how far it is, that it has no such stream.
	w.server.Set(func(s *azuretest.Server) { s.MissingIs404 = true })
	if h, err := l.ReadHead(w.patience(3), another, wire.Stream(w.keys.LedgerID, another), [32]byte{}, nil); !errors.Is(err, azure.ErrBehind) {
		t.Fatalf("%v, %v", h, err)
	}
	if got := w.read(w.enclave()); got != first {
		t.Fatalf("read %v, want %v: with the word %q", got, first, wire.FreshnessAzure)
	}
}

// What was read once must be there again.
func TestHistoryReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	w.append(l)
	e := w.server.Entries()[0]
	entry := func(id, collection, contents string) string {
		return fmt.Sprintf(`{"transactionId":%q,"collectionId":%q,"contents":%q}`, id, collection, contents)
	}
	for name, test := range map[string]struct {
		page string
		want wire.Code
	}{
		"as it was":            {`{"state":"Ready","entries":[` + entry(e.Transaction, e.Collection, e.Contents) + `]}`, ""},
		"nothing":              {`{"state":"Ready","entries":[]}`, wire.CodeRollback},
		"other contents":       {`{"state":"Ready","entries":[` + entry(e.Transaction, e.Collection, "x") + `]}`, wire.CodeRollback},
		"another place":        {`{"state":"Ready","entries":[` + entry("2.3", e.Collection, e.Contents) + `]}`, wire.CodeRollback},
		"another collection":   {`{"state":"Ready","entries":[` + entry(e.Transaction, "other", e.Contents) + `]}`, wire.CodeReceipt},
		"twice":                {`{"state":"Ready","entries":[` + entry(e.Transaction, e.Collection, e.Contents) + "," + entry(e.Transaction, e.Collection, e.Contents) + `]}`, wire.CodeReceipt},
		"a view that falls":    {`{"state":"Ready","entries":[` + entry(e.Transaction, e.Collection, e.Contents) + "," + entry("1.9", e.Collection, "x") + `]}`, wire.CodeReceipt},
		"next page elsewhere":  {`{"state":"Ready","entries":[],"nextLink":"https://example.com/app/transactions?collectionId=` + e.Collection + `"}`, wire.CodeReceipt},
		"next page of another": {`{"state":"Ready","entries":[],"nextLink":"/app/transactions?collectionId=other"}`, wire.CodeReceipt},
		"no page":              {`[]`, wire.CodeUnavailable},
	} {
		w.server.Set(func(s *azuretest.Server) {
			s.Intercept = func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("x-ms-ccf-transaction-id", "2.99")
				io.WriteString(rw, test.page)
				return true
			}
		})
		if _, err := w.tryRead(l); wire.CodeOf(err) != test.want {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestPagesOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	w.append(l)
	w.server.Put(l.Collection(w.stream), "one")
	w.server.Put(l.Collection(w.stream), "two")
	w.server.Set(func(s *azuretest.Server) { s.Reversed = true })
	_, err := w.tryRead(w.enclave())
	want(t, err, wire.CodeReceipt)
}

// Collection IDs tell nobody which accounts there are.
func TestCollectionIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	one := w.enclave().Collection(w.stream)
	if again := w.enclave().Collection(w.stream); again != one || len(one) != 43 {
		t.Fatal(one, again)
	}
	w.key = bytes.Repeat([]byte{1}, 32)
	if other := w.enclave().Collection(w.stream); other == one {
		t.Fatal("the key does not count")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	for name, change := range map[string]func(*azure.Config){
		"short key":      func(c *azure.Config) { c.CollectionKey = c.CollectionKey[1:] },
		"no ledger ID":   func(c *azure.Config) { c.LedgerID = nil },
		"no certificate": func(c *azure.Config) { c.Service = nil },
		"plain HTTP":     func(c *azure.Config) { c.URL = "http://ledger.example" },
		"with a path":    func(c *azure.Config) { c.URL = "https://ledger.example/app" },
	} {
		c := w.config()
		change(&c)
		if _, err := azure.New(c); err == nil {
			t.Error(name)
		}
	}
	c := w.config()
	c.Signers = func() []ledger.Signer { return []ledger.Signer{{Public: make(ed25519.PublicKey, 3)}} }
	_, err := w.write(w.with(c), wire.Head{})
	want(t, err, wire.CodeEntry)
}
