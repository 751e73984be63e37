package releasepolicy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const authority = "https://attestation.test"

// with returns a policy of one authority with the given condition list.
func with(list string) string {
	return fmt.Sprintf(`{"version":"1.0.0","anyOf":[{"authority":%q,%s}]}`, authority, list)
}

func claim(condition string) string { return with(`"allOf":[` + condition + `]`) }

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	ok := `{"claim":"a","equals":"b"}`
	if _, err := Parse([]byte(claim(ok))); err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]string{
		"empty":                  ``,
		"null":                   `null`,
		"array":                  `[]`,
		"no version":             `{"anyOf":[{"authority":"x","allOf":[` + ok + `]}]}`,
		"other version":          strings.Replace(claim(ok), "1.0.0", "0.2", 1),
		"numeric version":        strings.Replace(claim(ok), `"1.0.0"`, "1.0", 1),
		"unknown member":         strings.Replace(claim(ok), `"version"`, `"comment":"","version"`, 1),
		"top allOf":              strings.Replace(claim(ok), `"anyOf"`, `"allOf"`, 1),
		"top anyOf empty":        `{"version":"1.0.0","anyOf":[]}`,
		"top anyOf null":         `{"version":"1.0.0","anyOf":null}`,
		"top anyOf object":       `{"version":"1.0.0","anyOf":{}}`,
		"no authority":           `{"version":"1.0.0","anyOf":[{"allOf":[` + ok + `]}]}`,
		"empty authority":        `{"version":"1.0.0","anyOf":[{"authority":"","allOf":[` + ok + `]}]}`,
		"authority not a string": `{"version":"1.0.0","anyOf":[{"authority":1,"allOf":[` + ok + `]}]}`,
		"authority alone":        `{"version":"1.0.0","anyOf":[{"authority":"x"}]}`,
		"authority and claim":    `{"version":"1.0.0","anyOf":[{"authority":"x","claim":"a"}]}`,
		"both lists":             with(`"allOf":[` + ok + `],"anyOf":[` + ok + `]`),
		"empty allOf":            with(`"allOf":[]`),
		"empty anyOf":            with(`"anyOf":[]`),
		"nested empty allOf":     claim(`{"allOf":[]}`),
		"nested empty anyOf":     claim(`{"anyOf":[]}`),
		"list null":              with(`"allOf":null`),
		"lower case list":        with(`"allof":[` + ok + `]`),
		"condition not object":   claim(`"a"`),
		"empty condition":        claim(`{}`),
		"claim alone":            claim(`{"claim":"a"}`),
		"operator alone":         claim(`{"equals":"a"}`),
		"claim empty":            claim(`{"claim":"","equals":"b"}`),
		"claim not a string":     claim(`{"claim":1,"equals":"b"}`),
		"two operators":          claim(`{"claim":"a","equals":"b","notEquals":"c"}`),
		"operator in":            claim(`{"claim":"a","in":["b"]}`),
		"operator notIn":         claim(`{"claim":"a","notIn":["b"]}`),
		"operator in other case": claim(`{"claim":"a","Equals":"b"}`),
		"operator like":          claim(`{"claim":"a","like":"*"}`),
		"value object":           claim(`{"claim":"a","equals":{}}`),
		"value array":            claim(`{"claim":"a","equals":["b"]}`),
		"value null":             claim(`{"claim":"a","equals":null}`),
		"value fraction":         claim(`{"claim":"a","equals":1.5}`),
		"value exponent":         claim(`{"claim":"a","equals":1e3}`),
		"less than a word":       claim(`{"claim":"a","less":"b"}`),
		"greater than true":      claim(`{"claim":"a","greater":true}`),
		"exists with a word":     claim(`{"claim":"a","exists":"yes"}`),
		"exists with a number":   claim(`{"claim":"a","exists":1}`),
		"member twice":           claim(`{"claim":"a","equals":"b","equals":"c"}`),
		"claim twice":            claim(`{"claim":"a","claim":"b","equals":"c"}`),
		"anyOf twice":            `{"version":"1.0.0","anyOf":[{"authority":"x","allOf":[` + ok + `]}],"anyOf":[]}`,
		"escaped member twice":   claim(`{"claim":"a","equals":"b","equal\u0073":"c"}`),
		"trailing":               claim(ok) + `{}`,
		"truncated":              claim(ok)[:40],
		"not UTF-8":              claim("{\"claim\":\"a\",\"equals\":\"\xff\"}"),
		"too deep":               claim(strings.Repeat(`{"allOf":[`, 20) + ok + strings.Repeat(`]}`, 20)),
		"too large":              claim(ok) + strings.Repeat(" ", maxSize),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if p, err := Parse([]byte(policy)); !errors.Is(err, ErrPolicy) || p != nil {
				t.Errorf("got %v, want ErrPolicy", err)
			}
		})
	}
}

