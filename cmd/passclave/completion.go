package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
)

// shells write a shell's completion script.
var shells = map[string]func(root *cobra.Command, a *app) error{
	"bash":       func(root *cobra.Command, a *app) error { return root.GenBashCompletionV2(a.stdout, true) },
	"zsh":        func(root *cobra.Command, a *app) error { return root.GenZshCompletion(a.stdout) },
	"fish":       func(root *cobra.Command, a *app) error { return root.GenFishCompletion(a.stdout, true) },
	"powershell": func(root *cobra.Command, a *app) error { return root.GenPowerShellCompletionWithDesc(a.stdout) },
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Completion for bash, zsh, fish or powershell",
		Long: `Prints a script that makes your shell complete passclave's commands, flags, profiles, devices and
passkeys. SHELL is bash, zsh, fish or powershell.`,
		Example: `  source <(passclave completion bash)                                            # this shell
  passclave completion fish > ~/.config/fish/completions/passclave.fish          # every one to come`,
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish", "powershell"},
		Args: func(c *cobra.Command, given []string) error {
			if err := args("SHELL")(c, given); err != nil {
				return err
			}
			if shells[given[0]] == nil {
				return usagef("%q is not one of bash, zsh, fish and powershell", given[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, given []string) error { return shells[given[0]](c.Root(), a) },
	}
}

// completeWithin is how long completion may ask the service.
const completeWithin = 3 * time.Second

const noFiles = cobra.ShellCompDirectiveNoFileComp

// completeProfiles lists the profiles of this machine.
func (a *app) completeProfiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	home, err := profilesFolder()
	if err != nil {
		return nil, noFiles
	}
	found, _ := filepath.Glob(filepath.Join(home, "*", string(client.ItemProfile)))
	var names []cobra.Completion
	for _, f := range found {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names, noFiles
}

// completePasskeys lists the passkeys that this device knows, by ID.
func (a *app) completePasskeys(c *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx := c.Context()
	d, err := a.open(ctx)
	if err != nil || len(given) > 0 {
		return nil, noFiles
	}
	defer d.close()
	l, err := d.List(ctx)
	if err != nil {
		return nil, noFiles
	}
	var ids []cobra.Completion
	for _, k := range l.Passkeys {
		if m := k.Metadata; !m.Deleted {
			ids = append(ids, cobra.CompletionWithDesc(k.Handle.String()[:8], strings.TrimSpace(printable(m.UserName+" at "+m.RPID+" "+m.Label))))
		}
	}
	return ids, noFiles
}

// completeDevices asks the enclave for the account's devices, shortly.
func (a *app) completeDevices(c *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
	defer cancel()
	d, err := a.open(ctx)
	if err != nil || len(given) > 0 {
		return nil, noFiles
	}
	defer d.close()
	infos, err := d.Devices(ctx)
	if err != nil {
		return nil, noFiles
	}
	var names []cobra.Completion
	for _, i := range infos {
		names = append(names, cobra.CompletionWithDesc(i.ID.String()[:8], printable(i.Name)), cobra.CompletionWithDesc(printable(i.Name), i.ID.String()[:8]))
	}
	return names, noFiles
}
