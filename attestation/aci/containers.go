package aci

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/go-jose/go-jose/v4/json" // as Rego, which tells names apart by case
)

// container is what of a container's rules can be dangerous, whatever it runs.
type container struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	Command       []string  `json:"command"`
	EnvRules      []envRule `json:"env_rules"`
	ExecProcesses []struct {
		Command []string `json:"command"`
	} `json:"exec_processes"`
	AllowElevated bool `json:"allow_elevated"`
}

type envRule struct {
	Pattern  string `json:"pattern"`
	Strategy string `json:"strategy"`
}

func judgeContainers(value string) []Danger {
	var list []container
	if err := json.Unmarshal([]byte(value), &list); err != nil {
		return []Danger{{"containers", "they cannot be read: nobody can tell what the host may start"}}
	}
	var out []Danger
	for i, c := range list {
		who := c.ID
		if who == "" {
			who = c.Name
		}
		if who == "" {
			who = fmt.Sprintf("number %d", i+1)
		}
		add := func(format string, args ...any) {
			out = append(out, Danger{"containers", short(who) + " " + fmt.Sprintf(format, args...)})
		}
		if c.AllowElevated {
			add("is privileged: it can reach the utility VM and its report interface")
		}
		for _, p := range c.ExecProcesses {
			add("lets the host run %s in it", short(fmt.Sprint(p.Command)))
		}
		bad, unread := freeEnvironment(c.EnvRules)
		if len(bad) > 0 {
			add("lets the host set %v, which changes what its programs do or trust", bad)
		}
		if unread {
			add("has an environment rule that is long or counts repetitions: nobody can tell what the host may set")
		}
	}
	return out
}

// probes are variables by which whoever sets them takes a program over, or makes it
// trust others: loaders, roots of TLS, proxies, identity.
var probes = []string{
	"LD_PRELOAD", "LD_LIBRARY_PATH", "GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "AZURE_AUTHORITY_HOST", "PATH",
}

// maxPattern bounds the patterns that are tried, in bytes.
const maxPattern = 512

// freeEnvironment returns those of the probes that rules let the host set to what it
// likes, and whether there are rules that it did not try: a few bytes that count
// repetitions take a second. The framework's patterns match the whole of NAME=value.
func freeEnvironment(rules []envRule) (out []string, unread bool) {
	for _, r := range rules {
		if r.Strategy != "re2" {
			continue
		}
		if len(r.Pattern) > maxPattern || counts(r.Pattern) {
			unread = true
			continue
		}
		pattern, err := regexp.Compile("^(?:" + r.Pattern + ")$")
		if err != nil {
			continue // the framework would not match it either
		}
		for _, name := range probes {
			if pattern.MatchString(name+"=/tmp/x") && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out, unread
}

// counts reports whether a pattern has repetitions such as a{100}, which nest.
func counts(pattern string) bool {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	return err == nil && repeats(tree)
}

func repeats(r *syntax.Regexp) bool {
	return r.Op == syntax.OpRepeat || slices.ContainsFunc(r.Sub, repeats)
}

func judgeFragments(value string) []Danger {
	var list []struct {
		Feed     string   `json:"feed"`
		Issuer   string   `json:"issuer"`
		Includes []string `json:"includes"`
	}
	if err := json.Unmarshal([]byte(value), &list); err != nil {
		return []Danger{{"fragments", "they cannot be read: nobody can tell who may add to the policy"}}
	}
	var out []Danger
	for _, f := range list {
		if f.Feed == InfraFragment && f.Issuer == InfraIssuer {
			continue
		}
		out = append(out, Danger{"fragments", fmt.Sprintf("%s may add %v to the policy under the feed %s", short(f.Issuer), f.Includes, short(f.Feed))})
	}
	return out
}
