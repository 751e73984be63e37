package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// initialized is the JSON of policy init.
type initialized struct {
	File     string   `json:"file"`
	Evidence string   `json:"evidence"`
	Accepts  bool     `json:"accepts"`  // the policy accepts the evidence it was made from
	Warnings []string `json:"warnings"` // of the evidence, and what the policy waives
	Findings []line   `json:"findings"` // taken over: accepted; not taken over: refused
}

const decideHelp = `Evidence cannot say whether it should be trusted: any program on any machine of a known maker gives
genuine evidence. Whoever makes a policy from it decides that this machine, running this binary with
this configuration, is the right one. Compare measurement and configuration with what the release's
publisher says, on another way than the service's own, before you hand the policy on.`

func (a *app) policyInitCommand() *cobra.Command {
	var from, file, root, service string
	c := &cobra.Command{
		Use:   "init --evidence FILE|FOLDER|URL -o FILE",
		Short: "Make a trust policy from evidence that you decided to trust",
		Long: decideHelp + `

The evidence must be genuine; certificates that it lacks are fetched, as "passclave verify" does. The
policy is the strictest one for it, and demands all that this version can judge. What is dangerous is
not taken over (debugging, migration, a cheap PIN, firmware with known holes, a report that the host
asked for): the policy then refuses this very evidence until somebody waives that by name. It names
no chip and never expires: narrow that by hand. What a folder of ACI cannot show (configuration,
ledger) stands in it as zeros, which no service has.

A simulation's root lies in its state folder: simtee/simulation-root.pem for SEV-SNP,
simtee/simulation-intel-root.pem for TDX and SGX.

Exit code: 0 made, and it accepts the evidence; 2 made, and it refuses the evidence; 3 the evidence is
not genuine; 1 nothing was made.`,
		Example: `  passclave policy init --evidence evidence.cbor -o policy.json
  passclave policy init --evidence http://127.0.0.1:8780 --simulation-root state/simtee/simulation-root.pem -o policy.json
  passclave policy lint policy.json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if from == "" || file == "" {
				return usagef("%s needs --evidence and -o FILE", c.CommandPath())
			}
			if err := absent(file); err != nil {
				return err
			}
			trusted, err := believed(root, service)
			if err != nil {
				return err
			}
			e, err := a.loadEvidence(c.Context(), from)
			if err != nil {
				return err
			}
			roots, err := rootsFor(c.Context(), e, trusted)
			if err != nil {
				return err
			}
			if err := a.completeEvidence(c.Context(), e, roots, wanted{}); err != nil {
				return err
			}
			out, err := initPolicy(e, roots, file, a.now())
			if err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { printInitialized(w, *out) }); err != nil {
				return err
			}
			if !out.Accepts {
				a.exit = exitPolicy
				return errReported
			}
			return nil
		},
	}
	c.Flags().StringVar(&from, "evidence", "", "what to make it of, `FILE|FOLDER|URL`: saved bundle, folder in ACI's layout, a service")
	c.Flags().StringVarP(&file, "output", "o", "", "`file` to write: it must not exist")
	c.Flags().StringVar(&root, "simulation-root", "", "believe simulated hardware under this root: its certificate's `file` (PEM) or SHA-256 in hexadecimal")
	c.Flags().StringVar(&service, "attestation-service", "", "believe tokens of the attestation service at this https `URL`")
	return c
}

// believed is a policy that names nothing but what the flags do.
func believed(root, service string) (*policy.TrustPolicy, error) {
	p := &policy.TrustPolicy{}
	if root != "" {
		h, err := rootHash(root)
		if err != nil {
			return nil, err
		}
		p.Simulation = &policy.Simulation{Roots: []policy.Hex{h}}
	}
	if service != "" {
		if u, err := url.Parse(service); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, usagef("--attestation-service: %q is not an https URL", service)
		}
		p.AttestationServices = []policy.AttestationService{{Issuer: service}}
	}
	return p, nil
}

// rootHash returns the SHA-256 of a root certificate: as given, or of the one in a file.
func rootHash(root string) ([]byte, error) {
	if h, err := hex.DecodeString(root); err == nil && len(h) == sha256.Size {
		return h, nil
	}
	data, err := os.ReadFile(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--simulation-root: %q is neither a file that is there nor a SHA-256 of 64 hexadecimal digits", root)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: no certificate in PEM", root)
	}
	h := sha256.Sum256(block.Bytes)
	return h[:], nil
}

// errUnnamed ends init where evidence cannot be named by any policy.
var errUnnamed = errors.New("no policy can name this evidence")

func initPolicy(e *evidence, roots attestation.Roots, file string, now time.Time) (*initialized, error) {
	if e.problem != nil {
		return nil, wire.NewError(wire.CodeEvidence, e.problem)
	}
	claims, err := e.genuine(roots, now)
	if errors.Is(err, &attestation.Error{Check: attestation.CheckRoot}) {
		err = fmt.Errorf("%w; if it is a simulation of your own, name its root with --simulation-root", err)
	}
	if err != nil {
		return nil, wire.NewError(wire.CodeEvidence, err)
	}
	p := policy.FromEvidence(claims)
	encoded := p.Encode()
	if _, err := policy.Parse(encoded); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnnamed, err)
	}
	purpose := attestation.PurposeClient
	if r := claims.RuntimeData; r != nil {
		purpose = r.Purpose
	}
	out := &initialized{File: file, Evidence: e.name, Accepts: true, Warnings: append([]string{}, warnings(claims, p)...)}
	for _, f := range policy.Explain(claims, p, purpose, now) {
		out.Accepts = out.Accepts && f.Verdict != policy.Refused
		out.Findings = append(out.Findings, line{partPolicy, string(f.Field), f.Expected, f.Actual, string(f.Verdict), f.Remedy})
	}
	return out, writeNew(file, encoded)
}

func printInitialized(w io.Writer, i initialized) {
	fmt.Fprintf(w, "%s\n\n", decideHelp)
	for _, text := range i.Warnings {
		fmt.Fprintf(w, "! %s\n", printable(text))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range i.Findings {
		switch l.Verdict {
		case string(policy.Refused):
			fmt.Fprintf(t, "NOT TAKEN OVER\t%s\tfound %s; the policy demands %s\n", l.Name, printable(l.Actual), printable(l.Expected))
		case string(policy.Waived):
			fmt.Fprintf(t, "waived\t%s\t%s\n", l.Name, printable(firstOf(l.Expected, l.Actual)))
		default:
			fmt.Fprintf(t, "taken over\t%s\t%s\n", l.Name, printable(firstOf(l.Expected, l.Actual)))
		}
	}
	t.Flush()
	if i.Accepts {
		fmt.Fprintf(w, "\n%s accepts this evidence. Next: passclave policy lint %s\n", printable(i.File), printable(i.File))
		return
	}
	fmt.Fprintf(w, "\n%s REFUSES this evidence, for what was not taken over:\n", printable(i.File))
	for _, l := range i.Findings {
		if l.Remedy != "" {
			fmt.Fprintf(w, "  %s: %s\n", l.Name, l.Remedy)
		}
	}
}
