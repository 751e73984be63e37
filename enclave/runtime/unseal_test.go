package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/wire"
)

// keeper is a host that keeps lineages, and does what its test wants with them.
type keeper struct {
	mu     sync.Mutex
	boxes  map[string][]byte
	answer func(q wire.Lineage, has []byte) wire.Result // nil: an honest one; called with mu held
}

// connect has a runtime meet the host as if it had dialled.
func (k *keeper) connect(t *testing.T, r *Runtime) {
	t.Helper()
	mine, theirs := net.Pipe()
	l := newLink(mine)
	var all sync.WaitGroup
	all.Go(func() { l.serve(func(f wire.Frame) wire.Result { return r.handle(t.Context(), l, f) }) })
	all.Go(func() { k.serve(theirs) })
	r.join(l)
	t.Cleanup(func() {
		theirs.Close()
		all.Wait()
	})
}

func (k *keeper) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		f, err := wire.ReadFrame(in)
		if err != nil {
			return
		}
		var q wire.Lineage
		if f.Kind != wire.FrameLineage || wire.Unmarshal(f.Body, &q) != nil {
			return
		}
		conn.Write(wire.Frame{Call: f.Call, Kind: wire.FrameAnswer, Body: wire.Marshal(k.keep(q))}.Append(nil))
	}
}

func (k *keeper) keep(q wire.Lineage) wire.Result {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.answer != nil {
		return k.answer(q, k.boxes[q.KEK])
	}
	if len(q.Box) > 0 {
		k.boxes[q.KEK] = q.Box
	}
	return brought(q.KEK, k.boxes[q.KEK])
}

func brought(kek string, box []byte) wire.Result {
	return wire.Result{Value: wire.Marshal(wire.Lineage{KEK: kek, Box: box})}
}

func unseal(t *testing.T, r *Runtime, keks ...enclave.KEK) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Unseal(ctx, copies(keks)); err != nil {
		t.Fatal(err)
	}
}

// copies are what the key service gives: Unseal clears it.
func copies(keks []enclave.KEK) (out []enclave.KEK) {
	for _, k := range keks {
		out = append(out, enclave.KEK{Version: k.Version, Key: bytes.Clone(k.Key)})
	}
	return out
}

// What one process leaves with the host, the next one finds, that holds the newest
// version alone; what the host makes of it changes nothing but the number of keys.
func TestUnsealFindsWhatWasLeft(t *testing.T) {
	t.Parallel()
	file := newConfiguration(t)
	v1, v2, v3 := newKEK("v1"), newKEK("v2"), newKEK("v3")
	honest := &keeper{boxes: map[string][]byte{}}
	first := startOn(t, file)
	honest.connect(t, first)
	unseal(t, first, v1, v2, v3)
	whole := first.core.Load()
	if len(honest.boxes) != 2 || len(whole.Signers()) != 3 {
		t.Fatalf("%d lineages kept, %d ledger keys", len(honest.boxes), len(whole.Signers()))
	}
	again := startOn(t, file)
	honest.connect(t, again)
	unseal(t, again, v3)
	if !again.core.Load().Lineage("v3").Equal(whole.Lineage("v3")) {
		t.Fatal("the ledger keys are not those that there were")
	}

	another := start(t) // of another ledger
	theirs := &keeper{boxes: map[string][]byte{}}
	theirs.connect(t, another)
	unseal(t, another, v1, v2, v3)
	for name, box := range map[string][]byte{
		"none": nil, "an earlier version's": honest.boxes["v2"], "another ledger's": theirs.boxes["v3"], "junk": []byte("junk"),
	} {
		r, evil := startOn(t, file), &keeper{boxes: map[string][]byte{}}
		evil.answer = func(q wire.Lineage, _ []byte) wire.Result { return brought(q.KEK, box) }
		evil.connect(t, r)
		unseal(t, r, v3)
		if got := r.core.Load().Signers(); len(got) != 1 || !got[0].Public.Equal(whole.Signers()[2].Public) {
			t.Errorf("%s: %d ledger keys", name, len(got))
		}
	}
}

