package guest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

type object = map[string]any

// numbers is how serde writes bytes.
func numbers(b []byte) []int {
	out := make([]int, len(b))
	for i, v := range b {
		out[i] = int(v)
	}
	return out
}

// crate6 writes a report as the crate sev does since version 6.
func crate6(r []byte) object {
	le := binary.LittleEndian
	turin := r[0x188] >= 0x1a
	tcb := func(i int) object {
		if turin {
			return object{"fmc": r[i], "bootloader": r[i+1], "tee": r[i+2], "snp": r[i+3], "microcode": r[i+7]}
		}
		return object{"fmc": nil, "bootloader": r[i], "tee": r[i+1], "snp": r[i+6], "microcode": r[i+7]}
	}
	o := object{
		"version": le.Uint32(r), "guest_svn": le.Uint32(r[4:]), "policy": le.Uint64(r[8:]), "family_id": numbers(r[0x10:0x20]), "image_id": numbers(r[0x20:0x30]),
		"vmpl": le.Uint32(r[0x30:]), "sig_algo": le.Uint32(r[0x34:]), "current_tcb": tcb(0x38), "plat_info": le.Uint64(r[0x40:]), "key_info": le.Uint32(r[0x48:]),
		"report_data": numbers(r[0x50:0x90]), "measurement": numbers(r[0x90:0xc0]), "host_data": numbers(r[0xc0:0xe0]), "id_key_digest": numbers(r[0xe0:0x110]),
		"author_key_digest": numbers(r[0x110:0x140]), "report_id": numbers(r[0x140:0x160]), "report_id_ma": numbers(r[0x160:0x180]), "reported_tcb": tcb(0x180),
		"cpuid_fam_id": r[0x188], "cpuid_mod_id": r[0x189], "cpuid_step": r[0x18a], "chip_id": numbers(r[0x1a0:0x1e0]), "committed_tcb": tcb(0x1e0),
		"current": object{"major": r[0x1ea], "minor": r[0x1e9], "build": r[0x1e8]}, "committed": object{"major": r[0x1ee], "minor": r[0x1ed], "build": r[0x1ec]},
		"launch_tcb": tcb(0x1f0), "launch_mit_vector": nil, "current_mit_vector": nil,
		"signature": object{"r": numbers(r[0x2a0:0x2e8]), "s": numbers(r[0x2e8:0x330])},
	}
	if le.Uint32(r) < 3 {
		o["cpuid_fam_id"], o["cpuid_mod_id"], o["cpuid_step"] = nil, nil, nil
	}
	if le.Uint32(r) >= 5 {
		o["launch_mit_vector"], o["current_mit_vector"] = le.Uint64(r[0x1f8:]), le.Uint64(r[0x200:])
	}
	return o
}

// crate4 writes a report as the crate did up to version 4.
func crate4(r []byte) object {
	o := crate6(r)
	for _, gone := range []string{"key_info", "cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "current", "committed", "launch_mit_vector", "current_mit_vector"} {
		delete(o, gone)
	}
	for name, i := range map[string]int{"current_tcb": 0x38, "reported_tcb": 0x180, "committed_tcb": 0x1e0, "launch_tcb": 0x1f0} {
		o[name] = object{"bootloader": r[i], "tee": r[i+1], "_reserved": numbers(r[i+2 : i+6]), "snp": r[i+6], "microcode": r[i+7]}
	}
	le := binary.LittleEndian
	for name, value := range (object{
		"_author_key_en": le.Uint32(r[0x48:]), "_reserved_0": le.Uint32(r[0x4c:]), "_reserved_1": numbers(r[0x188:0x1a0]), "_reserved_2": r[0x1eb], "_reserved_3": r[0x1ef],
		"current_build": r[0x1e8], "current_minor": r[0x1e9], "current_major": r[0x1ea], "committed_build": r[0x1ec], "committed_minor": r[0x1ed], "committed_major": r[0x1ee],
		"_reserved_4": numbers(r[0x1f8:0x2a0]), "signature": object{"r": numbers(r[0x2a0:0x2e8]), "s": numbers(r[0x2e8:0x330]), "_reserved": numbers(r[0x330:])},
	}) {
		o[name] = value
	}
	return o
}

