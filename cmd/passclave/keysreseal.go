package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/host/api"
)

// resealed is the JSON of keys reseal.
type resealed struct {
	KEK     string            `json:"kek"`     // version that the accounts are wrapped under now
	Done    uint64            `json:"done"`    // accounts that were rewrapped
	Refused uint64            `json:"refused"` // accounts that the enclave cannot open
	Left    uint64            `json:"left"`    // wraps under other versions
	Wraps   map[string]uint64 `json:"wraps"`   // by version
	Lineage bool              `json:"lineage"` // the host keeps what must outlive the versions before KEK
}

func (a *app) keysResealCommand() *cobra.Command {
	var state, host string
	c := &cobra.Command{
		Use:   "reseal",
		Short: "Bring all accounts under the newest version of the key-encryption key",
		Long: `Has the host bring every account under the newest version of the key-encryption key (KEK), those too
that nobody uses: the enclave, after it looked for newer versions, wraps each account's key anew, and
the host keeps that in the place of the older wraps. Nothing else of an account changes, and
people go on meanwhile. It may be stopped at any time and begun again; what is done is done.

When nothing is left under an older version, and every enclave has the newest one, the older one can be
disabled. Backups of the database from before need it still.

Exit code 1: something is left.`,
		Example: `  passclave keys reseal --state ./state
  passclave keys reseal --host http://127.0.0.1:9464 --json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := hostOf(host, state)
			if err != nil {
				return err
			}
			a.working("asking the host")
			last, err := o.reseal(c.Context(), func(r *api.Reseal) {
				a.progress.say(fmt.Sprintf("rewrapping: %d of %d", r.Done, max(r.Total, r.Done)))
			})
			if err != nil {
				return err
			}
			out := resealed{KEK: last.KEK, Done: last.Done, Refused: last.Refused, Left: last.Left(), Wraps: last.Wraps, Lineage: last.Lineage}
			if err := a.print(out, func(w io.Writer) { printResealed(w, &out) }); err != nil {
				return err
			}
			if out.Left > 0 {
				a.exit = exitError
				return errReported
			}
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "./state", "`folder` of the service")
	hostFlag(c, &host)
	return c
}

func printResealed(w io.Writer, out *resealed) {
	fmt.Fprintf(w, "%s rewrapped; %s under the newest version, %s.\n", count(int(out.Done), "account"), count(int(out.Wraps[out.KEK]), "account"), printable(out.KEK))
	switch {
	case out.Refused > 0:
		fmt.Fprintf(w, "LEFT: %s under older versions. The enclave cannot open %s; the host's log names them.\n", count(int(out.Left), "wrap"), count(int(out.Refused), "account"))
	case out.Left > 0:
		fmt.Fprintf(w, "LEFT: %s under older versions, of changes made meanwhile, or that wait for the ledger's word. Do it again later.\n", count(int(out.Left), "wrap"))
	case out.Lineage:
		fmt.Fprintln(w, "Nothing is left under an older version: it can be disabled once every enclave has the newest one.")
	default:
		fmt.Fprintln(w, "The host keeps nothing of versions before this one. If there are any (`passclave keys list`), do not disable them: restart the enclave first, which leaves it there.")
	}
}
