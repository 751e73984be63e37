package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// operated is a host with accounts, and the operator's listener beside it.
type operated struct {
	*host
	t        *testing.T
	url      string
	accounts []*storetest.Account
	rewrap   func(q *wire.Rewrap, out *wire.Rewrapped) *wire.Result // before the answer leaves, perhaps of several at a time; nil: an honest enclave
}

// newOperated has so many accounts, wrapped under version 1. The enclave holds 2, too.
func newOperated(t *testing.T, accounts int) *operated {
	t.Helper()
	o := &operated{host: start(t, nil), t: t}
	o.set(func() { o.other = o.rewrapped })
	server := httptest.NewServer(o.server.Operator())
	t.Cleanup(server.Close)
	o.url = server.URL
	for n := range accounts {
		a := storetest.NewAccount(o.keys, fmt.Sprint(n))
		if _, err := o.store.Commit(t.Context(), a.Change(0)); err != nil {
			t.Fatal(err)
		}
		o.accounts = append(o.accounts, a)
	}
	return o
}

func (o *operated) rewrapped(f wire.Frame) *wire.Result {
	var q wire.Rewrap
	if f.Kind != wire.FrameRewrap || wire.Unmarshal(f.Body, &q) != nil {
		return linktest.Refusal(wire.CodeMalformed)
	}
	out := wire.Rewrapped{KEK: "2"}
	for _, a := range q.Accounts {
		out.Wraps = append(out.Wraps, wire.Wrap{Generation: a.Wraps[0].Generation, Epoch: a.Wraps[0].Epoch, KEK: "2", Box: []byte("again")})
	}
	if o.rewrap != nil {
		if r := o.rewrap(&q, &out); r != nil {
			return r
		}
	}
	return linktest.Value(out)
}

func (o *operated) post(ctx context.Context) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+"/reseal", nil)
	if err != nil {
		o.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(r)
}

// reseal returns the last line.
func (o *operated) reseal() (last api.Reseal) {
	o.t.Helper()
	answer, err := o.post(o.t.Context())
	if err != nil || answer.StatusCode != http.StatusOK {
		o.t.Fatalf("%v, %v", answer, err)
	}
	defer answer.Body.Close()
	for d := json.NewDecoder(answer.Body); !last.Finished; {
		last = api.Reseal{}
		if err := d.Decode(&last); err != nil {
			o.t.Fatal(err)
		}
	}
	return last
}

func (o *operated) hangs() (out api.Reseal) {
	o.t.Helper()
	answer, err := http.Get(o.url + "/reseal")
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
		o.t.Fatal(err)
	}
	return out
}

func TestReseal(t *testing.T) {
	t.Parallel()
	o := newOperated(t, 600) // more than a page
	if h := o.hangs(); !maps.Equal(h.Wraps, map[string]uint64{"1": 600}) || h.KEK != "1" || h.Lineage || h.Left() != 0 {
		t.Fatalf("%+v", h)
	}
	if err := o.store.SetNote(t.Context(), store.NoteLineage("2"), []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	var looked atomic.Int64 // pages come at the same time
	o.rewrap = func(q *wire.Rewrap, _ *wire.Rewrapped) *wire.Result {
		if q.Look {
			looked.Add(1)
		}
		return nil
	}
	last := o.reseal()
	if last.KEK != "2" || last.Total != 600 || last.Done != 600 || last.Refused != 0 || last.Left() != 0 || !last.Lineage || last.Error != "" || looked.Load() != 1 {
		t.Fatalf("%+v, %d looks", last, looked.Load())
	}
	for _, a := range o.accounts {
		s, err := o.store.Load(t.Context(), wire.Need{Account: a.ID, State: true})
		if err != nil || len(s.Wraps) != 1 || s.Wraps[0].KEK != "2" || string(s.Wraps[0].Box) != "again" {
			t.Fatalf("%+v, %v", s.Wraps, err)
		}
	}
	if last = o.reseal(); last.Total != 0 || last.Done != 0 || last.Left() != 0 {
		t.Fatalf("a second time: %+v", last)
	}
	w := httptest.NewRecorder()
	o.server.Operator().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "passclave_wraps{kek=\"2\"} 600\n") {
		t.Fatal("the metrics do not have it")
	}
}