func decide(t *testing.T, policy, claims string) Decision {
	t.Helper()
	p, err := Parse([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseClaims([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	return p.Evaluate(authority, c)
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		condition, claims string
		want              bool
	}{
		{`{"claim":"a","equals":"b"}`, `{"a":"b"}`, true},
		{`{"claim":"a","equals":"b"}`, `{"a":"B"}`, false},
		{`{"claim":"a","equals":"b"}`, `{"A":"b"}`, false},
		{`{"claim":"a","equals":"b"}`, `{}`, false},
		{`{"claim":"a","equals":"false"}`, `{"a":false}`, true},
		{`{"claim":"a","equals":false}`, `{"a":"false"}`, true},
		{`{"claim":"a","equals":"false"}`, `{"a":true}`, false},
		{`{"claim":"a","equals":3}`, `{"a":"3"}`, true},
		{`{"claim":"a","equals":"3"}`, `{"a":3}`, true},
		{`{"claim":"a","equals":0}`, `{"a":-0}`, true},
		{`{"claim":"a","equals":"0"}`, `{"a":false}`, false},
		{`{"claim":"a","equals":"null"}`, `{"a":null}`, false},
		{`{"claim":"a","equals":"{}"}`, `{"a":{}}`, false},
		{`{"claim":"a","equals":""}`, `{"a":null}`, false},
		{`{"claim":"a","equals":""}`, `{"a":""}`, true},
		{`{"claim":"a","equals":1}`, `{"a":1.0}`, false},

		{`{"claim":"a","notEquals":"b"}`, `{"a":"c"}`, true},
		{`{"claim":"a","notEquals":"b"}`, `{"a":"b"}`, false},
		{`{"claim":"a","notEquals":"b"}`, `{}`, false},          // missing satisfies nothing
		{`{"claim":"a","notEquals":"b"}`, `{"a":{}}`, false},    // nor does what has no text
		{`{"claim":"a","notEquals":1}`, `{"a":1.0}`, false},     // nor a number written otherwise
		{`{"claim":"a","notEquals":true}`, `{"a":false}`, true}, //

		{`{"claim":"a","less":3}`, `{"a":2}`, true},
		{`{"claim":"a","less":3}`, `{"a":3}`, false},
		{`{"claim":"a","lessOrEquals":3}`, `{"a":3}`, true},
		{`{"claim":"a","lessOrEquals":3}`, `{"a":4}`, false},
		{`{"claim":"a","greater":3}`, `{"a":4}`, true},
		{`{"claim":"a","greater":3}`, `{"a":3}`, false},
		{`{"claim":"a","greaterOrEquals":3}`, `{"a":3}`, true},
		{`{"claim":"a","greaterOrEquals":3}`, `{"a":2}`, false},
		{`{"claim":"a","greaterOrEquals":9}`, `{"a":10}`, true}, // as numbers, not as text
		{`{"claim":"a","greaterOrEquals":100}`, `{"a":"101"}`, true},
		{`{"claim":"a","greater":"-3"}`, `{"a":-2}`, true},
		{`{"claim":"a","greater":9223372036854775807}`, `{"a":9223372036854775808}`, true},
		{`{"claim":"a","less":3}`, `{"a":"word"}`, false},
		{`{"claim":"a","less":3}`, `{"a":true}`, false},
		{`{"claim":"a","less":3}`, `{"a":1.5}`, false},
		{`{"claim":"a","less":3}`, `{}`, false},

		{`{"claim":"a","exists":true}`, `{"a":{}}`, true},
		{`{"claim":"a","exists":"true"}`, `{"a":null}`, true},
		{`{"claim":"a","exists":true}`, `{}`, false},
		{`{"claim":"a","exists":false}`, `{}`, true},
		{`{"claim":"a","exists":false}`, `{"a":1}`, false},

		{`{"claim":"a.b","equals":"c"}`, `{"a":{"b":"c"}}`, true},
		{`{"claim":"a.b","equals":"c"}`, `{"a.b":"c"}`, true},
		{`{"claim":"a.b.c","equals":"d"}`, `{"a.b":{"c":"d"}}`, true},
		{`{"claim":"x-ms-isolation-tee.x-ms-attestation-type","equals":"sevsnpvm"}`, `{"x-ms-isolation-tee":{"x-ms-attestation-type":"sevsnpvm"}}`, true},
		{`{"claim":"a.b","equals":"c"}`, `{"a.b":"c","a":{"b":"c"}}`, false}, // ambiguous, though both fit
		{`{"claim":"a.b","exists":true}`, `{"a.b":"c","a":{"b":"d"}}`, false},
		{`{"claim":"a.b","exists":false}`, `{"a.b":"c","a":{"b":"d"}}`, false},
		{`{"claim":"a.0","equals":"c"}`, `{"a":["c"]}`, false},

		{`{"anyOf":[{"claim":"a","equals":1},{"claim":"b","equals":1}]}`, `{"b":1}`, true},
		{`{"anyOf":[{"claim":"a","equals":1},{"claim":"b","equals":1}]}`, `{"b":2}`, false},
		{`{"allOf":[{"claim":"a","equals":1},{"claim":"b","equals":1}]}`, `{"a":1,"b":1}`, true},
		{`{"allOf":[{"claim":"a","equals":1},{"claim":"b","equals":1}]}`, `{"a":1}`, false},
		{`{"allOf":[{"claim":"a","equals":1},{"anyOf":[{"claim":"b","equals":1},{"allOf":[{"claim":"c","equals":1}]}]}]}`, `{"a":1,"c":1}`, true},
	} {
		if got := decide(t, claim(c.condition), c.claims).Released; got != c.want {
			t.Errorf("%s of %s: got %v", c.condition, c.claims, got)
		}
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(claim(`{"claim":"a","equals":"b"}`)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseClaims([]byte(`{"a":"b"}`))
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{authority: true, authority + "/": false, "": false, "https://ATTESTATION.test": false, "https://other.test": false} {
		if got := p.Evaluate(a, c).Released; got != want {
			t.Errorf("authority %q: got %v", a, got)
		}
	}
	if (&Policy{}).Evaluate(authority, c).Released {
		t.Error("the zero policy releases")
	}
	if (&condition{kind: "allOf"}).evaluate(c).Released {
		t.Error("an empty allOf releases")
	}
}

func TestDecision(t *testing.T) {
	t.Parallel()
	policy := claim(`{"claim":"m","equals":"good"},{"anyOf":[{"claim":"d","equals":"false"},{"claim":"x","exists":true}]}`)

	d := decide(t, policy, `{"m":"bad","x":1}`)
	missed := d.Missed()
	if d.Released || len(missed) != 1 || missed[0] != `m equals "good", actual "bad"` {
		t.Errorf("missed %q", missed)
	}
	var b strings.Builder
	if err := d.Explain(&b); err != nil {
		t.Fatal(err)
	}
	want := `no  policy
no    authority equals "https://attestation.test", actual "https://attestation.test"
no      allOf
no        m equals "good", actual "bad"
yes       anyOf
no          d equals "false", actual "(missing)"
yes         x exists "true", actual "1"
`
	if b.String() != want {
		t.Errorf("explained as\n%s", b.String())
	}

	// Pinned follows the clauses that released, no others.
	d = decide(t, policy, `{"m":"good","d":true,"x":1}`)
	if !d.Released || len(d.Missed()) != 0 || !d.Pinned("m") || d.Pinned("d") || d.Pinned("x") {
		t.Errorf("%+v", d)
	}
	d = decide(t, policy, `{"m":"good","d":false}`)
	if !d.Pinned("d") {
		t.Errorf("%+v", d)
	}
	d = decide(t, policy, `{"m":"bad","d":false}`)
	if d.Pinned("d") {
		t.Errorf("a refusal pins: %+v", d)
	}
}

func TestParseClaims(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`[]`, `"a"`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `{`, `{} {}`} {
		if _, err := ParseClaims([]byte(data)); !errors.Is(err, ErrJSON) {
			t.Errorf("%s: got %v, want ErrJSON", data, err)
		}
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	policy := string(Require(authority, map[string]any{"a": "b", "c": false, "d": 3}))
	if d := decide(t, policy, `{"a":"b","c":false,"d":3}`); !d.Released {
		t.Errorf("%+v", d)
	}
	for _, claims := range []string{`{"a":"x","c":false,"d":3}`, `{"a":"b","c":true,"d":3}`, `{"a":"b","c":false,"d":4}`} {
		if d := decide(t, policy, claims); d.Released {
			t.Errorf("%s: %+v", claims, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		claim(`{"claim":"a","equals":"b"}`),
		claim(`{"anyOf":[{"claim":"a.b","greaterOrEquals":3},{"claim":"c","exists":false}]}`),
		with(`"anyOf":[{"allOf":[{"claim":"a","notEquals":true}]}]`),
	} {
		if _, err := Parse([]byte(seed)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(seed), []byte(`{"a":{"b":4}}`))
	}
	f.Fuzz(func(t *testing.T, policy, claims []byte) {
		p, err := Parse(policy)
		if err != nil {
			if !errors.Is(err, ErrPolicy) {
				t.Fatal(err)
			}
			return
		}
		c, err := ParseClaims(claims)
		if err != nil {
			return
		}
		d := p.Evaluate(authority, c)
		if !strings.Contains(string(policy), "authority") {
			t.Fatal("a policy without an authority was read")
		}
		if len(d.Missed()) > 0 == d.Released {
			t.Fatalf("no reason beside a refusal, or one beside a release: %+v", d)
		}
		if p.Evaluate("", c).Released {
			t.Fatal("released to no authority")
		}
	})
}
