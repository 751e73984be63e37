package main

import (
	"context"
	"fmt"
	"os"

	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// Rounds of PIN attempts over a ledger. There are so many clients that the least time
// until the answer to an attempt is no bound: others' are under way meanwhile.
const (
	pinRounds  = 5
	pinClients = 64
)

// pinRow measures PIN attempts with the right PIN through host and enclave over a ledger,
// in microseconds on the clock. The floor is the cryptography of one, on all cores, and
// two durable writes, of RESERVE's bytes and of RESULT's, by as many writers as there
// are clients. Both take turns.
func pinRow(ctx context.Context, folder string, b backing, bare func(*wire.Commit) error) (*result, error) {
	f, err := newFloors()
	if err != nil {
		return nil, err
	}
	name := "pin-attempt-" + b.identity.Backend
	if folder, err = os.MkdirTemp(folder, "pin"); err != nil {
		return nil, err
	}
	p, err := newInProcess(ctx, folder, b)
	if err != nil {
		return nil, err
	}
	defer p.close()
	people, err := p.enrol(ctx, pinClients)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var writers []*storetest.Account
	for i := range pinClients {
		writers = append(writers, storetest.NewAccount(b.Keys, name+people[i].subject))
	}
	var attempts series
	var floors []float64
	for round := range pinRounds + 1 {
		crypto := clock(pinClients, func() { parallel(pinClients, pinClients, func(int) { f.attempt() }) })
		write, err := written(writers, attemptCommit, bare)
		if err != nil {
			return nil, err
		}
		c, err := p.attempts(ctx, people, pinClients)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if round > 0 { // the first connects, and prepares statements
			attempts.add(c)
			floors = append(floors, crypto+2*write)
		}
	}
	return attempts.result(name).floor(median(floors)), nil
}

// attemptCommit is RESERVE and RESULT in turns.
func attemptCommit(a *storetest.Account) *wire.Commit {
	if a.At.Sequence%2 == 0 {
		return a.Reserve()
	}
	return a.Change(0)
}

// change is a commit of two records.
func change(a *storetest.Account) *wire.Commit { return a.Change(1) }
