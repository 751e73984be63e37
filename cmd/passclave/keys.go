package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/development/softhsm"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/statefile"
)

func (a *app) keysCommand() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "The service's key-encryption key"}
	c.AddCommand(a.keysListCommand(), a.keysCreateCommand(), a.keysRotateCommand(), a.keysResealCommand(), a.keysEnableCommand(), a.keysDisableCommand(),
		a.keysPolicyCommand(), a.keysOperatorCommand(), a.keysAuditCommand(), a.keysExplainCommand(),
		a.keysBackupCommand(), a.keysRestoreCommand())
	return c
}

// backup is the JSON of keys backup and keys restore.
type backup struct {
	File  string `json:"file"`
	State string `json:"state"`
}

func (a *app) keysBackupCommand() *cobra.Command {
	var state, out string
	c := &cobra.Command{
		Use:   "backup -o FILE",
		Short: "Back up the key-encryption key, under a passphrase",
		Long: `Writes all versions of the key-encryption key (KEK) of the file key store into one file, encrypted
under a passphrase (Argon2id, AES-256-GCM). Without its KEK a database is lost.

Whoever has this file and its passphrase has the KEK: keep it apart from the database.`,
		Example: `  passclave keys backup -o kek.backup`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("say where to: -o FILE")
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", out, fs.ErrExist)
			}
			if err := notInToken(state); err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(keyFolder(state), file.FileName)); errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", state, keystore.ErrNotFound)
			}
			passphrase, err := a.newSecret(c.Context(), "New passphrase of the backup", passphraseRule, a.passphraseFD,
				func(p string) error { return file.CheckPassphrase([]byte(p)) })
			if err != nil {
				return err
			}
			a.working("encrypting")
			data, err := file.Backup(c.Context(), keyFolder(state), []byte(passphrase))
			if err != nil {
				return err
			}
			if err := statefile.Write(out, data); err != nil {
				return err
			}
			return a.print(backup{out, state}, func(w io.Writer) { fmt.Fprintf(w, "The KEK is in %s, under your passphrase.\n", out) })
		},
	}
	c.Flags().StringVar(&state, "state", "./state", "`folder` of the service")
	c.Flags().StringVarP(&out, "output", "o", "", "`file` to write; it must not exist")
	c.MarkFlagFilename("output")
	a.passphraseFlag(c)
	return c
}

func (a *app) keysRestoreCommand() *cobra.Command {
	var state string
	c := &cobra.Command{
		Use:     "restore FILE",
		Short:   "Bring the key-encryption key back from a backup",
		Long:    "Brings the KEK back into a service's folder that has lost it. Keys that are there are never touched. The service must not run.",
		Example: `  passclave keys restore kek.backup --state ./state`,
		Args:    args("FILE"),

		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault), // a file
		RunE: func(c *cobra.Command, given []string) error {
			if err := notInToken(state); err != nil {
				return err
			}
			data, err := os.ReadFile(given[0])
			if err != nil {
				return err
			}
			passphrase, err := a.secret(c.Context(), "Passphrase of the backup", a.passphraseFD)
			if err != nil {
				return err
			}
			a.working("decrypting")
			if err := file.Restore(c.Context(), keyFolder(state), data, []byte(passphrase)); err != nil {
				return err
			}
			return a.print(backup{given[0], state}, func(w io.Writer) { fmt.Fprintln(w, "The KEK is back.") })
		},
	}
	c.Flags().StringVar(&state, "state", "./state", "`folder` of the service")
	a.passphraseFlag(c)
	return c
}

func (a *app) passphraseFlag(c *cobra.Command) {
	from(c, &a.passphraseFD, "passphrase-fd", "read the passphrase from this file `descriptor`: one line")
}

// errInToken is returned where the keys are in a token: that is backed up by its own means.
var errInToken = errors.New("the key-encryption key is in a token of SoftHSM, not in a file")

func notInToken(state string) error {
	if _, err := os.Stat(softhsm.Tokens(keyFolder(state))); err == nil {
		return fmt.Errorf("%s: %w", state, errInToken)
	}
	return nil
}

func keyFolder(state string) string { return filepath.Join(state, string(stack.Broker)) }
