package sqlite

import (
	"context"
	"errors"
	"iter"
	"path/filepath"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// seedBatch is how many commits Seed puts into one transaction.
const seedBatch = 10_000

// Seed makes many commits durable at once, for benchmarks: they become so when it
// returns, not before. It is quick if they come in order of their accounts, and
// keeps all other writers waiting. The first commit that is refused ends it.
func (s *Store) Seed(ctx context.Context, commits iter.Seq[*wire.Commit]) error {
	c, err := open(filepath.Join(s.folder, databaseFile), "", append(writing[:len(writing):len(writing)], "synchronous = OFF", "cache_size = -262144")...)
	if err != nil {
		return refusal(err)
	}
	w := &writer{conn: c}
	next, stop := iter.Pull(commits)
	defer stop()
	for more := true; more && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		err = c.within("BEGIN IMMEDIATE", func() error {
			for range seedBatch {
				var commit *wire.Commit
				if commit, more = next(); !more {
					return nil
				}
				p, err := store.Parse(commit)
				if err != nil {
					return err
				}
				if err := (parsed{p}).apply(w); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = c.script("PRAGMA wal_checkpoint(TRUNCATE)")
	}
	// Not fsync: to open and close the database's file would drop SQLite's locks on it.
	return refusal(errors.Join(err, c.close(), syncFileSystem(s.folder)))
}
