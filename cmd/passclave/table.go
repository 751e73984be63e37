package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/passclave/passclave/policy"
)

const (
	tableWidth = 100 // columns
	cellLines  = 6   // of one check; the JSON has all
)

// printChecks prints one check a line, with what was expected and found beside it. Long
// values are shortened in the middle, never so that two that differ look the same.
func printChecks(w io.Writer, lines []line) {
	name := 0
	for _, l := range lines {
		name = max(name, len(l.Name))
	}
	const columns = "%-8s  %-11s  %-*s"
	width := tableWidth - (8 + 2 + 11 + 2 + name + 2)
	for _, l := range lines {
		row := fmt.Sprintf(columns, l.Of, mark(l.Verdict), name, l.Name)
		cell := shown(l, width)
		if len(cell) > cellLines {
			cell = append(cell[:cellLines-1], "… (--json has all)")
		}
		for i, text := range cell {
			if i > 0 {
				row = fmt.Sprintf(columns, "", "", name, "")
			}
			fmt.Fprintln(w, strings.TrimRight(row+"  "+text, " "))
		}
	}
}

func mark(verdict string) string {
	switch verdict {
	case string(policy.Accepted):
		return "ok"
	case string(policy.Refused):
		return "REFUSED"
	}
	return verdict
}

// shown is expected and actual of a check, in lines of a width: side by side where they
// differ, or one under the other where there is no room.
func shown(l line, width int) []string {
	full, found := printable(l.Expected), printable(l.Actual)
	expected, actual := shorten(full, found)
	switch {
	case l.Verdict == string(policy.Refused) && l.Of == partEvidence && full == "":
		return wrap(actual, width)
	case l.Verdict == string(policy.Refused):
		expected, actual = firstOf(expected, "(nothing)"), firstOf(actual, "(nothing)")
		if one := fmt.Sprintf("expected %s, found %s", expected, actual); utf8.RuneCountInString(one) <= width {
			return []string{one}
		}
		return append(wrap("expected "+expected, width), wrap("found    "+actual, width)...)
	case found == "":
		return []string{""}
	case l.Verdict == string(policy.Accepted) && full != "" && full != found:
		return wrap(fmt.Sprintf("%s (expected: %s)", actual, expected), width)
	case l.Verdict == string(policy.Waived):
		return wrap(fmt.Sprintf("%s (%s)", actual, expected), width)
	}
	return wrap(actual, width)
}

// long are words that are shortened: hashes and keys in hexadecimal, and what else has no
// space for long.
var long = regexp.MustCompile(`[0-9a-f]{20,}|[^\s,]{41,}`)

// shorten shortens the long words of both texts, and keeps in what differs.
func shorten(a, b string) (string, string) {
	inA, inB := long.FindAllString(a, -1), long.FindAllString(b, -1)
	shortA := long.ReplaceAllStringFunc(a, func(word string) string { return keep(word, inB) })
	shortB := long.ReplaceAllStringFunc(b, func(word string) string { return keep(word, inA) })
	if shortA == shortB && a != b {
		return a, b
	}
	return shortA, shortB
}

// keep is a word with its middle left out, but for where it differs from another that
// would look the same.
func keep(word string, others []string) string {
	text := ends(word)
	for _, other := range others {
		if other != word && ends(other) == text {
			w, at := []rune(word), difference(word, other)
			from, to := max(at-4, 0), min(at+8, len(w))
			return string(w[:8]) + "…" + string(w[from:to]) + "…" + string(w[len(w)-8:])
		}
	}
	return text
}

func ends(word string) string {
	head, tail := 8, 8
	if strings.Trim(word, "0123456789abcdef") != "" {
		head, tail = 28, 12 // a name, which begins with what it is
	}
	w := []rune(word)
	return string(w[:head]) + "…" + string(w[len(w)-tail:])
}

// difference is where two words begin to differ, in runes.
func difference(a, b string) (n int) {
	x, y := []rune(a), []rune(b)
	for n < min(len(x), len(y)) && x[n] == y[n] {
		n++
	}
	return n
}

// wrap breaks a text at spaces into lines of at most width columns, where it can: at
// least one line.
func wrap(text string, width int) []string {
	lines := []string{""}
	for i, word := range strings.Split(text, " ") {
		last := &lines[len(lines)-1]
		switch {
		case i == 0:
			*last = word
		case utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, word)
		default:
			*last += " " + word
		}
	}
	return lines
}
