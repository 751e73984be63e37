package collateral

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// All that Intel's service has, for a simulated machine, in the service's wire format.
func TestIntelComplete(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	for tee, whole := range map[string]*attestation.Bundle{
		"tdx": at.TDXBundle(t, at.ReleaseData(t, file), file, at.OnIntel(at.NewMachine(t).Intel())),
		"sgx": at.SGXBundle(t, at.ReleaseData(t, file), file, at.OnIntel(at.NewMachine(t).Intel())),
	} {
		t.Run(tee, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				name, header := "", ""
				switch path := r.URL.Path; {
				case path == "/"+tee+"/certification/v4/tcb":
					name, header = "tcb-info", "TCB-Info-Issuer-Chain"
				case path == "/"+tee+"/certification/v4/qe/identity":
					name, header = "qe-identity", "SGX-Enclave-Identity-Issuer-Chain"
				case path == "/sgx/certification/v4/pckcrl" && r.URL.Query().Get("encoding") == "der":
					name, header = "pck-crl", "SGX-PCK-CRL-Issuer-Chain"
				case path == "/root":
					name = "root-crl"
				}
				for _, x := range whole.Collateral {
					if x.Name != name {
						continue
					}
					if header != "" {
						issuer := x.Issuer
						if len(issuer) == 0 { // a list's are not read, but the service names them
							issuer = whole.Collateral[0].Issuer
						}
						w.Header().Set(header, strings.ReplaceAll(url.QueryEscape(string(encodePEM(issuer))), "+", "%20"))
					}
					w.Write(x.Data)
				}
			}))
			defer s.Close()
			roots := at.IntelRoots(at.NewMachine(t).Intel())
			c := quick(Options{Intel: []IntelSource{{s.URL, s.URL + "/root"}}, Roots: roots, Store: Folder(t.TempDir()), TCB: true, Revocation: true})
			for range 2 {
				b := *whole
				b.Collateral = nil
				if err := c.Complete(t.Context(), &b); err != nil {
					t.Fatal(err)
				}
				claims, err := attestation.Genuine(&b, roots, time.Now())
				if err != nil || claims.Intel.TCBStatus != "UpToDate" || !claims.RevocationChecked || len(b.Collateral) != 4 {
					t.Fatalf("%+v, %v", claims, err)
				}
			}
			if n := asked.Load(); n != 4 {
				t.Errorf("asked %d times", n)
			}
			stapled := *whole
			if err := quick(Options{Roots: roots, TCB: true, Revocation: true}).Complete(t.Context(), &stapled); err != nil || len(stapled.Collateral) != 4 {
				t.Errorf("stapled: %v", err)
			}
		})
	}
}
