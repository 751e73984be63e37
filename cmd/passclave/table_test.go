package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/passclave/passclave/policy"
)

// Two values that differ, however far inside, never look the same.
func TestShortenShowsTheDifference(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("4d", 48)
	name := "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"
	if a, b := shorten(long, long); a != "4d4d4d4d…4d4d4d4d" || b != a {
		t.Errorf("%s, %s", a, b)
	}
	for _, word := range []string{long, name} {
		for i := range len(word) {
			other := word[:i] + "~" + word[i+1:]
			if word == long {
				other = word[:i] + "0" + word[i+1:]
			}
			for _, lists := range [][2]string{{word, other}, {other, word}, {"at least " + long + ", " + word, other}} {
				a, b := shorten(lists[0], lists[1])
				if a == b || strings.HasSuffix(a, b) || utf8.RuneCountInString(b) > 45 {
					t.Fatalf("%s and %s look like %s and %s", lists[0], lists[1], a, b)
				}
			}
		}
	}
	if a, b := shorten(long, long[:64]); a == b {
		t.Errorf("another length looks the same: %s", a)
	}
	if a, b := shorten("expected words, of any length, stay as they are", "4d4d4d4d"); a != "expected words, of any length, stay as they are" || b != "4d4d4d4d" {
		t.Errorf("%s, %s", a, b)
	}
}

func TestTableFits(t *testing.T) {
	t.Parallel()
	hash, other := strings.Repeat("4d", 48), strings.Repeat("4d", 24)+"00"+strings.Repeat("4d", 23)
	refused, waived := string(policy.Refused), string(policy.Waived)
	var out bytes.Buffer
	printChecks(&out, []line{
		{Of: partEvidence, Name: "measurement-of-a-long-name", Actual: hash, Verdict: string(policy.Accepted)},
		{Of: partPolicy, Name: "measurement", Expected: hash, Actual: other, Verdict: refused},
		{Of: partPolicy, Name: "chip_ids", Expected: strings.Repeat(hash+", ", 200) + hash, Actual: other, Verdict: refused},
		{Of: partPolicy, Name: "debug", Expected: "forbidden", Actual: "allowed", Verdict: refused},
		{Of: partPolicy, Name: "revocation", Expected: "waived: for-a-reason-that-is-long", Actual: "not looked up: no revocation list is stapled", Verdict: waived},
		{Of: partEvidence, Name: "signature", Actual: "evil\x1b[2J\nevidence  ok", Verdict: refused},
	})
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	for _, l := range lines {
		if utf8.RuneCountInString(l) > tableWidth {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(l), l)
		}
	}
	if len(lines) > 20 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d lines:\n%s", len(lines), out.String())
	}
	for _, part := range []string{
		"REFUSED      debug                       expected forbidden, found allowed\n",
		"expected 4d4d4d4d…4d4d4d4d4d4d…4d4d4d4d\n", "found    4d4d4d4d…4d4d004d4d4d…4d4d4d4d\n", "--json has all",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in\n%s", part, out.String())
		}
	}
}

// The last line repeats what must not be overlooked.
func TestConclusion(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]verification{
		"ACCEPTED": {Verdict: verdictAccepted},
		"REFUSED BY THE POLICY, SIMULATION, 1 check waived": {Verdict: verdictRefused, Simulation: true, Waived: 1},
		"ACCEPTED, 1 DANGER (! above)":                      {Verdict: verdictAccepted, Dangers: 1},
		"ACCEPTED, 12 DANGERS (! above), 1 check waived":    {Verdict: verdictAccepted, Dangers: 12, Waived: 1},
		"ACCEPTED, 12 checks waived":                        {Verdict: verdictAccepted, Waived: 12},
	} {
		var out bytes.Buffer
		v.Service = "file"
		if printVerification(&out, v); !strings.HasSuffix(out.String(), "\nfile: "+want+"\n") {
			t.Errorf("%s ends otherwise", out.String())
		}
	}
}
