package stack_test

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/development/postgres"
	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/development/stack"
)

// A PostgreSQL that ended by itself is said to have, and started again with what it had.
func TestDatabaseEndsByItself(t *testing.T) {
	t.Parallel()
	folder, err := postgrestest.Folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	lines, log := io.Pipe()
	said := make(chan string, 1000)
	go func() {
		for b := bufio.NewScanner(lines); b.Scan(); {
			said <- b.Text()
		}
	}()
	wait := func(text string) {
		t.Helper()
		for {
			select {
			case line := <-said:
				if strings.Contains(line, text) {
					return
				}
			case <-t.Context().Done():
				t.Fatalf("never said: %s", text)
			}
		}
	}
	s := stack.ForDatabase(folder, log)
	_, err = postgres.Find()
	postgrestest.Needed(t, err)
	if err := s.StartDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.StopDatabase()
	url, err := stack.StoreOf(folder)
	if err != nil {
		t.Fatal(err)
	}
	postgrestest.Exec(t, url, "CREATE TABLE kept (v text)")
	pid, _, _ := strings.Cut(string(read(t, s.DatabaseFolder(), "data", "postmaster.pid")), "\n")
	process, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(process, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait("ENDED BY ITSELF (signal: killed)")
	wait("runs again")
	postgrestest.Exec(t, url, "INSERT INTO kept VALUES ('1')")
	if err := s.StopDatabase(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.DatabaseFolder(), "data", "postmaster.pid")); err == nil {
		t.Error("it runs although it was stopped")
	}
}
