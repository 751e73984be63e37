package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/development/postgres"
	"github.com/passclave/passclave/development/postgres/postgrestest"
)

// childFolder makes the test binary a process that starts a server, says so and waits to be killed.
const childFolder = "PASSCLAVE_TEST_POSTGRES"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		_, err := postgres.Start(context.Background(), postgres.Options{Dir: folder, Throwaway: true})
		fmt.Println("started", err)
		io.Copy(io.Discard, os.Stdin) // until it is killed, or the test is
		return
	}
	os.Exit(postgrestest.Main(m))
}

func folder(t *testing.T) string {
	t.Helper()
	f, err := postgrestest.Folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(f) })
	return f
}

func ask(t *testing.T, s *postgres.Server, statement string) (out string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if err := c.QueryRow(t.Context(), statement).Scan(&out); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return out
}

// What was committed is there after a crash, and after a clean stop; it is not reachable
// over the network, and runs as nobody that may do anything else.
func TestServer(t *testing.T) {
	t.Parallel()
	f := folder(t)
	s := postgrestest.Start(t, f, nil)
	if got := ask(t, s, "SELECT current_setting('listen_addresses') || '|' || current_setting('fsync') || '|' || current_setting('synchronous_commit')"); got != "|on|on" {
		t.Errorf("listens on, fsync, synchronous_commit: %s", got)
	}
	if info, err := os.Stat(filepath.Dir(s.Socket())); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder: %v, %v", info, err)
	}
	postgrestest.Exec(t, s.URL(""), "CREATE TABLE x (v text); INSERT INTO x VALUES ('kept')")
	s.Kill()
	if c, err := net.Dial("unix", s.Socket()); err == nil {
		c.Close()
		t.Fatal("it still takes connections")
	}
	s = postgrestest.Start(t, f, nil)
	if got := ask(t, s, "SELECT v FROM x"); got != "kept" {
		t.Fatalf("after a crash: %q", got)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = postgrestest.Start(t, f, nil)
	if got := ask(t, s, "SELECT v FROM x"); got != "kept" {
		t.Fatalf("after a stop: %q", got)
	}
	if _, err := postgres.Start(t.Context(), postgres.Options{Dir: filepath.Dir(s.Socket())}); err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Fatalf("a second server on one folder: %v", err)
	}
}

// A process that dies takes its server with it.
func TestDiesWithItsParent(t *testing.T) {
	t.Parallel()
	_, err := postgres.Find()
	postgrestest.Needed(t, err)
	dir := filepath.Join(folder(t), "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c, err := pgx.Connect(t.Context(), "postgres://passclave@/postgres?sslmode=disable&host="+dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	cmd.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.WaitForNotification(ctx); err == nil || ctx.Err() != nil { // until the server closes the connection
		t.Fatalf("the server outlives its parent: %v", err)
	}
}

// A folder that cannot be used is said to be so, and nothing is made elsewhere.
func TestRefusedFolder(t *testing.T) {
	t.Parallel()
	_, err := postgres.Find()
	postgrestest.Needed(t, err)
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if _, err := postgres.Start(t.Context(), postgres.Options{Dir: long}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a path too long for a socket: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	closed := folder(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Start(t.Context(), postgres.Options{Dir: filepath.Join(closed, "s")}); err == nil || !strings.Contains(err.Error(), "cannot pass "+closed) {
		t.Errorf("a folder that the server's user cannot reach: %v", err)
	}
}
