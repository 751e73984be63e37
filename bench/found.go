package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/statefile"
	"github.com/passclave/passclave/wire"
)

// configurationFile stands in a stack's folder.
const configurationFile = "configuration.json"

// seededFile is written beside a folder when its store is whole.
type seededFile struct {
	Format   int         `json:"format"`
	Accounts int         `json:"accounts"`
	Seed     wire.Base64 `json:"seed"`
}

// seedFormat changes with what seeded accounts look like: older stores are made anew.
const seedFormat = 1

// found makes a service in folder with so many accounts in its store, or finds the
// one that an earlier run made.
func found(ctx context.Context, folder, bin string, accounts int, say func(string, ...any)) (population, error) {
	marker := folder + ".json"
	var f seededFile
	data, err := os.ReadFile(marker)
	switch {
	case err == nil && json.Unmarshal(data, &f) == nil && f.Format == seedFormat && f.Accounts == accounts:
		return population{f.Seed, accounts}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return population{}, err
	}
	f = seededFile{Format: seedFormat, Accounts: accounts, Seed: make([]byte, wire.SecretSize)}
	rand.Read(f.Seed)
	if err := errors.Join(os.RemoveAll(marker), os.RemoveAll(folder)); err != nil {
		return population{}, err
	}
	s, err := stack.Start(ctx, stack.Options{Dir: folder, Bin: bin, Founding: stack.Founding{AnyPorts: true}})
	if err != nil {
		return population{}, err
	}
	s.Stop()
	p := population{f.Seed, accounts}
	if err := p.fill(ctx, folder, say); err != nil {
		return p, err
	}
	if data, err = json.Marshal(f); err != nil {
		return p, err
	}
	return p, statefile.Write(marker, data)
}

// fill puts all accounts into the store of a stopped service, in ascending order.
func (p population) fill(ctx context.Context, folder string, say func(string, ...any)) error {
	core, err := coreOf(ctx, folder)
	if err != nil {
		return err
	}
	database, err := sqlite.Open(filepath.Join(folder, string(stack.Host)))
	if err != nil {
		return err
	}
	began := time.Now()
	commits, failed := p.commits(core, func(done int) {
		say("seeding: %d of %d accounts, %s", done, p.size, time.Since(began).Round(time.Second))
	})
	err = database.Seed(ctx, commits)
	return errors.Join(err, failed(), database.Close())
}

// commits makes the accounts' commits on all cores and yields them in order.
// failed tells afterwards what ended it early.
func (p population) commits(core *enclave.Core, progress func(done int)) (seq iter.Seq[*wire.Commit], failed func() error) {
	const page = 1000
	var failure error
	return func(yield func(*wire.Commit) bool) {
		for from := 0; from < p.size; from += page {
			n := min(page, p.size-from)
			out, errs := make([]*wire.Commit, n), make([]error, n)
			parallel(cores, n, func(i int) { out[i], errs[i] = p.commit(core, from+i) })
			if failure = first(errs); failure != nil {
				return
			}
			for _, c := range out {
				if !yield(c) {
					return
				}
			}
			if (from/page)%50 == 49 {
				progress(from + n)
			}
		}
	}, func() error { return failure }
}

// coreOf returns an enclave's core with the configuration and the KEK of a
// service's folder. In development the KEK lies there in the clear.
func coreOf(ctx context.Context, folder string) (*enclave.Core, error) {
	data, err := os.ReadFile(filepath.Join(folder, configurationFile))
	if err != nil {
		return nil, err
	}
	config, err := wire.ParseConfiguration(data)
	if err != nil {
		return nil, err
	}
	store, err := file.Open(filepath.Join(folder, string(stack.Broker)))
	if err != nil {
		return nil, err
	}
	versions, err := store.Versions(ctx, config.KeyService.Key)
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	var keks []enclave.KEK
	for _, v := range versions {
		wrapped, err := store.Wrap(ctx, config.KeyService.Key, v.ID, keywrap.RSAAESKeyWrap256, &key.PublicKey)
		if err != nil {
			return nil, err
		}
		kek, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap256, key, wrapped)
		if err != nil {
			return nil, fmt.Errorf("KEK version %s: %w", v.ID, err)
		}
		keks = append(keks, enclave.KEK{Version: v.ID, Key: kek})
	}
	boot := make([]byte, wire.SecretSize)
	rand.Read(boot)
	return enclave.NewCore(config, boot, keks)
}
