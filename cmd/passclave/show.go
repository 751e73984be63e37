package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// printable makes a name that somebody else chose harmless on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}

// printableLines is [printable] for text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

// count is a number of things: "1 passkey", "2 passkeys".
func count(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "y") && !strings.HasSuffix(thing, "ey"):
		thing = strings.TrimSuffix(thing, "y") + "ie"
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func day(t time.Time) string { return t.Local().Format(time.DateOnly) }

func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

func fromUnix(seconds uint64) time.Time { return time.Unix(int64(seconds), 0).UTC() }
