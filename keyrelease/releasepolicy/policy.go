package releasepolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Version is the only version of the grammar.
const Version = "1.0.0"

// ErrPolicy is returned for a policy outside the documented grammar.
var ErrPolicy = errors.New("release policy")

// Operator compares a claim with a value. A claim that is missing, ambiguous, or
// not a string, a boolean or an integer satisfies no operator, [NotEquals]
// included; only [Exists] can ask for absence.
type Operator string

const (
	Equals          Operator = "equals"          // same canonical text
	NotEquals       Operator = "notEquals"       // present, with another canonical text
	Less            Operator = "less"            // both integers, also as strings of digits
	LessOrEquals    Operator = "lessOrEquals"    //
	Greater         Operator = "greater"         //
	GreaterOrEquals Operator = "greaterOrEquals" //
	Exists          Operator = "exists"          // true: the claim is there, of any type; false: it is not
)

var operators = []Operator{Equals, NotEquals, Less, LessOrEquals, Greater, GreaterOrEquals, Exists}

// Policy is a release policy that was read in full. Its zero value releases nothing.
type Policy struct {
	rules []rule
}

type rule struct {
	authority string
	condition condition // allOf or anyOf
}

// condition is either a leaf (claim set) or a list (kind set).
type condition struct {
	kind string // "allOf", "anyOf", or "" for a leaf
	list []condition

	claim    string
	operator Operator
	value    any    // as written: string, json.Number or bool
	text     string // its canonical text
}

// Parse reads a release policy. It is strict: members that the grammar does not
// have (an operator not in [Operator] among them), members twice, an empty anyOf
// or allOf, a condition with two operators, objects, arrays, null and fractions
// where a value belongs are refused with [ErrPolicy] or [ErrJSON].
//
// It does not check that the claims named can occur, or that the policy is narrow.
func Parse(data []byte) (*Policy, error) {
	v, err := parseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	top, ok := v.(object)
	if !ok || !exactly(top, "version", "anyOf") {
		return nil, refuse("the policy", "must be an object with version and anyOf, nothing else")
	}
	if version, _ := top.get("version"); version != Version {
		return nil, refuse("version", "must be \""+Version+"\"")
	}
	list, err := nonEmpty(top, "anyOf", "anyOf")
	if err != nil {
		return nil, err
	}
	p := &Policy{}
	for i, v := range list {
		r, err := parseRule(v, fmt.Sprintf("anyOf[%d]", i))
		if err != nil {
			return nil, err
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// Authorities are those that the policy names, in its order, each once.
func (p *Policy) Authorities() (list []string) {
	for _, r := range p.rules {
		if !slices.Contains(list, r.authority) {
			list = append(list, r.authority)
		}
	}
	return list
}

func refuse(where, why string) error { return fmt.Errorf("%w: %s %s", ErrPolicy, where, why) }

func exactly(o object, names ...string) bool {
	if len(o) != len(names) {
		return false
	}
	for _, n := range names {
		if _, ok := o.get(n); !ok {
			return false
		}
	}
	return true
}

func nonEmpty(o object, name, where string) ([]any, error) {
	v, _ := o.get(name)
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, refuse(where, "must be an array of at least one condition")
	}
	return list, nil
}

func parseRule(v any, where string) (rule, error) {
	o, ok := v.(object)
	if !ok || len(o) != 2 {
		return rule{}, refuse(where, "must be an object with an authority and one anyOf or allOf")
	}
	a, _ := o.get("authority")
	authority, ok := a.(string)
	if !ok || authority == "" {
		return rule{}, refuse(where+".authority", "must be a URL")
	}
	for _, kind := range []string{"anyOf", "allOf"} {
		if _, ok := o.get(kind); ok {
			c, err := parseList(o, kind, where)
			return rule{authority, c}, err
		}
	}
	return rule{}, refuse(where, "must have one anyOf or allOf")
}

func parseList(o object, kind, where string) (condition, error) {
	where += "." + kind
	list, err := nonEmpty(o, kind, where)
	if err != nil {
		return condition{}, err
	}
	c := condition{kind: kind}
	for i, v := range list {
		item, err := parseCondition(v, fmt.Sprintf("%s[%d]", where, i))
		if err != nil {
			return condition{}, err
		}
		c.list = append(c.list, item)
	}
	return c, nil
}

func parseCondition(v any, where string) (condition, error) {
	o, ok := v.(object)
	switch {
	case !ok:
		return condition{}, refuse(where, "must be an object")
	case exactly(o, "anyOf"):
		return parseList(o, "anyOf", where)
	case exactly(o, "allOf"):
		return parseList(o, "allOf", where)
	case len(o) != 2:
		return condition{}, refuse(where, "must be a claim with one operator, an anyOf or an allOf")
	}
	n, _ := o.get("claim")
	name, ok := n.(string)
	if !ok || name == "" {
		return condition{}, refuse(where, "must name its claim")
	}
	c := condition{claim: name}
	for _, m := range o {
		if m.name != "claim" {
			c.operator, c.value = Operator(m.name), m.value
		}
	}
	if !slices.Contains(operators, c.operator) {
		return condition{}, refuse(where, fmt.Sprintf("has %.40q, which is not an operator", string(c.operator)))
	}
	if c.text, ok = canonical(c.value); !ok {
		return condition{}, refuse(where+"."+string(c.operator), "must be a string, an integer or a boolean")
	}
	switch c.operator {
	case Exists:
		if c.text != "true" && c.text != "false" {
			return condition{}, refuse(where+".exists", "must be true or false")
		}
	case Less, LessOrEquals, Greater, GreaterOrEquals:
		if _, ok := integer(c.text); !ok {
			return condition{}, refuse(where+"."+string(c.operator), "must be an integer")
		}
	}
	return c, nil
}

// Require returns the policy that asks one authority for all the given claims to
// equal the given values, each a string, an int or a bool. Any other value panics.
func Require(authority string, claims map[string]any) []byte {
	type leaf struct {
		Claim  string `json:"claim"`
		Equals any    `json:"equals"`
	}
	type list struct {
		Authority string `json:"authority"`
		AllOf     []leaf `json:"allOf"`
	}
	l := list{Authority: authority}
	for name, v := range claims {
		l.AllOf = append(l.AllOf, leaf{name, v})
	}
	slices.SortFunc(l.AllOf, func(a, b leaf) int {
		if a.Claim < b.Claim {
			return -1
		}
		return 1
	})
	data, err := json.MarshalIndent(struct {
		Version string `json:"version"`
		AnyOf   []list `json:"anyOf"`
	}{Version, []list{l}}, "", "  ")
	if err == nil {
		_, err = Parse(data)
	}
	if err != nil {
		panic(err)
	}
	return append(data, '\n')
}
