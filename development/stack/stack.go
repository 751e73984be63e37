// Package stack runs a whole Passclave in simulation on one machine: simulated TEE,
// key broker, development issuer, demo relying party, enclave and host, each a
// process of its own. `passclave up`, `passclave demo`, the benchmark and the
// end-to-end tests start it.
//
// The package owns a state folder. At its first start it founds the service there:
// ports, a development CA, the measured configuration, the simulation root, the KEK,
// a trust policy for clients and a release policy for the broker. Every later start
// goes on with exactly these, also after a rebuild, and refuses a folder in which
// one of them is gone ([RefusedError]). One process at a time uses a folder ([ErrInUse]).
//
// It trusts whoever may write the folder: a simulation protects from nobody with
// root, and from nobody with this user's files.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/attestation"
)

// Part is one of the processes.
type Part string

const (
	SimTEE  Part = "simtee"  // the simulated TEE: signs evidence
	Broker  Part = "broker"  // releases the KEK to attested enclaves
	Issuer  Part = "issuer"  // OpenID Connect provider for development
	RP      Part = "rp"      // demo relying party
	Enclave Part = "enclave" // the measured workload
	Host    Part = "host"    // the untrusted proxy, with the database
)

// Parts are all parts in the order in which they start; they stop in the reverse order.
// With an endorsed ledger [EndorserTEE] and [EndorserParts] start before them.
var Parts = []Part{SimTEE, Broker, Issuer, RP, Enclave, Host}

// ErrInUse is returned by [Start] for a folder that another process runs on.
var ErrInUse = errors.New("the state folder is in use by another process")

// RefusedError is returned by [Start] for a folder that cannot go on as it is.
type RefusedError struct {
	Reason string // what is wrong
	Remedy string // what a person can do
}

func (e *RefusedError) Error() string { return e.Reason + ". " + e.Remedy }

// PartError is returned by [Start] where a part ended before it was ready.
type PartError struct {
	Part Part
	Last string // its last log line, as people read it
}

func (e *PartError) Error() string {
	return fmt.Sprintf("%s ended before it was ready: %s", e.Part, e.Last)
}

// Options say how to start a [Stack]. Dir and Bin are required.
type Options struct {
	Dir      string    // state folder; made where it is not there
	Bin      string    // folder of the binaries
	Listen   string    // the host's address; empty: the one of the last start
	Founding Founding  // what the first start writes; later starts ignore it
	Log      io.Writer // all parts' logs, one prefix each; nil discards them
	Color    bool      // colour the prefixes

	// NextGenesis founds the next genesis of an endorsed ledger, all of whose endorsers were
	// stopped: every account is discontinued until its devices confirm it. Without it such a
	// folder is refused.
	NextGenesis bool

	// HostDials is where the host finds the enclave, relative to Dir; empty: at the
	// enclave's own socket. A demo puts its evil host in between.
	HostDials string
}

// Stack is a running service.
type Stack struct {
	Dir        string // absolute
	URL        string // the host's API
	IssuerURL  string
	BrokerURL  string
	RPURL      string               // http://localhost:PORT: also the relying party's origin
	PolicyFile string               // absolute path of the trust policy for clients
	Platform   attestation.Platform // what is simulated
	Keys       string               // where the KEK is: KeysFile or KeysSoftHSM
	Founded    bool                 // this start founded the service
	Genesis    uint64               // number of the next genesis that this start founded; 0: none

	options Options
	facts   *facts
	log     *logger
	spawner *spawner
	lock    *os.File

	token    *token    // nil: the KEK is in a file
	database *database // nil: the host's own SQLite

	mu       sync.Mutex
	binaries map[Part]string // guarded by mu; see [Stack.SetBinary]
	running  []*process      // in the order of Parts
}

// Start starts all parts, each when the one before it is ready, and returns when all
// are. It does not wait for the enclave to get the KEK: see [Stack.Ready]. ctx ends
// the start, not the stack: the caller calls [Stack.Stop].
//
// Errors: [ErrInUse], [RefusedError], [PartError]; nothing is left running.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{options: o, binaries: map[Part]string{}}
	var err error
	if s.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if s.options.Bin, err = filepath.Abs(o.Bin); err != nil {
		return nil, err
	}
	if err := s.openFolder(); err != nil {
		return nil, err
	}
	s.log = newLogger(o.Log, o.Color)
	s.spawner = newSpawner()
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	if err := s.load(); err != nil {
		return err
	}
	if err := s.checkGenesis(); err != nil {
		return err
	}
	if s.facts == nil {
		if err := s.foundBefore(ctx); err != nil {
			return err
		}
	}
	if s.options.Listen != "" {
		s.facts.Host = s.options.Listen
	}
	if err := s.renewCertificate(time.Now()); err != nil {
		return err
	}
	if err := s.foundOperators(); err != nil {
		return err
	}
	if s.facts.endorsed() {
		if err := s.startEndorsers(ctx); err != nil {
			return err
		}
	}
	for _, p := range Parts {
		if p == Broker && s.Founded {
			if err := s.foundWithRoot(); err != nil {
				return err
			}
		}
		if err := s.launch(ctx, p); err != nil {
			return err
		}
		if p == Broker {
			if err := s.recordKeys(ctx); err != nil {
				return err
			}
		}
	}
	s.URL = "http://" + dialable(s.facts.Host)
	s.IssuerURL = "https://" + s.facts.Issuer
	s.BrokerURL = "https://" + s.facts.Broker
	s.RPURL = "http://localhost:" + port(s.facts.RP)
	s.PolicyFile = s.path(policyFile)
	s.Platform = s.facts.platform()
	s.Keys = s.facts.keyStore()
	return nil
}

