package policy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// node is a value of the file with its place in it. Readers record the first
// problem and go on with zero values: nothing is used once there is one.
type node struct {
	problem **Error
	path    string
	v       any // map[string]any, []any, string, json.Number, bool; nil after a problem
}

func (n node) fail(r Reason, format string, args ...any) {
	if *n.problem == nil {
		*n.problem = &Error{Member: n.path, Reason: r, Detail: fmt.Sprintf(format, args...)}
	}
}

func (n node) at(name string, v any) node {
	path := name
	if n.path != "" {
		path = n.path + "." + name
	}
	return node{n.problem, path, v}
}

// members returns the members of an object that has all of required, perhaps some
// of optional, and nothing else. Names are compared byte by byte. Every required
// member is in what it returns, after a problem without a value.
func (n node) members(required, optional []string) map[string]node {
	o, ok := n.v.(map[string]any)
	if !ok {
		n.fail(ReasonValue, "must be an object")
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(required, name) && !slices.Contains(optional, name) {
			n.at(name, nil).fail(ReasonUnknown, "")
		}
	}
	out := map[string]node{}
	for _, name := range required {
		if _, ok := o[name]; !ok {
			n.at(name, nil).fail(ReasonMissing, "")
		}
		out[name] = n.at(name, o[name])
	}
	for _, name := range optional {
		if v, ok := o[name]; ok {
			out[name] = n.at(name, v)
		}
	}
	return out
}

func (n node) text() string {
	s, ok := n.v.(string)
	if !ok {
		n.fail(ReasonValue, "must be a string")
	}
	return s
}

// number reads a whole number without sign, point or exponent.
func (n node) number(bits int) uint64 {
	s, _ := n.v.(json.Number)
	v, err := strconv.ParseUint(s.String(), 10, bits)
	if err != nil {
		n.fail(ReasonValue, "must be a whole number of at most %d bits", bits)
	}
	return v
}

func (n node) hex() Hex {
	s := n.text()
	b, err := hex.DecodeString(s)
	if err != nil || hex.EncodeToString(b) != s {
		n.fail(ReasonValue, "must be lower-case hexadecimal")
	}
	return b
}

func (n node) time() time.Time {
	t, err := time.Parse(time.RFC3339, n.text())
	if err != nil {
		n.fail(ReasonValue, "must be a time as RFC 3339 has it, such as 2027-06-30T00:00:00Z")
	}
	return t.UTC()
}

// list reads an array by a function for its elements.
func list[T any](n node, read func(node) T) []T {
	a, ok := n.v.([]any)
	if !ok {
		n.fail(ReasonValue, "must be an array")
	}
	var out []T
	for i, v := range a {
		out = append(out, read(node{n.problem, fmt.Sprintf("%s[%d]", n.path, i), v}))
	}
	return out
}

// rule reads a value by a function, or {"waived": "reason"}.
func rule[T any](n node, read func(node) T) Rule[T] {
	if o, ok := n.v.(map[string]any); ok {
		if _, waived := o["waived"]; waived {
			m := n.members([]string{"waived"}, nil)
			reason := m["waived"].text()
			if !isWord(reason) {
				n.fail(ReasonValue, "the reason of a waiver must be a word of a-z, 0-9 and -, at most %d letters", maxWord)
			}
			return Waive[T](reason)
		}
	}
	return Require(read(n))
}

const (
	maxFile    = 64 << 10
	maxNesting = 8
)

// readJSON reads exactly one JSON value (RFC 8259) in UTF-8. Members that stand
// twice, null, and nesting past maxNesting are refused at any depth.
func readJSON(data []byte) (any, *Error) {
	switch {
	case len(data) > maxFile:
		return nil, &Error{Reason: ReasonSize, Detail: fmt.Sprintf("%d bytes", len(data))}
	case len(bytes.TrimSpace(data)) == 0:
		return nil, &Error{Reason: ReasonSyntax, Detail: "empty"}
	case !utf8.Valid(data):
		return nil, &Error{Reason: ReasonSyntax, Detail: "not UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, problem := readValue(d, "", 0)
	if problem != nil {
		return nil, problem
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &Error{Reason: ReasonSyntax, Detail: "something follows the policy"}
	}
	return v, nil
}

func readValue(d *json.Decoder, path string, depth int) (any, *Error) {
	t, err := d.Token()
	if err != nil {
		return nil, notJSON(d, path)
	}
	if t == nil {
		return nil, &Error{Member: path, Reason: ReasonValue, Detail: "null is no value"}
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxNesting {
		return nil, &Error{Member: path, Reason: ReasonSyntax, Detail: "nested too deep"}
	}
	if open == '[' {
		return readArray(d, path, depth+1)
	}
	return readObject(d, path, depth+1)
}

func readArray(d *json.Decoder, path string, depth int) (any, *Error) {
	out := []any{}
	for d.More() {
		v, problem := readValue(d, fmt.Sprintf("%s[%d]", path, len(out)), depth)
		if problem != nil {
			return nil, problem
		}
		out = append(out, v)
	}
	return out, readEnd(d, path)
}

func readObject(d *json.Decoder, path string, depth int) (any, *Error) {
	out := map[string]any{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, notJSON(d, path)
		}
		inside := name
		if path != "" {
			inside = path + "." + name
		}
		if _, twice := out[name]; twice {
			return nil, &Error{Member: inside, Reason: ReasonDuplicate}
		}
		v, problem := readValue(d, inside, depth)
		if problem != nil {
			return nil, problem
		}
		out[name] = v
	}
	return out, readEnd(d, path)
}

func readEnd(d *json.Decoder, path string) *Error {
	if _, err := d.Token(); err != nil {
		return notJSON(d, path)
	}
	return nil
}

// notJSON says behind which byte of the file the text is no JSON any more.
func notJSON(d *json.Decoder, path string) *Error {
	return &Error{Member: path, Reason: ReasonSyntax, Detail: fmt.Sprintf("not JSON behind byte %d", d.InputOffset())}
}
