package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/policy"
)

// admission is the JSON of enroll and join.
type admission struct {
	Profile   string `json:"profile"`
	Service   string `json:"service"`
	Account   string `json:"account"`
	Device    string `json:"device"`
	Name      string `json:"name"`
	Completed bool   `json:"completed"` // an earlier try had been done; its PIN and name stand
	Young     bool   `json:"young"`
	UV        string `json:"uv"`
	Passkeys  int    `json:"passkeys"`
}

// uvSoftware is what JSON says of this command line's user verification.
const uvSoftware = "software"

func (a *app) enrollCommand() *cobra.Command {
	c := &cobra.Command{
		Use:        "enroll URL --policy FILE",
		SuggestFor: []string{"register", "signup"},
		Short:      "Make your account, with this device as its first",
		Long: `Makes your account at the service, with this device as its first device, and sets its PIN.

The trust policy says which enclaves you accept. It is given to you by whoever you trust for
that, never by the service; it is pinned in the profile, and every command verifies the
service's attestation against it before it sends anything.

You log in, choose a PIN (any text; six digits or more, or four characters or more), and a
local code for this device: it seals the device's software UV key, and you type it whenever
your agreement is wanted.`,
		Example: `  passclave enroll http://127.0.0.1:8780 --policy state/policy.json --profile laptop
  passclave enroll URL --policy FILE --user alice --pin-fd 3 --code-fd 3 3<secrets   # development issuer, from a script`,
		Args: args("URL"),
	}
	a.admits(c, a.newPIN, "PIN for the new account", "Account made. ", (*client.Device).Enrol)
	return c
}

func (a *app) joinCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "join [URL --policy FILE]",
		Short: "Add this device to your account, by its PIN",
		Long: `Makes this device a member of your account, by login and PIN. Each try is counted by the
enclave, also when its answer is lost, and is never repeated by itself; at the limit the account
is locked until a trusted device sets a new PIN.

A device that joined by PIN is young: it can use all passkeys, but not revoke other devices or
set the PIN, until a login a day later (at ` + "`passclave pin set`" + `).`,
		Example: `  passclave join http://127.0.0.1:8780 --policy state/policy.json --profile phone
  passclave join --profile phone     # again, after a wrong PIN`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) > 1 {
				return usagef("%s takes one URL", c.CommandPath())
			}
			return nil
		},
	}
	a.admits(c, a.pin, "PIN of your account", "", (*client.Device).Join)
	return c
}

// admits gives a command the flags and the run of enroll and join.
func (a *app) admits(c *cobra.Command, askPIN func(ctx context.Context, prompt string) (string, error), prompt, made string,
	admit func(*client.Device, context.Context, string, string) (*client.Admission, error),
) {
	var policyFile, name string
	policyFlag(c, &policyFile, "trust policy `file` to pin in a new profile")
	c.Flags().StringVar(&name, "name", "", "what other devices call this one (default: the profile's name)")
	a.loginFlags(c)
	a.pinFlag(c)
	a.codeFlag(c)
	a.yesFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		ctx := c.Context()
		url := ""
		if len(given) > 0 {
			url = given[0]
		}
		d, err := a.openOrMake(ctx, url, policyFile)
		if err != nil {
			return err
		}
		defer d.close()
		if d.Status().Member {
			return client.ErrMember
		}
		if err := a.introduce(ctx, d); err != nil {
			return err
		}
		pin, err := askPIN(ctx, prompt)
		if err != nil {
			return err
		}
		if name == "" {
			name = a.deviceName()
		}
		a.working("logging in and stretching the PIN")
		done, err := admit(d.Device, ctx, name, pin)
		if err != nil {
			return err
		}
		// A failed sync undoes nothing: the passkeys come with the next one.
		_, syncErr := d.Sync(ctx)
		s := d.Status()
		out := admission{
			Profile: a.profile, Service: s.URL, Account: s.Account.String(), Device: s.Device.String(), Name: s.Name,
			Completed: done.Completed, Young: s.Young, UV: uvSoftware,
		}
		if list, err := d.List(ctx); err == nil {
			out.Passkeys = len(list.Passkeys)
		}
		if syncErr != nil {
			a.warn("the first sync failed: %v", syncErr)
		}
		return a.print(out, func(w io.Writer) {
			fmt.Fprintf(w, "%sThis device is %q in account %.16s…, with %s.\n", made, out.Name, out.Account, count(out.Passkeys, "passkey"))
			if out.Completed {
				fmt.Fprintln(w, "It had become a member before, and only the answer was lost: the PIN and the name of then stand.")
			}
			fmt.Fprintf(w, "Note: %s.\n", softwareNotes(s))
			if acceptsSimulation(d) {
				fmt.Fprintln(w, "SIMULATION: no hardware protects the service; whoever is root there can read all.")
			}
			if out.Young {
				fmt.Fprintln(w, "It is young: for a day it cannot revoke devices or set the PIN.")
			}
		})
	}
}

// introduce verifies the service before the person is asked for anything, and says what
// there is to know of it: that it is simulated, and what the trust policy waives.
func (a *app) introduce(ctx context.Context, d *device) error {
	a.working("verifying the service")
	e, err := d.Attest(ctx)
	if err != nil {
		return err
	}
	p, err := policy.Parse(d.TrustPolicy())
	if err != nil {
		return err
	}
	for _, w := range policy.Warnings(e.Claims, p) {
		a.warn("! %s", w)
	}
	a.working("") // what comes next is a question
	return nil
}

// deviceName is the profile's name, or the machine's for the default profile.
func (a *app) deviceName() string {
	if a.profile != defaultProfile {
		return a.profile
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return a.profile
}