// dialable returns an address listened on as one to dial: a loopback one for all interfaces.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip, bad := netip.ParseAddr(host); err == nil && (host == "" || bad == nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// openFolder makes the folder and locks it.
func (s *Stack) openFolder() error {
	if err := os.MkdirAll(filepath.Join(s.Dir, runFolder), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w", s.Dir, ErrInUse)
		}
		return err
	}
	s.lock = f
	return nil
}

func (s *Stack) launch(ctx context.Context, part Part) error {
	p := newProcess(part, s.spawner, s.log, func() command { return s.command(part) })
	s.running = append(s.running, p)
	return p.waitFirst(ctx)
}

// StopParts ends parts until [Stack.StartParts] starts them again.
func (s *Stack) StopParts(parts ...Part) error {
	for _, part := range parts {
		p, err := s.process(part)
		if err != nil {
			return err
		}
		p.stop()
		s.running = slices.DeleteFunc(s.running, func(x *process) bool { return x == p })
	}
	return nil
}

// StartParts starts parts that were stopped, each when the one before it is ready.
func (s *Stack) StartParts(ctx context.Context, parts ...Part) error {
	for _, part := range parts {
		if err := s.launch(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) process(part Part) (*process, error) {
	for _, p := range s.running {
		if p.part == part {
			return p, nil
		}
	}
	return nil, fmt.Errorf("stack: %q is not running", part)
}

// Kill ends a part as a crash would (SIGKILL) and waits until it was started again.
func (s *Stack) Kill(ctx context.Context, part Part) error { return s.again(ctx, part, unix.SIGKILL) }

// Restart ends a part cleanly and waits until it was started again.
func (s *Stack) Restart(ctx context.Context, part Part) error {
	return s.again(ctx, part, unix.SIGTERM)
}

func (s *Stack) again(ctx context.Context, part Part, signal unix.Signal) error {
	p, err := s.process(part)
	if err != nil {
		return err
	}
	return p.again(ctx, signal)
}

// SetBinary makes the next start of a part run another binary; empty: its own again.
func (s *Stack) SetBinary(part Part, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.binaries[part] = path
}

// PID returns the process ID of a part, for the accounting of its CPU time; 0 while
// it is not running.
func (s *Stack) PID(part Part) int {
	p, err := s.process(part)
	if err != nil {
		return 0
	}
	return p.pid()
}

// LastLine returns the newest line that a part logged, as people read it.
func (s *Stack) LastLine(part Part) string {
	p, err := s.process(part)
	if err != nil {
		return ""
	}
	return p.lastLine()
}

// NotReadyError says why the service does not answer requests yet, in the stable words
// of the host's /readyz; the parts' logs say more.
type NotReadyError struct{ Reason string }

func (e *NotReadyError) Error() string { return "not ready: " + e.Reason }

// Ready asks the host once whether the service answers requests. [NotReadyError]: not yet.
func (s *Stack) Ready(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if err != nil || answer.StatusCode == http.StatusOK {
		return err
	}
	return &NotReadyError{strings.TrimSpace(string(body))}
}

// WaitReady waits until the service answers requests, or until ctx ends: then it
// returns why it does not.
func (s *Stack) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var reason error
	for {
		err := s.Ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || reason == nil {
			reason = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), reason)
		case <-tick.C:
		}
	}
}

// Stop ends all parts, the last started first, and unlocks the folder. A part that
// does not end within five seconds is killed. Stop may be called twice.
func (s *Stack) Stop() {
	for n := len(s.running) - 1; n >= 0; n-- {
		s.running[n].stop()
	}
	s.running = nil
	if err := s.StopDatabase(); err != nil {
		s.log.say(databasePart, err.Error())
	}
	if s.spawner != nil {
		s.spawner.close()
		s.spawner = nil
	}
	if s.lock != nil {
		// Closing alone would leave the lock to a child that was forked, and not yet
		// executed, by another goroutine.
		unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		s.lock.Close()
		s.lock = nil
	}
}

func (s *Stack) path(name string) string { return filepath.Join(s.Dir, name) }
