package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// SQLSTATE codes: appendix A of PostgreSQL's manual.
const (
	notNullViolation     = "23502"
	uniqueViolation      = "23505"
	readOnlyTransaction  = "25006"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	duplicateTable       = "42P07"
	undefinedTable       = "42P01"
	duplicateObject      = "42710"
	diskFull             = "53100"
	tooManyConnections   = "53300"
	adminShutdown        = "57P01"
	crashShutdown        = "57P02"
	cannotConnectNow     = "57P03"
	dataCorrupted        = "XX001"
	indexCorrupted       = "XX002"
)

// sqlState returns the database's own word for an error, "" if it is none of its errors.
// rolledBack: the database goes on, so that the transaction is surely rolled back;
// otherwise the connection ended, and it may have been committed before.
func sqlState(err error) (code string, rolledBack bool) {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return "", false
	}
	severity := e.SeverityUnlocalized
	if severity == "" { // not all databases send it
		severity = e.Severity
	}
	return e.Code, severity == "ERROR"
}

// again reports whether the same may be tried again: nothing was changed.
func again(err error) bool {
	code, rolledBack := sqlState(err)
	return errors.Is(err, errAgain) || pgconn.SafeToRetry(err) ||
		rolledBack && (code == serializationFailure || code == deadlockDetected)
}

// refusal gives an error of the database its code. Refusals stay what they are.
//
// Whatever is not known to have changed nothing is CodeUnavailable, a connection lost
// at COMMIT above all: the caller reads what stands, or commits again.
func refusal(err error) error {
	var refused *wire.Error
	var version *store.VersionError
	var durable *NotDurableError
	if err == nil || errors.As(err, &refused) || errors.As(err, &version) || errors.As(err, &durable) {
		return err
	}
	code, rolledBack := sqlState(err)
	kind := error(nil)
	switch code {
	case diskFull:
		if rolledBack {
			return wire.NewError(wire.CodeStorageFull, err)
		}
	case readOnlyTransaction:
		kind = store.ErrReadOnly
	case tooManyConnections:
		kind = store.ErrConnections
	case adminShutdown, crashShutdown, cannotConnectNow:
		kind = store.ErrRestarting
	case dataCorrupted, indexCorrupted:
		kind = store.ErrBroken
	}
	if kind != nil {
		err = fmt.Errorf("%w: %w", kind, err)
	}
	return wire.NewError(wire.CodeUnavailable, err)
}

// blamed reports whether a failed write says something of the database, not of its caller.
func blamed(err error) bool {
	switch wire.CodeOf(err) {
	case wire.CodeStorageFull, wire.CodeUnavailable:
		return !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrClosed)
	}
	return false
}
