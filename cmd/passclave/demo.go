package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/passclave/passclave/development/demo"
)

func (a *app) demoCommand() *cobra.Command {
	var logs bool
	var ledger, keys string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Tell the whole story, attacks included, in a temporary folder",
		Long: `Starts a service in SIMULATION in a temporary folder and tells its story step by step, through this
command line and the real HTTP API: enrol, create, sign in, join, lock out, unlock, revoke; then a
host that lies, and an enclave with another measurement. It ends with 0 only if each step had
exactly the result that it must have. Nothing stays behind.`,
		Example: `  passclave demo
  passclave demo --ledger endorsed
  passclave demo --keys softhsm
  passclave demo --logs 2>demo.log`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			bin, err := binFolder()
			if err != nil {
				return err
			}
			o := demo.Options{Bin: bin, Out: a.stdout, Log: io.Discard, Color: isTerminal(a.stdout), Ledger: ledger, Keys: keys}
			if logs {
				o.Log = a.stderr
			}
			return demo.Run(c.Context(), o)
		},
	}
	c.Flags().BoolVar(&logs, "logs", false, "the services' logs, too, on stderr")
	c.Flags().StringVar(&ledger, "ledger", "", "local, or endorsed, of which there is more to tell: a `name` (default local)")
	c.Flags().StringVar(&keys, "keys", "", "`name` of where the key-encryption key is: file, or softhsm (default file)")
	return c
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
