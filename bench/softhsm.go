package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/passclave/passclave/development/softhsm"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// softhsmRows are the rows of boot against a broker whose keys are in a token of
// SoftHSM; none where this machine has no SoftHSM.
func softhsmRows(ctx context.Context, o *settings) (results []*result, err error) {
	if _, err := softhsm.Find(); errors.Is(err, softhsm.ErrNotFound) {
		say("boot-softhsm is NOT MEASURED: %v", err)
		return nil, nil
	}
	dir, err := os.MkdirTemp(o.state, "softhsm-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &service{}
	if s.Stack, err = stack.Start(ctx, stack.Options{Dir: dir, Bin: o.bin, Founding: stack.Founding{AnyPorts: true, Keys: stack.KeysSoftHSM}}); err != nil {
		return nil, err
	}
	defer s.Stop()
	file, err := os.ReadFile(filepath.Join(dir, configurationFile))
	if err != nil {
		return nil, err
	}
	if s.config, err = wire.ParseConfiguration(file); err != nil {
		return nil, err
	}
	if err := s.WaitReady(ctx); err != nil {
		return nil, err
	}
	for _, build := range []struct{ binary, suffix string }{{o.plain(), "-softhsm"}, {o.shipped(), "-softhsm+secret"}} {
		say("boot%s", build.suffix)
		rows, err := bootRows(ctx, s, build.binary, build.suffix)
		if err != nil {
			return nil, err
		}
		results = append(results, rows...)
	}
	return results, nil
}
