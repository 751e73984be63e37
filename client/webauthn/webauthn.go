// Package webauthn is the client's part of WebAuthn Level 3: it reads what a relying
// party asks for, decides whether the origin may ask it, builds clientDataJSON, and
// puts the enclave's results into the form that a relying party reads. What stands
// between is one command: [wire.Create] or [wire.Assert].
//
// It owns no state and trusts the caller for the origin: the page's own one in a
// browser, the one that the person typed in the command line. It trusts nothing in
// the relying party's options.
//
// Not checked: the public suffix list (an RP ID such as "co.uk" is refused by no
// rule here, though it has to be a parent of the origin's host), related origins,
// and Permissions Policy. Frames of another origin are not served: crossOrigin is
// always false, and whoever calls this for one would be lying to the relying party.
package webauthn

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/passclave/passclave/wire"
)

// Name is the name of the DOMException that a browser would throw.
type Name string

const (
	SecurityError     Name = "SecurityError"     // the origin may not use the RP ID
	NotSupportedError Name = "NotSupportedError" // nothing here can do what is asked for
	NotAllowedError   Name = "NotAllowedError"   // another kind of authenticator is asked for
	TypeError         Name = "TypeError"         // not the options' form
	SyntaxError       Name = "SyntaxError"       // an extension's input contradicts the options
	ConstraintError   Name = "ConstraintError"   // the enclave's result does not meet the options
	UnknownError      Name = "UnknownError"      // the enclave's result does not decode
)

// Error is every refusal of this package.
type Error struct {
	Name   Name
	Detail string
}

func (e *Error) Error() string { return string(e.Name) + ": " + e.Detail }

func refuse(name Name, format string, arguments ...any) error {
	return &Error{name, fmt.Sprintf(format, arguments...)}
}

// checkOrigin returns the host of an origin in its serialized form: https, or http
// on localhost; lower case, no default port, nothing after the port.
func checkOrigin(origin string) (host string, err error) {
	u, err := url.Parse(origin)
	if err != nil {
		return "", refuse(SecurityError, "origin does not parse")
	}
	host = u.Hostname()
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	canonical := u.Scheme + "://" + u.Host
	switch {
	case u.Scheme != "https" && !(u.Scheme == "http" && local):
		return "", refuse(SecurityError, "origin is neither https nor on localhost")
	case origin != canonical || !isDomain(host):
		return "", refuse(SecurityError, "origin is not scheme://domain[:port] in lower case")
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"), u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return "", refuse(SecurityError, "origin names its default port")
	}
	return host, nil
}

// isDomain reports whether host is a domain in ASCII form, not an address.
func isDomain(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// checkRPID returns the RP ID for a request from host: host itself where none is
// asked for, and otherwise host or a parent domain of it that has at least two
// labels (WebAuthn L3, section 5.1.3, step 8; see the package's documentation for
// the public suffixes).
func checkRPID(rpID, host string) (string, error) {
	switch {
	case rpID == "" || rpID == host:
		return host, nil
	case !strings.HasSuffix(host, "."+rpID) || !strings.Contains(rpID, "."):
		return "", refuse(SecurityError, "the origin may not use this RP ID")
	}
	return rpID, nil
}

// clientDataJSON serializes the client data exactly as WebAuthn L3, section 5.8.1.1
// does, so that relying parties with the limited verification algorithm accept it.
func clientDataJSON(kind string, challenge []byte, origin string) []byte {
	var b strings.Builder
	b.WriteString(`{"type":`)
	writeString(&b, kind)
	b.WriteString(`,"challenge":`)
	writeString(&b, base64.RawURLEncoding.EncodeToString(challenge))
	b.WriteString(`,"origin":`)
	writeString(&b, origin)
	b.WriteString(`,"crossOrigin":false}`)
	return []byte(b.String())
}

// writeString is CCDToString.
func writeString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// ClientData is what the relying party will check and the enclave signs the hash of.
type ClientData struct {
	JSON []byte
	Hash wire.Digest
}

func newClientData(kind string, challenge []byte, origin string) ClientData {
	data := clientDataJSON(kind, challenge, origin)
	return ClientData{JSON: data, Hash: sha256.Sum256(data)}
}

// PRFInput hashes an input of the prf extension (WebAuthn L3, section 10.1.4).
func PRFInput(input []byte) wire.Digest {
	return sha256.Sum256(append([]byte("WebAuthn PRF\x00"), input...))
}
