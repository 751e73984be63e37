package collateral

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee/machine"
)

// service is AMD's, Azure's and the host's service on loopback, for one chip.
type service struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
	chain [][]byte // what it gives
	crl   []byte
	last  http.Header
	// before answers instead, where it says so.
	before func(w http.ResponseWriter, r *http.Request) bool
}

// serve knows the chip of a bundle that has its certificates.
func serve(t *testing.T, b *attestation.Bundle, line string) *service {
	t.Helper()
	s := &service{chain: b.Certificates}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handle(t, b, line, w, r) }))
	t.Cleanup(s.Close)
	return s
}

func (s *service) handle(t *testing.T, b *attestation.Bundle, line string, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.Path)
	s.last = r.Header
	w.Header().Set("x-ms-request-id", "request-7")
	if s.before != nil && s.before(w, r) {
		return
	}
	tcb := b.Report[0x180:0x188]
	chip := hex.EncodeToString(b.Report[0x1a0:0x1e0])
	query := fmt.Sprintf("blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", tcb[0], tcb[1], tcb[6], tcb[7])
	if line == "Turin" {
		chip = chip[:16]
		query = fmt.Sprintf("fmcSPL=%d&blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", tcb[0], tcb[1], tcb[2], tcb[3], tcb[7])
	}
	switch path := r.URL.Path; {
	case path == "/vcek/v1/"+line+"/"+chip && r.URL.RawQuery == query:
		w.Write(s.chain[0])
	case path == "/vcek/v1/"+line+"/cert_chain", path == "/vlek/v1/"+line+"/cert_chain":
		w.Write(encodePEM(s.chain[1:]))
	case path == "/vcek/v1/"+line+"/crl" && s.crl != nil:
		w.Write(s.crl)
	case path == fmt.Sprintf("/SevSnpVM/certificates/%x/%x", b.Report[0x1a0:0x1e0], binary.LittleEndian.Uint64(tcb)) && r.URL.Query().Get("api-version") == "2020-10-15-preview":
		w.Write(encodePEM(s.chain))
	case path == "/metadata/THIM/amd/certification" && r.Header.Get("Metadata") == "true":
		w.Write(at.HostAMD(t, s.chain, binary.LittleEndian.Uint64(tcb)))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *service) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// quick has a client that reaches loopback servers, and does not wait.
func quick(o Options) *Completer {
	c := New(o)
	c.fetch.pause = time.Millisecond
	return c
}

// without is the bundle as a guest without help gets it.
func without(b *attestation.Bundle) *attestation.Bundle {
	return &attestation.Bundle{Platform: b.Platform, Report: b.Report}
}

func wantCheck(t *testing.T, err error, want attestation.Check) {
	t.Helper()
	if e := (*attestation.Error)(nil); !errors.As(err, &e) || e.Check != want {
		t.Errorf("got %v, want check %s", err, want)
	}
}

func complete(t *testing.T, c *Completer, b *attestation.Bundle, roots attestation.Roots) *attestation.Claims {
	t.Helper()
	if err := c.Complete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	claims, err := attestation.Hardware(b, roots, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// Every source, on its wire, for every product line.
func TestSources(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"Milan", "Genoa", "Turin"} {
		for name, source := range map[string]func(string) Source{"KDS": AMD, "Azure": Azure, "THIM": THIM} {
			t.Run(line+" "+name, func(t *testing.T) {
				t.Parallel()
				whole, roots := at.NewAMD(t, line, false).Sign(t, nil)
				s := serve(t, whole, line)
				b := without(whole)
				complete(t, quick(Options{Sources: []Source{source(s.URL)}, Roots: roots}), b, roots)
				if len(b.Certificates) != 3 || !bytes.Equal(b.Certificates[0], whole.Certificates[0]) {
					t.Errorf("%d certificates, or another key", len(b.Certificates))
				}
			})
		}
	}
}

// The cloud staples its VLEK; AMD has what is above it.
func TestVLEK(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Genoa", true).Sign(t, nil)
	s := serve(t, whole, "Genoa")
	c := quick(Options{Sources: []Source{Azure(s.URL), AMD(s.URL)}, Roots: roots, Store: Memory()})
	for range 2 {
		b := without(whole)
		b.Certificates = whole.Certificates[:1]
		complete(t, c, b, roots)
		if s.requests() != 1 {
			t.Errorf("asked %v", s.asked)
		}
	}
	if err := c.Complete(t.Context(), without(whole)); !errors.Is(err, ErrUnknown) {
		t.Errorf("without the VLEK's certificate: %v", err)
	}
}

// A report of version 2 does not name its processor.
func TestVersion2AsksForEachLine(t *testing.T) {
	t.Parallel()
	whole := at.Bundle(t, at.ReleaseData(t, at.Configuration(t)), at.Configuration(t), at.Raw(func(b []byte) {
		b[0] = 2
		clear(b[0x188:0x18b])
	}))
	roots := at.Roots(at.NewMachine(t))
	s := serve(t, whole, "Milan")
	complete(t, quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots}), without(whole), roots)
}

