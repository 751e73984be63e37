package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/passclave/passclave/keyrelease/keystore/pkcs11"
)

// rotate adds a version to a key, with the newest version's policy unless another is given.
func rotate(ctx context.Context, args []string, log *slog.Logger, stdout, stderr io.Writer) error {
	f := flags(stderr)
	keys := keyFlags(f)
	name := f.String("key", "", "`name` of the key")
	policyFile := f.String("policy", "", "release policy `file` (default: that of the newest version)")
	if err := keys.parse(f, args, stderr, "state", "key"); err != nil {
		return err
	}
	store, closeStore, err := keys.open(log)
	if err != nil {
		return err
	}
	defer closeStore()
	versions, err := store.Versions(ctx, *name)
	if err != nil {
		return err
	}
	policy := versions[len(versions)-1].Policy
	if *policyFile != "" {
		if policy, err = readPolicy(*policyFile); err != nil {
			return err
		}
	}
	v, err := store.Rotate(ctx, *name, policy)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, v.ID)
	return nil
}

// versions prints the IDs of a key's versions, oldest first.
func versions(ctx context.Context, args []string, log *slog.Logger, stdout, stderr io.Writer) error {
	f := flags(stderr)
	keys := keyFlags(f)
	name := f.String("key", "", "`name` of the key")
	if err := keys.parse(f, args, stderr, "state", "key"); err != nil {
		return err
	}
	store, closeStore, err := keys.open(log)
	if err != nil {
		return err
	}
	defer closeStore()
	all, err := store.Versions(ctx, *name)
	for _, v := range all {
		fmt.Fprintln(stdout, v.ID)
	}
	return err
}

// setPolicy gives all versions of a key another release policy. It asks nobody: who has
// the PIN, or the key file, could as well do it, and more, by any other tool.
func setPolicy(ctx context.Context, args []string, log *slog.Logger, _, stderr io.Writer) error {
	f := flags(stderr)
	keys := keyFlags(f)
	name := f.String("key", "", "`name` of the key")
	policyFile := f.String("policy", "", "release policy `file`")
	if err := keys.parse(f, args, stderr, "state", "key", "policy"); err != nil {
		return err
	}
	policy, err := readPolicy(*policyFile)
	if err != nil {
		return err
	}
	store, closeStore, err := keys.open(log)
	if err != nil {
		return err
	}
	defer closeStore()
	all, err := store.Versions(ctx, *name)
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := store.SetPolicy(ctx, *name, v.ID, policy); err != nil {
			return err
		}
		log.Info("release policy set", "key", *name, "version", v.ID)
	}
	return nil
}

// initToken makes a token, for SoftHSM: HSMs have tools of their own.
func initToken(_ context.Context, args []string, _ *slog.Logger, _, stderr io.Writer) error {
	f := flags(stderr)
	var keys keyPlace
	keys.tokenFlags(f)
	officerFile := f.String("so-pin-file", "", "`file` with the PIN of the token's security officer, mode 0600, or /dev/fd/N")
	if err := keys.parse(f, args, stderr, "pkcs11-module", "pkcs11-token", "pkcs11-pin-file", "so-pin-file"); err != nil {
		return err
	}
	officer, err := pkcs11.ReadPIN(*officerFile)
	if err != nil {
		return err
	}
	user, err := pkcs11.ReadPIN(keys.pinFile)
	if err != nil {
		return err
	}
	return pkcs11.InitToken(keys.module, keys.token, officer, user)
}
