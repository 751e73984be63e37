package endorser_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// change is a view change on its way: every old member has said its last word.
type change struct {
	*world
	old, fresh []*endorser.Endorser
	view, next *endorsement.View
	s          *endorsement.Succession
	words      []endorsement.Finalised
}

// stream is one that the old members remember.
var stream = wire.StreamID{1}

func newChange(t testing.TB) *change {
	t.Helper()
	w := newWorld(t)
	c := &change{world: w}
	c.old, c.view = w.found()
	at := after(wire.Head{})
	for _, e := range c.old {
		w.append(e, c.view, stream, wire.Head{}, at)
		w.append(e, c.view, wire.StreamID{2}, wire.Head{}, at)
	}
	c.fresh = []*endorser.Endorser{w.endorser(), w.endorser(), w.endorser()}
	c.next = c.view.Next([]endorsement.Group{group(c.fresh...)})
	c.s = w.succession(c.next)
	return c
}

func (c *change) finalise() *change {
	c.t.Helper()
	for _, e := range c.old {
		f, err := e.Finalise(c.s)
		c.must(err)
		c.words = append(c.words, *f)
	}
	return c
}

func (c *change) adopt(to *endorser.Endorser, from ...int) {
	c.t.Helper()
	for _, i := range from {
		c.must(to.Adopt(&c.words[i], 0, tails(c.t, c.old[i])))
	}
}

func (c *change) activate(to *endorser.Endorser) error {
	return to.Activate(c.s, c.view.Encode(), c.words)
}

func TestViewChange(t *testing.T) {
	t.Parallel()
	c := newChange(t).finalise()
	want := tails(t, c.old[0])[0].Head
	for _, e := range c.fresh {
		c.adopt(e, 0, 2)
		c.must(c.activate(e))
		c.must(c.activate(e)) // again
		if got, broken := c.read(e, c.next, stream); got != want || broken {
			t.Fatalf("head is %v, %v, want %v", got, broken, want)
		}
	}
}

// After its last word a member endorses nothing more, in favour of one successor.
func TestFinalisedOnce(t *testing.T) {
	t.Parallel()
	c := newChange(t).finalise()
	e := c.old[0]
	_, err := e.Ask(c.ask(c.view, endorsement.Ask{Reads: []wire.StreamID{stream}}))
	wantCode(t, err, wire.CodeView)
	again, err := e.Finalise(c.s)
	if err != nil || again.Verify() != nil || string(again.Signature) != string(c.words[0].Signature) {
		t.Fatalf("the last word again: %v, %v", again, err)
	}
	other := c.succession(c.view.Next([]endorsement.Group{group(c.endorser(), c.endorser(), c.endorser())}))
	_, err = e.Finalise(other)
	wantCode(t, err, wire.CodeView)
}

// A last word is said for a view that the operator signed, that follows, and whose new
// members show evidence of the release.
func TestFinaliseRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		forge func(c *change)
		code  wire.Code
	}{
		"another operator's": {func(c *change) { c.s = endorsement.NewSuccession(c.next, newKey(t)) }, wire.CodeView},
		"no evidence":        {func(c *change) { c.s.Evidence = nil }, wire.CodeEvidence},
		"evidence of another key": {func(c *change) {
			c.next.Groups[0][0].Evidence = endorsement.EvidenceHash([]byte("mine"))
			c.s = c.succession(c.next)
			c.s.Evidence = append(c.s.Evidence, []byte("mine"))
		}, wire.CodeEvidence},
		"another release": {func(c *change) { c.s.Release = []byte("mine") }, wire.CodeEvidence},
		"a kept member with other evidence": {func(c *change) {
			g := group(c.old[0], c.old[1], c.fresh[0])
			g[1].Evidence = digest()
			c.s = c.succession(c.view.Next([]endorsement.Group{g}))
		}, wire.CodeEvidence},
		"another ledger":         {func(c *change) { c.resign(func(v *endorsement.View) { v.Ledger = random(32) }) }, wire.CodeView},
		"another genesis number": {func(c *change) { c.resign(func(v *endorsement.View) { v.Genesis = 2 }) }, wire.CodeView},
		"skips a view":           {func(c *change) { c.resign(func(v *endorsement.View) { v.Number = 3 }) }, wire.CodeView},
		"another first view":     {func(c *change) { c.resign(func(v *endorsement.View) { v.First = digest() }) }, wire.CodeView},
		"after another view":     {func(c *change) { c.resign(func(v *endorsement.View) { v.Previous = digest() }) }, wire.CodeView},
		"fewer groups": {func(c *change) {
			c.resign(func(v *endorsement.View) {
				v.Groups = append(v.Groups, group(c.endorser(), c.endorser(), c.endorser()))
			})
		}, wire.CodeView},
	} {
		c := newChange(t)
		x.forge(c)
		if _, err := c.old[0].Finalise(c.s); wire.CodeOf(err) != x.code {
			t.Errorf("%s: got %v, want %s", name, err, x.code)
		}
		if c.old[0].Status().Finalised {
			t.Errorf("%s: finalised", name)
		}
	}
	w := newWorld(t)
	_, err := w.endorser().Finalise(w.succession(w.view(group(w.endorser(), w.endorser(), w.endorser()))))
	wantCode(t, err, wire.CodeView)
}

