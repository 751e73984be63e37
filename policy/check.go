package policy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	maxName  = 128 // bytes
	maxWord  = 32
	maxItems = 256 // of any list
	maxVMPL  = 3   // SEV-SNP has four levels
	hashSize = 32  // SHA-256, an ID
	chipSize = 64
	snpSize  = 48 // MEASUREMENT
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
	c.products(p.Products)
	if p.ChipIDs != nil {
		c.distinct("chip_ids", p.ChipIDs, chipSize)
		for i, id := range p.ChipIDs {
			c.that(!bytes.Equal(id, make([]byte, chipSize)), at("chip_ids", i), "zero is what hosts show that hide the chip: it names none")
		}
	}
	c.releases(p.Releases)
	c.hexRule("ledger.id", p.Ledger.ID, hashSize)
	c.size("ledger.genesis", p.Ledger.Genesis, hashSize)
	c.that(p.Ledger.Number >= 1, "ledger.number", "counts from 1")
	known(&c, "ledger.backends", p.Ledger.Backends, knownBackends)
	c.forbidden("debug", p.Debug)
	c.forbidden("migration", p.Migration)
	c.that(p.SMT == Allowed || p.SMT == Forbidden, "smt", "must be %q or %q", Allowed, Forbidden)
	c.that(p.MaximumVMPL <= maxVMPL, "maximum_vmpl", "must be 0 to %d", maxVMPL)
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

func (c *checker) products(list []Product) {
	c.that(len(list) > 0, "products", "must name at least one")
	for i, p := range list {
		where := at("products", i)
		c.that(slices.Contains(knownProducts, p.Name), where+".name", "must be one of %q", knownProducts)
		c.that(!slices.ContainsFunc(list[:i], func(q Product) bool { return q.Name == p.Name }), where+".name", "stands twice")
		c.rule(where+".minimum_tcb", p.MinimumTCB.Waived)
	}
}

func (c *checker) releases(list []Release) {
	c.that(len(list) > 0 && len(list) <= maxItems, "releases", "must have 1 to %d elements", maxItems)
	for i, r := range list {
		where := at("releases", i)
		c.name(where+".name", r.Name)
		c.that(!slices.ContainsFunc(list[:i], func(q Release) bool { return q.Name == r.Name }), where+".name", "stands twice")
		c.hexRule(where+".measurement", r.Measurement, snpSize)
		c.hexRule(where+".configuration", r.Configuration, hashSize)
		if c.rule(where+".host_data", r.HostData.Waived) {
			b, err := hex.DecodeString(r.HostData.Want)
			c.that(r.HostData.Want == HostDataConfiguration || err == nil && len(b) == hashSize && Hex(b).String() == r.HostData.Want,
				where+".host_data", "must be %q, or %d bytes in lower-case hexadecimal", HostDataConfiguration, hashSize)
		}
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