func TestStapledIsUsed(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Milan", false).Sign(t, nil)
	c := quick(Options{Roots: roots}) // nobody to ask
	b := without(whole)
	b.Certificates = whole.Certificates
	complete(t, c, b, roots)
	b = without(whole)
	b.HostAMD = at.HostAMD(t, whole.Certificates, binary.LittleEndian.Uint64(whole.Report[0x180:]))
	complete(t, c, b, roots)
	if b.Certificates != nil || b.HostAMD == nil {
		t.Error("host certificates that hold were touched")
	}
	if err := c.Complete(t.Context(), without(whole)); !errors.Is(err, ErrNoSource) {
		t.Errorf("nothing stapled: %v", err)
	}
}

// Stapled certificates that do not hold are replaced, and the host's with them.
func TestStapledIsReplaced(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Milan", false).Sign(t, nil)
	other, _ := at.NewAMD(t, "Milan", false).Sign(t, nil)
	tcb := binary.LittleEndian.Uint64(whole.Report[0x180:])
	for name, staple := range map[string]func(*attestation.Bundle){
		"another machine's":  func(b *attestation.Bundle) { b.Certificates = other.Certificates },
		"no certificates":    func(b *attestation.Bundle) { b.Certificates = [][]byte{{1}, {2}, {3}} },
		"host, of then":      func(b *attestation.Bundle) { b.HostAMD = at.HostAMD(t, whole.Certificates, tcb-1) },
		"host, another chip": func(b *attestation.Bundle) { b.HostAMD = at.HostAMD(t, other.Certificates, tcb) },
		"host, no JSON":      func(b *attestation.Bundle) { b.HostAMD = []byte("{") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, whole, "Milan")
			b := without(whole)
			staple(b)
			was := *b
			if err := quick(Options{Roots: roots}).Complete(t.Context(), b); err == nil {
				t.Error("completed without a source")
			}
			if b.HostAMD == nil != (was.HostAMD == nil) || len(b.Certificates) != len(was.Certificates) {
				t.Error("an error changed the bundle")
			}
			complete(t, quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots}), b, roots)
			if b.HostAMD != nil {
				t.Error("the host's certificates stayed")
			}
		})
	}
}

// A store is never believed: what does not hold is removed and fetched anew.
func TestStoreIsNotBelieved(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Milan", false).Sign(t, nil)
	other, _ := at.NewAMD(t, "Milan", false).Sign(t, nil)
	subject, err := newSNPSubject(without(whole))
	if err != nil {
		t.Fatal(err)
	}
	for name, planted := range map[string][]byte{
		"another key's":  encodePEM(other.Certificates),
		"its root wrong": encodePEM(append(whole.Certificates[:2:2], other.Certificates[0])),
		"cut":            encodePEM(whole.Certificates)[:1000],
		"empty":          {},
		"noise":          []byte("noise"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := serve(t, whole, "Milan"), filepath.Join(t.TempDir(), "made")
			c := quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots, Store: Folder(dir)})
			if err := Folder(dir).Put(subject.name(), planted); err != nil {
				t.Fatal(err)
			}
			s.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true }
			if err := c.Complete(t.Context(), without(whole)); !errors.Is(err, ErrStatus) {
				t.Errorf("without the source: %v", err)
			}
			path := filepath.Join(dir, subject.name())
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
			s.before = nil
			complete(t, c, without(whole), roots)
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("stored: %v, %v", info, err)
			}
			before := s.requests()
			complete(t, c, without(whole), roots)
			if s.requests() != before {
				t.Error("asked again for what is stored")
			}
		})
	}
}

// What a source gives is verified too; the next one is asked.
func TestSourceIsNotBelieved(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Milan", false).Sign(t, nil)
	other, _ := at.NewAMD(t, "Milan", false).Sign(t, nil)
	bad, good := serve(t, whole, "Milan"), serve(t, whole, "Milan")
	bad.chain = other.Certificates
	store := Memory()
	err := quick(Options{Sources: []Source{Azure(bad.URL)}, Roots: roots, Store: store}).Complete(t.Context(), without(whole))
	wantCheck(t, err, attestation.CheckRoot)
	if n := len(store.(*memory).held); n != 0 {
		t.Errorf("%d things stored", n)
	}
	complete(t, quick(Options{Sources: []Source{Azure(bad.URL), AMD(good.URL)}, Roots: roots}), without(whole), roots)
}

