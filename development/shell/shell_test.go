package shell

import (
	"os/exec"
	"strings"
	"testing"
)

// A shell reads back the words that were quoted for it.
func TestLine(t *testing.T) {
	t.Parallel()
	words := []string{"plain", "", "Alice's passkey, again", "$HOME `id` \"x\"", "a\\b", "http://127.0.0.1:8780", "*", "~", "new\nline"}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+Line(words...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); strings.Join(got, "|") != strings.Join(words, "|") {
		t.Errorf("%q, not %q", got, words)
	}
	for word, want := range map[string]string{"plain": "plain", "two words": "'two words'", "http://localhost:1/": "http://localhost:1/"} {
		if got := Quote(word); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}
