package docs

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// listed returns the modules that docs/dependencies.md gives for a binary.
func listed(t *testing.T, binary string) []string {
	t.Helper()
	page, err := os.ReadFile("dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## "+binary+"\n")
	if !ok {
		t.Fatalf("no section for %s", binary)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z0-9.]+\.[a-z]+/\S+) \| \S`).FindAllStringSubmatch(section, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return out
}

func packages(t *testing.T, format, binary string) []string {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-f", format, "../cmd/"+binary)
	if binary == "passclave-keybroker" {
		list.Env = append(os.Environ(), "CGO_ENABLED=1") // with PKCS#11
	}
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	set := map[string]bool{}
	for _, line := range strings.Fields(string(out)) {
		set[line] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// What a binary links is what its page says, no more and no less.
func TestDependencies(t *testing.T) {
	t.Parallel()
	for _, binary := range []string{"passclave-enclave", "passclave-endorser", "passclave-host", "passclave-keybroker"} {
		t.Run(binary, func(t *testing.T) {
			t.Parallel()
			got := packages(t, "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", binary)
			if want := listed(t, binary); !slices.Equal(got, want) {
				t.Errorf("links\n\t%s\nlisted are\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		})
	}
}

// Enclave and host know each other by wire alone, and what runs in the TEE has no
// database, no policy engine, no command-line library, and nothing made for tests.
func TestBannedImports(t *testing.T) {
	t.Parallel()
	const us = "github.com/passclave/passclave/"
	for binary, banned := range map[string][]string{
		"passclave-enclave": {us + "host", us + "policy", us + "client", us + "development", us + "keyrelease/broker", "modernc.org", "github.com/jackc", "database/sql", "github.com/spf13", "testing", "net/http/pprof", "expvar"},
		"passclave-host":    {us + "enclave", us + "client", us + "development", us + "keyrelease", "testing"},
		"passclave-endorser": {us + "host", us + "client", us + "development", us + "keyrelease/broker", us + "enclave/runtime", us + "enclave/passkey",
			"modernc.org", "database/sql", "github.com/spf13", "testing", "net/http/pprof", "expvar"},
		"passclave-keybroker": {us + "enclave", us + "host", us + "client", us + "development", us + "policy", "github.com/google/go-sev-guest/testing", "testing"},
		"passclave-simtee":    {us + "enclave", us + "host", "github.com/google/go-sev-guest/testing", "testing"},
		"passclave":           {us + "enclave", "github.com/google/go-sev-guest/testing", "testing"},
	} {
		for _, p := range packages(t, "{{.ImportPath}}", binary) {
			for _, b := range banned {
				if p == b || b != "database/sql" && strings.HasPrefix(p, b+"/") {
					t.Errorf("%s links %s", binary, p)
				}
			}
		}
	}
}
