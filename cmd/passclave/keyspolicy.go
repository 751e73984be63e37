package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/statefile"
)

func (a *app) keysPolicyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Who may have the key-encryption key"}
	c.AddCommand(a.keysPolicyShowCommand(), a.keysPolicySetCommand(), a.keysPolicyApproveCommand())
	askForSubcommand(c)
	return c
}

// releasePolicyShown is the JSON of keys policy show.
type releasePolicyShown struct {
	Key       string `json:"key"`
	Version   string `json:"version"`
	Immutable bool   `json:"immutable"`
	Policy    string `json:"policy"` // text
}

func (a *app) keysPolicyShowCommand() *cobra.Command {
	var f brokerFlags
	c := &cobra.Command{
		Use:     "show [VERSION]",
		Short:   "Print a key's release policy, as it is in force",
		Long:    "Prints the release policy of a version of the key, of the newest one where none is named, byte for byte.",
		Example: `  passclave keys policy show > release.json`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) > 1 {
				return usagef("%s takes one version", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, given []string) error {
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			k, err := client.Key(c.Context(), f.key)
			if err != nil {
				return err
			}
			if len(k.Versions) == 0 {
				return fmt.Errorf("key %q has no version", f.key)
			}
			v := &k.Versions[len(k.Versions)-1]
			if len(given) == 1 {
				if v, err = find(k, given[0]); err != nil {
					return err
				}
			}
			for _, other := range k.Versions {
				if !bytes.Equal(other.Policy, v.Policy) {
					a.warn("Version %s has another policy, %s.", other.ID, short(hashOf(other.Policy)))
				}
			}
			out := releasePolicyShown{f.key, v.ID, v.Immutable, string(v.Policy)}
			return a.print(out, func(w io.Writer) { fmt.Fprint(w, printableLines(out.Policy)) })
		},
	}
	f.operatorFlags(c)
	return c
}

func (a *app) keysPolicySetCommand() *cobra.Command {
	var f brokerFlags
	c := &cobra.Command{
		Use:   "set FILE",
		Short: "Propose another release policy for the key",
		Long: `Proposes a release policy for all versions of the key. It takes effect when another operator has
approved it, within 24 hours. Whoever may change it can have the key-encryption key.`,
		Example: `  passclave keys policy set release.json --broker https://broker.example --operator alice.pem`,
		Args:    args("FILE"),

		ValidArgsFunction: cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: func(c *cobra.Command, given []string) error {
			policy, err := readReleasePolicy(given[0])
			if err != nil {
				return err
			}
			client, err := f.client(a, 0)
			if err != nil {
				return err
			}
			o, err := client.SetPolicy(c.Context(), f.key, policy)
			if err != nil {
				return err
			}
			return a.acted(keyAct{Act: operator.ActPolicy, Key: f.key}, o, "The policy is in force.")
		},
	}
	f.operatorFlags(c)
	return c
}

func (a *app) keysPolicyApproveCommand() *cobra.Command {
	var f brokerFlags
	c := &cobra.Command{
		Use:   "approve PROPOSAL",
		Short: "Let what another operator proposed take effect",
		Long: `Shows what another operator proposed (a release policy, or a version with a policy of its own), compares it with what
is in force, and asks. What is approved is exactly what is shown: the broker refuses if it has something else.`,
		Example: `  passclave keys policy approve 5f2c9d0e8a7b6c41 --broker https://broker.example --operator bob.pem`,
		Args:    args("PROPOSAL"),
		RunE: func(c *cobra.Command, given []string) error {
			client, err := f.client(a, 1)
			if err != nil {
				return err
			}
			p, err := client.Proposal(c.Context(), given[0])
			if err != nil {
				return err
			}
			k, err := client.Key(c.Context(), p.Key)
			if err != nil {
				return err
			}
			if _, err := releasepolicy.Parse(p.Policy); err != nil {
				return fmt.Errorf("the proposal's policy: %w", err)
			}
			if len(k.Versions) == 0 {
				return fmt.Errorf("key %q has no version", p.Key)
			}
			a.warn("%s proposes: %s, key %q, version %s; until %s. Release policy %s:", p.By.Name, p.Act, p.Key, strings.Join(p.Versions, ", "), moment(p.Expires), hashOf(p.Policy))
			before := k.Versions[len(k.Versions)-1].Policy
			a.warn("%s", marked(readable(before), readable(p.Policy)))
			for _, v := range k.Versions {
				if !bytes.Equal(v.Policy, before) {
					a.warn("This is compared with the newest version's policy; version %s has another in force: %s.", v.ID, short(hashOf(v.Policy)))
				}
			}
			if err := a.sure(c.Context(), "Whoever this policy names can have the key. Approve it?"); err != nil {
				return err
			}
			o, err := client.Approve(c.Context(), p)
			if err != nil {
				return err
			}
			return a.acted(keyAct{Act: "approve: " + p.Act, Key: p.Key}, o, "Done: "+printable(p.Act)+".")
		},
	}
	f.addressFlags(c)
	a.yesFlag(c)
	return c
}

