package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
)

func (a *app) pinCommand() *cobra.Command {
	c := &cobra.Command{Use: "pin", Short: "The account's PIN"}
	c.AddCommand(a.pinSetCommand())
	return c
}

// pinSet is the JSON of pin set.
type pinSet struct {
	Epoch uint64 `json:"epoch"` // the vault epoch that began
}

func (a *app) pinSetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:        "set",
		SuggestFor: []string{"unlock", "reset", "change"},
		Short:      "Set a new PIN; this also unlocks",
		Long: `Sets a new PIN and begins a new vault epoch: an old copy of the service's data with the old PIN
opens nothing new. It also unlocks an account whose PIN was tried too often.

It needs a fresh login, and your agreement on a trusted device that is not young.`,
		Example: `  passclave pin set --profile laptop`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			if !d.Status().Member {
				return client.ErrNotMember
			}
			pin, err := a.newPIN(c.Context(), "New PIN")
			if err != nil {
				return err
			}
			a.working("logging in, stretching the PIN, beginning a new epoch")
			if err := a.unlessDone(d.PINSet(c.Context(), pin)); err != nil {
				return err
			}
			out := pinSet{Epoch: d.Status().Epoch}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "The PIN is set. Vault epoch %d began; your other devices take it at their next sync.\n", out.Epoch)
			})
		},
	}
	a.loginFlags(c)
	a.pinFlag(c)
	a.codeFlag(c)
	return c
}

// unlessDone turns "done, but something after it failed" into a warning.
func (a *app) unlessDone(err error) error {
	var after *client.AfterError
	if errors.As(err, &after) && !alarming(err) {
		a.warn("%v; the next sync goes on from there", err)
		return nil
	}
	return err
}

func alarming(err error) bool { return exitCode(err) == exitAlarm }