func TestRevocationList(t *testing.T) {
	t.Parallel()
	a := at.NewAMD(t, "Milan", false)
	whole, roots := a.Sign(t, nil)
	now := time.Now()
	list := a.CRL(t, whole, now.Add(-time.Hour), now.Add(time.Hour))
	revoked := a.CRL(t, whole, now.Add(-time.Hour), now.Add(time.Hour), a.AS.SerialNumber)
	old := a.CRL(t, whole, now.Add(-2*time.Hour), now.Add(-time.Hour))
	s := serve(t, whole, "Milan")
	s.crl = list.Data
	store := Memory()
	c := quick(Options{Sources: []Source{Azure(s.URL), AMD(s.URL)}, Roots: roots, Store: store, Revocation: true})
	for range 2 {
		b := without(whole)
		b.Collateral = []attestation.Collateral{old}
		if claims := complete(t, c, b, roots); !claims.RevocationChecked || len(b.Collateral) != 1 {
			t.Errorf("%d lists, checked: %v", len(b.Collateral), claims.RevocationChecked)
		}
	}
	if n := s.requests(); n != 2 { // Azure's chain, AMD's list
		t.Errorf("asked %v", s.asked)
	}
	b := without(whole)
	b.Certificates, b.Collateral = whole.Certificates, []attestation.Collateral{list}
	complete(t, quick(Options{Roots: roots, Revocation: true}), b, roots)
	b.Collateral = nil
	if err := quick(Options{Roots: roots, Revocation: true}).Complete(t.Context(), b); !errors.Is(err, ErrNoSource) {
		t.Errorf("nobody to ask: %v", err)
	}
	for name, bad := range map[string][]byte{"revoked": revoked.Data, "old": old.Data, "noise": []byte("noise")} {
		s := serve(t, whole, "Milan")
		s.crl = bad
		err := quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots, Revocation: true}).Complete(t.Context(), without(whole))
		t.Log(name)
		wantCheck(t, err, attestation.CheckRevocation)
	}
}

// steps is a TEE whose reports come from one machine after another.
type steps struct {
	machines []*machine.Machine
	staple   [][]byte
	made     int
}

func (s *steps) Make(_ context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	m := s.machines[min(s.made, len(s.machines)-1)]
	s.made++
	report, _, err := m.Report([48]byte{1}, [32]byte{2}, reportData)
	return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report, Certificates: s.staple}, err
}

// The host raises REPORTED_TCB: certificates and report are fetched again.
func TestMakerFollowsTheTCB(t *testing.T) {
	t.Parallel()
	before := at.NewMachine(t)
	chip := machine.Chip{ID: [64]byte{7}, TCB: machine.TCB{Bootloader: 4, SNP: 25, Microcode: 220}}
	after, err := before.Certify(chip, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	report, certificates, err := after.Report([48]byte{}, [32]byte{}, [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	roots := at.Roots(before)
	s := serve(t, &attestation.Bundle{Report: report, Certificates: certificates}, "Milan")
	maker := func(tee *steps, sources ...Source) *Maker {
		return &Maker{TEE: tee, Completer: quick(Options{Sources: sources, Roots: roots, Store: Memory()})}
	}
	for name, test := range map[string]struct {
		tee   steps
		makes int
	}{
		"certificates of then":             {steps{machines: []*machine.Machine{after}, staple: before.Certificates()}, 1},
		"report of then":                   {steps{machines: []*machine.Machine{before, after}}, 2},
		"report of then, host's of now":    {steps{machines: []*machine.Machine{before, after}, staple: certificates}, 2},
		"twice then, certificates of then": {steps{machines: []*machine.Machine{after, after}, staple: before.Certificates()}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			// THIM has the certificates of now, whatever the report.
			b, err := maker(&test.tee, THIM(s.URL)).Make(t.Context(), [64]byte{9})
			if err != nil || test.tee.made != test.makes {
				t.Fatalf("%v after %d reports", err, test.tee.made)
			}
			if c, err := attestation.Hardware(b, roots, time.Now()); err != nil || c.ReportData != [64]byte{9} {
				t.Error(err)
			}
		})
	}
	never := &steps{machines: []*machine.Machine{before}}
	_, err = maker(never, THIM(s.URL)).Make(t.Context(), [64]byte{})
	wantCheck(t, err, attestation.CheckSignature)
	if never.made != makes {
		t.Errorf("%d reports", never.made)
	}
	// Nobody has certificates: another report does not help.
	alone := &steps{machines: []*machine.Machine{after}}
	if _, err := maker(alone).Make(t.Context(), [64]byte{}); !errors.Is(err, ErrNoSource) || alone.made != 1 {
		t.Errorf("%v after %d reports", err, alone.made)
	}
}

// All errors of a source name it, its status and its request, and no address.
func TestErrors(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Milan", false).Sign(t, nil)
	s := serve(t, whole, "Milan")
	s.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "secret")
		return true
	}
	err := quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots}).Complete(t.Context(), without(whole))
	e := (*Error)(nil)
	if !errors.As(err, &e) || e.Status != http.StatusTeapot || e.RequestID != "request-7" || e.Source != "AMD's KDS" || e.Attempts != 1 || !errors.Is(err, ErrStatus) {
		t.Errorf("%+v", err)
	}
	s.Close()
	gone := quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots}).Complete(t.Context(), without(whole))
	if !errors.As(gone, &e) || e.Status != 0 || e.Attempts != attempts {
		t.Errorf("%+v", gone)
	}
	for _, err := range []error{err, gone} {
		for _, secret := range []string{"secret", "127.0.0.1:0/", "/vcek/", hex.EncodeToString(whole.Report[0x1a0:0x1a8])} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q stands in %q", secret, err)
			}
		}
	}
}

