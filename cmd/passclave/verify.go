package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/policy"
)

// verification is the JSON of verify. "could not tell" is an error instead.
type verification struct {
	Service    string   `json:"service"` // URL or path
	Source     string   `json:"source"`  // sourceService, sourceBundle, sourceFolder
	Platform   string   `json:"platform,omitempty"`
	Verdict    string   `json:"verdict"`
	Simulation bool     `json:"simulation"`
	Fresh      bool     `json:"fresh"`   // made for this command's question
	Fetched    []string `json:"fetched"` // what the evidence lacks, and its maker or this machine's cache gave
	Missing    []string `json:"missing"` // what nobody gave; the verdict would be no better with it
	Waived     int      `json:"waived"`  // checks that the policy does without
	Dangers    int      `json:"dangers"` // warnings of what is genuine and lets the host in
	Warnings   []string `json:"warnings"`
	Findings   []line   `json:"findings"`
}

func (a *app) verifyCommand() *cobra.Command {
	var policyFile string
	c := &cobra.Command{
		Use:   "verify [URL | FILE | FOLDER] [--policy FILE]",
		Short: "Is the service what it should be? Every check, one a line",
		Long: `Makes every check on this machine: first whether the evidence is genuine, then what the trust
policy says of each field; where a check fails, what that means and what to do.

  URL     a running service: it is asked for fresh evidence
  FILE    a bundle that "passclave evidence save" wrote: nothing else is asked. Saved evidence
          answers no question, so it may be old
  FOLDER  a folder in the layout of Azure Container Instances: report.bin (or report-base64,
          report.hex), host-amd-cert-base64, reference-info-base64, security-policy-base64.
          Evidence that binds no runtime data is accepted only where the policy waives
          "runtime_data" by name

Without arguments it takes service and pinned policy of the profile. Evidence that is complete is
verified without the network. What it lacks and the verdict needs is fetched, in half a minute at
most, from AMD, Azure's certificate cache or Intel, who so learn which chip somebody verifies:
certificates; revocation lists and statements about firmware where the policy demands them. The
answers are verified, and kept in the user's cache folder. For a simulation nothing is fetched. For
tokens of an attestation service, the keys of the services that the policy names are.

Exit code: 0 accepted, 2 genuine but refused by the policy, 3 not genuine, 1 could not tell: what is
missing, and who was asked, is said then. Warnings come first. What the host may do although all is
genuine (read memory, run commands) is a danger: the last line counts dangers, also of what is accepted.`,
		Example: `  passclave verify --profile laptop
  passclave verify http://127.0.0.1:8780 --policy state/policy.json --json
  passclave verify evidence.cbor --policy policy.json
  passclave verify ./security-context-abc --policy policy.json`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) > 1 {
				return usagef("%s takes one URL, file or folder", c.CommandPath())
			}
			// A script's variable that is not set must not become "what the profile has".
			if len(given) == 1 && given[0] == "" || c.Flags().Changed("policy") && policyFile == "" {
				return usagef("%s was given an empty name", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, given []string) error {
			from, trust, err := a.toVerify(c, given, policyFile)
			if err != nil {
				return err
			}
			p, err := policy.Parse(trust)
			if err != nil {
				return fmt.Errorf("%s: %w", firstOf(policyFile, "pinned in the profile"), err)
			}
			e, err := a.loadEvidence(c.Context(), from)
			if err != nil {
				return err
			}
			roots, err := rootsFor(c.Context(), e, p)
			if err != nil {
				return err
			}
			unknown := a.completeEvidence(c.Context(), e, roots, wantedBy(p))
			var lacking *undecided
			if unknown != nil && !errors.As(unknown, &lacking) {
				return unknown
			}
			j := judge(e, p, roots, a.now())
			missing := []string{}
			if lacking != nil {
				if !j.decided(e, roots, a.now()) {
					return unknown
				}
				missing = append(missing, lacking.missing.Missing)
				a.warn("incomplete: %s", lacking.incomplete())
			}
			out := verification{Service: from, Source: e.source, Verdict: j.verdict, Fresh: e.nonce != nil && j.claims != nil && j.verdict != verdictNotGenuine,
				Fetched: append([]string{}, e.fetched...), Missing: missing, Waived: j.waived(), Warnings: []string{}, Findings: j.lines}
			if e.bundle != nil {
				out.Platform = string(e.bundle.Platform)
			}
			if j.claims != nil {
				out.Simulation = j.claims.Simulated
				out.Warnings = append(out.Warnings, warnings(j.claims, p)...)
				out.Dangers = dangers(j.claims)
			}
			if err := a.print(out, func(w io.Writer) { printVerification(w, out) }); err != nil {
				return err
			}
			a.exit = j.exit()
			return errReported
		},
	}
	c.Flags().StringVar(&policyFile, "policy", "", "trust policy `file` (default: the one pinned in the profile)")
	return c
}

