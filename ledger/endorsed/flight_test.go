package endorsed

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// silent is a host that carries nothing and answers nothing.
type silent struct{ Host }

func (silent) Relay(ctx context.Context, _ []byte, _ wire.FrameKind, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, wire.NewError(wire.CodeUnavailable, ctx.Err())
}

// A host that answers nothing makes an enclave keep nothing: a question whose caller went
// leaves the queue, and is not put later.
func TestGivenUpQuestions(t *testing.T) {
	t.Parallel()
	g := make(endorsement.Group, 3)
	for i := range g {
		g[i].Key = make([]byte, 32)
		rand.Read(g[i].Key)
	}
	c := &current{view: &endorsement.View{Groups: []endorsement.Group{g}}, groups: make([]group, 1)}
	m := New(Options{})
	long, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	waiting := func() (flights, waiting int) {
		c.groups[0].mu.Lock()
		defer c.groups[0].mu.Unlock()
		return c.groups[0].flights, len(c.groups[0].waiting)
	}
	for i := range maxFlights { // each of these is under way before the next comes
		go m.ask(long, c, silent{}, wire.StreamID{}, nil)
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			if n, w := waiting(); n == i+1 && w == 0 {
				break
			}
			if long.Err() != nil {
				t.Fatal("never")
			}
		}
	}
	for range 10 {
		ctx, cancel := context.WithCancel(long)
		cancel()
		if _, err := m.ask(ctx, c, silent{}, wire.StreamID{}, nil); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Fatal(err)
		}
	}
	if _, n := waiting(); n != 0 {
		t.Fatalf("%d questions wait for nobody", n)
	}
}

// What follows from the heads that members name.
func TestSettle(t *testing.T) {
	t.Parallel()
	a, b, c := wire.Head{Sequence: 1, Hash: wire.Digest{1}}, wire.Head{Sequence: 1, Hash: wire.Digest{2}}, wire.Head{Sequence: 2, Hash: wire.Digest{3}}
	appendA := &endorsement.Append{Next: a}
	for name, x := range map[string]struct {
		ask     *endorsement.Append
		heads   []wire.Head
		missing int
		broken  bool

		settled, stands, lost bool
		newest                wire.Head // of reads
	}{
		"read: one":                            {heads: []wire.Head{a}, missing: 2, newest: a},
		"read: a majority":                     {heads: []wire.Head{a, a}, missing: 1, settled: true, stands: true, newest: a},
		"read: a majority is empty":            {heads: []wire.Head{{}, {}}, missing: 1, settled: true, stands: true},
		"read: two, of one place":              {heads: []wire.Head{a, b}, missing: 1, newest: a},
		"read: three, of one place":            {heads: []wire.Head{a, b, b}, settled: true, stands: true, newest: b},
		"read: a higher one first":             {heads: []wire.Head{c, a, a}, settled: true, stands: true, newest: a},
		"read: a higher one, no majority":      {heads: []wire.Head{a, c}, settled: true, newest: c},
		"read: a majority, discontinued":       {heads: []wire.Head{a, a}, broken: true, missing: 1, newest: a},
		"append: one":                          {ask: appendA, heads: []wire.Head{a}, missing: 2},
		"append: a majority":                   {ask: appendA, heads: []wire.Head{a, a}, missing: 1, settled: true, stands: true},
		"append: one, and no more":             {ask: appendA, heads: []wire.Head{a, {}}, settled: true},
		"append: another entry has a majority": {ask: appendA, heads: []wire.Head{b, b}, missing: 1, settled: true, lost: true},
		"append: others went on":               {ask: appendA, heads: []wire.Head{c, c, c}, settled: true},
		"append: a majority, discontinued":     {ask: appendA, heads: []wire.Head{a, a}, broken: true, missing: 1},
	} {
		var got tally
		got.broken = x.broken
		for _, h := range x.heads {
			got.add(h)
		}
		settled := got.settle(x.ask, 2, x.missing)
		if settled != x.settled || got.stands != x.stands || got.lost != x.lost || x.ask == nil && got.newest != x.newest {
			t.Errorf("%s: settled %v, %+v", name, settled, got)
		}
	}
}