// An account that does not open takes nothing with it, loses nothing, and is counted; one
// that gets a wrap under another version meanwhile is not done, until the next time.
func TestResealLeaves(t *testing.T) {
	t.Parallel()
	o := newOperated(t, 5)
	damaged, meanwhile := o.accounts[1], o.accounts[2]
	o.rewrap = func(q *wire.Rewrap, out *wire.Rewrapped) *wire.Result {
		for i, a := range q.Accounts {
			switch a.Account {
			case damaged.ID:
				out.Wraps[i].Box = nil
			case meanwhile.ID: // an enclave behind this one
				c := meanwhile.NewEpoch("1")
				if _, err := o.store.Commit(t.Context(), c); err != nil {
					t.Error(err)
				}
			}
		}
		return nil
	}
	if last := o.reseal(); last.Done != 3 || last.Refused != 1 || last.Left() != 2 {
		t.Fatalf("%+v", last)
	}
	s, err := o.store.Load(t.Context(), wire.Need{Account: damaged.ID, State: true})
	if err != nil || len(s.Wraps) != 1 || s.Wraps[0].KEK != "1" {
		t.Fatalf("%+v, %v", s.Wraps, err)
	}
	o.rewrap = nil
	if last := o.reseal(); last.Total != 2 || last.Done != 2 || last.Left() != 0 {
		t.Fatalf("%+v", last)
	}
}

// A version that the enclave gets meanwhile is the one that everything ends under.
func TestResealUnderANewerVersion(t *testing.T) {
	t.Parallel()
	o := newOperated(t, 600)
	var pages atomic.Int64
	o.rewrap = func(q *wire.Rewrap, out *wire.Rewrapped) *wire.Result {
		if len(q.Accounts) > 0 && pages.Add(1) >= 2 {
			out.KEK = "3"
			for i := range out.Wraps {
				out.Wraps[i].KEK = "3"
			}
		}
		return nil
	}
	if last := o.reseal(); last.KEK != "3" || !maps.Equal(last.Wraps, map[string]uint64{"3": 600}) {
		t.Fatalf("%+v", last)
	}
}

// What an enclave must not answer, and one that does not, ends it and changes nothing.
func TestResealFails(t *testing.T) {
	t.Parallel()
	o := newOperated(t, 3)
	for name, test := range map[string]struct {
		rewrap func(*wire.Rewrap, *wire.Rewrapped) *wire.Result
		want   wire.Code
	}{
		"too few wraps": {func(q *wire.Rewrap, out *wire.Rewrapped) *wire.Result {
			out.Wraps = out.Wraps[:len(out.Wraps)/2]
			return nil
		}, wire.CodeInternal},
		"sealed": {func(*wire.Rewrap, *wire.Rewrapped) *wire.Result { return linktest.Refusal(wire.CodeSealed) }, wire.CodeSealed},
		"an epoch out of range": {func(q *wire.Rewrap, out *wire.Rewrapped) *wire.Result {
			for i := range out.Wraps {
				out.Wraps[i].Epoch = 1 << 63
			}
			return nil
		}, wire.CodeArgument},
	} {
		o.rewrap = test.rewrap
		if last := o.reseal(); last.Error != test.want || last.Done != 0 {
			t.Errorf("%s: %+v", name, last)
		}
	}
	if h := o.hangs(); !maps.Equal(h.Wraps, map[string]uint64{"1": 3}) {
		t.Fatalf("%+v", h)
	}
}

// One does it at a time, and stops when nobody listens any more.
func TestResealOneAtATime(t *testing.T) {
	t.Parallel()
	o := newOperated(t, 3)
	entered, free := make(chan struct{}, 8), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	o.rewrap = func(q *wire.Rewrap, _ *wire.Rewrapped) *wire.Result {
		if len(q.Accounts) > 0 {
			entered <- struct{}{}
			<-free
		}
		return nil
	}
	ctx, leave := context.WithCancel(t.Context())
	first, err := o.post(ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	second, err := o.post(soon)
	if err != nil || second.StatusCode != http.StatusConflict {
		t.Fatalf("%v, %v", second, err)
	}
	second.Body.Close()
	leave()
	first.Body.Close()
	for deadline := time.Now().Add(10 * time.Second); ; { // until the host has noticed
		again, err := o.post(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it goes on for nobody")
		}
	}
	release()
	for deadline := time.Now().Add(10 * time.Second); ; {
		answer, err := o.post(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never free again")
		}
	}
}

// It is for the operator: not on the public listener, and not for a page in his browser.
func TestResealIsTheOperators(t *testing.T) {
	t.Parallel()
	o := newOperated(t, 1)
	o.rewrap = func(*wire.Rewrap, *wire.Rewrapped) *wire.Result { t.Error("the enclave was asked"); return nil }
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r := httptest.NewRequest(method, "/reseal", nil)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		o.server.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("%s to the public: %d", method, w.Code)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		answer, err := http.Post(o.url+"/reseal", kind, nil)
		if err != nil || answer.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %v, %v", kind, answer, err)
		}
		answer.Body.Close()
	}
}
