package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// readyTime bounds the questions behind one check of readiness.
const readyTime = 3 * time.Second

// health says that the process serves, nothing more.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") }

// readiness says whether requests are answered, or why not, a stable word on each line.
// The last line is SIMULATION where the enclave's evidence is simulated.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	_, lines := s.ready(r.Context())
	status := http.StatusServiceUnavailable
	if len(lines) == 0 {
		status, lines = http.StatusOK, []string{"ready"}
	}
	if s.evidence.read().Simulated {
		lines = append(lines, "SIMULATION")
	}
	plain(w, status, strings.Join(lines, "\n"))
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

// publicStatus is what anybody may know of the service. Clients do not rely on it:
// the same stands, sealed or attested, where it matters.
type publicStatus struct {
	Service   string   `json:"service"`
	Protocol  int      `json:"protocol"`
	Ready     bool     `json:"ready"`
	Reasons   []string `json:"reasons"` // as /readyz has them
	Backend   string   `json:"backend,omitempty"`
	Freshness string   `json:"freshness,omitempty"`
	Key       string   `json:"key,omitempty"` // of the HPKE key that is handed out

	Simulation bool `json:"simulation"` // the evidence that is handed out is simulated: it proves nothing
}

// freshnesses explain how the newest state of an account is known to be the newest.
var freshnesses = map[string]string{
	wire.FreshnessAzure: "azure: an attested node of an Azure Confidential Ledger said so, over TLS that ends in the enclave; " +
		"a node that was cut off could show an older end",
	wire.FreshnessEndorsed: "endorsed: a majority of attested endorsers signed every account's newest state over a fresh nonce",
	wire.FreshnessLocal: "local: the enclave remembers every account since it started; across its restarts only the devices do, " +
		"so an operator who restarts it from an old copy can bring back old state until a device that remembers more comes by",
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	enclave, reasons := s.ready(r.Context())
	out := publicStatus{Service: "passclave", Protocol: wire.Version, Ready: len(reasons) == 0, Reasons: reasons, Simulation: s.evidence.read().Simulated}
	if enclave != nil {
		out.Backend, out.Key = enclave.Backend, enclave.Key.String()
		out.Freshness = enclave.Freshness
		if text, ok := freshnesses[enclave.Freshness]; ok {
			out.Freshness = text
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(out)
}

// A fault is why the service is not ready: a stable word for anybody, and for the log
// what lies behind it.
type fault struct{ word, detail string }

// The stable words; docs/operate.md says what to do about each.
const (
	faultUnreachable = "enclave-unreachable" // the enclave does not answer
	faultSealed      = "enclave-sealed"      // it has no KEK
	faultEvidence    = "enclave-evidence"    // it gives no evidence
	faultLedger      = "store-ledger"        // store and enclave belong to two ledgers
	faultFull        = "store-full"          // no space
	faultStore       = "store-failed"        // the store fails otherwise
)

func storeFault(err error) *fault {
	if wire.CodeOf(err) == wire.CodeStorageFull {
		return &fault{faultFull, err.Error()}
	}
	return &fault{faultStore, err.Error()}
}

// ready asks enclave and store, and returns the stable words of all that is wrong.
// The status is nil if the enclave does not answer.
func (s *Server) ready(ctx context.Context) (*wire.Status, []string) {
	limited, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	enclave, faults := s.faults(limited)
	if ctx.Err() == nil { // else it is the caller who went away
		s.told.note(s.o.Log, faults, s.o.Now())
	}
	words := []string{}
	for _, f := range faults {
		words = append(words, f.word)
	}
	return enclave, words
}

// told has the log tell each state of readiness once, however often it is asked for. At
// the start it waits a little: an enclave that has just begun has no KEK yet.
type told struct {
	mu     sync.Mutex
	begun  time.Time
	was    bool // ready, or told not to be
	faults []fault
}

// startTime is how long a service may be starting before the log says that it is not ready.
const startTime = 10 * time.Second

func (t *told) note(log *slog.Logger, faults []fault, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.was && slices.Equal(faults, t.faults) || !t.was && len(faults) > 0 && now.Sub(t.begun) < startTime {
		return
	}
	for _, f := range faults {
		log.Warn("not ready", "reason", f.word, "detail", f.detail)
	}
	switch {
	case len(faults) == 0 && t.was:
		log.Info("ready again")
	case len(faults) == 0:
		log.Info("ready")
	}
	t.was, t.faults = true, faults
}

// faults asks enclave and store.
func (s *Server) faults(ctx context.Context) (*wire.Status, []fault) {
	var faults []fault
	if err := s.o.Store.Writable(ctx); err != nil {
		faults = append(faults, *storeFault(err))
	}
	enclave, err := s.o.Enclave.Status(ctx)
	if err != nil {
		return nil, append(faults, fault{faultUnreachable, err.Error()})
	}
	if f := s.checkKEK(ctx, &enclave); f != nil {
		faults = append(faults, *f)
	}
	if _, err := s.evidence.get(ctx); err != nil {
		faults = append(faults, fault{faultEvidence, err.Error()})
	}
	if f := s.checkLedger(ctx); f != nil {
		faults = append(faults, *f)
	}
	return &enclave, faults
}

// checkKEK says why the enclave cannot open accounts, and notes the KEK that it has.
// Whether that KEK opens this store's accounts only the enclave can tell.
func (s *Server) checkKEK(ctx context.Context, enclave *wire.Status) *fault {
	noted, err := s.o.Store.Note(ctx, store.NoteKEK)
	if err != nil {
		return storeFault(err)
	}
	if !enclave.Ready {
		detail := enclave.Reason
		if noted != nil {
			detail += fmt.Sprintf("; the accounts in this store need the KEK that reached version %q: without it nobody can open them. If it is lost, restore it from its backup", noted)
		}
		return &fault{faultSealed, detail}
	}
	if enclave.KEK != string(noted) {
		if err := s.o.Store.SetNote(ctx, store.NoteKEK, []byte(enclave.KEK)); err != nil {
			return storeFault(err)
		}
	}
	return nil
}

// checkLedger says whether store and enclave belong to two ledgers.
func (s *Server) checkLedger(ctx context.Context) *fault {
	own, err := s.o.Store.Ledger(ctx)
	if err != nil {
		return storeFault(err)
	}
	if attested := s.evidence.read().Ledger; own != nil && attested != nil && !bytes.Equal(own, attested) {
		return &fault{faultLedger, fmt.Sprintf("the store holds ledger %x, the enclave's configuration names %x: this is another service's database, or another configuration", own, attested)}
	}
	return nil
}