func warnings(c *attestation.Claims, p *policy.TrustPolicy) (out []string) {
	for _, w := range policy.Warnings(c, p) {
		out = append(out, w.String())
	}
	return out
}

// dangers counts the warnings of what no policy waives away: what the host may do.
func dangers(c *attestation.Claims) (n int) {
	for _, w := range policy.Warnings(c, nil) {
		switch w.Field {
		case policy.FieldHostData, policy.FieldDebug, policy.FieldMigration, policy.FieldTCBStatus:
			n++
		}
	}
	return n
}

// errNothingPinned is a verify that names no policy or no service, where no profile does.
var errNothingPinned = fmt.Errorf("%w: name service and trust policy, as in `passclave verify URL|FILE|FOLDER --policy FILE`", client.ErrNoProfile)

// toVerify returns the service and the policy: those of the arguments, else of the profile.
func (a *app) toVerify(c *cobra.Command, given []string, policyFile string) (service string, trust []byte, err error) {
	if len(given) > 0 {
		service = given[0]
	}
	if policyFile != "" {
		if trust, err = os.ReadFile(policyFile); err != nil {
			return "", nil, err
		}
	}
	if service != "" && trust != nil {
		return service, trust, nil
	}
	d, err := a.open(c.Context())
	if errors.Is(err, client.ErrNoProfile) {
		return "", nil, errNothingPinned
	}
	if err != nil {
		return "", nil, err
	}
	defer d.close()
	if service == "" {
		service = d.Status().URL
	}
	if trust == nil {
		trust = d.TrustPolicy()
	}
	return service, trust, nil
}

func printVerification(w io.Writer, v verification) {
	for _, text := range v.Warnings {
		fmt.Fprintf(w, "! %s\n", printable(text))
	}
	printChecks(w, v.Findings)
	printRemedies(w, v.Findings)
	if len(v.Fetched) > 0 {
		fmt.Fprintf(w, "\nNot in the evidence, and fetched from the hardware's maker or had from this machine's cache: %s\n", printable(strings.Join(v.Fetched, ", ")))
	}
	fmt.Fprintf(w, "\n%s: %s\n", printable(v.Service), conclusion(v))
}

// printRemedies says each remedy once, after all checks that it is for.
func printRemedies(w io.Writer, lines []line) {
	names, texts := map[string][]string{}, []string{}
	for _, l := range lines {
		if l.Remedy == "" {
			continue
		}
		if names[l.Remedy] == nil {
			texts = append(texts, l.Remedy)
		}
		names[l.Remedy] = append(names[l.Remedy], l.Name)
	}
	for _, text := range texts {
		fmt.Fprintf(w, "\n%s: %s\n", strings.Join(names[text], ", "), text)
	}
}

// conclusion is the last line: what must not be overlooked stands beside the verdict.
func conclusion(v verification) string {
	text := strings.ToUpper(v.Verdict)
	if v.Simulation {
		text += ", SIMULATION"
	}
	if v.Dangers > 0 {
		text += ", " + strings.ToUpper(count(v.Dangers, "danger")) + " (! above)"
	}
	if v.Waived > 0 {
		text += ", " + count(v.Waived, "check") + " waived"
	}
	return text
}
