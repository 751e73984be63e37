package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// A revocation names two devices, each with its own ID and name: who revoked, and who
// was revoked. The name in its note is that of the latter.
func TestRevocationNamesBoth(t *testing.T) {
	t.Parallel()
	laptop, phone := wire.DeviceID{0xaa}, wire.DeviceID{0xbb}
	revoke := &ledger.Note{Kind: ledger.KindRevoke, Device: laptop, Target: phone, Name: "phone"}
	history := showHistory([]client.HistoryEntry{
		{Sequence: 1, Note: &ledger.Note{Kind: ledger.KindEnrol, Device: laptop, Name: "laptop"}},
		{Sequence: 2, Note: &ledger.Note{Kind: ledger.KindJoin, Device: phone, Name: "phone"}},
		{Sequence: 3, Note: revoke},
	})
	h := history[2]
	if h.Device != laptop.String() || h.Name != "laptop" || h.Target != phone.String() || h.TargetName != "phone" {
		t.Errorf("history: %+v", h)
	}
	var b bytes.Buffer
	printHistory(&b, history)
	if line := strings.Split(b.String(), "\n")[3]; !strings.Contains(line, "device revoked: bb000000 phone  aa000000 laptop") {
		t.Errorf("history: %q", line)
	}

	n := showNotices([]client.Notice{{Sequence: 3, Kind: revoke.Kind, Device: laptop, Target: phone, Name: "phone"}})
	if n[0].Device != laptop.String() || n[0].Name != "" || n[0].Target != phone.String() || n[0].TargetName != "phone" {
		t.Errorf("notice: %+v", n[0])
	}
	b.Reset()
	printNotices(&b, n)
	if !strings.Contains(b.String(), "device revoked: bb000000 phone, by device aa000000\n") {
		t.Errorf("notice: %q", b.String())
	}
}
