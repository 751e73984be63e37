// Package postgres runs a PostgreSQL of its own for development and tests: on a unix
// socket that only this user (and root) can reach, without a password, from the
// binaries that it finds on the machine.
//
// The package owns the folder that it is given: the cluster in it, and the socket. One
// process at a time uses a folder; PostgreSQL itself refuses a second. The server ends
// with [Server.Stop], and on Linux also when this process dies. It is no way to run a
// production database.
package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ErrNotFound means that there is no PostgreSQL on this machine.
var ErrNotFound = errors.New("PostgreSQL is not on this machine: install it (Debian: apt install postgresql), or put initdb and postgres on PATH")

// Find returns the folder of initdb and postgres: that on PATH, else the one that
// pg_config names, else Debian's newest. [ErrNotFound]: none of them has both.
func Find() (string, error) {
	var folders []string
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil { // initdb looks for postgres beside itself
			folders = append(folders, filepath.Dir(p))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	debian, newest := "", 0
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	for _, f := range packaged {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && n > newest && whole(f) {
			debian, newest = f, n
		}
	}
	for _, f := range append(folders, debian) {
		if f != "" && whole(f) {
			return f, nil
		}
	}
	return "", ErrNotFound
}

func whole(folder string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// Options say how to start a [Server]. Dir is required.
type Options struct {
	// Dir holds cluster and socket; it is made where it is not there. As root it is
	// given to the user postgres, or nobody, as whom the server then runs; all folders
	// above it must let that user pass.
	Dir string
	Log io.Writer // the server's log; nil discards it
	// Settings of the configuration, which win over this package's.
	Settings map[string]string
	// Throwaway leaves out what makes a new cluster outlive a power cut. Commits are
	// durable all the same.
	Throwaway bool
}

// Server is a running PostgreSQL.
type Server struct {
	dir     string
	process *os.Process
	ended   chan struct{} // closed when the process has ended

	mu      sync.Mutex
	last    string // last line of the log
	stopped error  // how the process ended; set before ended is closed
}

// maxSocket is the longest path of a socket that every Unix takes.
const maxSocket = 103

const socketName = ".s.PGSQL.5432"

// Start makes the cluster, if there is none yet, starts the server and returns when it
// takes connections. ctx ends the start, not the server. [ErrNotFound]: no PostgreSQL.
func Start(ctx context.Context, o Options) (*Server, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if n := len(filepath.Join(dir, socketName)); n > maxSocket {
		return nil, fmt.Errorf("%s: too long by %d characters for a socket in it", dir, n-maxSocket)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	as, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	if err := initialise(ctx, bin, dir, as, o.Throwaway); err != nil {
		return nil, err
	}
	return start(ctx, bin, dir, as, o)
}

// unprivileged returns as whom to run, because PostgreSQL refuses root, and gives that
// user the folder; nil: as ourselves.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	for above := filepath.Dir(dir); above != "/"; above = filepath.Dir(above) {
		if info, err := os.Stat(above); err != nil {
			return nil, err
		} else if info.Mode().Perm()&0o001 == 0 {
			return nil, fmt.Errorf("root cannot run PostgreSQL, and user %s cannot pass %s: chmod o+x it, use another folder, or start as another user", u.Username, above)
		}
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

// Database and role that every cluster has.
const (
	role       = "passclave"
	defaultDB  = "postgres"
	dataFolder = "data"
)

// initialise makes the cluster. One that was begun and not finished is begun anew.
func initialise(ctx context.Context, bin, dir string, as *syscall.Credential, throwaway bool) error {
	data := filepath.Join(dir, dataFolder)
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begun := data + ".new"
	if err := os.RemoveAll(begun); err != nil {
		return err
	}
	args := []string{"--pgdata=" + begun, "--username=" + role, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"}
	if throwaway {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir, cmd.Env = dir, environment()
	cmd.SysProcAttr = attributes(as)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(begun, data)
}

// environment is all that PostgreSQL gets of ours: PG… variables would change what it does.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}

func start(ctx context.Context, bin, dir string, as *syscall.Credential, o Options) (*Server, error) {
	settings := map[string]string{
		"listen_addresses": "", "unix_socket_directories": dir, "unix_socket_permissions": "0700",
		"logging_collector": "off", "log_destination": "stderr", "log_min_messages": "log", // it says there when it is ready
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	args := []string{"-D", filepath.Join(dir, dataFolder)}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), args...)
	cmd.Dir, cmd.Env = dir, environment()
	cmd.SysProcAttr = attributes(as)
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, ended: make(chan struct{})}
	ready := make(chan struct{})
	if err := s.run(cmd, log, o.Log, ready); err != nil {
		return nil, err
	}
	select {
	case <-ready:
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("PostgreSQL ended before it was ready: %s", s.last)
	case <-ctx.Done():
		s.Stop()
		return nil, ctx.Err()
	}
}

// run starts cmd and sees it through. ready is closed when the log says so.
func (s *Server) run(cmd *exec.Cmd, log io.Reader, to io.Writer, ready chan struct{}) error {
	started := make(chan error)
	go func() {
		// The kernel ties a child's death signal to the thread that made it.
		done := stayOnThread()
		defer done()
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewScanner(log)
		for once := false; lines.Scan(); {
			s.mu.Lock()
			s.last = lines.Text()
			s.mu.Unlock()
			if to != nil {
				fmt.Fprintln(to, lines.Text())
			}
			if !once && strings.Contains(lines.Text(), "database system is ready to accept connections") {
				once = true
				close(ready)
			}
		}
		io.Copy(io.Discard, log) // a line past the scanner's bound ends the scan, not the server
		s.stopped = cmd.Wait()
		close(s.ended)
	}()
	return <-started
}

// URL returns where a database of the server is; empty: one that every server has.
func (s *Server) URL(database string) string { return URL(s.dir, database) }

// URL is [Server.URL] for whoever knows the server's folder, an absolute path.
func URL(dir, database string) string {
	if database == "" {
		database = defaultDB
	}
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: url.Values{"host": {dir}, "sslmode": {"disable"}}.Encode()}
	return u.String()
}

// Socket returns the path of the server's socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, socketName) }

// Ended is closed when the server has ended, by [Server.Stop] or by itself.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Stop ends the server cleanly, its clients' transactions rolled back, and returns how it
// ended. It may be called again, and for one that ended by itself.
func (s *Server) Stop() error {
	s.process.Signal(syscall.SIGINT) // it may have ended just now
	<-s.ended
	return s.stopped
}

// Kill ends all processes of the server at once, as a crash would, and returns when
// they are gone. [Start] on the same folder recovers it.
func (s *Server) Kill() {
	children := childrenOf(s.process.Pid)
	s.process.Kill()
	for _, pid := range children {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.ended // all have closed the log
}
