package api

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/passclave/passclave/wire"
)

// metrics count what was answered. No label comes from a client, and none from the store
// but versions of the KEK, whose number its vault limits.
type metrics struct {
	mu       sync.Mutex
	answers  map[answer]uint64
	time     map[string]duration // by endpoint
	refusals map[wire.Code]uint64
	data     map[wire.Code]uint64 // the store's data, refused by the enclave
	wraps    map[string]uint64    // account keys by KEK version, as /reseal counted last
}

type answer struct {
	endpoint string
	status   int
}

type duration struct {
	count   uint64
	seconds float64
}

func count[K comparable](m *metrics, counts *map[K]uint64, k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if *counts == nil {
		*counts = map[K]uint64{}
	}
	(*counts)[k]++
}

func (m *metrics) answered(endpoint string, status int) {
	count(m, &m.answers, answer{endpoint, status})
}
func (m *metrics) refused(c wire.Code)     { count(m, &m.refusals, c) }
func (m *metrics) dataRefused(c wire.Code) { count(m, &m.data, c) }

// wrapped takes a new count.
func (m *metrics) wrapped(wraps map[string]uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wraps = wraps
}

func (m *metrics) took(endpoint string, t time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.time == nil {
		m.time = map[string]duration{}
	}
	d := m.time[endpoint]
	m.time[endpoint] = duration{d.count + 1, d.seconds + t.Seconds()}
}

// Metrics serves the counters in Prometheus' text format, for a listener of its own.
func (s *Server) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.metrics.write(w)
		fmt.Fprintf(w, "# HELP passclave_calls_under_way Calls being answered.\n# TYPE passclave_calls_under_way gauge\npassclave_calls_under_way %d\n", s.calls.taken())
		fmt.Fprintf(w, "# HELP passclave_connections Open connections of clients.\n# TYPE passclave_connections gauge\npassclave_connections %d\n", s.connections.taken())
		fmt.Fprintf(w, "# HELP passclave_enclave_connections_total Connections made to the enclave.\n# TYPE passclave_enclave_connections_total counter\npassclave_enclave_connections_total %d\n", s.o.Enclave.Connection())
	})
}

func (m *metrics) write(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	head := func(name, kind, help string) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	head("passclave_answers_total", "counter", "Answers by endpoint and HTTP status.")
	for _, k := range sorted(m.answers, func(a, b answer) int {
		return cmp.Or(cmp.Compare(a.endpoint, b.endpoint), cmp.Compare(a.status, b.status))
	}) {
		fmt.Fprintf(w, "passclave_answers_total{endpoint=%q,status=\"%d\"} %d\n", k.endpoint, k.status, m.answers[k])
	}
	head("passclave_call_seconds", "summary", "Time to answer, by endpoint.")
	for _, k := range sorted(m.time, cmp.Compare[string]) {
		fmt.Fprintf(w, "passclave_call_seconds_sum{endpoint=%q} %g\npassclave_call_seconds_count{endpoint=%q} %d\n", k, m.time[k].seconds, k, m.time[k].count)
	}
	head("passclave_refusals_total", "counter", "Unsealed refusals by code.")
	for _, k := range sorted(m.refusals, cmp.Compare[wire.Code]) {
		fmt.Fprintf(w, "passclave_refusals_total{code=%q} %d\n", k, m.refusals[k])
	}
	head("passclave_data_refusals_total", "counter", "Data of this host's store that the enclave refused, by code. Any is an alarm.")
	for _, k := range sorted(m.data, cmp.Compare[wire.Code]) {
		fmt.Fprintf(w, "passclave_data_refusals_total{code=%q} %d\n", k, m.data[k])
	}
	head("passclave_wraps", "gauge", "Account keys by the version of the KEK that they are wrapped under, as /reseal counted last; none before.")
	for _, k := range sorted(m.wraps, cmp.Compare[string]) {
		fmt.Fprintf(w, "passclave_wraps{kek=%q} %d\n", k, m.wraps[k])
	}
}

func sorted[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}
