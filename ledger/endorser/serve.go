package endorser

import (
	"bufio"
	"context"
	"net"
	"sync"

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

// maxCalls bounds the calls of one connection that are under way.
const maxCalls = 64

// Serve accepts connections until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		connections.Go(func() { s.connection(ctx, conn) })
	}
}

// connection answers one peer's frames until it goes or breaks the protocol.
func (s *Server) connection(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	var out sync.Mutex
	slots := make(chan struct{}, maxCalls)
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		f, err := wire.ReadFrame(in)
		if err != nil {
			return
		}
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			answer := wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: wire.Marshal(s.handle(f))}.Append(nil)
			out.Lock()
			defer out.Unlock()
			if _, err := conn.Write(answer); err != nil {
				conn.Close()
			}
		})
	}
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
