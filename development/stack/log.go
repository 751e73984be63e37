package stack

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// logger writes the parts' log lines, whole, each behind its part's name.
type logger struct {
	color bool

	mu  sync.Mutex
	out io.Writer
}

func newLogger(out io.Writer, color bool) *logger {
	if out == nil {
		out = io.Discard
	}
	return &logger{out: out, color: color}
}

// colors of the parts: SGR codes.
var colors = map[Part]int{SimTEE: 35, Broker: 33, Issuer: 34, RP: 36, Enclave: 32, Host: 37}

// line writes a line that a part logged.
func (l *logger) line(part Part, line string) { l.say(part, readable(line)) }

// writer returns where a part's own log goes, line by line.
func (l *logger) writer(part Part) io.Writer { return &lineWriter{l: l, part: part} }

type lineWriter struct {
	l    *logger
	part Part
	rest []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte{'\n'})
		if !ok {
			return len(b), nil
		}
		w.l.say(w.part, string(line))
		w.rest = rest
	}
}

// longHex is what nobody reads to its end: a measurement, an ID.
var longHex = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{20,}\b`)

// readable shortens a line of log/slog: the prefix has the time, the level INFO is the
// rule, and the beginning of a long number in hexadecimal tells it from others.
func readable(line string) string {
	time, rest, ok := strings.Cut(line, " ")
	if !ok || !strings.HasPrefix(time, "time=") {
		return line
	}
	level, rest, ok := strings.Cut(rest, " ")
	if !ok || !strings.HasPrefix(level, "level=") {
		return line
	}
	rest = longHex.ReplaceAllString(strings.TrimPrefix(rest, "msg="), "$1…")
	if level == "level=INFO" {
		return rest
	}
	return strings.TrimPrefix(level, "level=") + " " + rest
}

func (l *logger) say(part Part, text string) {
	prefix := fmt.Sprintf("%-7s |", part)
	if l.color {
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colors[part], prefix)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "%s %s %s\n", time.Now().Format(time.TimeOnly), prefix, text)
}
