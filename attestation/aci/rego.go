package aci

import (
	"errors"
	"strings"
)

// statement is one rule of a policy at its outermost level: name := value. What is
// not of that form has no name and the whole text as its value.
type statement struct{ name, value string }

var errUnbalanced = errors.New("brackets or quotes that do not fit")

// statements splits Rego into its outermost statements: lines, as long as no bracket
// or quote is open. Comments are dropped, and white space at both ends. It knows no
// more of the language: what it does not recognise it hands on for a warning.
func statements(text string) ([]statement, error) {
	var out []statement
	var current strings.Builder
	var open []byte
	flush := func() {
		if s := strings.TrimSpace(current.String()); s != "" {
			out = append(out, split(s))
		}
		current.Reset()
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '`':
			end := stringEnd(text, i)
			if end < 0 {
				return nil, errUnbalanced
			}
			current.WriteString(text[i:end])
			i = end - 1
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case '{', '[', '(':
			open = append(open, c)
			current.WriteByte(c)
		case '}', ']', ')':
			if len(open) == 0 || strings.IndexByte("{[(", open[len(open)-1]) != strings.IndexByte("}])", c) {
				return nil, errUnbalanced
			}
			open = open[:len(open)-1]
			current.WriteByte(c)
		case '\n':
			if len(open) == 0 {
				flush()
				continue
			}
			current.WriteByte(c)
		case ';':
			if len(open) == 0 {
				flush() // two rules on one line
				continue
			}
			current.WriteByte(c)
		default:
			current.WriteByte(c)
		}
	}
	if len(open) != 0 {
		return nil, errUnbalanced
	}
	flush()
	return out, nil
}

// stringEnd returns the offset behind a string that begins at i, -1 without an end.
func stringEnd(text string, i int) int {
	quote := text[i]
	for j := i + 1; j < len(text); j++ {
		switch {
		case text[j] == quote:
			return j + 1
		case quote == '"' && text[j] == '\\':
			j++
		case quote == '"' && text[j] == '\n':
			return -1
		}
	}
	return -1
}

func split(s string) statement {
	name, value, ok := strings.Cut(s, ":=")
	name = strings.TrimSpace(name)
	if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return statement{"", s}
	}
	return statement{name, strings.TrimSpace(value)}
}
