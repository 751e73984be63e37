package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/host/endorsers"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ledger",
		Short: "Look after a ledger: endorsers, views, receipts, restores",
		Long: `Commands about the ledger in which every account's changes and PIN attempts stand: for the operator of
an endorsed one, whose endorsers remember in their own protected memory which entry is the newest; for
whoever holds a receipt of an Azure Confidential Ledger; and for a person whose service lost its newest
database.`,
	}
	c.AddCommand(a.ledgerStatusCommand(), a.viewChangeCommand(), a.verifyReceiptCommand(), a.ledgerRestoreCommand())
	return c
}

// endorsersFlag is where a development stack keeps the file.
func endorsersFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "endorsers", filepath.Join("state", "endorsers", "endorsers.json"), "`file` that names endorsers and views: the host's")
}

func readEndorsers(path string) (*endorsers.File, error) {
	f, err := endorsers.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; --endorsers names the host's file: endorsers/endorsers.json in the folder of `passclave up`", err)
	}
	return f, err
}

// ledgerStatus is the JSON of ledger status.
type ledgerStatus struct {
	Ledger   string         `json:"ledger"`
	Genesis  string         `json:"genesis"` // hash of the first view
	Number   uint64         `json:"number"`  // counts geneses
	View     uint64         `json:"view"`
	ViewHash string         `json:"view_hash"`
	Serving  bool           `json:"serving"` // a majority of every group serves the newest view
	Members  []memberStatus `json:"members"`
}

type memberStatus struct {
	Group   int    `json:"group"`
	Key     string `json:"key"`
	Address string `json:"address,omitempty"` // empty: nobody answers under this key
	State   string `json:"state"`             // serving, behind, finalised or gone
	Streams uint64 `json:"streams"`
	Lag     uint64 `json:"lag"` // streams fewer than the fullest member of its group knows
}

// askTime is how long one endorser may take to say who it is.
const askTime = 3 * time.Second

func (a *app) ledgerStatusCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the view in force and its members",
		Long: `Shows the newest view that the host's file holds, after checking that the chain of views leads to it
from its first one, and asks every endorser where it stands. What an endorser says here it says in
the clear; enclaves believe its signed answers only.

Exit code 1: some group has no majority that serves, so nothing that its accounts need is answered.`,
		Example: `  passclave ledger status
  passclave ledger status --endorsers /var/lib/passclave/endorsers.json --json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			out, err := statusOfLedger(c.Context(), file)
			if err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { printLedger(w, out) }); err != nil {
				return err
			}
			if !out.Serving {
				a.exit = exitError
				return errReported
			}
			return nil
		},
	}
	endorsersFlag(c, &file)
	return c
}

// newestView follows the chain of a file from its own first view.
func newestView(f *endorsers.File) (*endorsement.View, error) {
	chain, err := f.Views()
	if err != nil {
		return nil, err
	}
	if len(chain.Links) == 0 {
		return nil, errors.New("the file holds no view")
	}
	genesis, err := endorsement.ParseView(chain.Links[0].View)
	if err != nil {
		return nil, err
	}
	return chain.Verify(genesis.Ledger, genesis.Hash(), genesis.Genesis)
}

func statusOfLedger(ctx context.Context, path string) (*ledgerStatus, error) {
	f, err := readEndorsers(path)
	if err != nil {
		return nil, err
	}
	v, err := newestView(f)
	if err != nil {
		return nil, err
	}
	root, hash := v.Root(), v.Hash()
	out := &ledgerStatus{
		Ledger: hex.EncodeToString(v.Ledger), Genesis: root.String(), Number: v.Genesis,
		View: v.Number, ViewHash: hash.String(), Serving: true,
	}
	there := present(ctx, f.Addresses)
	for g, group := range v.Groups {
		serving, fullest := 0, uint64(0)
		first := len(out.Members)
		for _, m := range group {
			s := memberStatus{Group: g, Key: hex.EncodeToString(m.Key), State: "gone"}
			if p, ok := there[string(m.Key)]; ok {
				s.Address, s.Streams = p.address, p.status.Streams
				switch {
				case p.status.Hash != hash:
					s.State = "behind"
				case p.status.Finalised:
					s.State = "finalised"
				default:
					s.State = "serving"
					serving++
				}
			}
			fullest = max(fullest, s.Streams)
			out.Members = append(out.Members, s)
		}
		for i := range out.Members[first:] {
			out.Members[first+i].Lag = fullest - out.Members[first+i].Streams
		}
		out.Serving = out.Serving && serving >= group.Majority()
	}
	return out, nil
}

type presence struct {
	address string
	status  endorser.Status
}

// present asks who is at each address.
func present(ctx context.Context, addresses []string) map[string]presence {
	out := map[string]presence{}
	for _, address := range addresses {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		client, err := endorsers.Dial(ctx, address)
		if err == nil {
			if who, err := client.Identify(ctx); err == nil {
				out[string(who.Key)] = presence{address, who.Status}
			}
			client.Close()
		}
		cancel()
	}
	return out
}

func printLedger(w io.Writer, s *ledgerStatus) {
	fmt.Fprintf(w, "ledger   %s\ngenesis  %s (number %d)\nview     %d, %s\n\n", s.Ledger, s.Genesis, s.Number, s.View, s.ViewHash)
	for _, m := range s.Members {
		fmt.Fprintf(w, "  group %d  %s…  %-9s  %8d streams", m.Group, m.Key[:16], m.State, m.Streams)
		if m.State == "serving" && m.Lag > 0 {
			fmt.Fprintf(w, ", %d behind", m.Lag)
		}
		if m.Address != "" {
			fmt.Fprintf(w, "  %s", m.Address)
		}
		fmt.Fprintln(w)
	}
	if s.Serving {
		fmt.Fprintln(w, "\nA majority of every group serves.")
		return
	}
	fmt.Fprintln(w, "\nA group has no majority that serves: what its accounts need is refused. `passclave ledger view-change`\nreplaces members while a majority is there. Where it is lost for good, `passclave up --next-genesis` begins\nanew, and people's devices bring their accounts back: `passclave confirm`.")
}

// viewChanged is the JSON of ledger view-change.
type viewChanged struct {
	View      uint64    `json:"view"`
	ViewHash  string    `json:"view_hash"`
	Endorsers []string  `json:"endorsers"` // addresses
	LeftOut   []leftOut `json:"left_out"`  // endorsers without which it went on
}

type leftOut struct {
	Address string `json:"address"`
	View    uint64 `json:"view"` // the old one, in which it gave no last word, or the new one, which it does not serve
	Why     string `json:"why"`
}

func (a *app) viewChangeCommand() *cobra.Command {
	var file, key, release string
	c := &cobra.Command{
		Use:   "view-change [ADDRESS...]",
		Short: "Replace endorsers, by the word of the old ones",
		Long: `Makes the next view of the endorsers at the given addresses (without any: those in the file), which
