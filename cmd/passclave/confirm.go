package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
)

// confirmed is the JSON of confirm.
type confirmed struct {
	Confirmed bool          `json:"confirmed"` // the account goes on
	Offered   uint64        `json:"offered"`   // sequence of the newest entry that the service has
	Hash      string        `json:"offered_hash"`
	Approved  int           `json:"approved"`
	Needed    int           `json:"needed"`
	Devices   []approvingBy `json:"devices"` // that can approve
}

type approvingBy struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Approved bool   `json:"approved"`
}

func (a *app) confirmCommand() *cobra.Command {
	var policyFile string
	c := &cobra.Command{
		Use:   "confirm [--policy FILE]",
		Short: "Bring back an account that the ledger lost its memory of",
		Long: `After all endorsers of a service were lost at once, nobody but your devices can tell whether what the
service has of your account is the newest or an old copy, in which a device that you revoked is
still a member, or PIN attempts were not made. The account is discontinued then: it answers nothing.

Type this on your devices, one after another. Each first checks by itself that nothing is missing of
what it remembers; if something is, it raises the alarm, and nothing is approved. When more than half
of the account's trusted devices (both, if there are two) approved the same state, the account goes
on, with its PIN attempts counted on. Each approval needs a fresh login and your agreement.

If you revoked a device that was lost or stolen, type it first on the device that you revoked it
with: the others may not have heard of it.

Its operator has founded another genesis of the ledger, which your pinned trust policy does not accept.
Get the new policy from where you got the first one, and give it with --policy: the difference is
shown, and pinned if you agree.`,
		Example: `  passclave confirm --policy policy.json --profile laptop
  passclave confirm --profile phone`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			if policyFile != "" {
				if err := a.repinFrom(c.Context(), d, policyFile); err != nil {
					return err
				}
			}
			a.working("comparing what the service has with what this device remembers")
			r, err := d.Confirm(c.Context(), func(offer *client.Confirmation) (bool, error) { return a.agree(c.Context(), offer) })
			if err != nil {
				return err
			}
			out := showConfirmed(r)
			return a.print(out, func(w io.Writer) { printConfirmed(w, out) })
		},
	}
	c.Flags().StringVar(&policyFile, "policy", "", "trust policy `file` that names the new genesis, to be pinned first")
	a.yesFlag(c)
	a.loginFlags(c)
	a.codeFlag(c)
	return c
}

// agree shows a person what is offered.
func (a *app) agree(ctx context.Context, offer *client.Confirmation) (bool, error) {
	a.warn("The service has this account up to entry %d (%.16s…). This device remembers nothing that is missing there.", offer.Offered.Sequence, offer.Offered.Hash)
	a.warnDevices(offer)
	a.warn("If one of them was revoked, say no: the state is an older one.")
	return a.decided(ctx, "Approve it?")
}

func (a *app) warnDevices(offer *client.Confirmation) {
	a.warn("The account's trusted devices are then:")
	for _, d := range offer.Devices {
		a.warn("  %s", deviceName(d.ID.String(), d.Name))
	}
}

// decided asks a person, whose no is an error.
func (a *app) decided(ctx context.Context, question string) (bool, error) {
	yes, err := a.confirm(ctx, question)
	if err == nil && !yes {
		err = errDeclined
	}
	return yes, err
}

func showConfirmed(c *client.Confirmation) confirmed {
	out := confirmed{
		Confirmed: c.Confirmed, Offered: c.Offered.Sequence, Hash: c.Offered.Hash.String(),
		Approved: c.Approved(), Needed: c.Needed, Devices: []approvingBy{},
	}
	for _, d := range c.Devices {
		out.Devices = append(out.Devices, approvingBy{d.ID.String(), d.Name, d.Approved})
	}
	return out
}

func printConfirmed(w io.Writer, c confirmed) {
	if c.Confirmed {
		fmt.Fprintf(w, "The account goes on, at entry %d.\n", c.Offered)
		return
	}
	printApprovals(w, c)
	fmt.Fprintln(w, "Type passclave confirm on the others.")
}

func printApprovals(w io.Writer, c confirmed) {
	fmt.Fprintf(w, "Approved by %d of the %s that are needed:\n", c.Approved, count(c.Needed, "device"))
	for _, d := range c.Devices {
		mark := " "
		if d.Approved {
			mark = "x"
		}
		fmt.Fprintf(w, "  [%s] %s\n", mark, deviceName(d.ID, d.Name))
	}
}
