package main

import (
	"strings"
	"testing"
)

// Whoever changes a view reads at once which endorsers it went on without.
func TestViewChangeNamesWhoIsLeftOut(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	printViewChange(&out, &viewChanged{View: 3, ViewHash: "aa", LeftOut: []leftOut{
		{Address: "tcp:10.0.1.4:7000", View: 2, Why: "connection refused"},
		{Address: "tcp:10.0.2.4:7000", View: 3, Why: "no answer"},
	}})
	for _, line := range []string{
		"View 3 is in force (aa).",
		"left out: tcp:10.0.1.4:7000 gave no last word in view 2: connection refused",
		"left out: tcp:10.0.2.4:7000 does not serve it: no answer",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("not said: %s\n%s", line, &out)
		}
	}
}
