package policy

import "regexp"

// securityPolicyDangers names what a CCE policy of Azure Container Instances (Rego)
// leaves open. Such evidence is genuine, and its host data is what a trust policy
// says; but where the policy allows everything, the host runs what it likes.
//
// It looks for rules that are allowed without any condition, as confcom's debug mode
// and "allow all" write them. It does not evaluate Rego: that it finds nothing shows
// nothing.
func securityPolicyDangers(policy []byte) []string {
	var out []string
	for _, d := range dangers {
		if d.rule.Match(policy) {
			out = append(out, d.text)
		}
	}
	return out
}

var dangers = []struct {
	rule *regexp.Regexp
	text string
}{
	{allows("create_container"), "ALLOW ALL: the security policy lets the host run any container in this enclave"},
	{allows("exec_in_container"), "EXEC: the security policy lets the host run any command in the containers"},
	{allows("exec_external"), "EXEC: the security policy lets the host run any command beside the containers"},
	{allows("load_fragment"), "FRAGMENTS: the security policy lets the host add rules of its own"},
}

func allows(rule string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*` + rule + `\s*:=\s*\{[^}]*"allowed"\s*:\s*true`)
}
