package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/statefile"
)

// brokerFlags say which key broker an operator asks, and which operator asks.
type brokerFlags struct {
	state, broker, roots, operator string
	key                            string // name of the KEK
}

// operatorFlags adds the flags that every command of operators has.
func (f *brokerFlags) operatorFlags(c *cobra.Command) {
	f.addressFlags(c)
	c.Flags().StringVar(&f.key, "key", "passclave-kek", "`name` of the key")
}

func (f *brokerFlags) addressFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.state, "state", "./state", "`folder` of a development service, which has all of the following")
	c.Flags().StringVar(&f.broker, "broker", "", "the key broker's `URL`, as it was started with")
	c.Flags().StringVar(&f.roots, "roots", "", "what the broker's certificate chains to, a PEM `file` (default: the system's)")
	c.Flags().StringVar(&f.operator, "operator", "", "your operator's key, a PEM `file` that \"passclave keys operator new\" made")
	for _, name := range []string{"roots", "operator"} {
		c.MarkFlagFilename(name, "pem")
	}
}

// client returns the client of an operator: the one named, or in a state folder the first
// or second (nth 0 or 1) of those that lie there.
func (f *brokerFlags) client(a *app, nth int) (*operator.Client, error) {
	broker, roots, keyFile := f.broker, f.roots, f.operator
	if broker == "" {
		s, err := stack.ServiceOf(f.state)
		if err != nil {
			return nil, fmt.Errorf("%w; another broker is named with --broker URL --operator FILE", err)
		}
		if broker, roots = s.Broker, firstOf(f.roots, s.Roots); keyFile == "" {
			keyFile = s.Operators[nth]
			a.warn("SIMULATION: as the operator whose key is in %s. Where it counts, two people have one key each, and neither lies beside the service.", keyFile)
		}
	}
	if keyFile == "" {
		return nil, usagef("--broker needs your operator's key: --operator FILE")
	}
	key, err := statefile.ReadKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("the operator's key: %w", err)
	}
	pool, err := readRoots(roots)
	if err != nil {
		return nil, err
	}
	c, err := operator.NewClient(broker, pool, key)
	if err != nil {
		return nil, usagef("--broker: %v", err)
	}
	return c, nil
}

// readRoots returns the certificates of a PEM file; nil without one.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	return pool, nil
}

// find returns a key's version by its ID.
func find(k *operator.Key, id string) (*operator.Version, error) {
	i := slices.IndexFunc(k.Versions, func(v operator.Version) bool { return v.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("key %q has no version %q; `passclave keys list` shows all", k.Name, id)
	}
	return &k.Versions[i], nil
}

// errKeyNeeded ends disable where something hangs on the version.
var errKeyNeeded = errors.New("the version is needed")