// readable is a policy with a line for each of its parts, however it was written. Order and
// everything else stay.
func readable(policy []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, policy, "", "  ") != nil {
		return string(policy)
	}
	return b.String()
}

// marked is a text with what stands between its first and its last difference from the one
// before marked by +, and what stood there by -. Lines that only moved are a difference: they
// may mean something else in another place.
func marked(before, after string) string {
	old, now := strings.Split(strings.TrimRight(before, "\n"), "\n"), strings.Split(strings.TrimRight(after, "\n"), "\n")
	head, tail := 0, 0
	for head < min(len(old), len(now)) && old[head] == now[head] {
		head++
	}
	for tail < min(len(old), len(now))-head && old[len(old)-1-tail] == now[len(now)-1-tail] {
		tail++
	}
	var out []string
	add := func(mark string, lines []string) {
		for _, l := range lines {
			out = append(out, mark+l)
		}
	}
	add("  ", now[:head])
	add("+ ", now[head:len(now)-tail])
	add("- ", old[head:len(old)-tail])
	add("  ", now[len(now)-tail:])
	return strings.Join(out, "\n")
}

// operatorMade is the JSON of keys operator new.
type operatorMade struct {
	File string `json:"file"`
	Name string `json:"name"`
	Key  string `json:"key"` // Ed25519 public key: base64url
}

func (a *app) keysOperatorCommand() *cobra.Command {
	var out string
	made := &cobra.Command{
		Use:   "new NAME -o FILE",
		Short: "Make an operator's key",
		Long: `Makes an Ed25519 key for an operator of a key broker, and prints what goes into the broker's operators' file
(passclave-keybroker -operators):

  {"version":1,"operators":[{"name":"alice","key":"…"},{"name":"bob","key":"…"}]}

Each operator makes his own, where he keeps it: what decides who may have the key-encryption key takes two, and
two keys in one hand are one operator.`,
		Example: `  passclave keys operator new alice -o alice.pem`,
		Args:    args("NAME"),
		RunE: func(_ *cobra.Command, given []string) error {
			if out == "" {
				return usagef("say where to: -o FILE")
			}
			if err := operator.ParseName(given[0]); err != nil {
				return usagef("%v", err)
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", out, fs.ErrExist)
			}
			key, err := statefile.Key(out)
			if err != nil {
				return err
			}
			o := operatorMade{out, given[0], base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}
			return a.print(o, func(w io.Writer) {
				fmt.Fprintf(w, "%s is the key of operator %s. For the broker's operators' file:\n\n  {\"name\":%q,\"key\":%q}\n", o.File, o.Name, o.Name, o.Key)
			})
		},
	}
	made.Flags().StringVarP(&out, "output", "o", "", "`file` to write; it must not exist")
	made.MarkFlagFilename("output", "pem")
	c := &cobra.Command{Use: "operator", Short: "Operators of a key broker"}
	c.AddCommand(made)
	askForSubcommand(c)
	return c
}
