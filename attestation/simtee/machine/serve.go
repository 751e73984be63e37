package machine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/wire"
)

const (
	exchange = 10 * time.Second // for one connection
	parallel = 16               // connections at a time
)

// Serve answers each connection with a report of a platform about the process at its
// other end: it measures that process's binary itself. hostData is the same for all, as
// on a host that launches one configuration. It closes l, and returns nil when ctx
// ends, after the answers under way. [ErrPlatform]: it does not simulate that platform.
//
// A process that connects and then executes another binary is measured as the latter;
// one that ends before it is measured gets no report. Linux only.
func (m *Machine) Serve(ctx context.Context, l *net.UnixListener, p attestation.Platform, hostData [32]byte, log *slog.Logger) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	if !slices.Contains(Platforms(), p) {
		return ErrPlatform
	}
	var under sync.WaitGroup
	defer under.Wait()
	slots := make(chan struct{}, parallel)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		slots <- struct{}{}
		under.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(exchange))
			defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })() // who has not asked yet goes without
			if err := m.answer(conn, p, hostData); err != nil {
				log.Warn("no report", "error", err)
			}
		})
	}
}

var errMeasure = errors.New("cannot measure the binary that asks")

// answer serves one connection: 64 bytes of REPORT_DATA in, a [simtee.Answer] out.
func (m *Machine) answer(conn *net.UnixConn, p attestation.Platform, hostData [32]byte) error {
	var reportData [64]byte
	if _, err := io.ReadFull(conn, reportData[:]); err != nil {
		return err
	}
	a := &simtee.Answer{Refusal: errMeasure.Error()}
	measurement, err := m.peer(conn)
	if err == nil {
		if a, err = m.Evidence(p, measurement, hostData, reportData, time.Now()); err != nil {
			a = &simtee.Answer{Refusal: "cannot sign"}
		}
	}
	_, werr := conn.Write(wire.Marshal(a))
	return errors.Join(err, werr)
}
