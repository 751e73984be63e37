// Package postgres is the store in PostgreSQL, or in what speaks its protocol:
// CockroachDB, YugabyteDB, Citus. Any number of hosts may use one database.
//
// The database is the source of truth; the package owns a pool of connections and
// remembers nothing but the ledger ID. A commit is one transaction that its first
// statement decides: it inserts the entry if the entry's predecessor is the newest, and
// fails otherwise. An entry's place is unique and entries are never deleted, so that
// holds at READ COMMITTED and every stricter level, with no lock that spans accounts.
// The SQL keeps to what all of these databases take: every key begins with the account,
// and there are no advisory locks, no LISTEN, no sequences, no triggers.
//
// A change that another host makes is seen at the next read, because nothing is cached.
// What must be told is polled, by [Store.Feed].
package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Store is a [store.Store] in a database.
type Store struct {
	pool   *pgxpool.Pool
	begin  string // begins a commit's transaction
	closed atomic.Bool
	ledger atomic.Pointer[[]byte] // the ledger ID, once it is known to stand durably
	failed atomic.Pointer[error]  // why the last write failed, if the database was to blame
}

var _ store.Store = (*Store)(nil)

// Limits of a connection that the URL may set otherwise. A database that hangs, or a
// host that does, holds nothing up for longer.
var defaults = map[string]string{
	"application_name":                    "passclave-host",
	"statement_timeout":                   "10s",
	"idle_in_transaction_session_timeout": "10s",
}

const (
	connections    = 32 // commits in flight share the flush of the log: fewer share less, more cost more
	connectTime    = 5 * time.Second
	operationTime  = 30 * time.Second // of one call, with all attempts
	attempts       = 10
	firstWait      = time.Millisecond
	longestBackoff = 200 * time.Millisecond
)

// ErrURL means that a URL is none. It is not shown, because it may hold a password.
var ErrURL = errors.New("store: that is no URL of a database: postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE (it is not shown here, for the password in it)")

// IsURL reports whether a store's name means a database and not a folder.
func IsURL(name string) bool {
	return strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://")
}

// NotDurableError refuses a database that acknowledges what a crash may lose.
type NotDurableError struct{ Setting string }

func (e *NotDurableError) Error() string {
	return fmt.Sprintf("store: the database runs with %s = off, and would lose what it acknowledged", e.Setting)
}

// configuration reads a URL. The usual PG… variables fill in what it leaves out.
func configuration(database string) (*pgxpool.Config, error) {
	u, err := url.Parse(database)
	if err != nil || !IsURL(database) {
		return nil, ErrURL
	}
	c, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, ErrURL
	}
	given := u.Query()
	if !given.Has("pool_max_conns") {
		c.MaxConns = connections
	}
	if !given.Has("connect_timeout") {
		c.ConnConfig.ConnectTimeout = connectTime
	}
	c.PingTimeout = connectTime
	for name, value := range defaults {
		if _, ok := c.ConnConfig.RuntimeParams[name]; !ok {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	c.AfterConnect = durable
	return c, nil
}

// durable refuses a connection on which commits would not be. Databases without these
// settings have no such choice.
func durable(ctx context.Context, c *pgx.Conn) error {
	var fsync, synchronous string
	err := c.QueryRow(ctx, "SELECT coalesce(current_setting('fsync', true), ''), coalesce(current_setting('synchronous_commit', true), '')").Scan(&fsync, &synchronous)
	switch {
	case err != nil:
		return err
	case fsync == "off":
		return &NotDurableError{"fsync"}
	case synchronous == "off":
		return &NotDurableError{"synchronous_commit"}
	}
	return nil
}

// Open opens a database by its URL and brings its schema to this release's version.
//
// Errors: [ErrURL]; [NotDurableError]; [store.VersionError]; else CodeUnavailable.
func Open(ctx context.Context, database string) (*Store, error) {
	c, err := configuration(database)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, refusal(err)
	}
	s := &Store{pool: pool, begin: "BEGIN ISOLATION LEVEL READ COMMITTED"}
	if err := s.do(ctx, migrate); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// Close waits for calls under way. It is called once; other calls end with [store.ErrClosed].
func (s *Store) Close() error {
	s.closed.Store(true)
	s.pool.Close()
	return nil
}

var errClosed = wire.NewError(wire.CodeUnavailable, store.ErrClosed)

// errAgain means that a commit neither stands nor lost: another one was in its way, and
// was rolled back.
var errAgain = errors.New("another commit came between")

// do runs f with a connection, and again, a little later each time, while the database
// says that it may be tried again. f leaves no transaction open unless it fails.
func (s *Store) do(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, operationTime)
	defer cancel()
	for n, wait := 1, firstWait; ; n, wait = n+1, min(2*wait, longestBackoff) {
		err := s.once(ctx, f)
		if err == nil || n == attempts || !again(err) {
			return s.refusal(err)
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)): // apart from others in the same race
		case <-ctx.Done():
			return s.refusal(err)
		}
	}
}

func (s *Store) once(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	if s.closed.Load() {
		return errClosed
	}
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release() // closes it if a transaction is open
	return f(ctx, c.Conn())
}

// refusal is [refusal], and has the pool look for the primary where it moved.
func (s *Store) refusal(err error) error {
	err = refusal(err)
	if errors.Is(err, store.ErrReadOnly) || errors.Is(err, store.ErrRestarting) {
		s.pool.Reset()
	}
	if err != nil && s.closed.Load() && wire.CodeOf(err) == wire.CodeUnavailable {
		return errClosed
	}
	return err
}
