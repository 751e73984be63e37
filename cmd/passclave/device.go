package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/wire"
)

func (a *app) deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "The account's devices"}
	c.AddCommand(a.deviceListCommand(), a.deviceRevokeCommand())
	return c
}

// deviceInfo is the JSON of one device.
type deviceInfo struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Joined  time.Time `json:"joined"`
	How     string    `json:"how"` // "enrol" or "join"
	Trusted bool      `json:"trusted"`
	Young   bool      `json:"young"`
	UV      string    `json:"uv"` // "key", "platform" or "none"; "software" on this device
	This    bool      `json:"this"`
}

func (a *app) describe(i wire.DeviceInfo, this wire.DeviceID) deviceInfo {
	out := deviceInfo{
		ID: i.ID.String(), Name: i.Name, Joined: fromUnix(i.Joined), How: i.How,
		Trusted: i.Trusted, Young: i.Young, This: i.ID == this,
	}
	switch {
	case out.This:
		out.UV = uvSoftware
	case i.Platform:
		out.UV = "platform"
	case i.Trusted:
		out.UV = "key"
	default:
		out.UV = "none"
	}
	return out
}

func (a *app) deviceListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the account's devices",
		Long: `Lists the devices of your account in the order of their joining, as the enclave has them.

UV says how a device proves your agreement: by the platform authenticator, or by a key. Of a key
of another device nobody here can tell whether hardware or software guards it; on this device it
is software UV.`,
		Example: `  passclave device list --profile laptop`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			a.working("asking the enclave")
			infos, err := d.Devices(c.Context())
			if err != nil {
				return err
			}
			out := []deviceInfo{}
			for _, i := range infos {
				out = append(out, a.describe(i, d.ID()))
			}
			return a.print(out, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tNAME\tJOINED\tBY\tUV\t")
				for _, i := range out {
					var notes []string
					if i.This {
						notes = append(notes, "this device")
					}
					if i.Young {
						notes = append(notes, "young")
					}
					uv := i.UV
					if i.This {
						uv = "software UV"
					}
					fmt.Fprintf(t, "%.8s\t%s\t%s\t%s\t%s\t%s\n", i.ID, printable(i.Name), day(i.Joined), i.How, uv, strings.Join(notes, ", "))
				}
				t.Flush()
			})
		},
	}
}

// revoked is the JSON of device revoke.
type revoked struct {
	Device string `json:"device"`
	Name   string `json:"name"`
	This   bool   `json:"this"`
	Epoch  uint64 `json:"epoch"` // the vault epoch that began; 0 where this device left
}

func (a *app) deviceRevokeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:        "revoke DEVICE",
		SuggestFor: []string{"remove", "delete"},
		Short:      "Revoke a device, or this one",
		Long: `Ends a device's membership for good and begins a new vault epoch that it cannot open. It is
refused from the next request on; what it has in its memory, nobody can take back.

DEVICE is its ID, the first four or more characters of it, or its name. A device may revoke
itself; another needs your agreement on a trusted device that is not young. A device that joined by
PIN a day ago or more logs in once to show that.`,
		Example: `  passclave device revoke phone --profile laptop`,
		Args:    args("DEVICE"),
		RunE: func(c *cobra.Command, given []string) error {
			ctx := c.Context()
			d, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer d.close()
			a.working("asking the enclave")
			infos, err := d.Devices(ctx)
			if err != nil {
				return err
			}
			target, err := findDevice(infos, given[0])
			if err != nil {
				return err
			}
			info := a.describe(*target, d.ID())
			if own := ownDevice(infos, d.ID()); own != nil && !info.This {
				if err := client.CheckAge(*own, time.Now()); err != nil {
					return err // before anything is asked
				}
			}
			question := fmt.Sprintf("Revoke %q (%.8s), joined %s?", printable(info.Name), info.ID, day(info.Joined))
			if info.This {
				question += " That is this device: it forgets the account's passkeys."
			}
			yes, err := a.confirm(ctx, question)
			if err != nil {
				return err
			}
			if !yes {
				return errDeclined
			}
			a.working("revoking, beginning a new epoch")
			if err := a.unlessDone(d.Revoke(ctx, target.ID)); err != nil {
				return err
			}
			out := revoked{Device: info.ID, Name: info.Name, This: info.This, Epoch: d.Status().Epoch}
			return a.print(out, func(w io.Writer) {
				if out.This {
					fmt.Fprintln(w, "This device has left the account.")
					return
				}
				fmt.Fprintf(w, "%q is revoked. Vault epoch %d began.\n", printable(out.Name), out.Epoch)
			})
		},
	}
	a.loginFlags(c)
	a.codeFlag(c)
	a.yesFlag(c)
	c.ValidArgsFunction = a.completeDevices
	return c
}

func ownDevice(infos []wire.DeviceInfo, own wire.DeviceID) *wire.DeviceInfo {
	for i := range infos {
		if infos[i].ID == own {
			return &infos[i]
		}
	}
	return nil
}

// minPrefix is how many characters of an ID are enough.
const minPrefix = 4

// findDevice finds a device by ID, prefix of it, or name.
func findDevice(infos []wire.DeviceInfo, wanted string) (*wire.DeviceInfo, error) {
	var found *wire.DeviceInfo
	for i := range infos {
		id := infos[i].ID.String()
		if infos[i].Name != wanted && !(len(wanted) >= minPrefix && strings.HasPrefix(id, strings.ToLower(wanted))) {
			continue
		}
		if found != nil {
			return nil, usagef("%q names several devices: use the ID", wanted)
		}
		found = &infos[i]
	}
	if found == nil {
		return nil, wire.Errorf(wire.CodeNotFound, "no device %q in this account", printable(wanted))
	}
	return found, nil
}
