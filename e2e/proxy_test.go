package e2e

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"

	"github.com/passclave/passclave/wire"
)

// proxy passes frames between host and enclave, and does one thing to one of them.
type proxy struct {
	enclave  string // socket
	listener net.Listener
	pairs    sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	passed []wire.FrameKind // since the last arm
	at     int              // frame to touch; -1: none
	fault  fault
	held   chan struct{} // closed when a fault holds its frame
	free   chan struct{} // closed to let it go
}

// fault is what happens to a frame on its way to out. An error breaks the connection.
type fault func(p *proxy, f wire.Frame, in *bufio.Reader, out net.Conn) error

func listenProxy(socket, enclave string) (*proxy, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	p := &proxy{enclave: enclave, listener: l, conns: map[net.Conn]bool{}, at: -1}
	p.disarm()
	p.pairs.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		host, err := p.listener.Accept()
		if err != nil {
			return
		}
		enclave, err := net.Dial("unix", p.enclave)
		if err != nil {
			host.Close() // the host dials again
			continue
		}
		p.mu.Lock()
		p.conns[host], p.conns[enclave] = true, true
		p.mu.Unlock()
		p.pairs.Go(func() { p.pump(host, enclave) })
		p.pairs.Go(func() { p.pump(enclave, host) })
	}
}

// pump passes frames one way until one end closes.
func (p *proxy) pump(from, to net.Conn) {
	defer func() {
		from.Close()
		to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
	}()
	in := bufio.NewReader(from)
	for {
		f, err := wire.ReadFrame(in)
		if err != nil {
			return
		}
		do := p.next(f.Kind)
		if err := do(p, f, in, to); err != nil {
			return
		}
	}
}

// next counts a frame and says what is done to it.
func (p *proxy) next(kind wire.FrameKind) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed = append(p.passed, kind)
	if len(p.passed)-1 == p.at {
		return p.fault
	}
	return pass
}

// arm has the nth frame from now on, from 0, meet a fault.
func (p *proxy) arm(n int, f fault) (held <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed, p.at, p.fault = nil, n, f
	p.held, p.free = make(chan struct{}), make(chan struct{})
	return p.held
}

// disarm ends the fault, lets go what it holds, and returns the kinds of the frames
// that passed since arm.
func (p *proxy) disarm() []wire.FrameKind {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = -1
	if p.free != nil {
		close(p.free)
		p.free = nil
	}
	return p.passed
}

// cut breaks all connections: what waits on them ends.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.disarm()
	p.cut()
	p.pairs.Wait()
}

func (p *proxy) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", p.listener.Addr().String())
}

// hold says that a frame is held and returns what lets it go.
func (p *proxy) hold() (free <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.held)
	if p.free == nil { // disarmed meanwhile
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return p.free
}

var errBreak = errors.New("the proxy breaks the connection")

func send(out net.Conn, b []byte) error {
	_, err := out.Write(b)
	return err
}

func pass(_ *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
	return send(out, f.Append(nil))
}

func drop(*proxy, wire.Frame, *bufio.Reader, net.Conn) error { return errBreak }

func truncate(_ *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
	b := f.Append(nil)
	if err := send(out, b[:len(b)/2]); err != nil {
		return err
	}
	return errBreak
}

func repeat(_ *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
	return send(out, f.Append(f.Append(nil)))
}

// swap sends the frame behind the one that follows it.
func swap(p *proxy, f wire.Frame, in *bufio.Reader, out net.Conn) error {
	p.hold()
	following, err := wire.ReadFrame(in)
	if err != nil {
		return err
	}
	return send(out, f.Append(following.Append(nil)))
}

// late holds the frame, and everything behind it, until the proxy is disarmed.
func late(p *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
	<-p.hold()
	return send(out, f.Append(nil))
}

// flip changes one bit of the frame's encoding at a place that where chooses.
func flip(where func(length int) int) fault {
	return func(_ *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
		b := f.Append(nil)
		b[where(len(b))] ^= 1
		return send(out, b)
	}
}
