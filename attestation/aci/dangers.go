package aci

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4/json" // encoding/json with exact member names, and no duplicates
)

// Danger is something that a CCE policy allows the host to do to the group, or text
// in it that nobody can judge by looking at it.
type Danger struct {
	Rule string // the policy's own name for it: "exec_in_container", "fragments"; stable
	Text string // for people
}

func (d Danger) String() string { return d.Rule + ": " + d.Text }

// points are the rules by which the UVM asks the policy, and what the host gains where
// one of them allows everything (hcsshim, framework.rego).
var points = map[string]string{
	"create_container":         "start any container, from any image with any command",
	"exec_in_container":        "run any command inside a container",
	"exec_external":            "run any command in the utility VM, beside the containers",
	"load_fragment":            "load anybody's policy fragment, which can allow anything",
	"mount_device":             "mount any disk, without its hash being known",
	"rw_mount_device":          "mount any writable disk",
	"mount_overlay":            "put any layers together to a file system",
	"plan9_mount":              "share any folder of its own",
	"scratch_mount":            "choose scratch space, also unencrypted",
	"dump_stacks":              "dump the stacks of the utility VM's processes",
	"runtime_logging":          "read the utility VM's logs",
	"get_properties":           "read the containers' properties",
	"signal_container_process": "send any signal to any process",
	"shutdown_container":       "stop containers",
	"unmount_device":           "unmount disks",
	"rw_unmount_device":        "unmount disks",
	"unmount_overlay":          "unmount file systems",
	"plan9_unmount":            "unmount shared folders",
	"scratch_unmount":          "unmount scratch space",
}

// harmless are points at which the host gains nothing that it has not anyhow: it can
// stop the whole group.
var harmless = []string{"shutdown_container", "unmount_device", "rw_unmount_device", "unmount_overlay", "plan9_unmount", "scratch_unmount"}

// switches are what a policy of the framework can allow, and what it then allows.
// Those that are missing here, such as allow_properties_access and
// allow_environment_variable_dropping, are in every policy that confcom writes.
var switches = map[string]string{
	"allow_dump_stacks":         points["dump_stacks"],
	"allow_runtime_logging":     points["runtime_logging"],
	"allow_unencrypted_scratch": "give the containers scratch space that it can read and write",
}

// allowable are the framework's switches that are no danger.
var allowable = []string{
	"allow_properties_access", "allow_environment_variable_dropping", "allow_capability_dropping", "allow_capabilities_dropping",
}

// The one fragment that every group of ACI needs: its feed, and Microsoft, who signs it.
// A feed is a name that anybody may use: who signs decides.
const (
	InfraFragment = "mcr.microsoft.com/aci/aci-cc-infra-fragment"
	InfraIssuer   = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3"
)

// Dangers names what is dangerous in a CCE policy, in the policy's order; nil for one
// that leaves every decision to the framework and allows nothing that a debugger would
// want. It reads the text as confcom writes it. Text of another form is itself a
// danger: whoever wrote it may hide anything there.
//
// It does not judge which images, commands and mounts the policy allows: these are
// the policy, and its hash is what a trust policy pins. It decides nothing.
func Dangers(policy []byte) []Danger {
	list, err := statements(string(policy))
	if err != nil {
		return []Danger{{"policy", "it cannot be read: " + err.Error()}}
	}
	var out []Danger
	seen := map[string]bool{}
	api := ""
	for i, s := range list {
		if s.name == "api_version" || s.name == "api_svn" {
			api = s.value
		}
		name := s.name
		if modern, ok := oldNames[name]; ok {
			name = modern
		}
		if name != "" && seen[name] {
			out = append(out, Danger{s.name, "it stands there twice, and either may count"})
		}
		seen[name] = true
		out = append(out, judge(s, i == 0)...)
	}
	out = append(out, unasked(api, seen)...)
	if len(out) > maxDangers {
		out = append(out[:maxDangers:maxDangers], Danger{"policy", fmt.Sprintf("and %d more", len(out)-maxDangers)})
	}
	return out
}

// oldNames are names of a rule's that the UVM reads as another's.
var oldNames = map[string]string{"api_svn": "api_version", "framework_svn": "framework_version"}

// maxDangers bounds what a hostile text makes of itself on a screen.
const maxDangers = 50

func judge(s statement, first bool) []Danger {
	one := func(format string, args ...any) []Danger { return []Danger{{s.name, fmt.Sprintf(format, args...)}} }
	if gain, ok := points[s.name]; ok {
		switch {
		case s.value == "data.framework."+s.name || slices.Contains(harmless, s.name):
			return nil
		case always(s.value):
			return one("the host may %s", gain)
		}
		return one("it is not left to the framework, and decides by text of its own whether the host may %s", gain)
	}
	if gain, ok := switches[s.name]; ok {
		if s.value == "false" {
			return nil
		}
		return one("the host may %s", gain)
	}
	switch {
	case slices.Contains(allowable, s.name) && (s.value == "true" || s.value == "false"):
		return nil
	case s.name == "containers":
		return judgeContainers(s.value)
	case s.name == "fragments":
		return judgeFragments(s.value)
	case s.name == "reason" && s.value == `{"errors": data.framework.errors}`:
		return nil
	case slices.Contains([]string{"api_version", "api_svn", "framework_version", "framework_svn"}, s.name) && version.MatchString(s.value):
		return nil
	case s.name == "" && first && s.value == "package policy":
		return nil
	case s.name == "" && keyword.MatchString(s.value):
		return nil
	}
	name := s.name
	if name == "" {
		name = "policy"
	}
	return []Danger{{name, "text that no policy of confcom has, and that may allow anything: " + short(s.value)}}
}

// introduced is the API version, 0.N.0, that brought a point which an older policy
// allows by saying nothing (hcsshim, api.rego).
var introduced = []struct {
	point string
	minor int
}{
	{"exec_in_container", 2}, {"exec_external", 3}, {"signal_container_process", 5}, {"plan9_mount", 6},
	{"get_properties", 7}, {"dump_stacks", 7}, {"runtime_logging", 8}, {"scratch_mount", 10},
}

// unasked names the points that a policy without a rule for them allows, since it says
// that it is older than they are.
func unasked(api string, named map[string]bool) (out []Danger) {
	var major, minor, patch int
	if _, err := fmt.Sscanf(api, "\"%d.%d.%d\"", &major, &minor, &patch); err != nil {
		return []Danger{{"api_version", "it is missing: nobody can tell what the policy allows by saying nothing"}}
	}
	for _, p := range introduced {
		if major == 0 && minor < p.minor && !named[p.point] {
			out = append(out, Danger{p.point, fmt.Sprintf("the policy's API is %s, older than this rule, so the host may %s", api, points[p.point])})
		}
	}
	return out
}

var keyword = regexp.MustCompile(`^import future\.keywords(\.[a-z]+)?$`)

var version = regexp.MustCompile(`^"[0-9]+\.[0-9]+\.[0-9]+"$`)

// always reports whether a rule is an object that allows without asking.
func always(value string) bool {
	var v struct {
		Allowed bool `json:"allowed"`
	}
	return json.Unmarshal([]byte(value), &v) == nil && v.Allowed
}

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
