// Package azuretest is an emulator of Azure Confidential Ledger for tests: its data
// plane and its identity service over TLS on the loopback, with keys of its own, and
// the faults that a real ledger has.
//
// It is written from the REST API's specification (2022-05-13 and 2023-01-18-preview),
// from CCF's documentation, and from the answers that Microsoft's SDKs for Python
// and JavaScript recorded; it shares no code with the verifier. What the documentation
// leaves open is a knob ([Server.MissingIs404]) or said here, as seen in the recordings: an
// entry is committed by the signature behind it; the first answer about history is
// "Loading"; a page covers a stretch of the whole ledger and so may be empty; answers with
// an error name no transaction of the node (CCF's frontend: only what ran to its end does).
//
// It owns a ledger in memory. It is no ledger: one process plays all nodes.
package azuretest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Token is the bearer token that the emulator takes; Name is the ledger's.
const (
	Token = "token-of-the-emulator"
	Name  = "emulated"
)

// Fault is what goes wrong with a write.
type Fault int

const (
	NoFault Fault = iota
	Failed        // nothing is written: 500
	Busy          // nothing is written: 503, with Retry-After
	Dropped       // it is written, and the connection ends before the answer
	Twice         // it is written, and once more
	Lost          // it is taken, and lost when the view changes before it commits
	Late          // nothing is written: 500; it comes with [Server.Arrive]
)

// Server is one emulated ledger. Its knobs are changed in [Server.Set].
type Server struct {
	URL         string // of the data plane
	IdentityURL string // of the identity service

	mu           sync.Mutex
	http         *httptest.Server
	service      *identity
	node         *identity
	view, last   uint64
	committed    uint64
	transactions []*transaction
	late         []*entry
	asked        map[string]int
	known        map[string]bool // collections, without the default one

	Pending      int                                               // status requests that see a new entry pending
	Loading      int                                               // requests of history that are told to ask again
	Page         uint64                                            // sequences of the whole ledger that a page covers
	Collections  int                                               // that fit in, without the default one
	MissingIs404 bool                                              // an empty collection is answered with 404, not with no entries
	Reversed     bool                                              // pages have their entries in the wrong order
	Frozen       uint64                                            // reads see the ledger as it was at this sequence: a node cut off
	OnWrite      func(contents string) Fault                       // asked before each write
	Intercept    func(w http.ResponseWriter, r *http.Request) bool // takes a request over, or changes it
}

// NewServer starts a ledger. The caller closes it.
func NewServer() *Server {
	s := &Server{view: 2, Pending: 0, Loading: 1, Page: 1000, Collections: 5000, asked: map[string]int{}, known: map[string]bool{}}
	from := time.Now().Add(-time.Minute)
	s.service = serviceCertificate(newKey(), from)
	s.endorse(from)
	s.commit()
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse the certificate are the point of some tests
	s.http.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		node := tls.Certificate{Certificate: [][]byte{s.node.cert.Raw}, PrivateKey: s.node.key}
		return &tls.Config{Certificates: []tls.Certificate{node}, MinVersion: tls.VersionTLS12}, nil
	}}
	s.http.StartTLS()
	s.URL = s.http.URL
	s.IdentityURL = s.http.URL
	return s
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }

func (s *Server) endorse(from time.Time) {
	s.node = nodeCertificate(newKey(), s.service, from, Name+".confidential-ledger.azure.com", Name)
}

// Set changes knobs.
func (s *Server) Set(change func(*Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// Service returns the service certificate as the identity service gives it: PEM, with
// a NUL behind.
func (s *Server) Service() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.service.pem() + "\x00")
}

// Renew gives service and node new certificates, valid from a time on, the service's
// over its same key.
func (s *Server) Renew(from time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service = serviceCertificate(s.service.key, from)
	s.endorse(from)
	s.http.CloseClientConnections()
}

// Recover is a disaster recovery: the entries are there, the service has a new key.
func (s *Server) Recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := time.Now().Add(-time.Minute)
	s.service = serviceCertificate(newKey(), from)
	s.endorse(from)
	s.view += 2
	s.commit()
	s.http.CloseClientConnections()
}

// ViewChange elects another primary: what was not committed is lost.
func (s *Server) ViewChange() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.viewChange()
}

func (s *Server) viewChange() {
	for len(s.transactions) > 0 && s.transactions[len(s.transactions)-1].sequence > s.committed {
		s.transactions = s.transactions[:len(s.transactions)-1]
	}
	s.view++
	s.last = s.committed
	s.commit()
}

// Put writes an entry as another client of the ledger would, and commits it.
func (s *Server) Put(collection, contents string) (transactionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.append(&entry{collection, contents, random(32)})
	s.commit()
	return t.id()
}

// Entry is a committed entry.
type Entry struct{ Transaction, Collection, Contents string }

// Entries returns the committed entries, oldest first.
func (s *Server) Entries() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Entry
	for _, t := range s.transactions {
		if t.entry != nil && t.sequence <= s.committed {
			out = append(out, Entry{t.id(), t.entry.collection, t.entry.contents})
		}
	}
	return out
}

// Committed returns the sequence up to which everything is committed.
func (s *Server) Committed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	intercept := s.Intercept
	s.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version := r.URL.Query().Get("api-version")
	if version < "2022-05-13" {
		fail(w, http.StatusBadRequest, "InvalidApiVersionParameter")
		return
	}
	path := r.URL.Path
	if path == "/ledgerIdentity/"+Name && r.Method == http.MethodGet { // public
		answer(w, map[string]any{"ledgerId": Name, "ledgerTlsCertificate": s.service.pem() + "\x00"})
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+Token {
		w.Header().Set("WWW-Authenticate", "Bearer")
		fail(w, http.StatusUnauthorized, "InvalidAuthenticationInfo")
		return
	}
	rest, inside := strings.CutPrefix(path, "/app/transactions")
	switch {
	case !inside:
		fail(w, http.StatusNotFound, "ResourceNotFound")
	case rest == "" && r.Method == http.MethodPost:
		s.write(w, r)
	case r.Method != http.MethodGet:
		fail(w, http.StatusMethodNotAllowed, "UnsupportedHttpVerb")
	case rest == "":
		s.list(w, r)
	case rest == "/current":
		s.current(w, r)
	default:
		id, what, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		s.one(w, id, what, version)
	}
}

// seen is the sequence that the answering node has reached.
func (s *Server) seen() uint64 {
	if s.Frozen > 0 {
		return s.Frozen
	}
	return s.committed
}

func (s *Server) header(w http.ResponseWriter) {
	view, last := s.view, s.last
	if s.Frozen > 0 {
		for _, t := range s.transactions {
			if t.sequence == s.Frozen {
				view, last = t.view, t.sequence
			}
		}
	}
	w.Header().Set("x-ms-ccf-transaction-id", fmt.Sprintf("%d.%d", view, last))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Del("x-ms-ccf-transaction-id")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": "said by the emulator"}})
}

// drop ends a connection without an answer.
func drop(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
