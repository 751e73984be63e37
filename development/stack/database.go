package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/passclave/passclave/development/postgres"
)

// databaseFolder is PostgreSQL's, with an endorsed ledger.
const databaseFolder = "postgres"

// databasePart is the name that PostgreSQL's lines have in the log.
const databasePart Part = "postgres"

// StoreOf returns the host's database of a state folder: PostgreSQL's URL or SQLite's folder.
func StoreOf(state string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(state, databaseFolder))
	if err != nil {
		return "", err
	}
	if missing(dir) {
		return filepath.Join(state, string(Host)), nil
	}
	return postgres.URL(dir, ""), nil
}

// DatabaseFolder is the absolute path of PostgreSQL's folder.
func (s *Stack) DatabaseFolder() string { return s.path(databaseFolder) }

// StartDatabase starts PostgreSQL in the state folder and keeps it running, as parts are
// kept, until [Stack.StopDatabase]. Root's PostgreSQL runs as another user, who must be
// able to pass the folder; what lies in it stays closed to him.
func (s *Stack) StartDatabase(ctx context.Context) error {
	if os.Geteuid() == 0 {
		if err := os.Chmod(s.Dir, 0o711); err != nil {
			return err
		}
	}
	start := func(ctx context.Context) (*postgres.Server, error) {
		return postgres.Start(ctx, postgres.Options{Dir: s.path(databaseFolder), Log: s.log.writer(databasePart)})
	}
	server, err := start(ctx)
	if errors.Is(err, postgres.ErrNotFound) {
		return &RefusedError{"An endorsed ledger keeps its entries in PostgreSQL, and this machine has none",
			"Install it (Debian: apt-get install postgresql), or use the local ledger"}
	}
	if err != nil {
		return err
	}
	d := &database{start: start, log: s.log, done: make(chan struct{})}
	ctx, d.quit = context.WithCancel(context.WithoutCancel(ctx))
	go d.keep(ctx, server)
	s.database = d
	return nil
}

// StopDatabase stops PostgreSQL.
func (s *Stack) StopDatabase() error {
	if s.database == nil {
		return nil
	}
	s.database.quit()
	<-s.database.done
	err := s.database.stopped
	s.database = nil
	return err
}

// database keeps PostgreSQL running until it is stopped.
type database struct {
	start   func(context.Context) (*postgres.Server, error)
	log     *logger
	quit    func()
	done    chan struct{} // closed when it does not run any more
	stopped error         // how the last server stopped; set before done is closed
}

// keep starts PostgreSQL again whenever it ended by itself, until ctx ends.
func (d *database) keep(ctx context.Context, server *postgres.Server) {
	defer close(d.done)
	wait := firstWait
	for began := time.Now(); ; began = time.Now() {
		select {
		case <-ctx.Done():
			d.stopped = server.Stop()
			return
		case <-server.Ended():
		}
		if time.Since(began) > settled {
			wait = firstWait
		}
		d.log.say(databasePart, fmt.Sprintf("ENDED BY ITSELF (%v): the service stores and answers nothing until it runs again", server.Stop()))
		if server = d.again(ctx, &wait); server == nil {
			return
		}
		d.log.say(databasePart, "runs again, with all that was committed")
	}
}

// again starts PostgreSQL, however often that takes; nil: ctx ended.
func (d *database) again(ctx context.Context, wait *time.Duration) *postgres.Server {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(*wait):
		}
		*wait = min(2**wait, longestWait)
		server, err := d.start(ctx)
		if err == nil {
			return server
		}
		if ctx.Err() == nil {
			d.log.say(databasePart, fmt.Sprintf("does not start: %v; again in %s", err, *wait))
		}
	}
}
