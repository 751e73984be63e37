package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"slices"

	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// bareAppend measures one durable append of an entry to a store of the host's kind on
// the same disk, with nothing around it, in microseconds of CPU time. As many callers
// as clients in [service.attempts] append at a time.
func bareAppend(ctx context.Context, folder string) (us float64, err error) {
	store, err := sqlite.Open(folder)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	const count, rounds = 320, 5
	id := make([]byte, 32)
	rand.Read(id)
	appends := make([]wire.Append, rounds*count)
	for i := range appends {
		a := &appends[i]
		a.Account = wire.AccountID(wire.Hash("bench append", uint64(i)))
		a.Stream = wire.Stream(id, a.Account)
		e := ledger.Entry{Ledger: id, Stream: a.Stream, Sequence: 1, Generation: 1, Epoch: 1, Note: make([]byte, ledger.NoteSize)}
		a.Entry = e.Sign(key)
	}
	var each []float64
	for round := range slices.Chunk(appends, count) {
		errs := make([]error, count)
		us := own(1, func() {
			parallel(changeClients, count, func(i int) { _, errs[i] = store.Append(ctx, round[i]) })
		})
		if err := first(errs); err != nil {
			return 0, err
		}
		each = append(each, us/count)
	}
	return median(each), nil
}
