package passkey

import (
	"strings"
	"unicode/utf8"

	"github.com/passclave/passclave/wire"
)

// ArgumentError says which argument was refused. It stands inside a [wire.Error]
// of [wire.CodeArgument] and never holds the argument itself.
type ArgumentError struct {
	Argument string // rp_id, rp_name, user_handle, user_name, display_name, algorithms, label
	Problem  string
}

func (e *ArgumentError) Error() string { return e.Argument + ": " + e.Problem }

func refuse(argument, problem string) error {
	return wire.NewError(wire.CodeArgument, &ArgumentError{argument, problem})
}

// maxUserHandle is in bytes (WebAuthn L3, section 5.4.3).
const maxUserHandle = 64

// maxAlgorithms bounds the relying party's list; real ones have fewer than ten.
const maxAlgorithms = 32

func checkArguments(c *wire.Create) error {
	if !validRPID(c.RPID) {
		return refuse("rp_id", "not a domain of at most 253 bytes in lower case")
	}
	if len(c.UserHandle) == 0 || len(c.UserHandle) > maxUserHandle {
		return refuse("user_handle", "not 1 to 64 bytes")
	}
	if len(c.Algorithms) > maxAlgorithms {
		return refuse("algorithms", "more than 32")
	}
	for _, t := range []struct{ argument, text string }{
		{"rp_name", c.RPName}, {"user_name", c.UserName}, {"display_name", c.DisplayName},
	} {
		if err := checkText(t.argument, t.text); err != nil {
			return err
		}
	}
	return nil
}

// CheckLabel refuses a label that is not UTF-8 of at most [wire.MaxName] bytes. It
// may be empty. Control characters pass: whoever shows a label quotes it.
func CheckLabel(label string) error { return checkText("label", label) }

func checkText(argument, text string) error {
	if len(text) > wire.MaxName || !utf8.ValidString(text) {
		return refuse(argument, "not UTF-8 of at most 256 bytes")
	}
	return nil
}

// validRPID reports whether s is a valid domain string (WHATWG URL, section 3.4) in
// the ASCII lower-case form that a client hashes: labels of letters, digits and
// inner hyphens, and no IPv4 address, whose last label would be a number. That the
// caller's origin may use the domain is not checked.
func validRPID(s string) bool {
	if len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		if strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