// What a source answers that is not what it has to answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	whole, roots := at.NewAMD(t, "Milan", false).Sign(t, nil)
	ask := func(source func(string) Source, change func(*service)) error {
		s := serve(t, whole, "Milan")
		change(s)
		return quick(Options{Sources: []Source{source(s.URL)}, Roots: roots}).Complete(t.Context(), without(whole))
	}
	longer := func(s *service) { s.chain = append(s.chain[:3:3], s.chain[2]) }
	if err := ask(AMD, longer); !errors.Is(err, ErrAnswer) {
		t.Errorf("a chain of three from the KDS: %v", err)
	}
	text := func(s *service) {
		s.before = func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, "no certificate"); return true }
	}
	for name, source := range map[string]func(string) Source{"KDS": AMD, "Azure": Azure, "THIM": THIM} {
		if err := ask(source, text); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s, text: %v", name, err)
		}
	}
	// Clouds' keys are not asked for where chips' are.
	vlek, roots := at.NewAMD(t, "Genoa", true).Sign(t, nil)
	s := serve(t, vlek, "Genoa")
	b := without(vlek)
	b.Certificates = vlek.Certificates[:1]
	if err := quick(Options{Sources: []Source{Azure(s.URL), THIM(s.URL)}, Roots: roots}).Complete(t.Context(), b); !errors.Is(err, ErrUnknown) || s.requests() != 0 {
		t.Errorf("a VLEK of who has VCEKs alone: %v, asked %v", err, s.asked)
	}
	list := quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots, Revocation: true})
	if list.Complete(t.Context(), b); !slices.Contains(s.asked, "/vlek/v1/Genoa/crl") {
		t.Errorf("asked %v", s.asked)
	}
}

func TestPEM(t *testing.T) {
	t.Parallel()
	one := encodePEM([][]byte{{1, 2}})
	for name, text := range map[string][]byte{
		"nothing": nil, "text before": append([]byte("x\n"), one...), "text between": append(append(bytes.Clone(one), "x\n"...), one...),
		"another block": bytes.ReplaceAll(one, []byte("CERTIFICATE"), []byte("CERTIFICATE REQUEST")), "no end": one[:len(one)-9],
		"a header": bytes.Replace(one, []byte("-----\n"), []byte("-----\nName: value\n\n"), 1), "too many": bytes.Repeat(one, maxChain+1),
	} {
		if list, err := decodePEM(text); err == nil || list != nil {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if list, err := decodePEM(bytes.Repeat(one, maxChain)); err != nil || len(list) != maxChain {
		t.Errorf("%d certificates, %v", len(list), err)
	}
}

func FuzzPEM(f *testing.F) {
	good := encodePEM([][]byte{{1, 2}, {3}})
	if list, err := decodePEM(good); err != nil || len(list) != 2 {
		f.Fatal(list, err)
	}
	f.Add(good)
	f.Add(append([]byte(" \n"), good...))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := decodePEM(text)
		if err != nil {
			return
		}
		again, err := decodePEM(encodePEM(list))
		if err != nil || len(again) != len(list) || len(list) > maxChain {
			t.Errorf("%d certificates, then %d, %v", len(list), len(again), err)
		}
	})
}

