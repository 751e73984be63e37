package releasepolicy

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
)

// Claims are the claims of a verified attestation token.
//
// A policy names a claim by its name, or by a path of names joined with dots
// ("x-ms-isolation-tee.x-ms-attestation-type"). Names may themselves have dots:
// every way to split is tried, and where more than one leads to a value the claim
// is ambiguous and counts as missing. Nobody can then shadow a claim with an
// object of the fitting shape.
type Claims struct{ o object }

// ParseClaims reads a token's payload: one JSON object without double members
// ([ErrJSON]). It does not verify anything.
func ParseClaims(payload []byte) (Claims, error) {
	v, err := parseJSON(payload)
	if err != nil {
		return Claims{}, err
	}
	o, ok := v.(object)
	if !ok {
		return Claims{}, fmt.Errorf("%w: claims are not an object", ErrJSON)
	}
	return Claims{o}, nil
}

// find returns the values that name leads to.
func find(o object, name string) []any {
	var found []any
	if v, ok := o.get(name); ok {
		found = append(found, v)
	}
	for i := range len(name) {
		if name[i] != '.' {
			continue
		}
		if v, ok := o.get(name[:i]); ok {
			if inner, ok := v.(object); ok {
				found = append(found, find(inner, name[i+1:])...)
			}
		}
	}
	return found
}

// Text returns the canonical text of a claim, as [Equals] compares it, and
// whether it has one: it is there, unambiguous, and a string, integer or boolean.
func (c Claims) Text(name string) (string, bool) {
	found := find(c.o, name)
	if len(found) != 1 {
		return "", false
	}
	return canonical(found[0])
}

// canonical returns the text by which a value is compared: a string as it is, a
// boolean as true or false, an integer in its shortest decimal form. Azure's
// published policies compare "false" with JSON false, so the type does not count.
// Fractions and exponents have no canonical text here.
func canonical(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return fmt.Sprint(v), true
	case json.Number:
		n, ok := integer(string(v))
		if !ok {
			return "", false
		}
		return n.String(), true
	}
	return "", false
}

// integer reads an optional minus and at most 40 digits.
func integer(s string) (*big.Int, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 40 || strings.Trim(digits, "0123456789") != "" {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}
