package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/host/store"
)

// migrations bring a database from one version to the next; they are only ever added to.
//
// Every key begins with the account, so that a database that shards does it by account
// and a commit touches one shard. Versions of the KEK are bytes here: text would be
// ordered by the database's locale.
var migrations = []string{`
CREATE TABLE accounts (
	account    BYTEA NOT NULL PRIMARY KEY CHECK (length(account) = 32),
	stream     BYTEA NOT NULL CHECK (length(stream) = 32),
	seq        BIGINT NOT NULL, -- newest entry
	hash       BYTEA NOT NULL CHECK (length(hash) = 32), -- its hash
	generation BIGINT NOT NULL,
	epoch      BIGINT NOT NULL,
	entry      BYTEA NOT NULL,  -- the newest once more: a request reads it with its account
	head       BYTEA NOT NULL,  -- sealed
	manifest   BYTEA NOT NULL   -- sealed
);
CREATE TABLE entries (
	account BYTEA NOT NULL CHECK (length(account) = 32),
	seq     BIGINT NOT NULL,
	hash    BYTEA NOT NULL CHECK (length(hash) = 32),
	entry   BYTEA NOT NULL,
	PRIMARY KEY (account, seq)
);
CREATE TABLE wraps (
	account    BYTEA NOT NULL CHECK (length(account) = 32),
	generation BIGINT NOT NULL,
	epoch      BIGINT NOT NULL,
	kek        BYTEA NOT NULL,
	box        BYTEA NOT NULL,
	PRIMARY KEY (account, generation, epoch, kek)
);
CREATE TABLE records (
	account     BYTEA NOT NULL CHECK (length(account) = 32),
	handle      BYTEA NOT NULL CHECK (length(handle) = 16),
	changed_seq BIGINT NOT NULL,
	body        BYTEA NOT NULL,
	PRIMARY KEY (account, handle)
);
CREATE INDEX records_changed ON records (account, changed_seq, handle);
CREATE TABLE blobs (
	account BYTEA NOT NULL CHECK (length(account) = 32),
	hash    BYTEA NOT NULL CHECK (length(hash) = 32),
	body    BYTEA NOT NULL,
	PRIMARY KEY (account, hash)
);
CREATE TABLE feed_tokens (
	account BYTEA NOT NULL CHECK (length(account) = 32),
	hash    BYTEA NOT NULL CHECK (length(hash) = 32),
	PRIMARY KEY (account, hash)
);
CREATE TABLE meta (
	name  TEXT NOT NULL PRIMARY KEY,
	value BYTEA NOT NULL
);
`, `
CREATE TABLE staged (
	account BYTEA NOT NULL CHECK (length(account) = 32),
	hash    BYTEA NOT NULL CHECK (length(hash) = 32), -- of the entry
	seq     BIGINT NOT NULL,
	body    BYTEA NOT NULL, -- the commit, encoded
	PRIMARY KEY (account, hash)
);
`}

// versionTable has a row for each migration that was made.
const versionTable = "CREATE TABLE passclave_schema (version BIGINT NOT NULL PRIMARY KEY);"

// version returns the database's version, 0 for an empty one, or refuses a newer one.
func version(ctx context.Context, c *pgx.Conn) (n int, err error) {
	err = c.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM passclave_schema").Scan(&n)
	switch code, _ := sqlState(err); {
	case code == undefinedTable:
		return 0, nil
	case err == nil && n > len(migrations):
		err = &store.VersionError{Found: n, Known: len(migrations)}
	}
	return n, err
}

// migrate makes the migrations that a database lacks, each in a transaction. Of hosts
// that start together one makes each: the rest meet its tables, or its version's key,
// and look again.
func migrate(ctx context.Context, c *pgx.Conn) error {
	for {
		n, err := version(ctx, c)
		if err != nil || n == len(migrations) {
			return err
		}
		err = pgx.BeginFunc(ctx, c, func(t pgx.Tx) error {
			if n == 0 {
				if _, err := t.Exec(ctx, versionTable); err != nil {
					return err
				}
			}
			if _, err := t.Exec(ctx, "INSERT INTO passclave_schema VALUES ($1)", n+1); err != nil {
				return err
			}
			_, err := t.Conn().PgConn().Exec(ctx, migrations[n]).ReadAll()
			return err
		})
		if code, _ := sqlState(err); slices.Contains([]string{uniqueViolation, duplicateTable, duplicateObject}, code) {
			return errAgain
		} else if err != nil {
			return err
		}
	}
}
