package stack

import (
	"strings"
	"testing"
)

// A line of log/slog as people read it.
func TestReadable(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0123456789abcdef", 6)
	for line, want := range map[string]string{
		`time=2026-04-22T10:00:00Z level=INFO msg=attested measurement=` + id + ` from=127.0.0.1:80`: `attested measurement=0123456789ab… from=127.0.0.1:80`,
		`time=2026-04-22T10:00:00Z level=WARN msg="not ready" reason=x`:                              `WARN "not ready" reason=x`,
		`panic: 0123456789abcdef`: `panic: 0123456789abcdef`,
	} {
		if got := readable(line); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
