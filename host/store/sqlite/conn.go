package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"net/url"

	"modernc.org/sqlite"
)

// setVersion marks a database as this schema's.
var setVersion = fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion)

// conn is one connection with its prepared statements, for one goroutine at a
// time. It stands directly on the driver: database/sql would cost more than the
// point reads do.
type conn struct {
	raw        driver.Conn
	statements map[string]driver.Stmt
	args       []driver.NamedValue
	row        []driver.Value
	writes     int // how often exec was called
}

var sqliteDriver = &sqlite.Driver{}

// open opens the database file. parameters are SQLite's own (mode=ro).
func open(path, parameters string, pragmas ...string) (*conn, error) {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: parameters}
	raw, err := sqliteDriver.Open(u.String())
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, statements: map[string]driver.Stmt{}}
	for _, p := range pragmas {
		if err := c.script("PRAGMA " + p); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *conn) close() error {
	for _, s := range c.statements {
		s.Close()
	}
	return c.raw.Close()
}

// script runs statements that are not worth preparing.
func (c *conn) script(sql string) error {
	_, err := c.raw.(driver.ExecerContext).ExecContext(context.Background(), sql, nil)
	return err
}

func (c *conn) prepared(sql string, args []driver.Value) (driver.Stmt, error) {
	s, ok := c.statements[sql]
	if !ok {
		var err error
		if s, err = c.raw.Prepare(sql); err != nil {
			return nil, err
		}
		c.statements[sql] = s
	}
	c.args = c.args[:0]
	for i, a := range args {
		if b, ok := a.([]byte); ok && b == nil {
			a = []byte{} // NULL stands nowhere in the schema
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return s, nil
}

// exec runs a prepared statement. sql must be a constant: it stays prepared.
func (c *conn) exec(sql string, args ...driver.Value) error {
	c.writes++
	s, err := c.prepared(sql, args)
	if err != nil {
		return err
	}
	// The driver would watch a context that can end with a goroutine for each
	// statement. These are short: nothing waits for a lock but the one writer.
	_, err = s.(driver.StmtExecContext).ExecContext(context.Background(), c.args)
	return err
}

// query calls f with each row. The slice is used again for the next row, the
// byte strings in it are f's to keep.
func (c *conn) query(f func([]driver.Value) error, sql string, args ...driver.Value) error {
	s, err := c.prepared(sql, args)
	if err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), c.args)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := len(rows.Columns())
	row := c.row
	if cap(row) < n {
		row = make([]driver.Value, n)
	}
	row, c.row = row[:n], nil // taken: f may query, too
	for {
		if err := rows.Next(row); err != nil {
			c.row = row
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

// integer returns the one number that a query gives.
func (c *conn) integer(sql string, args ...driver.Value) (n int64, err error) {
	err = c.query(func(row []driver.Value) error { n = row[0].(int64); return nil }, sql, args...)
	return n, err
}

// bytes returns the one byte string that a query gives, nil if it gives none.
func (c *conn) bytes(sql string, args ...driver.Value) (b []byte, err error) {
	err = c.query(func(row []driver.Value) error { b = blob(row[0]); return nil }, sql, args...)
	return b, err
}

// blob returns the byte string in a column; the driver gives nil for an empty one.
func blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// within runs f in one transaction, so that all it reads is of one moment.
func (c *conn) within(begin string, f func() error) error {
	if err := c.exec(begin); err != nil {
		return err
	}
	if err := f(); err != nil {
		c.exec("ROLLBACK") // may have happened already
		return err
	}
	if err := c.exec("COMMIT"); err != nil {
		c.exec("ROLLBACK")
		return err
	}
	return nil
}
