package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tdxtest "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// then is when go-tdx-guest's real quote, and Intel's real answers about it, were made.
var then = time.Date(2023, 7, 1, 12, 0, 0, 0, time.UTC)

// realQuote is a real machine's, without collateral.
func realQuote() *attestation.Bundle {
	q := testdata.RawQuote // with text of the library's authors behind it
	return &attestation.Bundle{Platform: attestation.PlatformTDX, Report: bytes.Clone(q[:bytes.LastIndex(q, []byte("-----END CERTIFICATE-----\n"))+26])}
}

// loopback are makers that answer as AMD and Intel do.
type loopback struct {
	makers
	url    string
	asked  atomic.Int32
	closed atomic.Bool // nobody answers
	bodies map[string][]byte
}

func newLoopback(t *testing.T, bodies map[string][]byte) *loopback {
	l := &loopback{bodies: bodies}
	headers := map[string]map[string][]string{
		"/tdx/certification/v4/tcb": tdxtest.TcbInfoHeader, "/tdx/certification/v4/qe/identity": tdxtest.QeIdentityHeader,
		"/sgx/certification/v4/pckcrl": tdxtest.PckCrlHeader,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		for name, values := range headers[r.URL.Path] {
			w.Header().Set(name, values[0])
		}
		body, ok := l.bodies[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Write(body)
	}))
	t.Cleanup(s.Close)
	l.url = s.URL
	l.makers = makers{
		http: &http.Client{Transport: l}, snp: []collateral.Source{collateral.AMD(s.URL)},
		intel: []collateral.IntelSource{{Base: s.URL, RootCRL: s.URL + "/root"}}, cache: filepath.Join(t.TempDir(), "cache"),
	}
	return l
}

