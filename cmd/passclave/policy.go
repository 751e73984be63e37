package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/policy"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Make, check and compare trust policies",
	}
	c.AddCommand(a.policyInitCommand(), a.policyLintCommand(), a.policyDiffCommand(), a.policyPinCommand())
	return c
}

// readPolicy reads a trust policy. What is none is an error that names the member.
func readPolicy(file string) (*policy.TrustPolicy, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// linted is the JSON of policy lint.
type linted struct {
	File     string               `json:"file"`
	Clean    bool                 `json:"clean"` // no finding of level "warning"
	Findings []policy.LintFinding `json:"findings"`
}

func (a *app) policyLintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE",
		Short: "What a trust policy does without, and how it could be narrower",
		Long: `Reads a trust policy strictly, and lists what it does without. A warning is weaker than a policy for
real use should be; a note could be narrower, and there are reasons not to. Whether the values are
the right ones for a service, only "passclave verify" and whoever published them can say.

Exit code: 0 no warning (perhaps notes), 10 warnings, 1 not a trust policy.`,
		Example: `  passclave policy lint policy.json`,
		Args:    args("FILE"),
		RunE: func(c *cobra.Command, given []string) error {
			p, err := readPolicy(given[0])
			if err != nil {
				return err
			}
			out := linted{File: given[0], Clean: true, Findings: append([]policy.LintFinding{}, policy.Lint(p, time.Now())...)}
			for _, f := range out.Findings {
				out.Clean = out.Clean && f.Level != policy.LevelWarning
			}
			if err := a.print(out, func(w io.Writer) { printLinted(w, out) }); err != nil {
				return err
			}
			return a.weak(!out.Clean)
		},
	}
}

// weak ends a command whose outcome is printed.
func (a *app) weak(is bool) error {
	if !is {
		return nil
	}
	a.exit = exitWeak
	return errReported
}

func printLinted(w io.Writer, l linted) {
	for _, f := range l.Findings {
		name := string(f.Field)
		if f.Of != "" {
			name += " of " + f.Of
		}
		fmt.Fprintf(w, "%-8s %s: %s\n", f.Level, printable(name), printable(f.Text))
	}
	if len(l.Findings) == 0 {
		fmt.Fprintln(w, "Nothing to say: it demands everything that this version knows.")
	}
}

// compared is the JSON of policy diff.
type compared struct {
	Before  string          `json:"before"`
	After   string          `json:"after"`
	Same    bool            `json:"same"`   // no rule differs
	Weaker  bool            `json:"weaker"` // the later policy accepts something that the earlier one refuses
	Changes []policy.Change `json:"changes"`
}

func (a *app) policyDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "What changes from one trust policy to the next",
		Long: `Lists what changes from OLD to NEW, field by field. A change that makes NEW accept something that OLD
refuses says so: another measurement or ledger does, too. Spelling and order do not count.

Exit code: 0 NEW accepts nothing that OLD refuses, 10 it does, 1 one of them is not a trust policy.`,
		Example: `  passclave policy diff pinned.json offered.json`,
		Args:    args("OLD", "NEW"),
		RunE: func(c *cobra.Command, given []string) error {
			before, err := readPolicy(given[0])
			if err != nil {
				return err
			}
			after, err := readPolicy(given[1])
			if err != nil {
				return err
			}
			out := compared{Before: given[0], After: given[1], Changes: append([]policy.Change{}, policy.Diff(before, after)...)}
			out.Same = len(out.Changes) == 0
			for _, change := range out.Changes {
				out.Weaker = out.Weaker || change.Weaker
			}
			if err := a.print(out, func(w io.Writer) { printCompared(w, out) }); err != nil {
				return err
			}
			return a.weak(out.Weaker)
		},
	}
}

func printCompared(w io.Writer, c compared) {
	for _, change := range c.Changes {
		fmt.Fprintln(w, changed(change))
	}
	switch {
	case c.Same:
		fmt.Fprintln(w, "The same rules.")
	case c.Weaker:
		fmt.Fprintf(w, "\n%s ACCEPTS MORE than %s.\n", printable(c.After), printable(c.Before))
	default:
		fmt.Fprintf(w, "\n%s accepts nothing that %s refuses.\n", printable(c.After), printable(c.Before))
	}
}

// pinned is the JSON of policy pin.
type pinned struct {
	Profile string          `json:"profile"`
	Changes []policy.Change `json:"changes"` // from the policy pinned before
}

func (a *app) policyPinCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "pin FILE",
		Short: "Pin another trust policy in a profile",
		Long: `Puts another trust policy in the place of the one pinned in the profile, after showing the difference
and asking. Nothing is asked of the service: a policy comes from where the first one came from, never
from the service that it is to judge.

A policy that demands a later genesis of the profile's own ledger also lets the profile follow the
ledger there. That is what an operator asks for who lost all endorsers at once. The account is
discontinued then, and what this device remembers of it still counts: passclave confirm.`,
		Example: `  passclave policy pin policy.json --profile laptop`,
		Args:    args("FILE"),
		RunE: func(c *cobra.Command, given []string) error {
			after, err := readPolicy(given[0])
			if err != nil {
				return err
			}
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			before, err := policy.Parse(d.TrustPolicy())
			if err != nil {
				return err
			}
			if err := a.repinFrom(c.Context(), d, given[0]); err != nil {
				return err
			}
			out := pinned{Profile: a.profile, Changes: append([]policy.Change{}, policy.Diff(before, after)...)}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "Pinned in profile %q.\n", printable(out.Profile)) })
		},
	}
	a.yesFlag(c)
	return c
}
