package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Reseal says how much of the store hangs on which version of the KEK. GET /reseal answers
// with one; POST /reseal rewraps, and answers with one a line until it ends. Both are the
// operator's: see [Server.Operator].
type Reseal struct {
	KEK      string            `json:"kek"`      // newest version that the enclave holds; empty: it holds none, or does not answer
	Wraps    map[string]uint64 `json:"wraps"`    // account keys by the version that they are wrapped under; in a line of progress, as counted last
	Lineage  bool              `json:"lineage"`  // what there was before the newest version is kept for enclaves that will not hold it
	Total    uint64            `json:"total"`    // wraps under other versions, when it began
	Done     uint64            `json:"done"`     // accounts that were rewrapped
	Refused  uint64            `json:"refused"`  // accounts none of whose wraps opens, in the last pass
	Finished bool              `json:"finished"` // the last line
	Error    wire.Code         `json:"error,omitempty"`
}

// Left returns how many wraps are under other versions than the newest.
func (r *Reseal) Left() (n uint64) {
	for kek, count := range r.Wraps {
		if kek != r.KEK {
			n += count
		}
	}
	return n
}

const (
	resealPage   = 256 // accounts looked at together
	resealAtOnce = 2   // pages under way: one in the enclave, one in the store
	resealPasses = 4   // what enclaves wrap under an older version meanwhile needs another one
	resealPause  = 200 * time.Millisecond
	resealLogged = 20 // accounts that do not open, of one run
)

// Operator serves what is for the operator alone, on a listener of its own that nobody
// else reaches: the metrics, and /reseal.
func (s *Server) Operator() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.Metrics())
	mux.HandleFunc("GET /reseal", s.hangs)
	mux.HandleFunc("POST /reseal", s.reseal)
	return mux
}

func (s *Server) hangs(w http.ResponseWriter, r *http.Request) {
	var out Reseal
	if status, err := s.o.Enclave.Status(r.Context()); err == nil {
		out.KEK = status.KEK
	}
	if err := s.countWraps(r.Context(), &out); err != nil {
		plain(w, http.StatusServiceUnavailable, string(wire.CodeOf(err)))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(out)
}

// countWraps fills in what the store has.
func (s *Server) countWraps(ctx context.Context, r *Reseal) error {
	wraps, err := s.o.Store.Wraps(ctx)
	if err != nil {
		return err
	}
	lineage, err := s.o.Store.Note(ctx, store.NoteLineage(r.KEK))
	if err != nil {
		return err
	}
	r.Wraps, r.Lineage = wraps, len(lineage) > 0
	s.metrics.wrapped(wraps)
	return nil
}

// reseal rewraps while its caller listens, who may come again: what is done is done.
func (s *Server) reseal(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" { // which no page in a browser sends unasked
		plain(w, http.StatusUnsupportedMediaType, "Content-Type: application/json")
		return
	}
	if !s.resealing.TryLock() {
		plain(w, http.StatusConflict, "it is being done already")
		return
	}
	defer s.resealing.Unlock()
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Time{}) // the caller says nothing more
	w.Header().Set("Content-Type", "application/x-ndjson")
	run := resealing{Server: s, tell: func(out *Reseal) error {
		c.SetWriteDeadline(time.Now().Add(DefaultTimeouts().Write))
		if err := json.NewEncoder(w).Encode(out); err != nil {
			return err
		}
		return c.Flush()
	}}
	if err := run.run(r.Context()); err != nil {
		run.Error = wire.CodeOf(err)
		s.o.Log.Warn("resealing ended before it was done", "error", err, "done", run.Done)
	} else {
		s.o.Log.Info("resealed", "done", run.Done, "refused", run.Refused, "left", run.Left())
	}
	run.Finished = true
	run.tell(&run.Reseal)
}

// resealing is one run. It keeps nothing that the next one needs.
type resealing struct {
	*Server
	tell func(*Reseal) error
	told time.Time

	mu     sync.Mutex // guards what follows while pages are under way
	Reseal            // so far
	logged int
}

func (r *resealing) run(ctx context.Context) error {
	newest, err := r.o.Enclave.Rewrap(ctx, wire.Rewrap{Look: true})
	if err != nil {
		return err
	}
	r.KEK = newest.KEK
	if err := r.countWraps(ctx, &r.Reseal); err != nil {
		return err
	}
	r.Total = r.Left()
	if err := r.tell(&r.Reseal); err != nil {
		return err
	}
	for range resealPasses {
		before := r.Done
		if err := r.pass(ctx); err != nil {
			return err
		}
		if err := r.countWraps(ctx, &r.Reseal); err != nil {
			return err
		}
		if r.Left() == 0 || r.Done == before {
			return nil
		}
	}
	return nil
}

// pass goes through all accounts once.
func (r *resealing) pass(ctx context.Context) (err error) {
	r.Refused = 0
	pages, failed := make(chan []wire.Wrapped), make(chan error, resealAtOnce)
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer func() {
		close(pages)
		all.Wait()
		cancel()
		select {
		case e := <-failed: // the first; that it ended the pass is no other
			err = e
		default:
		}
	}()
	for range resealAtOnce {
		all.Go(func() {
			for found := range pages {
				if err := r.page(ctx, found); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	for after := (*wire.AccountID)(nil); ; {
		kek, err := r.progress()
		if err != nil {
			return err
		}
		found, next, err := r.o.Store.Wrapped(ctx, kek, after, resealPage)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			select {
			case pages <- found:
			case <-ctx.Done():
				return wire.NewError(wire.CodeUnavailable, ctx.Err())
			}
		}
		if after = next; next == nil {
			return nil
		}
	}
}

// progress tells how far it is, now and then, and returns the newest version of the KEK.
func (r *resealing) progress() (kek string, err error) {
	r.mu.Lock()
	so := r.Reseal
	r.mu.Unlock()
	if now := r.o.Now(); now.Sub(r.told) > resealPause {
		r.told = now
		err = r.tell(&so)
	}
	return so.KEK, err
}

// page has the enclave rewrap accounts, and the store keep what it gives.
func (r *resealing) page(ctx context.Context, found []wire.Wrapped) error {
	out, err := r.o.Enclave.Rewrap(ctx, wire.Rewrap{Accounts: found})
	if err != nil {
		return err
	}
	if len(out.Wraps) != len(found) {
		return wire.NewError(wire.CodeInternal, fmt.Errorf("%d wraps for %d accounts", len(out.Wraps), len(found)))
	}
	wraps, refused := make([]store.Rewrap, 0, len(found)), []wire.AccountID{}
	for i, w := range out.Wraps {
		if len(w.Box) == 0 {
			refused = append(refused, found[i].Account)
			continue
		}
		again := store.Rewrap{Account: found[i].Account, Wrap: w}
		for _, former := range found[i].Wraps {
			if former.KEK != w.KEK {
				again.Former = append(again.Former, former.KEK)
			}
		}
		wraps = append(wraps, again)
	}
	done, err := r.o.Store.Rewrap(ctx, wraps)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.KEK = out.KEK // it may hold a newer one since
	r.Done += uint64(done)
	for _, account := range refused {
		r.Refused++
		r.metrics.dataRefused(wire.CodeWrap)
		if r.logged++; r.logged <= resealLogged {
			r.o.Log.Warn("no wrap of an account opens with the KEK's versions that the enclave holds", "account", account)
		}
	}
	return err
}