// RoundTrip reaches nobody once closed.
func (l *loopback) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.closed.Load() {
		l.asked.Add(1)
		return nil, errors.New("network is unreachable")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (l *loopback) close() {
	l.closed.Store(true)
	l.within = time.Millisecond // no time for another attempt
	l.asked.Store(0)
}

func newPCS(t *testing.T) *loopback {
	return newLoopback(t, map[string][]byte{
		"/tdx/certification/v4/tcb": testdata.TcbInfoBody, "/tdx/certification/v4/qe/identity": testdata.QeIdentityBody,
		"/sgx/certification/v4/pckcrl": testdata.PckCrlBody, "/root": testdata.RootCrlBody,
	})
}

// command runs one with these makers at a time, and returns its exit code and JSON.
func (l *loopback) command(t *testing.T, now time.Time, out any, args ...string) int {
	t.Helper()
	var b bytes.Buffer
	a := newApp(os.Stdin, &b, os.Stderr)
	a.makers, a.now = l.makers, func() time.Time { return now }
	code := a.run(t.Context(), append(args, "--json"))
	if err := json.Unmarshal(b.Bytes(), out); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	return code
}

// failure is what a command prints that ends with an error.
type failure struct{ Error jsonError }

func write(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// completeQuote is realQuote with Intel's lists, and the policy that fits it. Intel's TCB
// info of then does not know the machine.
func completeQuote(t *testing.T) (*attestation.Bundle, *policy.TrustPolicy) {
	t.Helper()
	b, pcs := realQuote(), newPCS(t)
	o := collateral.Options{Intel: pcs.intel, Now: func() time.Time { return then }, Revocation: true}
	if err := collateral.New(o).Complete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	c, err := attestation.Hardware(b, attestation.Roots{}, then)
	if err != nil {
		t.Fatal(err)
	}
	p := policy.FromEvidence(c)
	p.Intel.TCBStatus, p.Intel.MinimumEvaluationNumber, p.Intel.Advisories = policy.Waive[[]string]("test"), 0, nil
	if wantedBy(p) != (wanted{revocation: true}) {
		t.Fatalf("the policy demands %+v", wantedBy(p))
	}
	return b, p
}

func refusedIn(v verification) (names []string) {
	for _, l := range v.Findings {
		if l.Verdict == string(policy.Refused) {
			names = append(names, l.Name)
		}
	}
	return names
}

// What is complete, simulated or false beyond mending is verified without the network.
func TestNothingIsFetchedWithoutNeed(t *testing.T) {
	t.Parallel()
	whole, p := completeQuote(t)
	file := at.Configuration(t)
	simulated := at.Bundle(t, at.ClientData(t, file), file)
	unlisted := *simulated
	unlisted.Collateral = nil
	demanding := strict(t)
	demanding.Revocation = policy.Require(policy.Required)
	both := strict(t)
	both.Simulation.Roots = append(both.Simulation.Roots, policy.Hex(at.Roots(at.NewMachine(t)).Simulation[1][:]))
	unnamed := strict(t)
	unnamed.Simulation = nil
	ended, err := at.NewMachine(t).Certify(machine.Chip{ID: [64]byte{7}}, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	forged := *whole
	forged.Report = bytes.Clone(whole.Report)
	forged.Report[200] ^= 1
	forgedBare := forged
	forgedBare.Collateral = nil
	for name, test := range map[string]struct {
		b    *attestation.Bundle
		p    *policy.TrustPolicy
		now  time.Time
		exit int
	}{
		"complete":                          {whole, p, then, exitDone},
		"simulated":                         {simulated, strict(t), time.Now(), exitDone},
		"simulated, without what is wanted": {&unlisted, demanding, time.Now(), exitPolicy},
		"simulated, its certificates ended": {at.Bundle(t, at.ClientData(t, file), file, at.On(ended)), strict(t), time.Now(), exitEvidence},
		"simulated, its collateral ended":   {at.TDXBundle(t, at.ReleaseData(t, file), file), both, time.Now().AddDate(1, 0, 0), exitEvidence},
		"simulated, root not named":         {simulated, unnamed, time.Now(), exitEvidence},
		"forged":                            {&forged, p, then, exitEvidence},
		"forged, without collateral":        {&forgedBare, p, then, exitEvidence},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPCS(t)
			l.close()
			var v verification
			if code := l.command(t, test.now, &v, "verify", write(t, test.b.Encode()), "--policy", write(t, test.p.Encode())); code != test.exit {
				t.Errorf("exit code %d, refused %v", code, refusedIn(v))
			}
			if n := l.asked.Load(); n != 0 || len(v.Fetched) != 0 {
				t.Errorf("asked %d times, fetched %v", n, v.Fetched)
			}
		})
	}
}

// A real quote without collateral: it is fetched, kept, and what is kept is not believed.
func TestVerifyCompletesAQuote(t *testing.T) {
	t.Parallel()
	whole, p := completeQuote(t)
	bare, trust, l := write(t, realQuote().Encode()), write(t, p.Encode()), newPCS(t)
	all := []string{"pck-crl", "root-crl"}
	verify := func(want int, asked int32) (v verification) {
		t.Helper()
		l.asked.Store(0)
		if code := l.command(t, then, &v, "verify", bare, "--policy", trust); code != want || l.asked.Load() != asked {
			t.Fatalf("exit code %d after %d requests, refused %v", code, l.asked.Load(), refusedIn(v))
		}
		return v
	}
	if v := verify(exitDone, 2); !slices.Equal(v.Fetched, all) {
		t.Errorf("fetched %v", v.Fetched)
	}
	if v := verify(exitDone, 0); !slices.Equal(v.Fetched, all) {
		t.Errorf("from the cache: %v", v.Fetched)
	}
	files, err := os.ReadDir(l.cache)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	// Another list in the place of one, then the right one again.
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(l.cache, f.Name()), wire.Marshal(whole.Collateral[0]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify(exitDone, 1)
	verify(exitDone, 0)
	// A year later all that is kept has ended. Nobody answers: nobody can tell.
	l.close()
	var f failure
	later := then.AddDate(1, 0, 0)
	if code := l.command(t, later, &f, "verify", bare, "--policy", trust); code != exitError || f.Error.Code != "could-not-tell" {
		t.Errorf("exit code %d, %+v", code, f)
	}
	// The same where the evidence brings along what has ended.
	if code := l.command(t, later, &f, "verify", write(t, whole.Encode()), "--policy", trust); code != exitError ||
		!strings.Contains(f.Error.Message, "that does not hold") {
		t.Errorf("exit code %d, %+v", code, f)
	}
}

// Nobody there: it says what was missing, who was asked and what to do; unless something
// else decides.
func TestUndecided(t *testing.T) {
	t.Parallel()
	_, p := completeQuote(t)
	bare, l := write(t, realQuote().Encode()), newPCS(t)
	l.close()
	var f failure
	if code := l.command(t, then, &f, "verify", bare, "--policy", write(t, p.Encode())); code != exitError || f.Error.Code != "could-not-tell" || f.Error.Exit != exitError {
		t.Fatalf("exit code %d, %+v", code, f)
	}
	for _, part := range []string{"pck-crl", "Intel's PCS", "network is unreachable", "api.trustedservices.intel.com", "evidence save"} {
		if !strings.Contains(f.Error.Message, part) {
			t.Errorf("%q is not in %q", part, f.Error.Message)
		}
	}
	p.Releases[0].Measurement = policy.Require(policy.Hex(make([]byte, 48)))
	var v verification
	if code := l.command(t, then, &v, "verify", bare, "--policy", write(t, p.Encode())); code != exitPolicy || !slices.Contains(refusedIn(v), "measurement") {
		t.Errorf("another measurement: exit code %d, refused %v", code, refusedIn(v))
	}
	if !slices.Equal(v.Missing, []string{"pck-crl"}) {
		t.Errorf("missing %v", v.Missing)
	}
	p.Intel.TCBStatus = policy.Require([]string{"UpToDate"})
	p.Releases[0].Measurement = policy.Waive[policy.Hex]("test")
	for _, want := range []string{"network is unreachable", "answered, and has nothing that fits"} {
		if code := l.command(t, then, &f, "verify", bare, "--policy", write(t, p.Encode())); code != exitError || !strings.Contains(f.Error.Message, "tcb-info") || !strings.Contains(f.Error.Message, want) {
			t.Errorf("%s: exit code %d, %+v", want, code, f)
		}
		l.closed.Store(false)
		l.within = time.Minute
	}
	l.close()
	p.Revocation, p.Intel.TCBStatus = policy.Waive[policy.Demand]("test"), policy.Waive[[]string]("test")
	l.asked.Store(0)
	if l.command(t, then, &v, "verify", bare, "--policy", write(t, p.Encode())); l.asked.Load() != 0 {
		t.Error("asked for what the policy waives")
	}
	if code := l.command(t, then, &f, "verify", write(t, (&attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: masked(t)}).Encode()), "--policy", write(t, p.Encode())); code != exitError ||
		!strings.Contains(f.Error.Message, "Nobody can be asked") {
		t.Errorf("a masked chip: exit code %d, %+v", code, f)
	}
}

// masked is a report that does not name its chip.
func masked(t *testing.T) []byte {
	file := at.Configuration(t)
	return at.Bundle(t, at.ClientData(t, file), file, at.Raw(func(b []byte) { clear(b[0x1a0:0x1e0]) })).Report
}

// A report alone: its certificates and AMD's list are fetched, and what they prove holds.
func TestVerifyCompletesAReport(t *testing.T) {
	t.Parallel()
	a := at.NewAMD(t, "Milan", false)
	whole, roots := a.Sign(t, nil)
	now := time.Now()
	good, revoked := a.CRL(t, whole, now.Add(-time.Hour), now.Add(time.Hour)), a.CRL(t, whole, now.Add(-time.Hour), now.Add(time.Hour), a.AS.SerialNumber)
	whole.Collateral = []attestation.Collateral{good}
	c, err := attestation.Hardware(whole, roots, now)
	if err != nil {
		t.Fatal(err)
	}
	trust := write(t, policy.FromEvidence(c).Encode())
	bare := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: whole.Report}
	cut := *bare
	cut.Certificates = whole.Certificates[:1]
	forged := *bare
	forged.Report = bytes.Clone(whole.Report)
	forged.Report[0x90] ^= 1 // MEASUREMENT
	chain := slices.Concat(pemOf(whole.Certificates[1]), pemOf(whole.Certificates[2]))
	vcek := "/vcek/v1/Milan/" + strings.Repeat("c4", 64)
	for name, test := range map[string]struct {
		b      *attestation.Bundle
		crl    []byte
		closed bool
		exit   int
		check  attestation.Check
	}{
		"accepted":        {bare, good.Data, false, exitDone, ""},
		"the key alone":   {&cut, good.Data, false, exitDone, ""},
		"forged":          {&forged, good.Data, false, exitEvidence, attestation.CheckSignature},
		"revoked":         {bare, revoked.Data, false, exitEvidence, attestation.CheckRevocation},
		"no list":         {bare, nil, false, exitError, ""},
		"nobody there":    {bare, good.Data, true, exitError, ""},
		"forged, nobody ": {&forged, good.Data, true, exitError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoopback(t, map[string][]byte{vcek: whole.Certificates[0], "/vcek/v1/Milan/cert_chain": chain, "/vcek/v1/Milan/crl": test.crl})
			if test.closed {
				l.close()
			}
			var out struct {
				verification
				failure
			}
			if code := l.command(t, now, &out, "verify", write(t, test.b.Encode()), "--policy", trust); code != test.exit {
				t.Fatalf("exit code %d, refused %v, %+v", code, refusedIn(out.verification), out.Error)
			}
			if test.check != "" && !slices.Equal(refusedIn(out.verification), []string{string(test.check)}) {
				t.Errorf("refused %v", refusedIn(out.verification))
			}
			if test.exit == exitDone && !slices.Equal(out.Fetched, []string{collateral.Certificates, attestation.CollateralAMDCRL}) {
				t.Errorf("fetched %v", out.Fetched)
			}
		})
	}
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// What is saved has all that a third party needs; what nobody gave is said.
func TestSaveCompletes(t *testing.T) {
	t.Parallel()
	of := func(b *attestation.Bundle) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			nonce, _ := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("nonce"))
			data := at.ClientData(t, at.Configuration(t))
			data.Nonce = nonce
			encoded, err := data.Encode()
			if err != nil {
				t.Error(err)
			}
			answer := *b
			answer.RuntimeData = encoded
			w.Write(wire.Marshal(wire.Attestation{Evidence: answer.Encode()}))
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	save := func(l *loopback, from string) (s saved, b *attestation.Bundle, code int) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "evidence.cbor")
		code = l.command(t, then, &s, "evidence", "save", from, "-o", file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if b, err = attestation.ParseBundle(data); err != nil {
			t.Fatal(err)
		}
		return s, b, code
	}
	l := newPCS(t)
	s, b, code := save(l, of(realQuote()))
	c, err := attestation.Hardware(b, attestation.Roots{}, then)
	if err != nil || !c.RevocationChecked || code != exitError || s.Simulation || !slices.Equal(s.Fetched, []string{"pck-crl", "root-crl"}) || !slices.Equal(s.Missing, []string{"tcb-info"}) {
		t.Errorf("exit code %d, %+v, %v", code, s, err)
	}
	amd, _ := at.NewAMD(t, "Milan", false).Sign(t, nil)
	l.cache = ""
	l.close()
	file := at.Configuration(t)
	for name, test := range map[string]struct {
		b     *attestation.Bundle
		exit  int
		asked bool
	}{
		"simulated TDX": {at.TDXBundle(t, at.ReleaseData(t, file), file), exitDone, false},
		"unknown root":  {amd, exitDone, false},
		"simulated":     {at.Bundle(t, at.ClientData(t, file), file), exitDone, false},
		"nobody there":  {realQuote(), exitError, true},
	} {
		l.asked.Store(0)
		s, b, code := save(l, of(test.b))
		if code != test.exit || l.asked.Load() > 0 != test.asked || len(s.Fetched) != 0 || !bytes.Equal(b.Report, test.b.Report) || len(s.Missing) > 0 != test.asked || s.Simulation == test.asked {
			t.Errorf("%s: exit code %d, asked %d times, %+v", name, code, l.asked.Load(), s)
		}
	}
}
