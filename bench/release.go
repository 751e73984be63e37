package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"golang.org/x/time/rate"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/broker"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

const (
	releaseRounds = 7
	releases      = 128 // of a round
	releaseAsking = 16  // enclaves that ask at once
)

// releaser is a broker in this process, whose key lies in a file, and the evidence of
// enclaves that ask it.
type releaser struct {
	handler http.Handler
	version string
	roots   attestation.Roots
	keys    *rsa.PrivateKey       // of all enclaves
	next    []*attestation.Bundle // of one round: their machine is known, and no report is
	machine *machine.Machine
}

// releaseRows measures what a broker does for an enclave that starts, in microseconds on
// the clock: evidence to token, token to wrapped and signed key, with its record durable
// in the audit log; without TLS. The floor is the verification of such evidence and one
// RSA_AES_KEY_WRAP_256, by as many at once.
func releaseRows(ctx context.Context) (rows []*result, err error) {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	trail, err := audit.Open(folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, trail.Close()) }()
	r, err := newReleaser(ctx, folder, trail)
	if err != nil {
		return nil, err
	}
	var each, floors []float64
	errs := make([]error, releases)
	for range releaseRounds {
		if err := r.start(); err != nil {
			return nil, err
		}
		floors = append(floors, clock(releases, func() {
			parallel(releaseAsking, releases, func(i int) { errs[i] = errors.Join(errs[i], r.bare(i)) })
		}))
		each = append(each, clock(releases, func() {
			parallel(releaseAsking, releases, func(i int) { errs[i] = errors.Join(errs[i], r.release(i)) })
		}))
	}
	return []*result{newResult("release", median(each)).floor(median(floors))}, first(errs)
}

func newReleaser(ctx context.Context, folder string, trail *audit.Log) (*releaser, error) {
	now := time.Now()
	hardware, err := machine.Found(now)
	if err != nil {
		return nil, err
	}
	r := &releaser{machine: hardware, roots: attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(hardware.Root().Raw)}}}
	store, err := file.Open(folder)
	if err != nil {
		return nil, err
	}
	tls := httptest.NewUnstartedServer(nil) // for its certificate
	tls.StartTLS()
	defer tls.Close()
	const url = "https://127.0.0.1"
	v, err := store.Create(ctx, "kek", releasepolicy.Require(url, map[string]any{
		"x-ms-attestation-type": "sevsnpvm", "x-ms-sevsnpvm-is-debuggable": false, "x-passclave-simulated": true,
	}), false)
	if err != nil {
		return nil, err
	}
	r.version = v.ID
	r.handler, err = broker.New(broker.Config{
		URL: url, Roots: r.roots, Store: store, Certificate: tls.TLS.Certificates[0], Audit: trail, Log: quiet, Rate: rate.Inf,
	})
	return r, err
}

// start has other enclaves ask.
func (r *releaser) start() (err error) {
	if r.keys, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	r.next = make([]*attestation.Bundle, releases)
	for i := range releases {
		d := attestation.RuntimeData{Purpose: attestation.PurposeRelease, Config: make([]byte, 32), Keys: []attestation.RSAKey{{
			KID: fmt.Sprint(i), Kty: "RSA", KeyOps: []string{"encrypt"}, N: r.keys.N.Bytes(), E: []byte{1, 0, 1},
		}}}
		runtimeData, err := d.Encode()
		if err != nil {
			return err
		}
		b := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, RuntimeData: runtimeData}
		if b.Report, b.Certificates, err = r.machine.Report([48]byte{1}, [32]byte{}, attestation.ReportData(runtimeData)); err != nil {
			return err
		}
		r.next[i] = b
	}
	return nil
}

// bare does what no broker could do without.
func (r *releaser) bare(i int) error {
	_, err := attestation.Genuine(r.next[i], r.roots, time.Now())
	_, wrapped := keywrap.Wrap(keywrap.RSAAESKeyWrap256, &r.keys.PublicKey, make([]byte, 32))
	return errors.Join(err, wrapped)
}

// release is what an enclave asks for when it starts.
func (r *releaser) release(i int) error {
	b := r.next[i]
	var chain []byte
	for _, der := range b.Certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	report, err := json.Marshal(azure.SNPReport{Report: b.Report, Certificates: chain})
	if err != nil {
		return err
	}
	var token azure.AttestResponse
	err = r.post(azure.AttestSNPPath+"?api-version="+azure.AttestationVersion,
		azure.AttestRequest{Report: report, RuntimeData: azure.RuntimeData{Data: b.RuntimeData, DataType: "JSON"}}, &token)
	if err != nil {
		return err
	}
	var key azure.ReleaseResponse
	return r.post("/keys/kek/"+r.version+"/release?api-version="+azure.VaultVersion,
		azure.ReleaseRequest{Target: token.Token, Enc: string(keywrap.RSAAESKeyWrap256)}, &key)
}

func (r *releaser) post(path string, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	if w.Code != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", path, w.Code, w.Body)
	}
	return json.Unmarshal(w.Body.Bytes(), answer)
}
