package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/broker"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

// releaseExplained is the JSON of keys explain.
type releaseExplained struct {
	Of         string   `json:"of"`     // file, folder or URL
	Source     string   `json:"source"` // "token", or where evidence is from
	Policy     string   `json:"policy"`
	Authority  string   `json:"authority"` // who issued the token, or is taken for that
	Simulation bool     `json:"simulation"`
	Released   bool     `json:"released"`
	Clauses    []clause `json:"clauses"` // the policy's, in its order
	Open       []string `json:"open"`    // why the broker refuses beyond the policy
	Notes      []string `json:"notes"`

	verdict broker.Verdict
	another bool // evidence that is not for releases: an enclave's would be judged so
}

// clause is one of a release policy, by its path: "anyOf[0].allOf[1]".
type clause struct {
	Path      string `json:"path"`
	Clause    string `json:"clause"` // "authority", "allOf", "anyOf", or the claim's name
	Operator  string `json:"operator,omitempty"`
	Expected  string `json:"expected,omitempty"`
	Actual    string `json:"actual,omitempty"`
	Satisfied bool   `json:"satisfied"`
}

func (a *app) keysExplainCommand() *cobra.Command {
	var policyFile, authority, root string
	c := &cobra.Command{
		Use:   "explain TOKEN|EVIDENCE --policy FILE",
		Short: "Why a key release is given or refused, clause by clause",
		Long: `Asks a release policy about a token or about evidence, here, without the key service: every clause
with what it expects and what is there, and beyond the policy what the key broker never leaves open.

  TOKEN     a file with an attestation token (JWT), of Azure's or of a key broker. Its claims are
            taken as they are: nobody's signature is verified
  EVIDENCE  a file that "passclave evidence save" wrote, a folder in ACI's layout, or a service's URL.
            It must be genuine. Its claims are those that a key broker's token would have

Exit code: 0 it would be released, 2 refused, 3 the evidence is not genuine, 1 could not tell.`,
		Example: `  passclave keys explain token.jwt --policy release.json
  passclave keys explain evidence.cbor --policy state/release.json --simulation-root state/simtee/simulation-root.pem`,
		Args: args("TOKEN or EVIDENCE"),

		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault), // a file
		RunE: func(c *cobra.Command, given []string) error {
			if policyFile == "" {
				return usagef("%s needs a release policy: --policy FILE", c.CommandPath())
			}
			text, err := os.ReadFile(policyFile)
			if err != nil {
				return err
			}
			p, err := releasepolicy.Parse(text)
			if err != nil {
				return fmt.Errorf("%s: %w", policyFile, err)
			}
			out := &releaseExplained{Of: given[0], Policy: policyFile, Authority: authority, Notes: []string{}}
			if err := a.explainRelease(c.Context(), out, p, root); err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { printReleaseExplained(w, out) }); err != nil {
				return err
			}
			if !out.Released {
				a.exit = exitPolicy
				return errReported
			}
			return nil
		},
	}
	policyFlag(c, &policyFile, "release policy `file`")
	c.Flags().StringVar(&authority, "authority", "", "the attestation service's `URL` (default: the token's issuer; for evidence the one that the policy names)")
	c.Flags().StringVar(&root, "simulation-root", "", "believe simulated hardware under this root: its certificate's `file` (PEM) or SHA-256 in hexadecimal")
	return c
}

func (a *app) explainRelease(ctx context.Context, out *releaseExplained, p *releasepolicy.Policy, root string) error {
	if !strings.Contains(out.Of, "://") {
		token, err := readToken(out.Of)
		if err != nil {
			return err
		}
		if token != nil {
			return explainToken(out, p, token, a.now())
		}
	}
	e, err := a.loadEvidence(ctx, out.Of)
	if err != nil {
		return err
	}
	out.Source = e.source
	if e.problem != nil {
		return wire.NewError(wire.CodeEvidence, e.problem)
	}
	if e.bundle.Platform == attestation.PlatformAzureAttestation {
		return explainToken(out, p, e.bundle.Report, a.now())
	}
	believes, err := believed(root, "")
	if err != nil {
		return err
	}
	facts, err := e.genuine(believes.Roots(), a.now())
	if errors.Is(err, &attestation.Error{Check: attestation.CheckRoot}) {
		err = fmt.Errorf("%w; if it is a simulation of your own, name its root with --simulation-root", err)
	}
	if err != nil {
		return wire.NewError(wire.CodeEvidence, err)
	}
	if out.Authority == "" {
		named := p.Authorities()
		if len(named) > 1 {
			return usagef("the policy names %d authorities: say which with --authority", len(named))
		}
		out.Authority = named[0]
		out.note("the authority is taken to be the one that the policy names")
	}
	if facts.RuntimeData == nil || facts.RuntimeData.Purpose != attestation.PurposeRelease {
		out.another = true
		out.note(`this evidence is not of purpose "release": the key service refuses it as such. What an enclave shows there has other runtime data and report data, and the same claims besides`)
	}
	claims, err := broker.Claims(facts, e.bundle.RuntimeData)
	if err != nil {
		return err
	}
	out.Simulation = facts.Simulated
	out.judge(broker.Judge(p, out.Authority, claims))
	return nil
}

