// Package postgrestest gives tests a real PostgreSQL: one server a test binary, started
// at its first use, and one database a test. [Main] stops it.
//
// Where PostgreSQL is not on the machine, tests that need it are skipped; in CI they fail.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/development/postgres"
)

var shared struct {
	once   sync.Once
	folder string
	server *postgres.Server
	err    error
	count  atomic.Int64 // of databases
}

// Main runs the tests, ends the server and removes it. TestMain calls it.
func Main(m *testing.M) (code int) {
	code = m.Run()
	if shared.server != nil {
		shared.server.Stop()
	}
	if shared.folder != "" {
		os.RemoveAll(shared.folder)
	}
	return code
}

// Settings are those of a server for tests: small, and durable as any.
func Settings() map[string]string {
	return map[string]string{"shared_buffers": "32MB", "max_connections": "300", "autovacuum": "off", "max_wal_size": "256MB"}
}

// Folder makes a folder in which any user's PostgreSQL can run, and short enough for a
// socket; its caller removes it.
func Folder() (string, error) { return folder("") }

func folder(in string) (string, error) {
	outer, err := os.MkdirTemp(in, "pg")
	if err != nil {
		return "", err
	}
	return outer, os.Chmod(outer, 0o711)
}

// Start starts a server of the test's own in a folder from [Folder], which the test may
// kill and start again; it is stopped when the test ends.
func Start(t testing.TB, folder string, settings map[string]string) *postgres.Server {
	t.Helper()
	all := Settings()
	for name, value := range settings {
		all[name] = value
	}
	s, err := start(folder, all)
	Needed(t, err)
	t.Cleanup(func() { s.Stop() })
	return s
}

// startTime is more than a start takes on a busy machine.
const startTime = 2 * time.Minute

func start(folder string, settings map[string]string) (*postgres.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	return postgres.Start(ctx, postgres.Options{Dir: filepath.Join(folder, "s"), Settings: settings, Throwaway: true})
}

// Needed ends the test if err says that there is no server: skipped where there is no PostgreSQL, and this is not CI.
func Needed(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, postgres.ErrNotFound) && os.Getenv("CI") == "":
		t.Skipf("NOT TESTED: %v", err)
	case err != nil:
		t.Fatal(err)
	}
}

// Database makes an empty database and returns its URL.
func Database(t testing.TB) string { return Copy(t, "template0") }

// Copy makes a database that begins as another one, to which nobody may be connected.
// template is the name of a database, or a URL from this package.
func Copy(t testing.TB, template string) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.folder, shared.err = folder(memory()); shared.err != nil {
			return
		}
		shared.server, shared.err = start(shared.folder, Settings())
	})
	Needed(t, shared.err)
	if c, err := pgx.ParseConfig(template); strings.Contains(template, "://") && err == nil {
		template = c.Database
	}
	name := fmt.Sprint("test", shared.count.Add(1))
	Exec(t, shared.server.URL(""), "CREATE DATABASE "+name+" TEMPLATE "+template)
	return shared.server.URL(name)
}

// Exec runs statements in a database, with a connection of their own.
func Exec(t testing.TB, database, statements string) {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.PgConn().Exec(ctx, statements).ReadAll(); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}