// What a process knows itself, no host takes from it; and a host whose database lost it,
// or never had it, gets it.
func TestHostWithoutLineage(t *testing.T) {
	t.Parallel()
	r := start(t)
	v1, v2 := newKEK("v1"), newKEK("v2")
	first := &keeper{boxes: map[string][]byte{}}
	first.connect(t, r)
	unseal(t, r, v1, v2)
	whole := r.core.Load().Lineage("v2")
	first.answer = func(q wire.Lineage, _ []byte) wire.Result { return brought(q.KEK, nil) }
	unseal(t, r, v2)
	if !r.core.Load().Lineage("v2").Equal(whole) {
		t.Fatal("the host took a ledger key away")
	}
	second := dial(t, r)
	for _, asks := range []bool{true, false} {
		f := second.frame()
		var q wire.Lineage
		if f.Kind != wire.FrameLineage || wire.Unmarshal(f.Body, &q) != nil || q.KEK != "v2" || (len(q.Box) == 0) != asks {
			t.Fatalf("frame %d, %+v", f.Kind, q)
		}
		if _, err := second.conn.Write(wire.Frame{Call: f.Call, Kind: wire.FrameAnswer, Body: wire.Marshal(brought("v2", nil))}.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing is answered with a version before the host keeps what there was before it, or
// said that it has nothing; a host that fails is asked again.
func TestUnsealWaitsForTheHost(t *testing.T) {
	t.Parallel()
	r := start(t)
	v1, v2 := newKEK("v1"), newKEK("v2")
	host := &keeper{boxes: map[string][]byte{}}
	host.connect(t, r)
	unseal(t, r, v1)
	old := r.core.Load()
	var failed []bool // for a read, for a write
	host.answer = func(q wire.Lineage, _ []byte) wire.Result {
		if r.core.Load() != old {
			t.Error("answered with the new version already")
		}
		write := len(q.Box) > 0
		if len(failed) < 2 || write && len(failed) < 4 {
			failed = append(failed, write)
			return wire.Result{Error: &wire.Error{Code: wire.CodeStorageFull}}
		}
		if write {
			host.boxes[q.KEK] = q.Box
		}
		return brought(q.KEK, nil)
	}
	unseal(t, r, v1, v2)
	if len(failed) != 4 || host.boxes["v2"] == nil || r.status().KEK != "v2" {
		t.Fatalf("%d failures, status %+v", len(failed), r.status())
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := start(t).Unseal(ctx, copies([]enclave.KEK{v1})); err == nil {
		t.Fatal("unsealed without a host")
	}
}

// However often a host has the enclave look at what it keeps, locked memory holds each
// secret once.
func TestSecretsAreHeldOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	host := &keeper{boxes: map[string][]byte{}}
	host.connect(t, r)
	v1, v2 := newKEK("v1"), newKEK("v2")
	given := copies([]enclave.KEK{v1, v2})
	if err := r.Unseal(t.Context(), given); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(given[1].Key, make([]byte, wire.SecretSize)) {
		t.Error("a key was not cleared where it came from")
	}
	for range 3 {
		unseal(t, r, v2)
		unseal(t, r, v1, v2)
	}
	if len(r.held) != 3 { // and what false salts come from
		t.Errorf("%d secrets are held", len(r.held))
	}
}

// An unseal goes on with the host that there is, while calls of one that went away have
// not ended.
func TestUnsealAfterAHostWentAway(t *testing.T) {
	t.Parallel()
	r := start(t)
	mine, theirs := net.Pipe()
	dead := newLink(mine)
	r.join(dead)
	theirs.Close()
	dead.fail()
	host := &keeper{boxes: map[string][]byte{}}
	host.connect(t, r)
	for range 20 { // in whatever order the hosts come
		if l, err := r.anyLink(t.Context()); err != nil || l == dead {
			t.Fatalf("the host that went away, or %v", err)
		}
	}
	unseal(t, r, newKEK("v1"))
}

// Looks at the key service are few, and whoever wants one while it is under way waits
// for that one.
func TestLookout(t *testing.T) {
	t.Parallel()
	r := start(t)
	o := &r.lookout
	want := func(at time.Duration) <-chan struct{} { looked, _ := o.want(at); return looked }
	first := want(time.Second)
	if first == nil || want(2*time.Second) != first || len(r.Wanted()) != 1 {
		t.Fatal("a look that is under way is not the one to wait for")
	}
	broken := errors.New("the key service is away")
	(<-r.Wanted())(broken)
	<-first
	if looked, err := o.want(time.Second + lookPause - 1); looked != nil || err != broken || len(r.Wanted()) != 0 {
		t.Fatal("looks follow one another without a pause, or a failed one is forgotten")
	}
	if want(time.Second+lookPause) == nil || len(r.Wanted()) != 1 {
		t.Fatal("never looks again")
	}
}
