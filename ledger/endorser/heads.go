package endorser

import (
	"iter"

	"github.com/passclave/passclave/wire"
)

// heads is the memory: the newest head of every stream. Heads stand in pages, and the
// map holds only where: a map of heads would leave half of its memory empty.
type heads struct {
	places map[wire.StreamID]uint32
	pages  []*[pageHeads]wire.Head
}

const pageHeads = 4096

func newHeads() *heads { return &heads{places: map[wire.StreamID]uint32{}} }

func (h *heads) len() uint64 {
	if h == nil {
		return 0
	}
	return uint64(len(h.places))
}

func (h *heads) has(s wire.StreamID) bool {
	_, ok := h.places[s]
	return ok
}

// of returns the head of a stream, the zero head if there is none.
func (h *heads) of(s wire.StreamID) wire.Head {
	if p, ok := h.places[s]; ok {
		return h.pages[p/pageHeads][p%pageHeads]
	}
	return wire.Head{}
}

func (h *heads) set(s wire.StreamID, head wire.Head) {
	p, ok := h.places[s]
	if !ok {
		p = uint32(len(h.places))
		h.places[s] = p
		if p%pageHeads == 0 {
			h.pages = append(h.pages, new([pageHeads]wire.Head))
		}
	}
	h.pages[p/pageHeads][p%pageHeads] = head
}

// streams yields all streams, in no order.
func (h *heads) streams() iter.Seq[wire.StreamID] {
	return func(yield func(wire.StreamID) bool) {
		for s := range h.places {
			if !yield(s) {
				return
			}
		}
	}
}