are unix:PATH or tcp:HOST:PORT. A majority of the members of the newest view must be there: each says
its last word, that one view alone follows, and hands over what it remembers. New members must show
genuine evidence of the release. The file then names the new view; hosts read it again by themselves.

A view change that stopped half way goes on with the same addresses.`,
		Example: `  passclave ledger view-change
  passclave ledger view-change tcp:10.0.1.4:7000 tcp:10.0.2.4:7000 tcp:10.0.3.4:7000 --operator-key operator.pem --release release.cbor`,
		RunE: func(c *cobra.Command, addresses []string) error {
			out, err := changeView(c.Context(), file, key, release, addresses)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { printViewChange(w, out) })
		},
	}
	endorsersFlag(c, &file)
	c.Flags().StringVar(&key, "operator-key", "", "the operator's Ed25519 key, a PEM `file` (default: operator.pem beside the endorsers' file)")
	c.Flags().StringVar(&release, "release", "", "the release that new members run, a `file` (default: release.cbor beside the endorsers' file)")
	return c
}

func changeView(ctx context.Context, path, key, release string, addresses []string) (*viewChanged, error) {
	beside := func(named, usual string) string {
		return firstOf(named, filepath.Join(filepath.Dir(path), usual))
	}
	o, err := endorsers.ReadOperator(beside(key, "operator.pem"), beside(release, "release.cbor"))
	if err != nil {
		return nil, err
	}
	f, err := readEndorsers(path)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		addresses = f.Addresses
	}
	next, out, err := o.Change(ctx, f, addresses)
	if err != nil {
		return nil, err
	}
	v, err := newestView(next)
	if err != nil {
		return nil, err
	}
	if err := next.Write(path); err != nil {
		return nil, err
	}
	changed := &viewChanged{View: v.Number, ViewHash: v.Hash().String(), Endorsers: addresses, LeftOut: []leftOut{}}
	for _, l := range out {
		changed.LeftOut = append(changed.LeftOut, leftOut{l.Address, l.View, l.Err.Error()})
	}
	return changed, nil
}

func printViewChange(w io.Writer, v *viewChanged) {
	fmt.Fprintf(w, "View %d is in force (%s).\n", v.View, v.ViewHash)
	for _, l := range v.LeftOut {
		what := "does not serve it"
		if l.View < v.View {
			what = fmt.Sprintf("gave no last word in view %d", l.View)
		}
		fmt.Fprintf(w, "  left out: %s %s: %s\n", l.Address, what, l.Why)
	}
}