func text(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// distinct is a report whose every byte is its own, so that none can change places
// unseen; what the version reserves is zero.
func distinct(version uint32, turin bool) []byte {
	r := make([]byte, reportSize)
	for i := range r {
		r[i] = byte(i*7 + i>>8*13 + 1)
	}
	binary.LittleEndian.PutUint32(r, version)
	zero := [][2]int{{0x4c, 0x50}, {0x18b, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {0x208, 0x2a0}, {0x330, reportSize}}
	if version < 5 {
		zero = append(zero, [2]int{0x1f8, 0x208})
	}
	if version < 3 {
		zero = append(zero, [2]int{0x188, 0x18b})
	} else {
		r[0x188] = 0x19
	}
	for _, i := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		if turin {
			r[0x188] = 0x1a
			zero = append(zero, [2]int{i + 4, i + 7})
		} else {
			zero = append(zero, [2]int{i + 2, i + 6})
		}
	}
	for _, z := range zero {
		clear(r[z[0]:z[1]])
	}
	return r
}

// Both forms give back every byte.
func TestReportEncoding(t *testing.T) {
	t.Parallel()
	for name, r := range map[string][]byte{
		"2": distinct(2, false), "3": distinct(3, false), "5": distinct(5, false), "5, Turin": distinct(5, true),
	} {
		forms := map[string]object{"6": crate6(r)}
		if !strings.Contains(name, "Turin") {
			forms["4"] = crate4(r)
		}
		for form, o := range forms {
			got, err := encodeReport(text(t, o))
			if err != nil {
				t.Errorf("version %s, form %s: %v", name, form, err)
				continue
			}
			for i := range r {
				if got[i] != r[i] {
					t.Errorf("version %s, form %s: byte %#x is %#x, want %#x", name, form, i, got[i], r[i])
					break
				}
			}
		}
	}
}

// agent is the attestation agent with something behind it.
func agent(t *testing.T, evidence func(reportData []byte) (int, []byte)) *Agent {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		data, err := base64.RawURLEncoding.DecodeString(q.Get("runtime_data"))
		if err != nil || r.Method != http.MethodGet || r.URL.Path != "/aa/evidence" || q.Get("encoding") != "base64" || len(data) > 64 {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		status, body := evidence(append(data, make([]byte, 64-len(data))...))
		w.WriteHeader(status)
		w.Write(body)
	}))
	t.Cleanup(s.Close)
	a, err := NewAgent(strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func machineReport(t *testing.T, data []byte) []byte {
	r, _, err := at.NewMachine(t).Report([48]byte{1}, [32]byte{2}, [64]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAgentSNP(t *testing.T) {
	t.Parallel()
	c := at.NewMachine(t).Certificates()
	entry := func(kind any, der []byte) object { return object{"cert_type": kind, "data": numbers(der)} }
	for name, chain := range map[string]any{
		"no chain": nil,
		"a chain":  []any{entry("ARK", c[2]), entry(object{"OTHER": "guid"}, []byte{1}), entry("VCEK", c[0]), entry("ASK", c[1]), entry("CRL", []byte{2})},
		"no key":   []any{entry("ARK", c[2])},
	} {
		for form, write := range map[string]func([]byte) object{"6": crate6, "4": crate4} {
			t.Run(name+" "+form, func(t *testing.T) {
				t.Parallel()
				a := agent(t, func(data []byte) (int, []byte) {
					return 200, text(t, object{"attestation_report": write(machineReport(t, data)), "cert_chain": chain, "svsm_manifest": "x"})
				})
				if err := a.Probe(t.Context()); err != nil {
					t.Error(err)
				}
				genuine(t, a)
			})
		}
	}
}

func tdxQuote(data []byte) []byte {
	q := make([]byte, 700)
	q[0], q[4] = 4, 0x81
	copy(q[568:], data)
	return q
}

func TestAgentTDX(t *testing.T) {
	t.Parallel()
	a := agent(t, func(data []byte) (int, []byte) {
		return 200, text(t, object{"cc_eventlog": "AAAA", "quote": base64.StdEncoding.EncodeToString(tdxQuote(data))})
	})
	b, err := a.Make(t.Context(), [64]byte{7})
	if err != nil || b.Platform != attestation.PlatformTDX || !bytes.Equal(b.Report, tdxQuote([]byte{7})) || b.Certificates != nil {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestAgentRefuses(t *testing.T) {
	t.Parallel()
	snp := func(change func(object)) func([]byte) (int, []byte) {
		return func(data []byte) (int, []byte) {
			o := crate6(machineReport(t, data))
			change(o)
			return 200, text(t, object{"attestation_report": o})
		}
	}
	quote := func(q []byte) []byte { return text(t, object{"quote": base64.StdEncoding.EncodeToString(q)}) }
	for name, evidence := range map[string]func([]byte) (int, []byte){
		"an error":       func([]byte) (int, []byte) { return 500, nil },
		"a redirect":     func([]byte) (int, []byte) { return 302, nil },
		"no JSON":        func([]byte) (int, []byte) { return 200, []byte("{") },
		"the sample TEE": func([]byte) (int, []byte) { return 200, []byte(`{"svn":"1","report_data":"eHh4eA=="}`) },
		"both": func(d []byte) (int, []byte) {
			return 200, text(t, object{"attestation_report": crate6(machineReport(t, d)), "quote": "AAAA"})
		},
		"hashed by the agent": func([]byte) (int, []byte) {
			return 200, text(t, object{"attestation_report": crate6(machineReport(t, make([]byte, 64)))})
		},
		"TDX, hashed": func([]byte) (int, []byte) { return 200, quote(tdxQuote(nil)) },
		"TDX, short":  func(d []byte) (int, []byte) { return 200, quote(tdxQuote(d)[:600]) },
		"SGX": func(d []byte) (int, []byte) {
			q := tdxQuote(d)
			q[4] = 0
			return 200, quote(q)
		},
		"TDX, no base64": func([]byte) (int, []byte) { return 200, text(t, object{"quote": "-"}) },
		"too large":      func([]byte) (int, []byte) { return 200, bytes.Repeat([]byte(" "), maxEvidence+1) },
		"a member more":  snp(func(o object) { o["new"] = 1 }),
		"a member less":  snp(func(o object) { delete(o, "host_data") }),
		"no byte":        snp(func(o object) { o["host_data"] = append(make([]int, 31), 256) }),
		"a byte more":    snp(func(o object) { o["host_data"] = make([]int, 33) }),
		"one key twice": func(d []byte) (int, []byte) {
			c := object{"cert_type": "VCEK", "data": []int{1}}
			return 200, text(t, object{"attestation_report": crate6(machineReport(t, d)), "cert_chain": []any{c, c}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b, err := agent(t, evidence).Make(t.Context(), [64]byte{1}); !errors.Is(err, ErrAnswer) || b != nil {
				t.Errorf("%+v, %v", b, err)
			}
		})
	}
}

func TestAgentIsOnLoopback(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "8006", "localhost:8006", "10.0.0.1:8006", "0.0.0.0:8006", "169.254.169.254:80", "[fd00::1]:8006", "127.0.0.1"} {
		if _, err := NewAgent(address); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
	for _, address := range []string{AgentAddress, "[::1]:8006"} {
		if _, err := NewAgent(address); err != nil {
			t.Error(err)
		}
	}
	a, err := NewAgent("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if a.Probe(t.Context()) == nil {
		t.Error("somebody listens on port 1")
	}
}

// Turin's TCB has another layout.
func TestAgentTurin(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Turin", false).Sign(t, func(r *sevsnp.Report) { r.ReportData = bytes.Repeat([]byte{5}, 64) })
	b, err := parseEvidence(text(t, object{"attestation_report": crate6(whole.Report)}), [64]byte(bytes.Repeat([]byte{5}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attestation.VerifySNP(b.Report, whole.Certificates, roots, time.Now()); err != nil {
		t.Error(err)
	}
}

func FuzzEvidence(f *testing.F) {
	r := distinct(5, false)
	data := [64]byte(r[snpDataAt:])
	good := text(f, object{"attestation_report": crate6(r), "cert_chain": []any{object{"cert_type": "VCEK", "data": []int{1, 2}}}})
	quote := []byte(fmt.Sprintf(`{"quote":%q}`, base64.StdEncoding.EncodeToString(tdxQuote(data[:]))))
	for _, seed := range [][]byte{good, quote, text(f, object{"attestation_report": crate4(r)})} {
		if _, err := parseEvidence(seed, data); err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := parseEvidence(text, data)
		if err != nil {
			if b != nil || !errors.Is(err, ErrAnswer) {
				t.Error(b, err)
			}
			return
		}
		if b.Platform == attestation.PlatformSEVSNP && len(b.Report) != reportSize {
			t.Errorf("%d bytes", len(b.Report))
		}
	})
}