func (c *change) resign(f func(*endorsement.View)) {
	f(c.next)
	c.s = c.succession(c.next)
}

// Nobody serves a view but from the tails of a majority of its own group, whole, as their
// members said them.
func TestForgedTails(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(c *change, e *endorser.Endorser){
		"none":                 func(*change, *endorser.Endorser) {},
		"of a minority":        func(c *change, e *endorser.Endorser) { c.adopt(e, 0) },
		"of one member, twice": func(c *change, e *endorser.Endorser) { c.adopt(e, 0, 0) },
		"cut off": func(c *change, e *endorser.Endorser) {
			c.adopt(e, 0)
			c.must(e.Adopt(&c.words[1], 0, tails(t, c.old[1])[:1]))
		},
		"an older head": func(c *change, e *endorser.Endorser) {
			c.adopt(e, 0)
			x := tails(t, c.old[1])
			x[0].Head = wire.Head{}
			c.must(e.Adopt(&c.words[1], 0, x))
		},
		"a higher head": func(c *change, e *endorser.Endorser) {
			c.adopt(e, 0)
			x := tails(t, c.old[1])
			x[0].Head.Sequence++
			c.must(e.Adopt(&c.words[1], 0, x))
		},
		"one discontinued": func(c *change, e *endorser.Endorser) {
			c.adopt(e, 0)
			x := tails(t, c.old[1])
			x[0].Discontinued = true
			c.must(e.Adopt(&c.words[1], 0, x))
		},
		"beside a stranger's": func(c *change, e *endorser.Endorser) {
			c.adopt(e, 0, 1)
			f := endorsement.Finalised{View: c.view.Hash(), Successor: c.next.Hash(), Tails: endorsement.NewTailHash().Sum()}
			f.Sign(newKey(t))
			c.must(e.Adopt(&f, 0, nil))
		},
		"of another change": func(c *change, e *endorser.Endorser) {
			d := newChange(t).finalise()
			for i := range d.old {
				c.must(e.Adopt(&d.words[i], 0, tails(t, d.old[i])))
			}
		},
		"with the words of another successor": func(c *change, e *endorser.Endorser) {
			c.adopt(e, 0, 1)
			other := c.view.Next([]endorsement.Group{group(c.endorser(), c.endorser(), e)})
			c.s, c.next = c.succession(other), other
		},
	} {
		c := newChange(t).finalise()
		e := c.fresh[0]
		forge(c, e)
		if err := c.activate(e); wire.CodeOf(err) != wire.CodeView {
			t.Errorf("%s: %v", name, err)
		}
		if e.Status().View != 0 {
			t.Errorf("%s: serves", name)
		}
	}
}