// compactJWS is a token as it is written down.
var compactJWS = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// readToken returns the token in a file; nil: there is something else.
func readToken(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() || info.Size() > attestation.MaxBundle {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if data = bytes.TrimSpace(data); compactJWS.Match(data) {
		return data, nil
	}
	return nil, nil
}

func explainToken(out *releaseExplained, p *releasepolicy.Policy, token []byte, now time.Time) error {
	out.Source = "token"
	notToken := func(err error) error { return fmt.Errorf("%s: not an attestation token: %w", out.Of, err) }
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return notToken(errors.New("not a compact JWS"))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return notToken(err)
	}
	claims, err := releasepolicy.ParseClaims(payload)
	if err != nil {
		return notToken(err)
	}
	var own struct {
		Expires float64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &own); err != nil {
		return notToken(err)
	}
	if out.Authority == "" {
		out.Authority, _ = claims.Text("iss")
	}
	out.note("the token's signature is not verified here")
	if ends := time.Unix(int64(own.Expires), 0); now.After(ends) {
		out.note("the token expired at %s: the key service refuses it as such", ends.UTC().Format(time.RFC3339))
	}
	simulated, ours := claims.Text("x-passclave-simulated")
	out.Simulation = simulated == "true"
	v := broker.Judge(p, out.Authority, claims)
	if !ours {
		v.Open, v.Released = []string{}, v.Decision.Released
		out.note("not a token of a Passclave key broker: what that refuses beyond the policy does not count")
	}
	out.judge(v)
	return nil
}

func (e *releaseExplained) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

func (e *releaseExplained) judge(v broker.Verdict) {
	e.verdict, e.Released, e.Open, e.Clauses = v, v.Released, v.Open, []clause{}
	for i, rule := range v.Decision.Clauses {
		path := fmt.Sprintf("anyOf[%d]", i)
		e.Clauses = append(e.Clauses, clauseOf(path, &rule))
		e.list(path, &rule.Clauses[0])
	}
}

// list adds the clauses of an allOf or anyOf.
func (e *releaseExplained) list(path string, d *releasepolicy.Decision) {
	for i := range d.Clauses {
		at := fmt.Sprintf("%s.%s[%d]", path, d.Clause, i)
		e.Clauses = append(e.Clauses, clauseOf(at, &d.Clauses[i]))
		e.list(at, &d.Clauses[i])
	}
}

func clauseOf(path string, d *releasepolicy.Decision) clause {
	return clause{path, d.Clause, string(d.Operator), d.Expected, d.Actual, d.Released}
}

func printReleaseExplained(w io.Writer, e *releaseExplained) {
	if e.Simulation {
		fmt.Fprintln(w, "! SIMULATION: it proves nothing about hardware")
	}
	var clauses bytes.Buffer
	e.verdict.Decision.Explain(&clauses)
	fmt.Fprint(w, printableLines(clauses.String()))
	for _, open := range e.Open {
		fmt.Fprintf(w, "no  the broker: %s\n", printable(open))
	}
	fmt.Fprintln(w)
	for _, n := range e.Notes {
		fmt.Fprintf(w, "note: %s\n", printable(n))
	}
	verdict := "REFUSED"
	if e.Released {
		verdict = "RELEASED"
		if e.another {
			verdict = "RELEASED to such an enclave, not for this evidence"
		}
	}
	if e.Simulation {
		verdict += ", SIMULATION"
	}
	fmt.Fprintf(w, "%s: %s\n", printable(e.Of), verdict)
}
