package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/wire"
)

func (a *app) passkeyCommand() *cobra.Command {
	c := &cobra.Command{Use: "passkey", Short: "Your passkeys"}
	c.AddCommand(a.passkeyCreateCommand(), a.passkeyListCommand(), a.passkeySignInCommand(), a.passkeyRenameCommand(), a.passkeyDeleteCommand())
	return c
}

// passkey is the JSON of one passkey.
type passkey struct {
	ID           string    `json:"id"`
	CredentialID string    `json:"credential_id"` // base64url
	RPID         string    `json:"rp_id"`
	RPName       string    `json:"rp_name,omitempty"`
	User         string    `json:"user"`
	DisplayName  string    `json:"display_name,omitempty"`
	Label        string    `json:"label,omitempty"`
	Created      time.Time `json:"created"`
	NoUVNeeded   bool      `json:"no_uv_needed,omitempty"`
	Hidden       bool      `json:"hidden,omitempty"`
	Deleted      bool      `json:"deleted,omitempty"`
}

func showPasskey(k client.Passkey) passkey {
	m := k.Metadata
	return passkey{
		ID: k.Handle.String(), CredentialID: base64.RawURLEncoding.EncodeToString(m.CredentialID),
		RPID: m.RPID, RPName: m.RPName, User: m.UserName, DisplayName: m.DisplayName, Label: m.Label,
		Created: fromUnix(m.Created), NoUVNeeded: m.NoUVNeeded, Hidden: m.Hidden, Deleted: m.Deleted,
	}
}

// listing is the JSON of passkey list.
type listing struct {
	Passkeys []passkey `json:"passkeys"`
	Missing  int       `json:"missing"` // the account has them, this device does not
	Stale    bool      `json:"stale"`   // a newer state is known to exist
	Removed  bool      `json:"removed"` // this device is no member any more
}

func (a *app) passkeyListCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List your passkeys, offline",
		Long: `Lists the passkeys that this device knows of. It asks nobody: the list was checked against the
account's manifest when it was synced.`,
		Example: `  passclave passkey list
  passclave sync && passclave passkey list --json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			l, err := d.List(c.Context())
			if err != nil {
				return err
			}
			out := listing{Passkeys: []passkey{}, Missing: l.Missing, Stale: l.Stale, Removed: d.Status().Removed}
			for _, k := range l.Passkeys {
				if all || !k.Metadata.Hidden && !k.Metadata.Deleted {
					out.Passkeys = append(out.Passkeys, showPasskey(k))
				}
			}
			return a.print(out, func(w io.Writer) { printListing(w, out) })
		},
	}
	c.Flags().BoolVar(&all, "all", false, "hidden and deleted ones too")
	return c
}

func printListing(w io.Writer, out listing) {
	if out.Removed {
		fmt.Fprintln(w, "This device was revoked: this is what it knew then, and it can use none of them.")
	}
	if len(out.Passkeys) == 0 {
		fmt.Fprintln(w, "No passkeys.")
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tSITE\tUSER\tLABEL\tCREATED\t")
		for _, k := range out.Passkeys {
			state := ""
			switch {
			case k.Deleted:
				state = "deleted"
			case k.Hidden:
				state = "hidden"
			}
			fmt.Fprintf(t, "%.8s\t%s\t%s\t%s\t%s\t%s\n", k.ID, printable(k.RPID), printable(k.User), printable(k.Label), day(k.Created), state)
		}
		t.Flush()
	}
	if out.Removed {
		return
	}
	if out.Missing > 0 {
		fmt.Fprintf(w, "%s more in the account, which the host did not give: passclave sync\n", count(out.Missing, "passkey"))
	} else if out.Stale {
		fmt.Fprintln(w, "There are changes that this device has not fetched: passclave sync")
	}
}

func (a *app) passkeyRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rename PASSKEY LABEL",
		Short:   "Give a passkey a name of your own",
		Long:    "Gives a passkey your own name for it; an empty one takes it away. PASSKEY is its ID, or the first four or more characters.",
		Example: `  passclave passkey rename 3f2a "work, old laptop"`,
		Args:    args("PASSKEY", "LABEL"),

		ValidArgsFunction: a.completePasskeys,
		RunE: func(c *cobra.Command, given []string) error {
			return a.editPasskey(c.Context(), given[0], "Renamed.", func(d *device, k client.Passkey) error {
				return d.Rename(c.Context(), k.Handle, given[1])
			})
		},
	}
}

func (a *app) passkeyDeleteCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "delete PASSKEY",
		Short: "Delete a passkey",
		Long: `Deletes a passkey on all devices. Delete it at the site first: the site does not hear of it, and
whoever has no other way to sign in there is locked out. PASSKEY is its ID, or the first four or
more characters.`,
		Example: `  passclave passkey delete 3f2a`,
		Args:    args("PASSKEY"),
		RunE: func(c *cobra.Command, given []string) error {
			return a.editPasskey(c.Context(), given[0], "Deleted.", func(d *device, k client.Passkey) error {
				m := k.Metadata
				yes, err := a.confirm(c.Context(), fmt.Sprintf("Delete the passkey for %s at %s?", printable(m.UserName), printable(m.RPID)))
				if err != nil {
					return err
				}
				if !yes {
					return errDeclined
				}
				a.working("deleting")
				return d.Delete(c.Context(), k.Handle)
			})
		},
	}
	a.codeFlag(c)
	a.yesFlag(c)
	c.ValidArgsFunction = a.completePasskeys
	return c
}

// edited is the JSON of rename and delete: the passkey as it is now.
type edited struct {
	Passkey passkey `json:"passkey"`
}

func (a *app) editPasskey(ctx context.Context, id, done string, edit func(*device, client.Passkey) error) error {
	d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	k, err := findPasskey(ctx, d, id)
	if err != nil {
		return err
	}
	if err := a.unlessDone(edit(d, *k)); err != nil {
		return err
	}
	if now, err := findPasskey(ctx, d, k.Handle.String()); err == nil {
		k = now
	}
	return a.print(edited{showPasskey(*k)}, func(w io.Writer) { fmt.Fprintln(w, done) })
}

// findPasskey finds a passkey of the record cache by its ID or a prefix of it.
func findPasskey(ctx context.Context, d *device, id string) (*client.Passkey, error) {
	l, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	var found *client.Passkey
	for i, k := range l.Passkeys {
		if len(id) < minPrefix || !strings.HasPrefix(k.Handle.String(), strings.ToLower(id)) {
			continue
		}
		if found != nil {
			return nil, usagef("%q names several passkeys: use more of the ID", id)
		}
		found = &l.Passkeys[i]
	}
	if found == nil {
		return nil, wire.Errorf(wire.CodeNotFound, "no passkey %q on this device: see `passclave passkey list --all`", printable(id))
	}
	return found, nil
}
