package releasepolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits of what is read: generous for people, small for a parser.
const (
	maxSize  = 64 << 10
	maxDepth = 12
)

// ErrJSON is returned for bytes that are not exactly one JSON value within the
// limits, or in which an object has a member twice.
var ErrJSON = errors.New("not strict JSON")

// member keeps the order in which a policy was written, for the explanation.
type member struct {
	name  string
	value any
}

// object is a JSON object; array is []any; the rest as encoding/json has it with UseNumber.
type object []member

func (o object) get(name string) (any, bool) {
	for _, m := range o {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// parseJSON reads one JSON value. encoding/json takes the last of two equal
// members, and matches names without regard to case: neither may happen here.
func parseJSON(data []byte) (any, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("%w: over %d bytes", ErrJSON, maxSize)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrJSON)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := parseValue(d, maxDepth)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the value", ErrJSON)
	}
	return v, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJSON, err)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrJSON, maxDepth)
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := parseValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, closing(d)
	}
	o := object{}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrJSON, err)
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("%w: a member's name is not a string", ErrJSON)
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: member %q stands twice", ErrJSON, name)
		}
		seen[name] = true
		v, err := parseValue(d, depth-1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, v})
	}
	return o, closing(d)
}

func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	return nil
}