// Tails that were handed over for one successor serve no other: members who would name
// two are not believed about either.
func TestTailsForAnotherSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endorser()
	keys := []ed25519.PrivateKey{newKey(t), newKey(t), newKey(t)}
	var g endorsement.Group
	for _, k := range keys {
		g = append(g, endorsement.Member{Key: public(k)})
	}
	old := w.view(g)
	next := [2]*endorsement.View{}
	for i := range next {
		next[i] = old.Next([]endorsement.Group{group(e, w.endorser(), w.endorser())})
	}
	words := [2][]endorsement.Finalised{}
	for i, v := range next {
		for _, k := range keys {
			f := endorsement.Finalised{View: old.Hash(), Successor: v.Hash(), Tails: endorsement.NewTailHash().Sum()}
			f.Sign(k)
			words[i] = append(words[i], f)
		}
	}
	for i := range keys {
		w.must(e.Adopt(&words[0][i], 0, nil))
	}
	wantCode(t, e.Activate(w.succession(next[1]), old.Encode(), words[1]), wire.CodeView)
	for i := range keys {
		w.must(e.Adopt(&words[1][i], 0, nil))
	}
	w.must(e.Activate(w.succession(next[1]), old.Encode(), words[1]))
}

// After tails that were refused, good ones can be handed over.
func TestTailsAnew(t *testing.T) {
	t.Parallel()
	c := newChange(t).finalise()
	e := c.fresh[0]
	for _, before := range [][]int{{0}, {1}, {2}, {1, 2}} {
		c.adopt(e, before...)
		if len(before) == 1 {
			wantCode(t, c.activate(e), wire.CodeView)
			if st := e.Status(); st.View != 0 {
				t.Fatal("serves")
			}
		}
	}
	c.adopt(e, 0, 1, 2)
	c.must(c.activate(e))
}

// Five members: two of them handed over, an attempt failed, and all hand over again in
// another order.
func TestTailsOfFiveAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var old []*endorser.Endorser
	for range 5 {
		old = append(old, w.endorser())
	}
	c := &change{world: w, old: old, view: w.view(group(old...))}
	for _, e := range old {
		w.must(e.Found(w.succession(c.view)))
	}
	fresh := w.endorser()
	c.next = c.view.Next([]endorsement.Group{group(fresh, w.endorser(), w.endorser(), w.endorser(), w.endorser())})
	c.s = w.succession(c.next)
	c.finalise()
	c.adopt(fresh, 1)
	wantCode(t, c.activate(fresh), wire.CodeView)
	c.adopt(fresh, 0, 1, 2)
	c.must(c.activate(fresh))
}

// Pages come in order and without a gap, and one does not count twice.
func TestPages(t *testing.T) {
	t.Parallel()
	c := newChange(t).finalise()
	all := tails(t, c.old[0])
	e := c.fresh[0]
	wantCode(t, e.Adopt(&c.words[0], 1, all[1:]), wire.CodeView)
	c.must(e.Adopt(&c.words[0], 0, all[:1]))
	wantCode(t, e.Adopt(&c.words[0], 2, nil), wire.CodeView)
	c.must(e.Adopt(&c.words[0], 1, all[1:]))
	wantCode(t, e.Adopt(&c.words[0], 1, all[1:]), wire.CodeView)
	wantCode(t, e.Adopt(&c.words[0], 2, []endorsement.Tail{{Stream: wire.StreamID{9}}}), wire.CodeView) // more than its member said
	wantCode(t, e.Adopt(&c.words[1], 0, []endorsement.Tail{all[1], all[0]}), wire.CodeView)
	unsigned := c.words[1]
	unsigned.Signature = nil
	wantCode(t, e.Adopt(&unsigned, 0, all), wire.CodeView)
	wantCode(t, e.Adopt(&c.words[0], ^uint64(0), all), wire.CodeView)
	page, err := c.old[0].Tails(^uint64(0))
	if err != nil || len(page) != 0 {
		t.Fatalf("%d tails behind the end, %v", len(page), err)
	}
	_, err = c.fresh[1].Tails(0)
	wantCode(t, err, wire.CodeView)
}

