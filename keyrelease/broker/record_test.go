package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

func (h *harness) releasePath(version string) string {
	return "/keys/" + keyName + "/" + version + "/release?api-version=7.4"
}

func askFor(t testing.TB, token string) string {
	t.Helper()
	b, err := json.Marshal(azure.ReleaseRequest{Target: token, Enc: "RSA_AES_KEY_WRAP_256"})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Who asked, for what, and which clause decided.
func TestRecords(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	policy := h.strict()
	version := h.create(t, policy)
	if _, err := h.client(good).Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.measurement = 0x12
	if _, err := h.client(bad).Release(context.Background()); err == nil {
		t.Fatal("released")
	}
	token := h.token(t, good)
	h.post(t, h.releasePath("00"), askFor(t, token))
	h.post(t, h.releasePath(version), askFor(t, token[:len(token)-9]))
	if err := h.store.SetEnabled(context.Background(), keyName, version, false); err != nil {
		t.Fatal(err)
	}
	h.post(t, h.releasePath(version), askFor(t, token))
	wrongPurpose := clientRuntime(t)
	for _, of := range [][2][]byte{{wrongPurpose, wrongPurpose}, {goodRuntime(), wrongPurpose}} { // the second binds other data
		body, err := json.Marshal(attestBody(t, good.evidence(of[0]), of[1]))
		if err != nil {
			t.Fatal(err)
		}
		h.post(t, azure.AttestSNPPath+"?api-version=2022-08-01", string(body))
	}

	type want struct {
		kind    audit.Kind
		outcome audit.Outcome
		code    string
		known   bool // who asked
		clauses []string
	}
	got := h.records(t)
	wants := []want{
		{audit.KindRelease, audit.Done, "", true, []string{`anyOf[0], authority "` + h.url + `"`}},
		{audit.KindRelease, audit.Refused, "Forbidden", true, []string{`x-ms-sevsnpvm-launchmeasurement equals "` + strings.Repeat("11", 48) + `", actual "` + strings.Repeat("12", 48) + `"`}},
		{audit.KindRelease, audit.Refused, "KeyNotFound", true, nil},
		{audit.KindRelease, audit.Refused, "Unauthorized", false, nil},
		{audit.KindRelease, audit.Refused, "KeyDisabled", true, nil},
		{audit.KindAttest, audit.Refused, "InvalidParameter", true, nil},
		{audit.KindAttest, audit.Refused, "InvalidParameter", false, nil},
	}
	if len(got) != len(wants) {
		t.Fatalf("%d records, want %d", len(got), len(wants))
	}
	for i, w := range wants {
		r := got[i]
		if r.Kind != w.kind || r.Outcome != w.outcome || r.Code != w.code || (r.Evidence != nil) != w.known || !slices.Equal(r.Clauses, w.clauses) ||
			r.Request == "" || r.From == "" {
			t.Errorf("record %d is %+v", i, r)
		}
	}
	r := got[0]
	if r.Key != keyName || r.Version != version || r.Policy != policyHash(policy) || r.ClientRequest == "" {
		t.Errorf("the release is recorded as %+v", r)
	}
	e := *r.Evidence
	if e.Platform != "sevsnpvm" || !e.Simulated || e.Measurement != strings.Repeat("11", 48) || e.HostData != strings.Repeat("22", 32) ||
		len(e.Report) != 64 || len(e.Chip) != 64 || len(e.RSA) != 64 || e.Token == "" {
		t.Errorf("who asked is recorded as %+v", e)
	}
	if other := got[1].Evidence; other.RSA != e.RSA || other.Token == e.Token || got[5].Evidence.Measurement != e.Measurement {
		t.Errorf("others as %+v, %+v", other, got[5].Evidence)
	}
	trail, err := os.ReadFile(filepath.Join(h.dir, audit.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if leaks(trail, h.stored2(t, version)) || bytes.Contains(trail, []byte(token)) || bytes.Contains(trail, []byte(token[strings.LastIndex(token, ".")+1:])) {
		t.Error("the audit log holds a key or a token")
	}
}

// stored2 is stored of a version that was disabled.
func (h *harness) stored2(t testing.TB, version string) []byte {
	t.Helper()
	if err := h.store.SetEnabled(context.Background(), keyName, version, true); err != nil {
		t.Fatal(err)
	}
	return h.stored(t, version)
}

// The broker records what it was started with, and what a crash left behind.
func TestStartIsRecorded(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if err := h.config.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(h.dir, audit.FileName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"record":`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if h.config.Audit, err = audit.Open(h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.config.Audit.Close() })
	h.restart(t)
	var starts []*audit.Start
	if _, _, err := audit.VerifyFile(h.dir, nil, nil, func(r *audit.Record) error { starts = append(starts, r.Start); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(starts) != 2 || starts[1] == nil || starts[1].Broker != h.url || !starts[1].Simulated || starts[0].Removed != 0 || starts[1].Removed != 10 {
		t.Errorf("recorded %+v", starts)
	}
}

// A key leaves only when its record is durable.
func TestNoReleaseWithoutItsRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, h *harness)
		words string
	}{
		"closed": {func(t *testing.T, h *harness) { h.config.Audit.Close() }, "cannot be written"},
		"file gone": {func(t *testing.T, h *harness) {
			if err := os.Remove(filepath.Join(h.dir, audit.FileName)); err != nil {
				t.Fatal(err)
			}
		}, audit.ErrChanged.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			version := h.create(t, h.strict())
			token := h.token(t, good)
			c.spoil(t, h)
			if status, code := h.post(t, h.releasePath(version), askFor(t, token)); status != http.StatusServiceUnavailable || code != "AuditUnavailable" {
				t.Errorf("got %d %s", status, code)
			}
			// What was refused anyway stays refused in the same words.
			if status, code := h.post(t, h.releasePath("00"), askFor(t, token)); status != http.StatusNotFound || code != "KeyNotFound" {
				t.Errorf("got %d %s", status, code)
			}
			_, err := h.client(good).Release(context.Background())
			var e *keyrelease.Error
			if !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || !strings.Contains(e.Message, c.words) {
				t.Errorf("got %v", err)
			}
			if leaks(append(h.log.Bytes(), err.Error()...), h.stored(t, version)) {
				t.Error("a log or an error holds the key")
			}
		})
	}
}

// Who shows nothing cannot fill the disk; what is left out is counted.
func TestStrangersAreCounted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	version := h.create(t, h.strict())
	const asked = 5 * strangersBurst
	for range asked {
		h.post(t, h.releasePath(version), askFor(t, "x"))
	}
	got := len(h.records(t))
	if got < strangersBurst || got > 3*strangersBurst {
		t.Errorf("%d records of %d", got, asked)
	}
	token := h.token(t, good)
	for range 2 {
		if status, _ := h.post(t, h.releasePath(version), askFor(t, token)); status != http.StatusOK {
			t.Errorf("got %d", status)
		}
	}
	if again := h.records(t); len(again) != got+2 || again[got].LeftOut != 0 || again[got+1].Outcome != audit.Done {
		t.Errorf("who showed evidence is not recorded, or as a stranger: %d records", len(again))
	}
	h.strangers.SetBurst(1000)
	h.strangers.SetLimit(1e6)
	h.post(t, h.releasePath(version), askFor(t, "x"))
	all := h.records(t)
	var counted uint64
	for _, r := range all {
		counted += r.LeftOut
	}
	if strangers := len(all) - 2; uint64(strangers)+counted != asked+1 {
		t.Errorf("%d recorded and %d counted of %d", strangers, counted, asked+1)
	}
}

// What an enclave shows to clients anybody can show here: its refusal is a stranger's.
func TestClientsEvidenceIsAStrangers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.strangers.SetLimit(0)
	data := clientRuntime(t)
	body, err := json.Marshal(attestBody(t, good.evidence(data), data))
	if err != nil {
		t.Fatal(err)
	}
	const asked = 2 * strangersBurst
	for range asked {
		if status, code := h.post(t, azure.AttestSNPPath+"?api-version=2022-08-01", string(body)); status != http.StatusBadRequest || code != "InvalidParameter" {
			t.Fatalf("got %d %s", status, code)
		}
	}
	got := h.records(t)
	if len(got) != strangersBurst || got[0].Evidence == nil || h.leftOut.Load() != asked-strangersBurst {
		t.Errorf("%d records, %d counted of %d", len(got), h.leftOut.Load(), asked)
	}
}

// The words of a full disk reach who asks.
func TestUnrecordedSaysWhy(t *testing.T) {
	t.Parallel()
	if err := unrecorded(audit.ErrFull); !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
	if err := unrecorded(errors.New("/secret/path")); strings.Contains(err.(*refusal).message, "secret") {
		t.Errorf("got %v", err)
	}
}

func TestJudgeNamesAlternatives(t *testing.T) {
	t.Parallel()
	p, err := releasepolicy.Parse([]byte(`{"version":"1.0.0","anyOf":[
		{"authority":"https://other.test","allOf":[{"claim":"a","equals":1}]},
		{"authority":"https://one.test","allOf":[
			{"claim":"x-ms-attestation-type","equals":"sgx"},
			{"anyOf":[{"claim":"a","equals":2},{"allOf":[{"claim":"a","equals":1},{"anyOf":[{"claim":"anyOf","equals":1}]}]}]},
			{"claim":"x-ms-sgx-is-debuggable","equals":false},{"claim":"x-passclave-simulated","equals":false}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := releasepolicy.ParseClaims([]byte(`{"x-ms-attestation-type":"sgx","a":1,"anyOf":1,"x-ms-sgx-is-debuggable":false,"x-passclave-simulated":false}`))
	if err != nil {
		t.Fatal(err)
	}
	v := Judge(p, "https://one.test", claims)
	want := []string{`anyOf[1], authority "https://one.test"`, "anyOf[1].allOf[1].anyOf[1]", "anyOf[1].allOf[1].anyOf[1].allOf[1].anyOf[0]"}
	if got := v.Clauses(); !v.Released || !slices.Equal(got, want) {
		t.Errorf("got %v, %q", v.Released, got)
	}
}

// A release that fails because the HSM is away is recorded as that.
func TestFailureIsRecorded(t *testing.T) {
	t.Parallel()
	h, s := newHSM(t)
	version := h.create(t, h.strict())
	token := h.token(t, good)
	s.away.Store(1)
	if status, code := h.post(t, h.releasePath(version), askFor(t, token)); status != http.StatusServiceUnavailable || code != "ServiceUnavailable" {
		t.Errorf("got %d %s", status, code)
	}
	if got := h.records(t); len(got) != 1 || got[0].Outcome != audit.Failed || got[0].Code != "ServiceUnavailable" || strings.Contains(got[0].Message, "CKR") {
		t.Errorf("recorded %+v", got[0])
	}
}
