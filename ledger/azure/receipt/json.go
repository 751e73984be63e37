package receipt

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// members are an object's, by their exact names. encoding/json alone would let
// "State" stand for "state" and the last of two members win, so that two readers of
// one file could see two receipts.
type members map[string]json.RawMessage

// object reads one JSON object.
func object(data []byte) (members, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !utf8.Valid(data) {
		return nil, refuse(CheckFormat, "not an object where one should be")
	}
	out := members{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, refuse(CheckFormat, "not JSON")
		}
		if _, twice := out[name]; twice {
			return nil, refuse(CheckFormat, "a member stands twice")
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, refuse(CheckFormat, "not JSON")
		}
		out[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, refuse(CheckFormat, "not JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, refuse(CheckFormat, "something stands behind the object")
	}
	return out, nil
}

// array reads a JSON array of at most limit elements.
func array(data []byte, limit int) ([]json.RawMessage, error) {
	var out []json.RawMessage
	if json.Unmarshal(data, &out) != nil || out == nil {
		return nil, refuse(CheckFormat, "not an array where one should be")
	}
	if len(out) > limit {
		return nil, refuse(CheckFormat, "an array of more than %d elements", limit)
	}
	return out, nil
}

// absent reports whether a member is not there, or null.
func absent(data json.RawMessage) bool {
	return len(data) == 0 || bytes.Equal(bytes.TrimSpace(data), []byte("null"))
}
