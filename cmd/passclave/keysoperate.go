package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// keyAct is the JSON of what an operator did: keys create, rotate, enable, disable, policy
// set, policy approve.
type keyAct struct {
	Act      string       `json:"act"`
	Key      string       `json:"key"`
	Version  string       `json:"version,omitempty"` // made or switched
	Done     bool         `json:"done"`              // false: it waits for another operator
	Proposal *keyProposal `json:"proposal,omitempty"`
}

type keyProposal struct {
	ID       string    `json:"id"`
	Act      string    `json:"act"`
	Versions []string  `json:"versions"`
	Policy   string    `json:"policy"` // SHA-256 of the release policy: hex
	By       string    `json:"by"`
	Expires  time.Time `json:"expires"`
}

func proposalOf(p *operator.Proposal) *keyProposal {
	if p == nil {
		return nil
	}
	return &keyProposal{p.ID, p.Act, p.Versions, hashOf(p.Policy), p.By.Name, p.Expires}
}

func hashOf(policy []byte) string {
	sum := sha256.Sum256(policy)
	return hex.EncodeToString(sum[:])
}

// acted prints what an act came to.
func (a *app) acted(act keyAct, o *operator.Outcome, what string) error {
	act.Version, act.Proposal = firstOf(act.Version, o.Version), proposalOf(o.Proposal)
	act.Done = o.Proposal == nil
	return a.print(act, func(w io.Writer) {
		if act.Done {
			fmt.Fprintf(w, "%s\n", what)
			return
		}
		fmt.Fprintf(w, "Nothing has changed yet: this takes a second operator. Until %s:\n\n  passclave keys policy approve %s\n", moment(act.Proposal.Expires), printable(act.Proposal.ID))
	})
}

func readReleasePolicy(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if _, err := releasepolicy.Parse(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

func (a *app) keysCreateCommand() *cobra.Command {
	var f brokerFlags
	var policyFile string
	var immutable bool
	c := &cobra.Command{
		Use:   "create --policy FILE",
		Short: "Make a key at the key broker",
		Long: `Makes a key with one version and a release policy. One operator can do that: look at the policy
("passclave keys policy show") before a service is founded on it.

An immutable policy can never be changed, by nobody, for this version and all that follow: an enclave
that it does not fit never has this key.`,
		Example: `  passclave keys create --key kek-2 --policy release.json --broker https://broker.example --operator alice.pem`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if policyFile == "" {
				return usagef("%s needs a release policy: --policy FILE", c.CommandPath())
			}
			policy, err := readReleasePolicy(policyFile)
			if err != nil {
				return err
			}
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			if immutable {
				if err := a.sure(c.Context(), "This policy can never be changed or taken away from the key, whatever happens. Make it?"); err != nil {
					return err
				}
			}
			o, err := client.Create(c.Context(), f.key, policy, immutable)
			if err != nil {
				return err
			}
			return a.acted(keyAct{Act: "create", Key: f.key}, o, fmt.Sprintf("Key %s is made, version %s.", printable(f.key), printable(o.Version)))
		},
	}
	f.operatorFlags(c)
	policyFlag(c, &policyFile, "release policy `file`")
	c.Flags().BoolVar(&immutable, "immutable", false, "the release policy is for ever")
	a.yesFlag(c)
	return c
}

// sure asks, and ends the command at a no.
func (a *app) sure(ctx context.Context, question string) error {
	yes, err := a.confirm(ctx, question)
	if err == nil && !yes {
		return errDeclined
	}
	return err
}

func (a *app) keysRotateCommand() *cobra.Command {
	var f brokerFlags
	var policyFile string
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Add a version to the key-encryption key",
		Long: `Adds a version to the key, with the release policy of the newest one. Enclaves find it within minutes
and then seal and sign with it. The older versions are still needed, always: "passclave keys list".

With another policy (--policy) the version is made only when a second operator approved it.`,
		Example: `  passclave keys rotate
  passclave keys rotate --broker https://broker.example --operator alice.pem`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			var policy []byte
			if policyFile != "" {
				var err error
				if policy, err = readReleasePolicy(policyFile); err != nil {
					return err
				}
			}
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			o, err := client.Rotate(c.Context(), f.key, policy)
			if err != nil {
				return err
			}
			return a.acted(keyAct{Act: operator.ActRotate, Key: f.key}, o, fmt.Sprintf("Version %s is made.", printable(o.Version)))
		},
	}
	f.operatorFlags(c)
	policyFlag(c, &policyFile, "release policy `file` of the new version (default: the newest version's)")
	return c
}

