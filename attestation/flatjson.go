package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// flatJSON reads one JSON object whose members are strings and numbers: what THIM and
// UVM endorsements are. Names are compared byte by byte (encoding/json does not);
// members that stand twice, other values and anything behind the object are refused.
// A string comes out as string, a number as [json.Number].
func flatJSON(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	out := map[string]any{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("member %s stands twice", text(name))
		}
		v, err := d.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		switch v.(type) {
		case string, json.Number:
			out[name] = v
		default:
			return nil, fmt.Errorf("member %s is neither a string nor a number", text(name))
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return out, nil
}
