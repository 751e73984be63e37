package aci_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/attestation/aci"
)

// ordinary is a policy as confcom writes it.
const ordinary = `package policy

import future.keywords.every
import future.keywords.in

api_version := "0.10.0"
framework_version := "0.2.3"

fragments := [
  {
    "feed": "mcr.microsoft.com/aci/aci-cc-infra-fragment",
    "includes": ["containers", "fragments"],
    "issuer": "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3",
    "minimum_svn": "1"
  }
]

# the enclave alone
containers := [{"allow_elevated":false,"allow_stdio_access":true,"command":["/passclave-enclave"],"env_rules":[
  {"pattern":"PATH=/usr/bin","required":false,"strategy":"string"},
  {"pattern":"(?i)(FABRIC)_.+=.+","required":false,"strategy":"re2"},
  {"pattern":"HOSTNAME=.+","required":false,"strategy":"re2"}],"exec_processes":[],"id":"enclave","layers":["00"],"signals":[]}]

allow_properties_access := true
allow_dump_stacks := false
allow_runtime_logging := false
allow_environment_variable_dropping := true
allow_unencrypted_scratch := false
allow_capability_dropping := true

mount_device := data.framework.mount_device
create_container := data.framework.create_container
exec_in_container := data.framework.exec_in_container
exec_external := data.framework.exec_external
load_fragment := data.framework.load_fragment

reason := {"errors": data.framework.errors}
`

func rules(policy string) (out []string) {
	for _, d := range aci.Dangers([]byte(policy)) {
		out = append(out, d.Rule)
	}
	return out
}

