package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/statefile"
)

// audited is the JSON of keys audit.
type audited struct {
	Log     string          `json:"log"`
	Whole   bool            `json:"whole"`
	Key     string          `json:"key"`            // of the log: Ed25519, base64url
	Pinned  bool            `json:"pinned"`         // the key was given, or is the kept head's
	Head    *auditHead      `json:"head,omitempty"` // the newest record that holds
	Break   *auditBreak     `json:"break,omitempty"`
	Notes   []string        `json:"notes"`
	Records []*audit.Record `json:"records"`
}

type auditHead struct {
	Sequence uint64 `json:"sequence"`
	Digest   string `json:"digest"`
}

type auditBreak struct {
	Record uint64 `json:"record"`
	Check  string `json:"check"`
	Detail string `json:"detail"`
}

func (a *app) keysAuditCommand() *cobra.Command {
	var f brokerFlags
	var key, kept string
	c := &cobra.Command{
		Use:   "audit [FILE|FOLDER]",
		Short: "Verify and print the key broker's audit log",
		Long: `Verifies every record of a key broker's audit log, by its public key alone, and prints it: what was
released and refused, to whom and by which clause of the policy, and what operators did.

FILE or FOLDER is the broker's log or a copy of it; with --broker the running broker is asked, who also shows
that nothing newer is kept back. Without --audit-key the log's key is the one that the head beside it
names, which whoever may write there could have chosen. Who has the broker's key and file can rewrite all since the newest head that somebody else
kept. --head FILE keeps one: the log must contain it, and it is replaced by the newest one; where it is not there it
is made.

Exit code: 0 whole, 7 it breaks: the place is printed, with the records before it.`,
		Example: `  passclave keys audit --state ./state
  passclave keys audit --broker https://broker.example --operator alice.pem --head broker-head.json
  passclave keys audit /var/lib/keybroker/audit.jsonl --audit-key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --json`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) > 1 {
				return usagef("%s takes one file or folder", c.CommandPath())
			}
			if len(given) == 1 && f.broker != "" {
				return usagef("%s takes a file or --broker, not both", c.CommandPath())
			}
			return nil
		},

		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault), // a file
		RunE: func(c *cobra.Command, given []string) error {
			out, err := a.audit(c.Context(), &f, given, key, kept)
			if err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { printAudited(w, out) }); err != nil {
				return err
			}
			if !out.Whole {
				a.exit = exitAlarm
				return errReported
			}
			return nil
		},
	}
	f.addressFlags(c)
	c.Flags().StringVar(&key, "audit-key", "", "the log's public `key` (Ed25519, base64url), as an earlier audit printed it")
	c.Flags().StringVar(&kept, "head", "", "`file`, kept elsewhere, with the newest head that you saw")
	c.MarkFlagFilename("head")
	return c
}

// publicKey reads an Ed25519 public key as it is printed; nil of nothing.
func publicKey(flag, text string) (ed25519.PublicKey, error) {
	if text == "" {
		return nil, nil
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, usagef("%s: not an Ed25519 public key in base64url", flag)
	}
	return key, nil
}

func keptHead(file string) (*audit.Head, error) {
	data, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, err := audit.ParseHead(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return h, nil
}

func (a *app) audit(ctx context.Context, f *brokerFlags, given []string, pinned, keptFile string) (*audited, error) {
	key, err := publicKey("--audit-key", pinned)
	if err != nil {
		return nil, err
	}
	kept, err := keptHead(keptFile)
	if err != nil {
		return nil, err
	}
	out := &audited{Log: keyFolder(f.state), Pinned: key != nil || kept != nil, Notes: []string{}, Records: []*audit.Record{}}
	take := func(r *audit.Record) error {
		out.Records = append(out.Records, r)
		return nil
	}
	var v *audit.Verified
	var head *audit.Head
	if f.broker != "" {
		out.Log = f.broker
		v, head, err = a.auditBroker(ctx, f, key, kept, take)
	} else {
		if len(given) == 1 {
			out.Log = given[0]
		}
		v, head, err = audit.VerifyFile(out.Log, key, kept, take)
	}
	if err := out.verdict(v, err); err != nil {
		return nil, err
	}
	if head == nil {
		out.Notes = append(out.Notes, "there is no head beside this log: whether it was cut, nothing shows but a head that you kept")
	}
	if !out.Pinned {
		out.Notes = append(out.Notes, "the key is the one that came with the log: keep it, and give it next time (--audit-key, or --head)")
	}
	if out.Whole && keptFile != "" && head != nil {
		return out, keepHead(keptFile, head)
	}
	return out, nil
}

// auditBroker asks a running broker for its log, and verifies it against the head that the broker signed
// over our question.
func (a *app) auditBroker(ctx context.Context, f *brokerFlags, key ed25519.PublicKey, kept *audit.Head, each func(*audit.Record) error) (*audit.Verified, *audit.Head, error) {
	client, err := f.client(a, 0)
	if err != nil {
		return nil, nil, err
	}
	a.working("reading the log")
	lines, head, err := client.Audit(ctx)
	if err != nil {
		return nil, nil, err
	}
	v, err := audit.VerifyAnswer(lines, head, key, kept, each)
	return v, head, err
}

func keepHead(file string, h *audit.Head) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return statefile.Write(file, append(data, '\n'))
}