func (a *app) keysEnableCommand() *cobra.Command {
	var f brokerFlags
	c := &cobra.Command{
		Use:     "enable VERSION",
		Short:   "Switch a version of the key on again",
		Long:    "Switches a version on. Where its release policy is not the newest version's, that takes a second operator.",
		Example: `  passclave keys enable 396c381266c769e4177248e40c56a181`,
		Args:    args("VERSION"),
		RunE: func(c *cobra.Command, given []string) error {
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			o, err := client.SetEnabled(c.Context(), f.key, given[0], true)
			if err != nil {
				return err
			}
			return a.acted(keyAct{Act: operator.ActEnable, Key: f.key, Version: given[0]}, o, "Enabled.")
		},
	}
	f.operatorFlags(c)
	return c
}

func (a *app) keysDisableCommand() *cobra.Command {
	var f brokerFlags
	var database string
	var force bool
	c := &cobra.Command{
		Use:   "disable VERSION",
		Short: "Switch a version of the key off, once nothing needs it",
		Long: `Switches a version off that nothing needs any more, by what the host's database says: another one is
the newest, no account opens with it alone ("passclave keys reseal"), and what must outlive it is kept,
which enclaves leave there when they get the newer one. What the database cannot say: every enclave must
have the newest version, and backups of the database from before the reseal open with the old one alone.

--force switches it off all the same. Enclaves notice within minutes, and then what needs it is refused
until "passclave keys enable". Nothing is lost by that: so a service is stopped.`,
		Example: `  passclave keys disable 396c381266c769e4177248e40c56a181
  passclave keys disable 396c381266c769e4177248e40c56a181 --force --broker https://broker.example --operator alice.pem`,
		Args: args("VERSION"),
		RunE: func(c *cobra.Command, given []string) error {
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			if !force {
				k, err := client.Key(c.Context(), f.key)
				if err != nil {
					return err
				}
				if _, err := find(k, given[0]); err != nil {
					return err
				}
				h, err := a.hanging(c.Context(), &f, database, k)
				if err != nil {
					return err
				}
				if why := h.on(given[0]); why != "" {
					return fmt.Errorf("%w: %s. Nothing was done; --force switches it off all the same", errKeyNeeded, why)
				}
			}
			o, err := client.SetEnabled(c.Context(), f.key, given[0], false)
			if err != nil {
				return err
			}
			return a.acted(keyAct{Act: "disable", Key: f.key, Version: given[0]}, o, "Disabled. What needs it is refused until `passclave keys enable "+printable(given[0])+"`.")
		},
	}
	f.operatorFlags(c)
	storeFlag(c, &database)
	c.Flags().BoolVar(&force, "force", false, "switch it off although it is needed, or although nobody can tell")
	return c
}

func storeFlag(c *cobra.Command, database *string) {
	c.Flags().StringVar(database, "store", "", "the host's database: its `folder` or postgres://… (default: that in the state folder)")
}

// hanging is what hangs on a key's versions, as the host's database has it; nil where there
// is no database to look at.
type hanging struct {
	newest   string            // version that enclaves seal and sign with; empty: none is enabled
	accounts map[string]uint64 // that open with a version alone
	lineage  bool              // what must outlive the versions before the newest is kept
}

// on says what hangs on a version; empty: nothing does.
func (h *hanging) on(version string) string {
	switch {
	case h == nil:
		return "the host's database (--state, --store) is not here to be asked what hangs on it"
	case version == h.newest:
		return "it is the newest, and everything is sealed and signed with it"
	case h.accounts[version] > 0:
		return "it alone opens " + count(int(h.accounts[version]), "account") + ", until `passclave keys reseal`"
	case !h.lineage:
		return "the host does not keep yet what must outlive it, its ledger key above all: an enclave leaves it there when it has both this version and the newest"
	}
	return ""
}

// hanging looks into the host's database for what hangs on the versions of a key.
func (a *app) hanging(ctx context.Context, f *brokerFlags, database string, k *operator.Key) (*hanging, error) {
	named := database != ""
	if !named && f.broker != "" {
		return nil, nil
	}
	if !named {
		var err error
		if database, err = stack.StoreOf(f.state); err != nil {
			return nil, err
		}
	}
	i, err := inspect(ctx, database)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil // the service was never ready
	}
	if err != nil {
		return nil, err
	}
	defer i.Close()
	a.working("counting")
	var h hanging
	for _, v := range k.Versions { // oldest first
		if v.Enabled {
			h.newest = v.ID
		}
	}
	if h.accounts, err = i.KEKs(ctx); err != nil {
		return nil, err
	}
	lineage, err := i.Note(ctx, store.NoteLineage(h.newest))
	h.lineage = len(lineage) > 0
	return &h, err
}

// inspect opens a host's database to look at it.
func inspect(ctx context.Context, database string) (store.Inspector, error) {
	if postgres.IsURL(database) { // which may hold a password, and is not shown
		return postgres.Inspect(ctx, database)
	}
	i, err := sqlite.Inspect(database)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database in %s: %w; --state names the service's folder, --store another's database", database, err)
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}