func TestDangers(t *testing.T) {
	t.Parallel()
	if got := aci.Dangers([]byte(ordinary)); got != nil {
		t.Fatalf("an ordinary policy: %v", got)
	}
	const first = `"id":"enclave"`
	for name, c := range map[string]struct {
		old, new string
		want     []string
	}{
		"any command":               {"exec_in_container := data.framework.exec_in_container", `exec_in_container := {"allowed": true}`, []string{"exec_in_container"}},
		"any command, in lines":     {"exec_external := data.framework.exec_external", "exec_external := {\n\t\"allowed\": true, # why not\n\t\"allow_stdio_access\": true }", []string{"exec_external"}},
		"any fragment":              {"load_fragment := data.framework.load_fragment", `load_fragment := {"allowed": true, "add_module": true}`, []string{"load_fragment"}},
		"decided by other text":     {"create_container := data.framework.create_container", "create_container := data.custom.create_container", []string{"create_container"}},
		"with the old operator":     {"create_container := data.framework.create_container", `create_container = {"allowed": true}`, []string{"policy"}},
		"with a body":               {"create_container := data.framework.create_container", `create_container := {"allowed": true} { 1 == 1 }`, []string{"create_container"}},
		"a default":                 {"load_fragment :=", "default load_fragment :=", []string{"policy"}},
		"a second rule":             {"reason :=", "exec_external := {\"allowed\": true}\nreason :=", []string{"exec_external", "exec_external"}},
		"a second on the line":      {"api_version := \"0.10.0\"", `api_version := "0.10.0"; exec_external := {"allowed": true}`, []string{"exec_external", "exec_external"}},
		"a function":                {"reason :=", "f(x) := true\nreason :=", []string{"policy"}},
		"another import":            {"import future.keywords.in", "import data.other", []string{"policy"}},
		"another package":           {"package policy", "package other", []string{"policy"}},
		"stacks":                    {"allow_dump_stacks := false", "allow_dump_stacks := true", []string{"allow_dump_stacks"}},
		"logs":                      {"allow_runtime_logging := false", "allow_runtime_logging := true", []string{"allow_runtime_logging"}},
		"scratch":                   {"allow_unencrypted_scratch := false", "allow_unencrypted_scratch := 1 == 1", []string{"allow_unencrypted_scratch"}},
		"another switch":            {"allow_capability_dropping", "allow_everything", []string{"allow_everything"}},
		"somebody's fragment":       {"aci-cc-infra-fragment", "somebodys", []string{"fragments"}},
		"that feed, another issuer": {"76.59.1.3", "76.59.1.4", []string{"fragments"}},
		"fragments are computed":    {"fragments := [", "fragments := [x |", []string{"fragments"}},
		"privileged":                {`"allow_elevated":false`, `"allow_elevated":true`, []string{"containers"}},
		"privileged, in two cases":  {`"allow_elevated":false`, `"allow_elevated":true,"Allow_Elevated":false`, []string{"containers"}},
		"privileged, said twice":    {`"allow_elevated":false`, `"allow_elevated":true,"allow_elevated":false`, []string{"containers"}},
		"a shell, in two cases":     {`"exec_processes":[]`, `"exec_processes":[{"command":["/bin/sh"]}],"Exec_Processes":[]`, []string{"containers"}},
		"a shell":                   {`"exec_processes":[]`, `"exec_processes":[{"command":["/bin/sh"]}]`, []string{"containers"}},
		"any variable":              {`HOSTNAME=.+`, `.+=.+`, []string{"containers"}},
		"a loader's variable":       {`HOSTNAME=.+`, `(HOSTNAME|LD_.*)=.*`, []string{"containers"}},
		"a long variable":           {`HOSTNAME=.+`, strings.Repeat("A?", 300) + `=.+`, []string{"containers"}},
		"a counted variable":        {`HOSTNAME=.+`, `((A{0,100}){0,9}){0,1}X=.+`, []string{"containers"}},
		"containers computed":       {`containers := [`, `containers := data.other.containers[`, []string{"containers"}},
		"an old API":                {`api_version := "0.10.0"`, `api_version := "0.4.0"`, []string{"signal_container_process", "plan9_mount", "get_properties", "dump_stacks", "runtime_logging", "scratch_mount"}},
		"the oldest API, asked":     {"api_version := \"0.10.0\"", "api_svn := \"0.1.0\"\nsignal_container_process := data.framework.signal_container_process", []string{"plan9_mount", "get_properties", "dump_stacks", "runtime_logging", "scratch_mount"}},
		"an old API, said anew":     {`api_version := "0.10.0"`, "api_version := \"0.1.0\"\napi_svn := \"0.10.0\"", []string{"api_svn"}},
		"a new framework, anew":     {`framework_version := "0.2.3"`, "framework_version := \"0.2.3\"\nframework_svn := \"0.1.0\"", []string{"framework_svn"}},
		"no API":                    {"api_version :=", "other_version :=", []string{"other_version", "api_version"}},
		"a bracket too many":        {first, first + "]", []string{"policy"}},
		"brackets that do not fit":  {"reason :=", "x := {]\nreason :=", []string{"policy"}},
		"an end alone":              {"reason :=", "]\nreason :=", []string{"policy"}},
		"no end":                    {`data.framework.errors}`, `data.framework.errors`, []string{"policy"}},
		"an open quote, paired":     {"reason :=", "reason := \"a\nb\"\nreason :=", []string{"policy"}},
		"an escaped quote":          {`"id":"enclave"`, `"id":"\" ] enclave"`, nil},
		"an open quote":             {first, `"id":"enclave`, []string{"policy"}},
		"in a comment":              {"# the enclave alone", `# exec_external := {"allowed": true}`, nil},
		"in a string":               {`"id":"enclave"`, `"id":"# ] } enclave"`, nil},
		"hidden by a string":        {`"0.2.3"`, "\"0.2.3\"\nx := `\"`\nexec_external := {\"allowed\": true}\ny := `\"`", []string{"x", "exec_external", "y", "exec_external"}},
	} {
		changed := strings.Replace(ordinary, c.old, c.new, 1)
		if changed == ordinary {
			t.Fatalf("%s: nothing changed", name)
		}
		if got := rules(changed); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, aci.Dangers([]byte(changed)), c.want)
		}
	}
	// A policy that says nothing, of an API in which that meant yes.
	quiet := "package policy\napi_version := \"0.1.0\"\ncontainers := []\n"
	if got := rules(quiet); len(got) != 8 || got[0] != "exec_in_container" || got[1] != "exec_external" {
		t.Errorf("quiet: %v", got)
	}
	if got := rules(""); !slices.Equal(got, []string{"api_version"}) {
		t.Errorf("empty: %v", got)
	}
}

// What a policy that allows everything, as some samples have it, lets the host do.
func TestDangersOfAllowAll(t *testing.T) {
	t.Parallel()
	policy := "package policy\n\napi_svn := \"0.10.0\"\n\n"
	want := []string{"mount_device", "mount_overlay", "create_container", "exec_in_container", "exec_external",
		"signal_container_process", "plan9_mount", "get_properties", "dump_stacks", "runtime_logging", "load_fragment", "scratch_mount"}
	for _, name := range want {
		policy += name + " := {\"allowed\": true}\n"
	}
	if got := rules(policy); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func FuzzDangers(f *testing.F) {
	f.Add(ordinary)
	f.Add("package policy\nexec_external := {\"allowed\": true}\nx := `a")
	f.Fuzz(func(t *testing.T, policy string) {
		got := aci.Dangers([]byte(policy))
		for _, d := range got {
			if d.Rule == "" || d.Text == "" {
				t.Errorf("%+v", d)
			}
		}
		// A rule that allows everything is found whatever stands around it.
		end := "\nexec_external := {\"allowed\": true}\n"
		if len(aci.Dangers([]byte(policy+end))) == 0 {
			t.Errorf("%q hides %q", policy, end)
		}
		if len(got) > 51 {
			t.Errorf("%d dangers", len(got))
		}
	})
}
