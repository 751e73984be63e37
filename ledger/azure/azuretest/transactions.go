package azuretest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// defaultCollection is where entries without a collection ID go.
const defaultCollection = "subledger:0"

// maxContents is how many bytes an entry's contents may have (Microsoft, "Azure confidential
// ledger limits"; 256 for a collection ID).
const maxContents = 8 << 10

func collectionOf(r *http.Request) string {
	if id := r.URL.Query().Get("collectionId"); id != "" {
		return id
	}
	return defaultCollection
}

// write is POST /app/transactions.
func (s *Server) write(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Contents *string `json:"contents"`
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || json.Unmarshal(data, &body) != nil || body.Contents == nil {
		fail(w, http.StatusBadRequest, "InvalidInput")
		return
	}
	switch {
	case len(*body.Contents) > maxContents:
		fail(w, http.StatusBadRequest, "EntrySizeCapacityExceeded")
		return
	case len(collectionOf(r)) > 256:
		fail(w, http.StatusBadRequest, "CollectionIdTooLong")
		return
	case collectionOf(r) != defaultCollection && !s.known[collectionOf(r)] && len(s.known) >= s.Collections:
		fail(w, http.StatusBadRequest, "CollectionCapacityExceeded")
		return
	}
	fault := NoFault
	if s.OnWrite != nil {
		fault = s.OnWrite(*body.Contents)
	}
	switch fault {
	case Late:
		s.late = append(s.late, &entry{collectionOf(r), *body.Contents, random(32)})
		fail(w, http.StatusInternalServerError, "InternalError")
		return
	case Failed:
		fail(w, http.StatusInternalServerError, "InternalError")
		return
	case Busy:
		w.Header().Set("Retry-After", "0")
		fail(w, http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	}
	put := func() *transaction { return s.append(&entry{collectionOf(r), *body.Contents, random(32)}) }
	t := put()
	if fault == Twice {
		put()
	}
	s.header(w)
	w.Header().Set("x-ms-ccf-transaction-id", t.id())
	switch {
	case fault == Lost:
		s.viewChange()
	case s.Pending == 0 || fault == Dropped:
		s.commit()
	}
	if fault == Dropped {
		drop(w)
		return
	}
	answer(w, map[string]any{"collectionId": collectionOf(r)})
}

// Arrive brings the writes that are late.
func (s *Server) Arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.late {
		s.append(e)
	}
	s.late = nil
	s.commit()
}

// find returns a transaction of this very view; other views' were lost, or never were.
func (s *Server) find(id string) *transaction {
	for _, t := range slices.Backward(s.transactions) { // the newest are asked for
		if t.id() == id {
			return t
		}
	}
	return nil
}

// one is GET /app/transactions/{id}[/status|/receipt].
func (s *Server) one(w http.ResponseWriter, id, what, version string) {
	t := s.find(id)
	s.header(w)
	if t == nil || t.sequence > s.seen() && s.Frozen > 0 {
		fail(w, http.StatusNotFound, "InvalidTransactionId")
		return
	}
	if what == "status" {
		state := "Committed"
		if t.sequence > s.committed {
			if t.polls--; t.polls < 0 {
				s.commit()
			} else {
				state = "Pending"
			}
		}
		answer(w, map[string]any{"state": state, "transactionId": id})
		return
	}
	if what == "receipt" && t.sequence > s.committed {
		fail(w, http.StatusNotAcceptable, "UncommittedLedgerEntry")
		return
	}
	loading := t.sequence > s.committed || t.asks > 0
	t.asks--
	switch {
	case what == "receipt" && loading:
		answer(w, map[string]any{"receipt": nil, "state": "Loading", "transactionId": ""})
	case what == "receipt" && t.entry != nil:
		answer(w, s.receipt(t, version >= "2023-01-18-preview"))
	case what == "" && loading:
		answer(w, map[string]any{"state": "Loading"})
	case what == "" && t.entry != nil:
		answer(w, map[string]any{"state": "Ready", "entry": t.json()})
	default:
		fail(w, http.StatusNotFound, "ResourceNotFound")
	}
}

func (t *transaction) json() map[string]any {
	return map[string]any{"collectionId": t.entry.collection, "contents": t.entry.contents, "transactionId": t.id()}
}

// of returns a collection's committed entries, oldest first.
func (s *Server) of(collection string) []*transaction {
	var out []*transaction
	for _, t := range s.transactions {
		if t.entry != nil && t.entry.collection == collection && t.sequence <= s.seen() {
			out = append(out, t)
		}
	}
	return out
}

// current is GET /app/transactions/current.
func (s *Server) current(w http.ResponseWriter, r *http.Request) {
	all := s.of(collectionOf(r))
	s.header(w)
	if len(all) == 0 {
		fail(w, http.StatusNotFound, "UnknownCollection")
		return
	}
	answer(w, all[len(all)-1].json())
}

// list is GET /app/transactions: a range of a collection, in pages.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.header(w)
	from, to := uint64(0), s.seen()
	for _, end := range []struct {
		name string
		into *uint64
	}{{"fromTransactionId", &from}, {"toTransactionId", &to}} {
		id := q.Get(end.name)
		if id == "" {
			continue
		}
		t := s.find(id)
		if t == nil || t.sequence > s.seen() {
			fail(w, http.StatusNotFound, "InvalidTransactionId")
			return
		}
		*end.into = t.sequence
	}
	if s.asked[r.URL.RawQuery]++; s.asked[r.URL.RawQuery] <= s.Loading {
		answer(w, map[string]any{"entries": []any{}, "nextLink": r.URL.RequestURI(), "state": "Loading"})
		return
	}
	delete(s.asked, r.URL.RawQuery)
	all := s.of(collectionOf(r))
	if len(all) == 0 && s.MissingIs404 {
		fail(w, http.StatusNotFound, "UnknownCollection")
		return
	}
	entries, next := []any{}, ""
	if behind := max(from, 1) + s.Page; behind <= to {
		next = nextLink(r.URL.Path, q, s.transactions[behind-1].id())
		to = behind - 1
	}
	for _, t := range all {
		if t.sequence >= from && t.sequence <= to {
			entries = append(entries, t.json())
		}
	}
	if s.Reversed {
		for i, j := 0, len(entries)-1; i < j; i, j = i+1, j-1 {
			entries[i], entries[j] = entries[j], entries[i]
		}
	}
	out := map[string]any{"entries": entries, "state": "Ready"}
	if next != "" {
		out["nextLink"] = next
	}
	answer(w, out)
}

func nextLink(path string, q url.Values, from string) string {
	n := maps.Clone(q)
	n.Set("fromTransactionId", from)
	return path + "?" + n.Encode()
}
