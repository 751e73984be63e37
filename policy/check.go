package policy

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	maxName    = 128 // bytes
	maxText    = 512 // bytes of an issuer or feed
	maxWord    = 32
	maxItems   = 256 // of any list
	maxVMPL    = 3   // SEV-SNP has four levels
	hashSize   = 32  // SHA-256, an ID
	chipSize   = 64
	digestSize = 48 // SHA-384
	idSize     = 16 // FAMILY_ID, IMAGE_ID, TEE_TCB_SVN
	fmspcSize  = 6
	rtmrs      = 4
)

// check says what is wrong with the values of a policy, wherever it came from:
// policies made in code pass it too before they judge.
func (p *TrustPolicy) check() *Error {
	c := checker{}
	c.that(p.Version == Version, "version", "must be %d", Version)
	c.name("name", p.Name)
	if c.rule("expires", p.Expires.Waived) {
		t := p.Expires.Want
		c.that(t.Year() >= 2000 && t.Year() <= 9999 && t.Nanosecond() == 0 && t.Location() == time.UTC,
			"expires", "must be a time of UTC in whole seconds, from the year 2000 on")
	}
	known(&c, "platforms", p.Platforms, knownPlatforms)
	if p.Simulation != nil {
		c.distinct("simulation.roots", p.Simulation.Roots, hashSize)
	}
	c.services(p.AttestationServices)
	if p.RuntimeData != (Rule[Demand]{}) {
		c.required("runtime_data", p.RuntimeData)
	}
	c.required("revocation", p.Revocation)
	c.sections(p)
	c.releases(p)
	c.hexRule("ledger.id", p.Ledger.ID, hashSize)
	c.hexRule("ledger.genesis", p.Ledger.Genesis, hashSize)
	c.that(p.Ledger.Number >= 1, "ledger.number", "counts from 1")
	known(&c, "ledger.backends", p.Ledger.Backends, knownBackends)
	c.forbidden("debug", p.Debug)
	if c.rule("minimum_argon2id", p.MinimumArgon2id.Waived) {
		a := p.MinimumArgon2id.Want
		c.that(a.MemoryKiB >= 8 && a.Time >= 1, "minimum_argon2id", "needs memory_kib >= 8 and time >= 1 (RFC 9106)")
	}
	return c.problem
}

// checker keeps the first problem.
type checker struct{ problem *Error }

func (c *checker) that(ok bool, member, format string, args ...any) {
	if !ok && c.problem == nil {
		c.problem = &Error{Member: member, Reason: ReasonValue, Detail: fmt.Sprintf(format, args...)}
	}
}

func (c *checker) missing(member string) {
	if c.problem == nil {
		c.problem = &Error{Member: member, Reason: ReasonMissing}
	}
}

func (c *checker) name(member, s string) {
	c.that(s != "" && len(s) <= maxName && isPrintable(s), member, "must be a printable name of at most %d bytes", maxName)
}

// rule reports whether the value of a rule must be checked.
func (c *checker) rule(member, waived string) bool {
	c.that(waived == "" || isWord(waived), member, "must be waived by a word")
	return waived == ""
}

func (c *checker) size(member string, h Hex, size int) {
	c.that(len(h) == size, member, "must have %d bytes in hexadecimal", size)
}

func (c *checker) hexRule(member string, r Rule[Hex], size int) {
	if c.rule(member, r.Waived) {
		c.size(member, r.Want, size)
	}
}

func (c *checker) forbidden(member string, r Rule[Permission]) {
	if c.rule(member, r.Waived) {
		c.that(r.Want == Forbidden, member, "must be %q, or waived by name", Forbidden)
	}
}

func (c *checker) distinct(member string, list []Hex, size int) {
	c.that(len(list) > 0 && len(list) <= maxItems, member, "must have 1 to %d elements", maxItems)
	for i, h := range list {
		c.size(at(member, i), h, size)
		c.that(!contains(list[:i], h), at(member, i), "stands twice")
	}
}

func (c *checker) required(member string, r Rule[Demand]) {
	if c.rule(member, r.Waived) {
		c.that(r.Want == Required, member, "must be %q, or waived by name", Required)
	}
}

// text checks what is compared byte by byte and shown to people.
func (c *checker) text(member, s string) {
	c.that(s != "" && len(s) <= maxText && isPrintable(s), member, "must be a printable text of at most %d bytes", maxText)
}

func (c *checker) services(list []AttestationService) {
	if list == nil {
		return
	}
	c.that(len(list) > 0 && len(list) <= maxItems, "attestation_services", "must have 1 to %d elements", maxItems)
	for i, s := range list {
		where := at("attestation_services", i)
		c.text(where+".issuer", s.Issuer)
		u, err := url.Parse(s.Issuer)
		c.that(err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "",
			where+".issuer", "must be an https URL without user, query and fragment")
		c.that(!slices.ContainsFunc(list[:i], func(t AttestationService) bool { return t.Issuer == s.Issuer }), where+".issuer", "stands twice")
		if s.Compliance != nil {
			c.words(where+".compliance", s.Compliance)
		}
	}
}

// words checks a list of texts that are compared byte by byte.
func (c *checker) words(member string, list []string) {
	c.that(len(list) > 0 && len(list) <= maxItems, member, "must have 1 to %d elements", maxItems)
	for i, s := range list {
		c.text(at(member, i), s)
		c.that(!slices.Contains(list[:i], s), at(member, i), "stands twice")
	}
}

// known checks a list of words that this version can judge.
func known[T ~string](c *checker, member string, list, words []T) {
	c.that(len(list) > 0, member, "must name at least one of %q", words)
	for i, v := range list {
		c.that(slices.Contains(words, v), at(member, i), "must be one of %q in this version", words)
		c.that(!slices.Contains(list[:i], v), at(member, i), "stands twice")
	}
}

func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

func contains(list []Hex, h []byte) bool {
	return slices.ContainsFunc(list, func(x Hex) bool { return bytes.Equal(x, h) })
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isWord(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxWord
}
