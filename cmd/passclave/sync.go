package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// synced is the JSON of sync.
type synced struct {
	Epoch    uint64   `json:"epoch"`
	NewEpoch bool     `json:"new_epoch"`
	Resealed int      `json:"resealed"`
	Settled  string   `json:"settled,omitempty"` // a command whose answer had been lost
	Done     *bool    `json:"settled_done,omitempty"`
	Notices  []notice `json:"notices"`
	Young    bool     `json:"young"`
	Passkeys int      `json:"passkeys"`
	Missing  int      `json:"missing"`
}

func (a *app) syncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sync",
		Short: "Bring this device up to date",
		Long: `Fetches what other devices changed, takes a new vault epoch, moves passkeys into it, and settles a
command whose answer was lost. It says first what others did. It can be stopped anywhere.`,
		Example: `  passclave sync --profile phone`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			a.working("syncing")
			r, err := d.Sync(c.Context())
			if err != nil {
				return err
			}
			out := synced{Epoch: r.Epoch, NewEpoch: r.NewEpoch, Resealed: r.Resealed, Notices: showNotices(r.Notices), Young: r.Young}
			if r.Settled != nil {
				out.Settled, out.Done = string(r.Settled.Command), &r.Settled.Done
			}
			l, err := d.List(c.Context())
			if err != nil {
				return err
			}
			out.Passkeys, out.Missing = len(l.Passkeys), l.Missing
			if err := a.print(out, func(w io.Writer) { printSynced(w, out) }); err != nil {
				return err
			}
			if n := len(out.Notices); n > 0 {
				return d.NoticesShown(c.Context(), out.Notices[n-1].Sequence)
			}
			return nil
		},
	}
}

func printSynced(w io.Writer, s synced) {
	if len(s.Notices) > 0 {
		fmt.Fprintln(w, "Since the last look:")
		printNotices(w, s.Notices)
	}
	if s.Done != nil {
		if *s.Done {
			fmt.Fprintf(w, "The %s whose answer was lost had been done.\n", s.Settled)
		} else {
			fmt.Fprintf(w, "The %s whose answer was lost was not done.\n", s.Settled)
		}
	}
	if s.NewEpoch {
		fmt.Fprintf(w, "A new vault epoch is in force: %d.\n", s.Epoch)
	}
	fmt.Fprintf(w, "Up to date: %s.\n", count(s.Passkeys, "passkey"))
	if s.Missing > 0 {
		fmt.Fprintf(w, "%s more in the account, which the host did not give.\n", count(s.Missing, "passkey"))
	}
}
