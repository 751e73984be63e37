package releasepolicy

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Decision is what a policy said to a token, clause by clause. Nothing in it is
// secret; claims are shortened.
type Decision struct {
	Released bool       `json:"released"`
	Clause   string     `json:"clause"`             // "policy", "authority", "allOf", "anyOf", or the claim's name
	Operator Operator   `json:"operator,omitempty"` // of a claim
	Expected string     `json:"expected,omitempty"` // value in the policy
	Actual   string     `json:"actual,omitempty"`   // what the token has; "(missing)" and so on where it has no value
	Clauses  []Decision `json:"clauses,omitempty"`
}

// Evaluate asks whether p releases to a token that authority issued with these
// claims. Every clause is evaluated, so that the decision explains all of it. An
// authority must be equal byte for byte: no slash is added or taken away.
//
// It does not verify the token.
func (p *Policy) Evaluate(authority string, claims Claims) Decision {
	d := Decision{Clause: "policy"}
	for _, r := range p.rules {
		a := Decision{Clause: "authority", Operator: Equals, Expected: r.authority, Actual: short(authority)}
		inner := r.condition.evaluate(claims)
		a.Clauses = []Decision{inner}
		a.Released = r.authority == authority && inner.Released
		d.Clauses = append(d.Clauses, a)
		d.Released = d.Released || a.Released
	}
	return d
}

func (c *condition) evaluate(claims Claims) Decision {
	if c.kind == "" {
		return c.compare(claims)
	}
	d := Decision{Clause: c.kind, Released: c.kind == "allOf" && len(c.list) > 0}
	for i := range c.list {
		inner := c.list[i].evaluate(claims)
		d.Clauses = append(d.Clauses, inner)
		if c.kind == "allOf" {
			d.Released = d.Released && inner.Released
		} else {
			d.Released = d.Released || inner.Released
		}
	}
	return d
}

func (c *condition) compare(claims Claims) Decision {
	found := find(claims.o, c.claim)
	d := Decision{Clause: c.claim, Operator: c.operator, Expected: c.text, Actual: show(found)}
	if c.operator == Exists {
		d.Released = len(found) == 1 && c.text == "true" || len(found) == 0 && c.text == "false"
		return d
	}
	if len(found) != 1 {
		return d
	}
	actual, ok := canonical(found[0])
	if !ok {
		return d
	}
	switch c.operator {
	case Equals:
		d.Released = actual == c.text
		return d
	case NotEquals:
		d.Released = actual != c.text
		return d
	}
	a, okA := integer(actual)
	b, okB := integer(c.text)
	if !okA || !okB {
		return d
	}
	cmp := a.Cmp(b)
	switch c.operator {
	case Less:
		d.Released = cmp < 0
	case LessOrEquals:
		d.Released = cmp <= 0
	case Greater:
		d.Released = cmp > 0
	case GreaterOrEquals:
		d.Released = cmp >= 0
	}
	return d
}

func show(found []any) string {
	switch {
	case len(found) == 0:
		return "(missing)"
	case len(found) > 1:
		return "(ambiguous)"
	}
	if text, ok := canonical(found[0]); ok {
		return short(text)
	}
	switch found[0].(type) {
	case object:
		return "(an object)"
	case []any:
		return "(an array)"
	case json.Number:
		return "(not an integer)"
	}
	return "(null)"
}

func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// Pinned reports whether a release was given on the strength of a clause that
// demands a value of the claim by [Equals]. With it a caller can hold a default
// for claims about which a policy says nothing.
func (d *Decision) Pinned(claim string) bool {
	if !d.Released {
		return false
	}
	if d.Clause == claim && d.Operator == Equals && len(d.Clauses) == 0 {
		return true
	}
	return slices.ContainsFunc(d.Clauses, func(c Decision) bool { return c.Pinned(claim) })
}

// Missed names the clauses without which there was no release, expected beside
// actual, and is empty where there was one.
func (d *Decision) Missed() []string {
	if d.Released {
		return nil
	}
	var missed []string
	if d.Operator != "" && (d.Clause != "authority" || d.Expected != d.Actual) {
		missed = append(missed, fmt.Sprintf("%s %s %q, actual %q", d.Clause, d.Operator, d.Expected, d.Actual))
	}
	for i := range d.Clauses {
		missed = append(missed, d.Clauses[i].Missed()...)
	}
	return missed
}

// Decided names the alternatives by which a release was given, as paths into the policy:
// the first of each anyOf that released. It is empty where there was none.
func (d *Decision) Decided() []string {
	if !d.Released {
		return nil
	}
	for i, a := range d.Clauses {
		if a.Released {
			path := fmt.Sprintf("anyOf[%d]", i)
			return append([]string{fmt.Sprintf("%s, authority %q", path, a.Expected)}, a.Clauses[0].alternatives(path)...)
		}
	}
	return nil
}

// alternatives names the alternative taken in each anyOf of a clause that released.
func (d *Decision) alternatives(path string) (taken []string) {
	for i, c := range d.Clauses {
		at := fmt.Sprintf("%s.%s[%d]", path, d.Clause, i)
		switch {
		case d.Clause == "allOf":
			taken = append(taken, c.alternatives(at)...)
		case c.Released:
			return append([]string{at}, c.alternatives(at)...)
		}
	}
	return taken
}

// Explain writes the decision for people, one line a clause.
func (d *Decision) Explain(w io.Writer) error {
	return d.explain(w, 0)
}

func (d *Decision) explain(w io.Writer, depth int) error {
	mark := "no "
	if d.Released {
		mark = "yes"
	}
	line := mark + " " + strings.Repeat("  ", depth) + fmt.Sprintf("%.200s", d.Clause)
	if d.Operator != "" {
		line += fmt.Sprintf(" %s %q, actual %q", d.Operator, d.Expected, d.Actual)
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return err
	}
	for i := range d.Clauses {
		if err := d.Clauses[i].explain(w, depth+1); err != nil {
			return err
		}
	}
	return nil
}