// verdict takes in how a verification ended; an error that says nothing about the log stays one.
func (out *audited) verdict(v *audit.Verified, err error) error {
	var broken *audit.BreakError
	switch {
	case errors.As(err, &broken):
		out.Break = &auditBreak{broken.Record, string(broken.Check), broken.Detail}
	case err != nil:
		return err
	default:
		out.Whole = true
	}
	out.Key = base64.RawURLEncoding.EncodeToString(v.Head.Key)
	out.Head = &auditHead{v.Head.Sequence, v.Head.Digest}
	if out.Whole && v.Unfinished > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d bytes behind the last whole record: being written just now, or left by a crash", v.Unfinished))
	}
	return nil
}

func printAudited(w io.Writer, out *audited) {
	for _, r := range out.Records {
		printRecord(w, r)
	}
	fmt.Fprintln(w)
	for _, n := range out.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	fmt.Fprintf(w, "key %s\n", out.Key)
	if b := out.Break; b != nil {
		fmt.Fprintf(w, "%s: BREAKS at record %d (%s): %s. What stands behind it proves nothing\n", printable(out.Log), b.Record, b.Check, printable(b.Detail))
		return
	}
	fmt.Fprintf(w, "%s: WHOLE, %s, the newest is %d %s\n", printable(out.Log), count(len(out.Records), "record"), out.Head.Sequence, out.Head.Digest)
}

// printRecord prints a record: one line, and what decided under it.
func printRecord(w io.Writer, r *audit.Record) {
	words := []string{string(r.Kind)}
	add := func(name, value string) {
		if value != "" {
			words = append(words, name+value)
		}
	}
	if r.Operator != nil {
		add("by ", r.Operator.Name)
	}
	add("", r.Act)
	add("", string(r.Outcome))
	add("", r.Code)
	add("key ", r.Key)
	add("version ", r.Version)
	add("policy ", short(r.Policy))
	add("proposal ", r.Proposal)
	if e := r.Evidence; e != nil {
		if e.Simulated {
			words = append(words, "SIMULATION")
		}
		add("", e.Platform)
		add("measurement ", short(e.Measurement))
		add("host data ", short(e.HostData))
		add("chip ", short(e.Chip))
		add("RSA key ", short(e.RSA))
	}
	if s := r.Start; s != nil {
		add("", s.Broker)
		if s.Simulated {
			words = append(words, "SIMULATION accepted")
		}
		for _, o := range s.Operators {
			words = append(words, "operator "+o.Name)
		}
		if s.Removed > 0 {
			words = append(words, fmt.Sprintf("removed %d bytes that a crash had left", s.Removed))
		}
	}
	add("from ", r.From)
	add("request ", r.Request)
	fmt.Fprintf(w, "%6d  %s  %s\n", r.Sequence, r.Time.UTC().Format(time.RFC3339), printable(strings.Join(words, "  ")))
	for _, c := range r.Clauses {
		fmt.Fprintf(w, "        %s\n", printable(c))
	}
	if len(r.Clauses) == 0 && r.Message != "" {
		fmt.Fprintf(w, "        %s\n", printable(r.Message))
	}
	if r.LeftOut > 0 {
		fmt.Fprintf(w, "        and %s since the last record of one, counted only\n", count(int(r.LeftOut), "refusal"))
	}
}

// short is a hash as people compare it; --json has all.
func short(hash string) string {
	if len(hash) > 20 {
		return hash[:8] + "…" + hash[len(hash)-8:]
	}
	return hash
}
