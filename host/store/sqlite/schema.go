package sqlite

import (
	"github.com/passclave/passclave/host/store"
)

const (
	applicationID = 0x70617373 // "pass"
	schemaVersion = 2
)

// schema is version 1, staging what version 2 adds. Every key begins with the account, so that accounts can be
// spread over databases. Rows that may be large stand in rowid tables: inside an
// index they would leave a few keys to a page.
const schema = `
CREATE TABLE accounts (
	account    BLOB NOT NULL PRIMARY KEY CHECK (length(account) = 32),
	stream     BLOB NOT NULL CHECK (length(stream) = 32),
	seq        INTEGER NOT NULL, -- newest entry
	hash       BLOB NOT NULL CHECK (length(hash) = 32), -- its hash
	generation INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	entry      BLOB NOT NULL,    -- the newest once more: a request reads it with its account
	head       BLOB NOT NULL,    -- sealed
	manifest   BLOB NOT NULL     -- sealed
) STRICT;
CREATE TABLE entries (
	account BLOB NOT NULL CHECK (length(account) = 32),
	seq     INTEGER NOT NULL,
	hash    BLOB NOT NULL CHECK (length(hash) = 32),
	entry   BLOB NOT NULL,
	PRIMARY KEY (account, seq)
) STRICT;
CREATE TABLE wraps (
	account    BLOB NOT NULL CHECK (length(account) = 32),
	generation INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	kek        TEXT NOT NULL,
	box        BLOB NOT NULL,
	PRIMARY KEY (account, generation, epoch, kek)
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
	account     BLOB NOT NULL CHECK (length(account) = 32),
	handle      BLOB NOT NULL CHECK (length(handle) = 16),
	changed_seq INTEGER NOT NULL,
	body        BLOB NOT NULL,
	PRIMARY KEY (account, handle)
) STRICT;
CREATE INDEX records_changed ON records (account, changed_seq, handle);
CREATE TABLE blobs (
	account BLOB NOT NULL CHECK (length(account) = 32),
	hash    BLOB NOT NULL CHECK (length(hash) = 32),
	body    BLOB NOT NULL,
	PRIMARY KEY (account, hash)
) STRICT;
CREATE TABLE feed_tokens (
	account BLOB NOT NULL CHECK (length(account) = 32),
	hash    BLOB NOT NULL CHECK (length(hash) = 32),
	PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
	name  TEXT NOT NULL PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
`

// staging holds commits that wait for the word of a ledger which keeps its own entries.
const staging = `
CREATE TABLE staged (
	account BLOB NOT NULL CHECK (length(account) = 32),
	hash    BLOB NOT NULL CHECK (length(hash) = 32), -- of the entry
	seq     INTEGER NOT NULL,
	body    BLOB NOT NULL, -- the commit, encoded
	PRIMARY KEY (account, hash)
) STRICT;
`

// noteLedger is the note that holds the ledger ID.
const noteLedger = "ledger"

// migrate makes the schema of a new database, brings an older one up to date, or refuses one that a newer release wrote.
func migrate(c *conn) error {
	version, err := c.integer("PRAGMA user_version")
	if err != nil {
		return err
	}
	switch {
	case version > schemaVersion:
		return &store.VersionError{Found: int(version), Known: schemaVersion}
	case version == schemaVersion:
		return nil
	case version == 1:
		return c.script("BEGIN IMMEDIATE;" + staging + setVersion + "COMMIT;")
	}
	return c.script("BEGIN IMMEDIATE;" + schema + staging + setVersion + "COMMIT;")
}
