package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// historyEntry is the JSON of one entry.
type historyEntry struct {
	Sequence   uint64     `json:"sequence"`
	Hash       string     `json:"hash"`
	Generation uint64     `json:"generation"`
	Epoch      uint64     `json:"epoch"`
	Kind       string     `json:"kind,omitempty"`        // empty: this device cannot read the note
	Device     string     `json:"device,omitempty"`      // who did it
	Name       string     `json:"name,omitempty"`        // of that device, where an entry that can be read says it
	Target     string     `json:"target,omitempty"`      // whom it concerns: the device revoked
	TargetName string     `json:"target_name,omitempty"` // its name
	Time       *time.Time `json:"time,omitempty"`        // by the host's clock
	Attempts   uint64     `json:"attempts,omitempty"`
	Lifetime   uint64     `json:"lifetime_attempts,omitempty"`
}

// kinds are the sentences for what an entry records.
var kinds = map[ledger.Kind]string{
	ledger.KindEnrol:     "account made",
	ledger.KindReserve:   "PIN attempt begun",
	ledger.KindWrong:     "PIN attempt failed",
	ledger.KindJoin:      "device joined by PIN",
	ledger.KindPINSet:    "PIN set",
	ledger.KindCreate:    "passkey created",
	ledger.KindEdit:      "passkey changed",
	ledger.KindDelete:    "passkey deleted",
	ledger.KindReseal:    "passkeys moved into the new epoch",
	ledger.KindRevoke:    "device revoked",
	ledger.KindReplaceUV: "user verification key replaced",
	ledger.KindConfirm:   "account confirmed by its devices, after the ledger had lost its memory",
	ledger.KindRestore:   "account taken back to an older copy by its devices: the entries between are gone",
}

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "What happened in your account, verified with public keys",
		Long: `Lists the account's whole history: every join, PIN attempt, PIN set, revocation and change. This
device verifies every signature and every link itself, with public keys; the history must end in
the entry that the device remembers. Times are by the host's clock: nothing hangs on them.`,
		Example: `  passclave history --profile laptop`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			a.working("fetching and verifying the history")
			entries, err := d.History(c.Context())
			if err != nil {
				return err
			}
			out := showHistory(entries)
			return a.print(out, func(w io.Writer) { printHistory(w, out) })
		},
	}
}

func showHistory(entries []client.HistoryEntry) []historyEntry {
	out := []historyEntry{}
	names := map[wire.DeviceID]string{}
	for _, e := range entries {
		h := historyEntry{Sequence: e.Sequence, Hash: e.Hash.String(), Generation: e.Generation, Epoch: e.Epoch}
		if n := e.Note; n != nil {
			t := fromUnix(n.Time)
			h.Kind, h.Device, h.Name, h.Time = string(n.Kind), n.Device.String(), n.Name, &t
			h.Attempts, h.Lifetime = n.Consecutive, n.Lifetime
			if n.Kind == ledger.KindRevoke { // the name in its note is the target's
				h.Target, h.TargetName, h.Name = n.Target.String(), n.Name, names[n.Device]
			} else if n.Name != "" {
				names[n.Device] = n.Name
			}
		}
		out = append(out, h)
	}
	return out
}

func printHistory(w io.Writer, entries []historyEntry) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "#\tEPOCH\tTIME (HOST)\tWHAT\tBY DEVICE\t")
	for _, h := range entries {
		if h.Kind == "" {
			fmt.Fprintf(t, "%d\t%d\t\t(before this device's time)\t\t\n", h.Sequence, h.Epoch)
			continue
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t\n", h.Sequence, h.Epoch, moment(*h.Time), what(h), deviceName(h.Device, h.Name))
	}
	t.Flush()
	fmt.Fprintf(w, "%s, every signature and link verified on this device.\n", count(len(entries), "entry"))
}

// deviceName is a device's ID, short, and its name where that is known.
func deviceName(id, name string) string {
	return strings.TrimSpace(fmt.Sprintf("%.8s %s", id, printable(name)))
}

func what(h historyEntry) string {
	text, known := kinds[ledger.Kind(h.Kind)]
	if !known {
		text = printable(h.Kind)
	}
	switch ledger.Kind(h.Kind) {
	case ledger.KindWrong, ledger.KindReserve:
		text += fmt.Sprintf(" (%d in a row)", h.Attempts)
	case ledger.KindRevoke:
		text += ": " + deviceName(h.Target, h.TargetName)
	}
	return text
}
