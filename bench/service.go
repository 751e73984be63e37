package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passclave/passclave/development/issuer"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// asker asks a service as clients do, and knows what that costs there.
type asker struct {
	exchange func(ctx context.Context, method, path string, body []byte) ([]byte, error)
	spent    func() (time.Duration, error) // what is measured, since some beginning
	config   *wire.Configuration
	issuer   *ecdsa.PrivateKey
	session  *session
}

// service is a running Passclave on a seeded store: real processes.
type service struct {
	*stack.Stack
	asker  // its spent is CPU time
	people population
	http   *http.Client
}

// start starts a service that [found] made.
func start(ctx context.Context, folder, bin string, people population) (*service, error) {
	s := &service{people: people, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
	s.exchange, s.spent = s.overHTTP, s.cpuSpent
	file, err := os.ReadFile(filepath.Join(folder, configurationFile))
	if err != nil {
		return nil, err
	}
	if s.config, err = wire.ParseConfiguration(file); err != nil {
		return nil, err
	}
	if s.Stack, err = stack.Start(ctx, stack.Options{Dir: folder, Bin: bin}); err != nil {
		return nil, err
	}
	if s.issuer, err = issuer.LoadKey(filepath.Join(s.Dir, string(stack.Issuer))); err == nil {
		err = s.ready(ctx)
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// runs makes the service run this enclave binary, with nothing in its memory.
func (s *service) runs(ctx context.Context, binary string) error {
	s.SetBinary(stack.Enclave, binary)
	if err := s.Restart(ctx, stack.Enclave); err != nil {
		return err
	}
	return s.ready(ctx)
}

func (s *service) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		return err
	}
	return s.attest(ctx)
}

// attest takes the enclave's newest key and challenge.
func (s *asker) attest(ctx context.Context) error {
	body, err := s.exchange(ctx, http.MethodGet, "/v1/attestation", nil)
	if err != nil {
		return err
	}
	s.session, err = newSession(body)
	return err
}

func (s *service) overHTTP(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header["Content-Type"] = []string{"application/cbor"}
	answer, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return answered(answer.StatusCode, b)
}

// answered is the body of an HTTP answer, or the refusal in it.
func answered(status int, body []byte) ([]byte, error) {
	if status == http.StatusOK {
		return body, nil
	}
	refusal := new(wire.Error)
	if err := wire.Unmarshal(body, refusal); err != nil {
		return nil, fmt.Errorf("HTTP status %d", status)
	}
	return nil, refusal
}

// cost is what n operations took.
type cost struct {
	n     int
	spent time.Duration   // by the service, for all together
	wall  []time.Duration // of each operation, as the client saw it
}

func (c cost) each() float64 { return microseconds(c.spent) / float64(c.n) }

// fire sends the requests from so many clients, each of which waits for its answer
// before it sends the next, and returns what that cost the service. Requests
// are sealed before and answers opened after, so that the load generator takes
// little from the machine meanwhile.
func (s *asker) fire(ctx context.Context, requests []*prepared, clients int) (cost, error) {
	c := cost{n: len(requests), wall: make([]time.Duration, len(requests))}
	before, err := s.spent()
	if err != nil {
		return c, err
	}
	errs := make([]error, len(requests))
	parallel(clients, len(requests), func(i int) {
		sent := time.Now()
		requests[i].answer, errs[i] = s.exchange(ctx, http.MethodPost, "/v1/request", requests[i].envelope)
		c.wall[i] = time.Since(sent)
	})
	after, err := s.spent()
	c.spent = after - before
	return c, errors.Join(err, first(errs))
}

// cpuSpent is the CPU time of host and enclave since they started.
func (s *service) cpuSpent() (sum time.Duration, err error) {
	for _, part := range []stack.Part{stack.Host, stack.Enclave} {
		t, err := cpuTime(s.PID(part))
		if err != nil {
			return 0, fmt.Errorf("CPU time of the %s: %w", part, err)
		}
		sum += t
	}
	return sum, nil
}

// prepareAll seals requests on all cores, in order.
func (s *asker) prepareAll(asks []ask) ([]*prepared, error) {
	out, errs := make([]*prepared, len(asks)), make([]error, len(asks))
	parallel(cores, len(asks), func(i int) { out[i], errs[i] = s.session.prepare(asks[i]) })
	return out, first(errs)
}

// cores is how many goroutines do what is not measured.
const cores = 4

// parallel calls f with every number below n, from so many goroutines.
func parallel(goroutines, n int, f func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	all.Wait()
}

// first returns the first error: where one request fails, most do.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// assertions measures one assertion with a random passkey of each account, and
// checks every answer.
func (s *service) assertions(ctx context.Context, accounts []int, clients int) (cost, error) {
	if err := s.attest(ctx); err != nil {
		return cost{}, err
	}
	asks := make([]ask, len(accounts))
	parallel(cores, len(accounts), func(i int) {
		d := s.people.device(accounts[i])
		asks[i] = d.assert(d.handles[rand.N(len(d.handles))])
	})
	requests, err := s.prepareAll(asks)
	if err != nil {
		return cost{}, err
	}
	c, err := s.fire(ctx, requests, clients)
	if err != nil {
		return c, err
	}
	for i, r := range requests {
		var result wire.AssertResult
		if err := r.open(&result); err != nil {
			return c, fmt.Errorf("assertion of account %d: %w", accounts[i], err)
		}
	}
	return c, nil
}

// drawn returns n accounts drawn uniformly from all below size.
func drawn(n, size int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = rand.N(size)
	}
	return out
}
