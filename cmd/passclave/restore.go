package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
)

// restored is the JSON of ledger restore.
type restored struct {
	confirmed
	Lost  uint64 `json:"lost,omitempty"` // sequence of the newest entry there was: what came behind the offered one is gone
	Known bool   `json:"known"`          // some device has brought that entry; without it nothing is restored
}

func (a *app) ledgerRestoreCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore",
		Short: "Agree that your account goes on from an older copy, after its service lost the newest",
		Long: `A service that brings back an older copy of its database is refused: it looks like an attack, and every
device shows the alarm. Where the operator lost what came after, and told you so by another way, this
brings your account back as it was in that copy, on purpose.

Type it on your devices, one after another. When more than half of the account's trusted devices (both,
if there are two) agreed to the same copy, the account goes on from it. One of them must have seen the
newest entry: it brings the PIN attempts with it, which are not taken back. Passkeys made since the copy
are gone, deleted ones are back, devices that joined since must join again, and a user verification key
that was replaced since is in force once more.

A copy from before a revocation or a PIN set is never brought back (earlier-epoch). A device that remembers
something which was taken back, and did not agree, goes on showing the alarm until this is typed on it.`,
		Example: `  passclave ledger restore --profile laptop
  passclave ledger restore --profile phone`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			a.working("comparing what the service has with what this device remembers")
			before := d.Status().Remembered.Sequence
			r, err := d.Restore(c.Context(), func(offer *client.Confirmation) (bool, error) { return a.agreeToRestore(c.Context(), before, offer) })
			if err != nil {
				return err
			}
			out := restored{showConfirmed(r), r.Lost.Sequence, r.Known}
			return a.print(out, func(w io.Writer) { printRestored(w, out) })
		},
	}
	a.yesFlag(c)
	a.loginFlags(c)
	a.codeFlag(c)
	return c
}

// agreeToRestore shows a person what would be lost. before is what this device remembers.
func (a *app) agreeToRestore(ctx context.Context, before uint64, offer *client.Confirmation) (bool, error) {
	at, lost := offer.Offered.Sequence, offer.Lost.Sequence
	if offer.Confirmed {
		a.warn("Other devices of this account agreed that it goes on from entry %d. This device remembers entry %d, which was taken back.", at, lost)
	} else {
		a.warn("The service has this account up to entry %d (%.16s…). There was an entry %d: what came after entry %d is gone.", at, offer.Offered.Hash, lost, at)
		if before > at {
			a.warn("This device has seen entry %d: what it shows that is newer than entry %d will be gone.", before, at)
		}
		a.warnDevices(offer)
	}
	a.warn("Only the service's operator knows whether the newest copy is lost. If nobody told you so, this is an attack: say no.")
	return a.decided(ctx, "Go on from the older copy?")
}

func printRestored(w io.Writer, r restored) {
	switch {
	case r.Confirmed && r.Lost > 0:
		fmt.Fprintf(w, "The account goes on from the older copy, at entry %d.\n", r.Offered)
		return
	case r.Confirmed:
		fmt.Fprintln(w, "There is nothing to restore.")
		return
	}
	printApprovals(w, r.confirmed)
	if !r.Known {
		fmt.Fprintf(w, "No device has brought entry %d yet, the newest there was. Type passclave ledger restore on the one that has seen it.\n", r.Lost)
		return
	}
	fmt.Fprintln(w, "Type passclave ledger restore on the others.")
}