// What is proven stays so: neither a source nor the store is asked for another opinion.
func TestFinal(t *testing.T) {
	t.Parallel()
	a := at.NewAMD(t, "Milan", false)
	whole, roots := a.Sign(t, nil)
	now := time.Now()
	good := a.CRL(t, whole, now.Add(-time.Hour), now.Add(time.Hour))
	revoked := a.CRL(t, whole, now.Add(-time.Minute), now.Add(time.Hour), a.AS.SerialNumber)
	forged := without(whole)
	forged.Report = bytes.Clone(whole.Report)
	forged.Report[0x90] ^= 1 // MEASUREMENT
	for name, test := range map[string]struct {
		prepare func(s *service, store Store, b *attestation.Bundle)
		report  *attestation.Bundle
		asked   int
		check   attestation.Check
	}{
		"revoked by the stapled list": {func(_ *service, store Store, b *attestation.Bundle) {
			b.Certificates, b.Collateral = whole.Certificates, []attestation.Collateral{revoked}
		}, whole, 0, attestation.CheckRevocation},
		"revoked by the stored list": {func(_ *service, store Store, b *attestation.Bundle) {
			b.Certificates = whole.Certificates
			c, err := attestation.Hardware(b, roots, now)
			if err != nil {
				t.Fatal(err)
			}
			store.Put(fmt.Sprintf("snp-vcek-milan-%s.crl", c.Root.String()[:16]), revoked.Data)
		}, whole, 0, attestation.CheckRevocation},
		"revoked by the source's list": {func(s *service, _ Store, b *attestation.Bundle) {
			b.Certificates, s.crl = whole.Certificates, revoked.Data
		}, whole, 1, attestation.CheckRevocation},
		"forged, with certificates":    {func(_ *service, _ Store, b *attestation.Bundle) { b.Certificates = whole.Certificates }, forged, 0, attestation.CheckSignature},
		"forged, without certificates": {func(*service, Store, *attestation.Bundle) {}, forged, 2, attestation.CheckSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, store := serve(t, whole, "Milan"), Memory()
			s.crl = good.Data
			b := without(test.report)
			test.prepare(s, store, b)
			held := len(store.(*memory).held)
			err := quick(Options{Sources: []Source{AMD(s.URL), AMD(s.URL)}, Roots: roots, Store: store, Revocation: true}).Complete(t.Context(), b)
			missing := (*Incomplete)(nil)
			if !errors.As(err, &missing) || missing.Decided() == nil || missing.Decided().Check != test.check {
				t.Fatalf("%v is not final", err)
			}
			if n := s.requests(); n != test.asked {
				t.Errorf("asked %d times: %v", n, s.asked)
			}
			if n := len(store.(*memory).held); n != held {
				t.Errorf("%d things in the store, then %d", held, n)
			}
		})
	}
}

// What may be anybody's fault is not the evidence's.
func TestNotFinal(t *testing.T) {
	t.Parallel()
	a := at.NewAMD(t, "Milan", false)
	whole, roots := a.Sign(t, nil)
	now := time.Now()
	for name, crl := range map[string][]byte{
		"old": a.CRL(t, whole, now.Add(-2*time.Hour), now.Add(-time.Hour), a.AS.SerialNumber).Data, "noise": []byte("noise"), "none": nil,
	} {
		s := serve(t, whole, "Milan")
		s.crl = crl
		b := without(whole)
		b.Certificates = whole.Certificates
		missing := (*Incomplete)(nil)
		err := quick(Options{Sources: []Source{AMD(s.URL)}, Roots: roots, Revocation: true}).Complete(t.Context(), b)
		if !errors.As(err, &missing) || missing.Missing != attestation.CollateralAMDCRL || missing.Decided() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A cache that gives the certificate of other firmware says nothing of the report.
	chip := machine.Chip{ID: [64]byte{7}, TCB: machine.TCB{Bootloader: 4, SNP: 25, Microcode: 220}}
	after, err := at.NewMachine(t).Certify(chip, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	report, certificates, err := after.Report([48]byte{}, [32]byte{}, [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	stale := serve(t, &attestation.Bundle{Report: report, Certificates: at.NewMachine(t).Certificates()}, "Milan")
	missing := (*Incomplete)(nil)
	b := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report}
	err = quick(Options{Sources: []Source{Azure(stale.URL)}, Roots: at.Roots(at.NewMachine(t))}).Complete(t.Context(), b)
	if !errors.As(err, &missing) || missing.Missing != Certificates || missing.Decided() != nil {
		t.Errorf("stale cache: %v", err)
	}
	b.Certificates = certificates
	if _, err := attestation.Hardware(b, at.Roots(at.NewMachine(t)), now); err != nil {
		t.Fatal(err)
	}
}
