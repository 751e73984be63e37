package endorsers_test

import (
	"testing"

	"github.com/passclave/passclave/wire"
)

// A view change goes on without a minority, and names it: old members that gave no last
// word, and new ones that do not serve.
func TestChangeTellsWhoIsLeftOut(t *testing.T) {
	t.Parallel()
	s := newService(t, 5, 1)
	e := s.enclave()
	e.appends(1)
	gone, anew := s.places[0], s.places[1]
	gone.stop()
	anew.stop()
	anew.start()
	list := append(s.fresh(3), s.places[2:4]...)
	silent := list[1]
	silent.breaks.Store(&fault{kind: wire.FrameActivate})
	f, out, err := s.o.Change(s.ctx, s.file, addresses(list))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{gone.address: 1, anew.address: 1, silent.address: 2}
	for _, l := range out {
		if l.Err == nil || want[l.Address] != l.View {
			t.Errorf("left out: %+v", l)
		}
		delete(want, l.Address)
	}
	if len(want) > 0 {
		t.Errorf("not told of %v", want)
	}
	s.file = f
	if n := s.serving(list); n != 4 {
		t.Errorf("%d of 5 serve", n)
	}
}

func TestChangeLeavesNobodyOut(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 1)
	_, out, err := s.o.Change(s.ctx, s.file, addresses(s.fresh(3)))
	if err != nil || len(out) > 0 {
		t.Fatalf("left out: %v, %v", out, err)
	}
}
