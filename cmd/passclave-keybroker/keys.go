package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/keystore/pkcs11"
)

// keyPlace is where the keys are: in a token, or in a file of the state folder.
type keyPlace struct {
	state, module, token, pinFile string
}

func keyFlags(f *flag.FlagSet) *keyPlace {
	k := &keyPlace{}
	f.StringVar(&k.state, "state", "", "`folder` of the audit log and the key file; with an HSM of audit log and locks")
	k.tokenFlags(f)
	return k
}

func (k *keyPlace) tokenFlags(f *flag.FlagSet) {
	f.StringVar(&k.module, "pkcs11-module", "", "`file`: the HSM's PKCS#11 library")
	f.StringVar(&k.token, "pkcs11-token", "", "`label` of the token with the keys")
	f.StringVar(&k.pinFile, "pkcs11-pin-file", "", "`file` with the PIN of the token's user, mode 0600, or /dev/fd/N")
}

// parse reads args as the function parse does; the token's flags stand together or not at all.
func (k *keyPlace) parse(f *flag.FlagSet, args []string, stderr io.Writer, required ...string) error {
	if err := parse(f, args, stderr, required...); err != nil {
		return err
	}
	if all := k.module != "" && k.token != "" && k.pinFile != ""; !all && k.module+k.token+k.pinFile != "" {
		fmt.Fprintln(stderr, "passclave-keybroker: -pkcs11-module, -pkcs11-token and -pkcs11-pin-file belong together")
		return errUse
	}
	return nil
}

// open opens the store; the caller closes it.
func (k *keyPlace) open(log *slog.Logger) (store keystore.Store, closeStore func() error, err error) {
	if k.module == "" {
		log.Warn("DEVELOPMENT ONLY: the file key store protects its keys by nothing but the file's mode", "file", filepath.Join(k.state, file.FileName))
		store, err = file.Open(k.state)
		return store, func() error { return nil }, err
	}
	pin, err := pkcs11.ReadPIN(k.pinFile)
	if err != nil {
		return nil, nil, err
	}
	s, err := pkcs11.Open(pkcs11.Config{Module: k.module, Token: k.token, PIN: pin, Dir: k.state, Log: log})
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}
