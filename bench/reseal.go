package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/wire"
)

const (
	resealRounds   = 5
	resealAccounts = 4096
	resealWriters  = 64 // of the floor
)

// resealRows measures how fast a host brings all accounts under a new version of the KEK:
// reading them, the enclave over its socket, and the store's writes in SQLite, in
// microseconds on the clock for an account. The floor is SQLite's own durable write of as
// many bytes by 64 writers, those that wait in one transaction. Both take turns.
func resealRows(ctx context.Context) (rows []*result, err error) {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	p, err := newSeeded(ctx, folder, resealAccounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	bare, err := openBare(filepath.Join(folder, "bare.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	versions := p.keks
	var each, floors []float64
	for round := range resealRounds + 1 {
		versions = append(versions, enclave.KEK{Version: fmt.Sprint(round + 2), Key: random()})
		if err := p.enclave.Unseal(ctx, clones(versions)); err != nil {
			return nil, err
		}
		us, err := p.reseal(ctx)
		if err != nil {
			return nil, err
		}
		floor, err := bareWraps(bare, round)
		if err != nil {
			return nil, err
		}
		if round > 0 { // the first prepares statements
			each, floors = append(each, us), append(floors, floor)
		}
	}
	name := "reseal"
	if secret.Erases {
		name += "+secret"
	}
	return []*result{newResult(name, median(each)).floor(median(floors))}, nil
}

// clones are what the key service gives: the enclave clears it.
func clones(keks []enclave.KEK) (out []enclave.KEK) {
	for _, k := range keks {
		out = append(out, enclave.KEK{Version: k.Version, Key: bytes.Clone(k.Key)})
	}
	return out
}

// reseal has the host rewrap all accounts, and returns the time of one.
func (p *inProcess) reseal(ctx context.Context) (us float64, err error) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/reseal", nil)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	began := time.Now()
	p.operator.ServeHTTP(w, r)
	us = microseconds(time.Since(began)) / float64(p.people.size)
	var last api.Reseal
	for d := json.NewDecoder(w.Body); !last.Finished; {
		last = api.Reseal{}
		if err := d.Decode(&last); err != nil {
			return 0, err
		}
	}
	if last.Error != "" || last.Done != uint64(p.people.size) || last.Left() != 0 {
		return 0, fmt.Errorf("%d of %d rewrapped, %d left: %s", last.Done, p.people.size, last.Left(), last.Error)
	}
	return us, nil
}

// bareWraps writes as many rows as there are accounts, each of an account and a wrap.
func bareWraps(bare *bareSQLite, round int) (us float64, err error) {
	commits := make([]*wire.Commit, resealAccounts)
	for i := range commits {
		commits[i] = &wire.Commit{Append: wire.Append{Entry: fmt.Append(nil, "bare wrap ", round, " ", i)}, Wraps: []wire.Wrap{{KEK: "1", Box: make([]byte, wire.SecretSize+wire.BoxOverhead)}}}
	}
	errs := make([]error, len(commits))
	us = clock(len(commits), func() {
		parallel(resealWriters, len(commits), func(i int) { errs[i] = bare.write(commits[i]) })
	})
	return us, first(errs)
}
