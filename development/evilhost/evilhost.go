// Package evilhost is a host that lies: a proxy for frames between an honest host
// and an enclave, which can do to them whatever a hostile operator could. Demo and
// tests use it to show that each lie ends in a typed refusal.
//
// The proxy owns the two connections and what it has seen pass: the last state of
// each account, records, and a commit that it kept for itself. It holds no key, like
// any host.
package evilhost

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/passclave/passclave/wire"
)

// Proxy passes frames on. It is safe for concurrent use.
type Proxy struct {
	enclave string
	l       net.Listener

	mu       sync.Mutex
	lie      func(*wire.State)            // nil: honest
	withhold bool                         // keep commits from the host
	last     *wire.Forward                // newest request that passed, as the honest host made it
	records  map[wire.Handle]*wire.Record // every record that passed, newest version
	withheld *wire.Commit                 // newest commit that was kept
	conns    map[net.Conn]bool
}

// Listen listens on a unix socket for the host and dials the enclave's for each of
// its connections. [Proxy.Serve] does the rest.
func Listen(socket, enclave string) (*Proxy, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	return &Proxy{enclave: enclave, l: l, records: map[wire.Handle]*wire.Record{}, conns: map[net.Conn]bool{}}, nil
}

// Serve accepts the host's connections until ctx ends. A connection to an enclave
// that is not there is closed at once: the host dials again.
func (p *Proxy) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	var pairs sync.WaitGroup
	defer pairs.Wait()
	for {
		host, err := p.l.Accept()
		if err != nil {
			p.close()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		pairs.Go(func() { p.pair(host) })
	}
}

func (p *Proxy) close() {
	p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// track remembers a connection, so that close ends it too.
func (p *Proxy) track(c net.Conn) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return func() {
		c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}
}

// pair joins one connection of the host with one to the enclave.
func (p *Proxy) pair(host net.Conn) {
	defer p.track(host)()
	enclave, err := net.Dial("unix", p.enclave)
	if err != nil {
		return
	}
	defer p.track(enclave)()
	c := &connection{proxy: p, host: host, enclave: enclave, needs: map[uint64]bool{}}
	var both sync.WaitGroup
	both.Go(func() {
		pump(host, c.fromHost)
		enclave.Close()
	})
	both.Go(func() {
		pump(enclave, c.fromEnclave)
		host.Close()
	})
	both.Wait()
}

// connection is one of the host's, with its own to the enclave.
type connection struct {
	proxy         *Proxy
	host, enclave net.Conn // host is written by fromEnclave alone

	mu    sync.Mutex      // held through writes to enclave, which both directions do
	needs map[uint64]bool // the enclave's calls for state that are under way; guarded by mu
}

// pump reads frames until one side ends.
func pump(r io.Reader, frame func(wire.Frame) error) {
	b := bufio.NewReader(r)
	for {
		f, err := wire.ReadFrame(b)
		if err != nil {
			return
		}
		if err := frame(f); err != nil {
			return
		}
	}
}

// write sends a frame to the enclave.
func (c *connection) write(f wire.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.enclave.Write(f.Append(nil))
	return err
}

// fromHost looks at what comes with requests and at what answers the enclave's calls
// for more, and changes both where the proxy lies.
func (c *connection) fromHost(f wire.Frame) error {
	switch f.Kind {
	case wire.FrameRequest:
		var forward wire.Forward
		if err := wire.Unmarshal(f.Body, &forward); err != nil {
			return err
		}
		c.proxy.request(&forward)
		f.Body = wire.Marshal(forward)
	case wire.FrameAnswer:
		c.mu.Lock()
		wanted := c.needs[f.Call]
		delete(c.needs, f.Call)
		c.mu.Unlock()
		if !wanted {
			break
		}
		var result wire.Result
		var state wire.State
		if err := wire.Unmarshal(f.Body, &result); err != nil {
			return err
		}
		if result.Error != nil {
			break
		}
		if err := wire.Unmarshal(result.Value, &state); err != nil {
			return err
		}
		c.proxy.falsify(&state)
		f.Body = wire.Marshal(wire.Result{Value: wire.Marshal(state)})
	}
	return c.write(f)
}

// fromEnclave remembers calls for state. Commits it keeps where the proxy withholds
// them, and tells the enclave that the store could not be reached: nothing is known
// of whether it was done.
func (c *connection) fromEnclave(f wire.Frame) error {
	switch f.Kind {
	case wire.FrameNeed:
		c.mu.Lock()
		c.needs[f.Call] = true
		c.mu.Unlock()
	case wire.FrameCommit:
		var commit wire.Commit
		if err := wire.Unmarshal(f.Body, &commit); err != nil {
			return err
		}
		if c.proxy.commit(&commit) {
			refusal := wire.Result{Error: wire.NewError(wire.CodeUnavailable, nil)}
			return c.write(wire.Frame{Call: f.Call, Kind: wire.FrameAnswer, Body: wire.Marshal(refusal)})
		}
	}
	_, err := c.host.Write(f.Append(nil))
	return err
}

// request keeps an honest request, or falsifies it.
func (p *Proxy) request(f *wire.Forward) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lie != nil {
		p.lie(&f.State)
		return
	}
	kept := *f
	p.last = &kept
	p.see(f.State.Records)
}

func (p *Proxy) falsify(s *wire.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lie != nil {
		p.lie(s)
	}
}

// commit remembers a commit's records and reports whether to withhold it.
func (p *Proxy) commit(c *wire.Commit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.withhold {
		p.withheld = c
	} else {
		p.see(c.Records)
	}
	return p.withhold
}

// see remembers records; called with mu held.
func (p *Proxy) see(records [][]byte) {
	for _, encoded := range records {
		if r, err := wire.ParseRecord(encoded); err == nil {
			p.records[r.Handle] = r
		}
	}
}

// ErrNothingSeen is returned for a lie that needs something which has not passed yet.
var ErrNothingSeen = errors.New("evilhost: nothing of that kind has passed yet")
