package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/wire"
)

func (a *app) evidenceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "evidence",
		Short: "Keep a service's evidence for later",
	}
	c.AddCommand(a.evidenceSaveCommand())
	return c
}

// saved is the JSON of evidence save.
type saved struct {
	File       string    `json:"file"`
	Service    string    `json:"service"`
	Platform   string    `json:"platform"`
	Simulation bool      `json:"simulation"` // no hardware maker stands behind it
	Bytes      int       `json:"bytes"`
	Time       time.Time `json:"time"` // by the host's clock
	Contents   []part    `json:"contents"`
	Fetched    []string  `json:"fetched"` // what the service's bundle lacked
	Missing    []string  `json:"missing"` // what it still lacks: nobody gave it
}

// part is one member of a bundle.
type part struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

func (a *app) evidenceSaveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "save URL -o FILE",
		Short: "Save fresh evidence, to be verified later by anyone",
		Long: `Asks the service for evidence over a fresh nonce and writes the bundle: report, certificates,
collateral, endorsements, runtime data, configuration, time. Certificates, revocation lists and
Intel's statements about firmware that the service did not send are fetched from the hardware's maker
and put into the file. Whoever has it can verify it without service and network, as long as the
lists in it are in their time: passclave verify FILE --policy FILE.

Nothing is judged here but that the bundle can be read and answers this question; a later
verifier cannot know the nonce. The file is not secret. It never overwrites one.

Exit code: 0 saved, 3 not evidence or not an answer to this question, 1 the service cannot be reached
(nothing is saved), or the file is saved without something that nobody gave ("missing" in the JSON).`,
		Example: `  passclave evidence save http://127.0.0.1:8780 -o evidence.cbor
  passclave verify evidence.cbor --policy state/policy.json`,
		Args: args("URL"),
		RunE: func(c *cobra.Command, given []string) error {
			if file == "" {
				return usagef("%s needs -o FILE", c.CommandPath())
			}
			if err := absent(file); err != nil {
				return err
			}
			a.working("asking for evidence")
			encoded, nonce, err := fetchEvidence(c.Context(), given[0])
			if err != nil {
				return err
			}
			b, err := attestation.ParseBundle(encoded)
			if err != nil {
				return wire.NewError(wire.CodeEvidence, err)
			}
			r, err := attestation.ParseRuntimeData(b.RuntimeData)
			if err != nil {
				return wire.NewError(wire.CodeEvidence, err)
			}
			if !bytes.Equal(r.Nonce, nonce) {
				return wire.Errorf(wire.CodeEvidence, "the evidence was not made for this question: it is an old one, or somebody else's")
			}
			out := saved{File: file, Service: given[0], Platform: string(b.Platform), Simulation: attestation.Simulated(b, a.now()), Time: fromUnix(b.Time)}
			if out.Fetched, out.Missing, err = a.completeForOthers(c.Context(), b); err != nil {
				return err
			}
			if len(out.Fetched) > 0 {
				encoded = b.Encode()
			}
			if len(encoded) > attestation.MaxBundle {
				return fmt.Errorf("with what was fetched the evidence has %d bytes, more than a bundle may", len(encoded))
			}
			if err := writeNew(file, encoded); err != nil {
				return err
			}
			out.Bytes, out.Contents = len(encoded), contents(b)
			if err := a.print(out, func(w io.Writer) { printSaved(w, out) }); err != nil || len(out.Missing) == 0 {
				return err
			}
			a.exit = exitError
			return errReported
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "`file` to write: it must not exist")
	return c
}

// completeForOthers puts into b all that any policy may ask for, one after the other:
// what one source has does not depend on another's answer.
func (a *app) completeForOthers(ctx context.Context, b *attestation.Bundle) (found, lacking []string, err error) {
	found, lacking = []string{}, []string{}
	for _, want := range []wanted{{}, {tcb: true}, {revocation: true}} {
		names, err := a.complete(ctx, b, attestation.Roots{}, want)
		found = append(found, names...)
		var missing *collateral.Incomplete
		if !errors.As(err, &missing) {
			if err != nil {
				return nil, nil, err
			}
			continue
		}
		a.warn("incomplete: %s", (&undecided{missing}).incomplete())
		lacking = append(lacking, missing.Missing)
		if missing.Missing == collateral.Certificates {
			break // nothing else can be looked for without
		}
	}
	return found, lacking, nil
}

func contents(b *attestation.Bundle) []part {
	out := []part{}
	add := func(name string, data ...[]byte) {
		if n := len(bytes.Join(data, nil)); n > 0 {
			out = append(out, part{name, n})
		}
	}
	add("report", b.Report)
	add("certificates", b.Certificates...)
	add("endorsements", b.Endorsements...)
	add("host certificates", b.HostAMD)
	for _, c := range b.Collateral {
		add("collateral "+c.Name, c.Data)
	}
	add("runtime data", b.RuntimeData)
	add("configuration", b.Configuration)
	add("security policy", b.SecurityPolicy)
	return out
}

func printSaved(w io.Writer, s saved) {
	for _, p := range s.Contents {
		fmt.Fprintf(w, "%8d  %s\n", p.Bytes, printable(p.Name))
	}
	if len(s.Fetched) > 0 {
		fmt.Fprintf(w, "\nNot sent by the service, and fetched from the hardware's maker or had from this machine's cache: %s\n", printable(strings.Join(s.Fetched, ", ")))
	}
	fmt.Fprintf(w, "\n%s: %d bytes of %s evidence, made %s by the host's clock. Nothing was verified yet:\n  passclave verify %s --policy FILE\n",
		printable(s.File), s.Bytes, printable(s.Platform), moment(s.Time), printable(s.File))
	if s.Simulation {
		fmt.Fprintln(w, "SIMULATION: its certificates end at a root that no hardware maker has. Such evidence protects against nobody with access to the machine")
	}
	if len(s.Missing) > 0 {
		fmt.Fprintf(w, "INCOMPLETE: without %s. A policy that demands it will not accept this file\n", printable(strings.Join(s.Missing, ", ")))
	}
}

// absent demands that a file to be written is not there yet.
func absent(file string) error {
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			return usagef("%s exists; nothing is overwritten", file)
		}
		return err
	}
	return nil
}

// writeNew writes a file that must not exist. Where it fails half-way it leaves nothing.
func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s exists; nothing is overwritten", file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}