// A view is served by its members alone, as the operator signed it, after a majority of
// the one before named it.
func TestActivateRefused(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(c *change, e *endorser.Endorser) *endorser.Endorser{
		"no member": func(c *change, _ *endorser.Endorser) *endorser.Endorser {
			e := c.endorser()
			c.adopt(e, 0, 1)
			return e
		},
		"another operator's": func(c *change, e *endorser.Endorser) *endorser.Endorser {
			c.s = endorsement.NewSuccession(c.next, newKey(t))
			return e
		},
		"words of a minority": func(c *change, e *endorser.Endorser) *endorser.Endorser { c.words = c.words[:1]; return e },
		"one word twice": func(c *change, e *endorser.Endorser) *endorser.Endorser {
			c.words = []endorsement.Finalised{c.words[0], c.words[0]}
			return e
		},
		"another view before": func(c *change, e *endorser.Endorser) *endorser.Endorser {
			c.view = c.world.view(group(c.old[2], c.old[1], c.old[0]))
			return e
		},
		"garbage before": func(c *change, e *endorser.Endorser) *endorser.Endorser {
			c.view = &endorsement.View{}
			return e
		},
	} {
		c := newChange(t).finalise()
		c.adopt(c.fresh[0], 0, 1)
		e := forge(c, c.fresh[0])
		if err := c.activate(e); wire.CodeOf(err) != wire.CodeView {
			t.Errorf("%s: %v", name, err)
		}
		if e.Status().View != 0 {
			t.Errorf("%s: serves", name)
		}
	}
}

