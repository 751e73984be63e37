package endorser

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// Identity is who an endorser is, as it says itself.
type Identity struct {
	Key      []byte `cbor:"1,keyasint"`
	Evidence []byte `cbor:"2,keyasint"` // encoded bundle of purpose "endorser" for Key
	Status   Status `cbor:"3,keyasint"`
}

// From asks for tails from an index on.
type From struct {
	Index uint64 `cbor:"1,keyasint"`
}

// Page is some tails of one member, in order.
type Page struct {
	Tails []endorsement.Tail `cbor:"1,keyasint"`
}

// Adoption is a page of tails on its way to a successor.
type Adoption struct {
	Word  endorsement.Finalised `cbor:"1,keyasint"` // whose they are
	Index uint64                `cbor:"2,keyasint"` // of the first
	Tails []endorsement.Tail    `cbor:"3,keyasint"`
}

// Activation ends a view change for one member of the new view.
type Activation struct {
	Succession endorsement.Succession  `cbor:"1,keyasint"`
	Before     []byte                  `cbor:"2,keyasint"` // encoded View
	Words      []endorsement.Finalised `cbor:"3,keyasint"`
}

// Server answers frames for an endorser.
type Server struct {
	Endorser *Endorser
	// Evidence of purpose "endorser", encoded: made once, since a view names it by its hash.
	Evidence []byte
}

// What peers can make an endorser hold: whoever reaches its address may send, and an
// endorser that runs out of memory or files has forgotten what it endorsed.
const (
	maxConnections = 64
	maxCalls       = 16        // of one connection under way
	largeFrame     = 256 << 10 // a full ask is smaller
	maxLarge       = 8         // frames above that under way, of all connections
	largeTime      = 30 * time.Second
	acceptAgain    = 50 * time.Millisecond
)

// Serve accepts connections until ctx ends. What fails beside that, such as a lack of
// files, passes: no peer can end an endorser, whose memory would be gone.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	places := make(chan struct{}, maxConnections)
	large := make(chan struct{}, maxLarge)
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		connections.Go(func() {
			defer func() { <-places }()
			s.connection(ctx, conn, large)
		})
	}
}

// connection answers one peer's frames until it goes or breaks the protocol.
func (s *Server) connection(ctx context.Context, conn net.Conn, large chan struct{}) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	var out sync.Mutex
	slots := make(chan struct{}, maxCalls)
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		slots <- struct{}{}
		f, release, err := read(ctx, conn, in, large)
		if err != nil {
			release()
			return
		}
		calls.Go(func() {
			defer func() { <-slots }()
			answer := wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: wire.Marshal(s.handle(f))}.Append(nil)
			release()
			out.Lock()
			defer out.Unlock()
			conn.SetWriteDeadline(time.Now().Add(writeTime)) // a connection that has none fails at once
			if _, err := conn.Write(answer); err != nil {
				conn.Close()
			}
		})
	}
}

// read takes the next frame. A large one waits for its place, and must then come in
// time; release gives the place back.
func read(ctx context.Context, conn net.Conn, in *bufio.Reader, large chan struct{}) (f wire.Frame, release func(), err error) {
	release = func() {}
	size, err := in.Peek(4)
	if err != nil {
		return f, release, err
	}
	if binary.BigEndian.Uint32(size) > largeFrame {
		select {
		case large <- struct{}{}:
			release = func() { <-large }
		case <-ctx.Done():
			return f, release, ctx.Err()
		}
		conn.SetReadDeadline(time.Now().Add(largeTime))
		defer conn.SetReadDeadline(time.Time{})
	}
	f, err = wire.ReadFrame(in)
	return f, release, err
}

func (s *Server) handle(f wire.Frame) wire.Result {
	value, err := s.answer(f)
	if err != nil {
		return wire.Result{Error: &wire.Error{Code: wire.CodeOf(err)}}
	}
	return wire.Result{Value: value}
}

func (s *Server) answer(f wire.Frame) ([]byte, error) {
	e := s.Endorser
	switch f.Kind {
	case wire.FrameIdentify:
		return wire.Marshal(Identity{e.Key(), s.Evidence, e.Status()}), nil
	case wire.FrameAsk:
		return encoded(e.Ask(f.Body))
	case wire.FrameIntroduce:
		return nil, e.Introduce(f.Body)
	case wire.FrameFound:
		return nil, with(f.Body, e.Found)
	case wire.FrameFinalise:
		var q endorsement.Succession
		if err := wire.Unmarshal(f.Body, &q); err != nil {
			return nil, err
		}
		return encoded(e.Finalise(&q))
	case wire.FrameTails:
		var q From
		if err := wire.Unmarshal(f.Body, &q); err != nil {
			return nil, err
		}
		tails, err := e.Tails(q.Index)
		return encoded(&Page{tails}, err)
	case wire.FrameAdopt:
		return nil, with(f.Body, func(q *Adoption) error { return e.Adopt(&q.Word, q.Index, q.Tails) })
	case wire.FrameActivate:
		return nil, with(f.Body, func(q *Activation) error { return e.Activate(&q.Succession, q.Before, q.Words) })
	}
	return nil, wire.Errorf(wire.CodeMalformed, "frame kind %d", f.Kind)
}

func encoded[T any](v *T, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return wire.Marshal(v), nil
}

func with[Q any](body []byte, f func(*Q) error) error {
	var q Q
	if err := wire.Unmarshal(body, &q); err != nil {
		return err
	}
	return f(&q)
}
