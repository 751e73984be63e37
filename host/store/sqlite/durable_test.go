package sqlite

import (
	"slices"
	"testing"
)

// Power may fail: what a commit's answer says is on the disk must be there. No test can
// cut the power, so the settings that decide it are held here.
func TestWriterIsDurable(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"journal_mode = WAL", "synchronous = FULL"} {
		if !slices.Contains(writing, setting) {
			t.Errorf("the writer runs without %q", setting)
		}
	}
}