// A configuration names ledger and genesis number: an endorser of another serves no view
// that an old majority of that other names.
func TestActivateForeignLedger(t *testing.T) {
	t.Parallel()
	for name, configured := range map[string]endorser.Configuration{
		"ledger":  {Ledger: random(32), Number: 1},
		"genesis": {Number: 2},
	} {
		c := newChange(t)
		if configured.Ledger == nil {
			configured.Ledger = c.ledger[:]
		}
		configured.Operator = wire.Base64(public(c.operator))
		e := endorser.New(&configured, c.world)
		c.next = c.view.Next([]endorsement.Group{group(e, c.fresh[0], c.fresh[1])})
		c.s = c.succession(c.next)
		c.finalise()
		c.adopt(e, 0, 1)
		if err := c.activate(e); wire.CodeOf(err) != wire.CodeView {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// Whoever serves a view has a memory that nobody overwrites: not by founding, not by
// tails, and not before its own last word.
func TestMemoryIsNotOverwritten(t *testing.T) {
	t.Parallel()
	c := newChange(t)
	e := c.old[2]
	stay := c.view.Next([]endorsement.Group{group(e, c.fresh[0], c.fresh[1])})
	c.next, c.s = stay, c.succession(stay)
	for _, o := range c.old[:2] {
		f, err := o.Finalise(c.s)
		c.must(err)
		c.words = append(c.words, *f)
	}
	wantCode(t, e.Adopt(&c.words[0], 0, tails(t, c.old[0])), wire.CodeView)
	wantCode(t, c.activate(e), wire.CodeView)
	wantCode(t, e.Found(c.succession(c.world.view(group(e, c.endorser(), c.endorser())))), wire.CodeView)
	if h, _ := c.read(e, c.view, stream); h.Sequence != 1 {
		t.Fatalf("it forgot: %v", h)
	}

	// Finalised itself, it stays as a member; strangers' tails it does not even keep.
	f, err := e.Finalise(c.s)
	c.must(err)
	stranger := endorsement.Finalised{View: c.view.Hash(), Successor: stay.Hash(), Streams: 1 << 60}
	stranger.Sign(newKey(t))
	wantCode(t, e.Adopt(&stranger, 0, nil), wire.CodeView)
	elsewhere := c.words[0]
	elsewhere.View = digest()
	elsewhere.Sign(newKey(t))
	wantCode(t, e.Adopt(&elsewhere, 0, nil), wire.CodeView)
	c.adopt(e, 0, 1)
	c.must(c.activate(e))
	if h, _ := c.read(e, stay, stream); h.Sequence != 1 {
		t.Fatalf("it forgot: %v", h)
	}
	again, err := e.Finalise(c.s) // of the view before, for a change that is repeated
	if err != nil || string(again.Signature) != string(f.Signature) {
		t.Fatalf("the former last word: %v", err)
	}
}

// Only a fresh endorser that is a member is founded, and with a first view.
func TestFoundRefused(t *testing.T) {
	t.Parallel()
	c := newChange(t).finalise()
	wantCode(t, c.fresh[0].Found(c.s), wire.CodeView) // view 2
	stranger := c.endorser()
	wantCode(t, stranger.Found(c.succession(c.view)), wire.CodeView)
	other := c.endorser()
	first := c.world.view(group(other, c.endorser(), c.endorser()))
	wantCode(t, other.Found(endorsement.NewSuccession(first, newKey(t))), wire.CodeView)
	s := c.succession(first)
	s.Evidence = nil
	wantCode(t, other.Found(s), wire.CodeEvidence)
	first.Genesis = 2
	wantCode(t, other.Found(c.succession(first)), wire.CodeView)
	first.Genesis = 1
	c.must(other.Found(c.succession(first)))
	c.must(other.Found(c.succession(first)))

	half := c.fresh[1] // between two views
	c.adopt(half, 0)
	wantCode(t, half.Found(c.succession(c.world.view(group(half, c.endorser(), c.endorser())))), wire.CodeView)
}

// Two entries at the highest place discontinue a stream, for good: nothing is appended to
// it, in this view or a later one. Below the highest they do no harm.
func TestSplitStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := &change{world: w}
	c.old, c.view = w.found()
	split, healed, half := wire.StreamID{1}, wire.StreamID{2}, wire.StreamID{3}
	one := after(wire.Head{})
	a, b := after(one), after(one)
	for i, e := range c.old {
		for _, s := range []wire.StreamID{split, healed, half} {
			w.append(e, c.view, s, wire.Head{}, one)
		}
		branch := []wire.Head{a, b, one}[i]
		if i < 2 {
			w.append(e, c.view, split, one, branch)
			w.append(e, c.view, healed, one, branch)
		}
	}
	w.append(c.old[0], c.view, half, one, a)
	top := after(a)
	w.append(c.old[0], c.view, healed, a, top)

	c.fresh = []*endorser.Endorser{w.endorser(), w.endorser(), w.endorser()}
	c.next = c.view.Next([]endorsement.Group{group(c.fresh...)})
	c.s = w.succession(c.next)
	c.finalise()
	for i, order := range [][]int{{0, 1}, {1, 0}, {2, 1, 0}} {
		e := c.fresh[i]
		c.adopt(e, order...)
		c.must(c.activate(e))
		w.must(e.Introduce([]byte("enclave\x01")))
		h, broken := w.read(e, c.next, split)
		if !broken || h.Sequence != 2 {
			t.Fatalf("order %v: two entries at the highest place: %v, %v", order, h, broken)
		}
		if w.append(e, c.next, split, h, after(h)) != h {
			t.Fatal("appended to a discontinued stream")
		}
		if got, broken := w.read(e, c.next, healed); got != top || broken {
			t.Fatalf("order %v: %v, %v, want %v", order, got, broken, top)
		}
		if got, broken := w.read(e, c.next, half); got != a || broken {
			t.Fatalf("order %v: a half-endorsed entry is lost: %v, %v", order, got, broken)
		}
	}

	// It stays so in the view after.
	d := &change{world: w, old: c.fresh, view: c.next, fresh: []*endorser.Endorser{w.endorser(), w.endorser(), w.endorser()}}
	d.next = d.view.Next([]endorsement.Group{group(d.fresh...)})
	d.s = w.succession(d.next)
	d.finalise()
	d.adopt(d.fresh[0], 1, 2) // who hold the same of the two
	d.must(d.activate(d.fresh[0]))
	if _, broken := w.read(d.fresh[0], d.next, split); !broken {
		t.Fatal("a view change brought a discontinued stream back")
	}
}
