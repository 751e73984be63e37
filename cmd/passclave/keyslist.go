package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/keyrelease/operator"
)

// keyList is the JSON of keys list.
type keyList struct {
	Key       string         `json:"key"`
	Broker    string         `json:"broker"`
	Versions  []keyVersion   `json:"versions"` // oldest first
	Proposals []*keyProposal `json:"proposals"`
}

type keyVersion struct {
	Version   string    `json:"version"`
	Created   time.Time `json:"created"`
	Enabled   bool      `json:"enabled"`
	Immutable bool      `json:"immutable"`
	Policy    string    `json:"policy"`             // SHA-256 of its release policy: hex
	Accounts  *uint64   `json:"accounts,omitempty"` // that open with this version alone; left out where the host's database could not be asked
}

func (a *app) keysListCommand() *cobra.Command {
	var f brokerFlags
	var database string
	c := &cobra.Command{
		Use:   "list",
		Short: "Versions of the key-encryption key, and what hangs on each",
		Long: `Lists the versions of the key, oldest first, and what waits for a second operator. Where the host's
database can be read (--state, or --store), it also counts the accounts that open with one version alone:
those that nobody has touched since the next version was made. "passclave keys reseal" brings them under the
newest; "passclave keys disable" says what else there is to an older one.`,
		Example: `  passclave keys list
  passclave keys list --broker https://broker.example --operator alice.pem --store postgres://reader@db.internal/passclave`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			k, err := client.Key(c.Context(), f.key)
			if err != nil {
				return err
			}
			h, err := a.hanging(c.Context(), &f, database, k)
			if err != nil {
				return err
			}
			out := listKey(k, client.Broker(), h)
			return a.print(out, func(w io.Writer) { printKeyList(w, out) })
		},
	}
	f.operatorFlags(c)
	storeFlag(c, &database)
	return c
}

func listKey(k *operator.Key, broker string, h *hanging) *keyList {
	out := &keyList{Key: k.Name, Broker: broker, Versions: []keyVersion{}, Proposals: []*keyProposal{}}
	for _, v := range k.Versions {
		listed := keyVersion{Version: v.ID, Created: fromUnix(v.Created), Enabled: v.Enabled, Immutable: v.Immutable, Policy: hashOf(v.Policy)}
		if h != nil {
			n := h.accounts[v.ID]
			listed.Accounts = &n
		}
		out.Versions = append(out.Versions, listed)
	}
	for _, p := range k.Proposals {
		out.Proposals = append(out.Proposals, proposalOf(&p))
	}
	return out
}

func printKeyList(w io.Writer, k *keyList) {
	for _, v := range k.Versions {
		state, policy, accounts := "enabled", "policy "+short(v.Policy), ""
		if !v.Enabled {
			state = "DISABLED"
		}
		if v.Immutable {
			policy += " (immutable)"
		}
		if v.Accounts != nil {
			accounts = "  " + count(int(*v.Accounts), "account") + " with it alone"
		}
		fmt.Fprintf(w, "%-32s  %s  %-8s  %s%s\n", printable(v.Version), moment(v.Created), state, policy, accounts)
	}
	for _, p := range k.Proposals {
		fmt.Fprintf(w, "waits for another operator until %s: %s, policy %s, proposed by %s: passclave keys policy approve %s\n",
			moment(p.Expires), printable(p.Act), short(p.Policy), printable(p.By), printable(p.ID))
	}
}
