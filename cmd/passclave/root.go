package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Groups of the help.
const (
	groupPasskeys = "passkeys"
	groupDevices  = "devices"
	groupCheck    = "check"
	groupOperate  = "operate"
	groupShell    = "shell"
)

func init() { cobra.EnableCommandSorting = false } // help has the order of a story

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "passclave",
		Short: "Passkeys that sync, and that nobody but you can read",
		Long: "passclave keeps passkeys in a service whose operator, host and storage cannot read them.\n" +
			"It verifies the service's attestation itself before it sends anything.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.profile, "profile", "p", defaultProfile, "`name` of this device's profile: one for each device on this machine")
	flags.BoolVar(&a.json, "json", false, "print JSON")
	root.RegisterFlagCompletionFunc("profile", a.completeProfiles)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	root.AddGroup(
		&cobra.Group{ID: groupPasskeys, Title: "Passkeys:"},
		&cobra.Group{ID: groupDevices, Title: "Devices and PIN:"},
		&cobra.Group{ID: groupCheck, Title: "Check the service:"},
		&cobra.Group{ID: groupOperate, Title: "Operate:"},
		&cobra.Group{ID: groupShell, Title: "Your shell:"},
	)
	root.AddCommand(
		inGroup(groupPasskeys, a.passkeyCommand()),
		inGroup(groupDevices, a.enrollCommand()), inGroup(groupDevices, a.joinCommand()),
		inGroup(groupDevices, a.pinCommand()), inGroup(groupDevices, a.deviceCommand()),
		inGroup(groupDevices, a.confirmCommand()),
		inGroup(groupCheck, a.verifyCommand()), inGroup(groupCheck, a.evidenceCommand()),
		inGroup(groupCheck, a.policyCommand()), inGroup(groupCheck, a.historyCommand()),
		inGroup(groupCheck, a.statusCommand()), inGroup(groupCheck, a.syncCommand()),
		inGroup(groupOperate, a.upCommand()), inGroup(groupOperate, a.demoCommand()),
		inGroup(groupOperate, a.fsckCommand()), inGroup(groupOperate, a.keysCommand()),
		inGroup(groupOperate, a.ledgerCommand()),
		inGroup(groupShell, a.completionCommand()),
	)
	root.SetHelpCommand(a.helpCommand())
	for _, c := range append(root.Commands(), root) {
		askForSubcommand(c)
	}
	for _, c := range leaves(root) {
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		if unknown := c.Flags().Args(); c.HasSubCommands() && len(unknown) > 0 {
			a.wrongHelp = noCommand(c, unknown[0])
			return
		}
		if c == root {
			rootHelp(root, a.stdout)
			return
		}
		fmt.Fprintln(a.stdout, strings.TrimSpace(firstOf(c.Long, c.Short)))
		fmt.Fprint(a.stdout, "\n"+c.UsageString())
	})
	return root
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func inGroup(id string, c *cobra.Command) *cobra.Command {
	c.GroupID = id
	return c
}

// askForSubcommand makes a command that only holds others show its help, and an
// unknown subcommand a wrong use.
func askForSubcommand(c *cobra.Command) {
	if c.Runnable() {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return noCommand(c, args[0])
	}
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
}

// noCommand is the wrong use of a command that is not there.
func noCommand(c *cobra.Command, name string) error {
	text := fmt.Sprintf("there is no command %q", c.CommandPath()+" "+name)
	if near := suggestions(c, name); len(near) > 0 {
		return usagef("%s; did you mean %s?", text, strings.Join(near, " or "))
	}
	return usagef("%s; `%s --help` lists all", text, c.CommandPath())
}

// suggestions are the commands under c whose names are like name, by their own last
// word or by another that people have for them (cobra's SuggestFor).
func suggestions(c *cobra.Command, name string) []string {
	var near []string
	for _, sub := range c.Commands() {
		if sub.Hidden {
			continue
		}
		if slices.Contains(c.SuggestionsFor(name), sub.Name()) {
			near = append(near, sub.CommandPath())
		} else {
			near = append(near, suggestions(sub, name)...)
		}
	}
	return near
}

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Hidden: true,
		Args:   cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, given []string) error {
			of, unknown, err := c.Root().Find(given)
			if err != nil {
				return usagef("%v", err)
			}
			if len(unknown) > 0 {
				return noCommand(of, unknown[0])
			}
			return of.Help()
		},
	}
}

// rootHelp prints every command in its group, subcommands spelt out.
func rootHelp(root *cobra.Command, w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage: passclave COMMAND [flags]\n", root.Long)
	for _, g := range root.Groups() {
		fmt.Fprintf(w, "\n%s\n", g.Title)
		for _, c := range root.Commands() {
			if c.GroupID != g.ID {
				continue
			}
			for _, leaf := range leaves(c) {
				name := strings.TrimPrefix(leaf.CommandPath(), root.Name()+" ")
				fmt.Fprintf(w, "  %-18s %s\n", name, leaf.Short)
			}
		}
	}
	fmt.Fprintf(w, `
Flags of all commands:
  -p, --profile NAME   one profile for each device on this machine (default "default")
      --json           print JSON
  -h, --help           help, with examples: passclave COMMAND --help

%s`, exitHelp)
}

func leaves(c *cobra.Command) []*cobra.Command {
	if !c.HasAvailableSubCommands() {
		return []*cobra.Command{c}
	}
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		all = append(all, leaves(sub)...)
	}
	return all
}

// args checks the number of arguments: a wrong one is a wrong use. names are shown.
func args(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return usagef("%s takes no argument, not %q", c.CommandPath(), given[0])
		}
		return usagef("%s needs %s; see %s --help", c.CommandPath(), strings.Join(names, " and "), c.CommandPath())
	}
}

// Flags that several commands have.

func (a *app) pinFlag(c *cobra.Command) {
	from(c, &a.pinFD, "pin-fd", "read the PIN from this file `descriptor`: one line")
}

func (a *app) codeFlag(c *cobra.Command) {
	from(c, &a.codeFD, "code-fd", "read the local code of the software UV key from this file `descriptor`: one line")
}

// from adds a flag for a file descriptor.
func from(c *cobra.Command, d *descriptor, name, usage string) {
	d.name = name
	c.Flags().Var(d, name, usage)
}

func (a *app) loginFlags(c *cobra.Command) {
	c.Flags().StringVar(&a.user, "user", "", "log in as this `name` without a browser: at the development issuer only")
	c.Flags().BoolVar(&a.noBrowser, "no-browser", false, "print the login's address, open nothing")
}

// policyFlag adds --policy.
func policyFlag(c *cobra.Command, file *string, usage string) {
	c.Flags().StringVar(file, "policy", "", usage)
	c.MarkFlagFilename("policy", "json")
}

func (a *app) yesFlag(c *cobra.Command) {
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
}
