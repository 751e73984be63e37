package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/wire"
)

// Several enclaves start at once against one broker, whose HSM is away and which crashes
// meanwhile; then again while it is stopped, as for an upgrade. All have the KEK in the end,
// and nobody lent them a hand. Who has it needs neither.
func TestEnclavesStartTogether(t *testing.T) {
	t.Parallel()
	s, signs := newSoftHSM(t)
	const several = 4

	tokens, away := filepath.Join(s.dir, "broker/tokens"), filepath.Join(s.dir, "run/away")
	if err := os.Rename(tokens, away); err != nil {
		t.Fatal(err)
	}
	first := s.others(several)
	for _, e := range first {
		e.sealed("HTTP 503")
	}
	restarted := s.kill(stack.Broker)
	s.logged(t, "ended (exit status 1); again in 400ms") // without its HSM it does not start
	for _, e := range first {
		e.sealed("unreachable")
	}
	signs()
	if err := os.Rename(away, tokens); err != nil {
		t.Fatal(err)
	}
	restarted()
	version := first[0].unsealed()
	for _, e := range first {
		if got := e.unsealed(); got != version {
			t.Errorf("version %s, and %s of another", got, version)
		}
		e.kill()
	}

	if err := s.stack.StopParts(stack.Broker); err != nil {
		t.Fatal(err)
	}
	signs()
	again := s.others(several)
	s.kill(stack.Enclave)()
	for _, e := range again {
		e.sealed("unreachable")
	}
	if err := s.stack.StartParts(t.Context(), stack.Broker); err != nil {
		t.Fatal(err)
	}
	for _, e := range again {
		if got := e.unsealed(); got != version {
			t.Errorf("version %s, and %s before", got, version)
		}
	}
	s.ready()
	signs()
}

// otherEnclave is one more enclave beside the stack's, of the same build, configuration and
// simulated TEE, with a host's link and database of its own.
type otherEnclave struct {
	t    testing.TB
	link *link.Link
	kill func() // as a crash does
}

// others starts enclaves at once.
func (s *service) others(n int) (out []*otherEnclave) {
	s.t.Helper()
	for range n {
		out = append(out, s.other())
	}
	return out
}

func (s *service) other() *otherEnclave {
	s.t.Helper()
	folder, err := os.MkdirTemp(filepath.Join(s.dir, "run"), "")
	if err != nil {
		s.t.Fatal(err)
	}
	database, err := sqlite.Open(filepath.Join(folder, "host"))
	if err != nil {
		s.t.Fatal(err)
	}
	socket := filepath.Join(folder, "enclave.sock")
	c := exec.Command(filepath.Join(bin(s.t), "passclave-enclave"), "-listen", "unix:"+socket, "-config", "configuration.json", "-simtee", "unix:run/simtee.sock")
	c.Dir, c.Stderr = s.dir, s.log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", socket) }
	e := &otherEnclave{t: s.t, link: link.New(dial, database, s.logger())}
	e.link.Notes = database
	ctx, cancel := context.WithCancel(context.Background())
	var host sync.WaitGroup
	host.Go(func() { e.link.Run(ctx) })
	e.kill = sync.OnceFunc(func() {
		cancel()
		host.Wait()
		c.Process.Kill()
		c.Wait() // says that it was killed
		if err := database.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(e.kill)
	return e
}

// sealed waits until the enclave has no KEK for a reason that holds some words.
func (e *otherEnclave) sealed(words string) {
	e.t.Helper()
	e.until("sealed for "+words, func(s wire.Status) bool { return !s.Ready && strings.Contains(s.Reason, words) })
}

// unsealed waits until the enclave has the KEK, and returns its version.
func (e *otherEnclave) unsealed() string {
	e.t.Helper()
	return e.until("unsealed", func(s wire.Status) bool { return s.Ready }).KEK
}

func (e *otherEnclave) until(what string, ok func(wire.Status) bool) wire.Status {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last := "never asked"
	for {
		status, err := e.link.Status(ctx)
		if err == nil && ok(status) {
			return status
		}
		if ctx.Err() == nil {
			last = fmt.Sprintf("%+v, %v", status, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.t.Fatalf("an enclave is not %s, but %s", what, last)
		}
	}
}
