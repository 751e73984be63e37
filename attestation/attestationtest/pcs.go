package attestationtest

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
)

// PCS is Intel's provisioning certification service (PCS API, version 4) on loopback: it
// has the collateral of one bundle, and nothing else.
type PCS struct {
	URL     string // its root's list is at /root
	Asked   atomic.Int32
	headers map[string]string // that name the issuers, by collateral
}

// NewPCS starts the service. It ends with the test.
func NewPCS(t testing.TB, b *attestation.Bundle) *PCS {
	t.Helper()
	tee := "/" + string(b.Platform)
	p := &PCS{headers: map[string]string{
		intel.NameTCBInfo: "TCB-Info-Issuer-Chain", intel.NameIdentity: "SGX-Enclave-Identity-Issuer-Chain", intel.NamePCKCRL: "SGX-PCK-CRL-Issuer-Chain",
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Asked.Add(1)
		name := map[string]string{
			tee + "/certification/v4/tcb": intel.NameTCBInfo, tee + "/certification/v4/qe/identity": intel.NameIdentity,
			"/sgx/certification/v4/pckcrl": intel.NamePCKCRL, "/root": intel.NameRootCRL,
		}[r.URL.Path]
		if name == intel.NamePCKCRL && r.URL.Query().Get("encoding") != "der" {
			name = ""
		}
		for _, x := range b.Collateral {
			if x.Name == name {
				p.answer(w, &x, b.Collateral[0].Issuer)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

// answer sends an item, with its issuers in a header: PEM, percent-encoded.
func (p *PCS) answer(w http.ResponseWriter, x *attestation.Collateral, others [][]byte) {
	if header := p.headers[x.Name]; header != "" {
		issuer := x.Issuer
		if len(issuer) == 0 { // a list's are not read, but the service names them
			issuer = others
		}
		var list bytes.Buffer
		for _, der := range issuer {
			pem.Encode(&list, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a buffer does not fail
		}
		w.Header().Set(header, strings.ReplaceAll(url.QueryEscape(list.String()), "+", "%20"))
	}
	w.Write(x.Data)
}
