package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
	"github.com/passclave/passclave/wire"
)

// maxEvidence bounds what a service sends as its evidence, in bytes.
const maxEvidence = 1 << 20

// noEvidence is a service that gave no evidence: nothing was sent that could have changed anything.
type noEvidence struct{ error }

func (e noEvidence) Unwrap() error { return e.error }

// fetchEvidence asks a service for evidence over a fresh nonce.
func fetchEvidence(ctx context.Context, service string) (bundle, nonce []byte, err error) {
	if u, err := url.Parse(service); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, nil, usagef("%q is not the URL of a service, such as http://127.0.0.1:8780", service)
	}
	nonce = make([]byte, 32)
	rand.Read(nonce)
	text, err := wire.Base64(nonce).MarshalText()
	if err != nil {
		return nil, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(service, "/")+"/v1/attestation?nonce="+string(text), nil)
	if err != nil {
		return nil, nil, usagef("%q is not the URL of a service", service)
	}
	answer, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		var failed *url.Error // repeats the question, nonce and all
		if errors.As(err, &failed) {
			err = failed.Err
			if failed.Timeout() {
				err = errors.New("no answer within a minute")
			}
		}
		return nil, nil, noEvidence{wire.NewError(wire.CodeUnavailable, err)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxEvidence))
	if err != nil {
		return nil, nil, noEvidence{wire.NewError(wire.CodeUnavailable, err)}
	}
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests:
		return nil, nil, wire.Errorf(wire.CodeRateLimited, "the host limits how often evidence is made")
	default:
		return nil, nil, noEvidence{wire.Errorf(wire.CodeUnavailable, "the host answered with HTTP status %d", answer.StatusCode)}
	}
	var a wire.Attestation
	if err := wire.Unmarshal(body, &a); err != nil {
		return nil, nil, wire.NewError(wire.CodeEvidence, err)
	}
	return a.Evidence, nonce, nil
}

// Where evidence comes from.
const (
	sourceService = "service" // asked over a fresh nonce
	sourceBundle  = "bundle"  // a file that `evidence save` wrote
	sourceFolder  = "folder"  // in ACI's layout
)

// evidence is a bundle that somebody gave us. Nothing in it is believed.
type evidence struct {
	source  string
	name    string // URL or path
	encoded []byte // nil of a folder
	nonce   []byte // that the service was asked with; nil of saved evidence
	bundle  *attestation.Bundle
	problem error    // why there is no bundle in encoded, or why what it was completed with proves it false
	fetched []string // what was put into the bundle because it was not there
}

// genuine verifies the evidence. Saved evidence without runtime data is verified as
// far as it goes: its hardware. A service has to bind what it was asked.
func (e *evidence) genuine(roots attestation.Roots, now time.Time) (*attestation.Claims, error) {
	if e.source != sourceService && len(e.bundle.RuntimeData) == 0 {
		return attestation.Hardware(e.bundle, roots, now)
	}
	return attestation.Genuine(e.bundle, roots, now)
}

// loadEvidence gets evidence from a service (a URL), a file or a folder. An error
// says nothing about the evidence: it could not be had.
func (a *app) loadEvidence(ctx context.Context, from string) (*evidence, error) {
	if strings.Contains(from, "://") {
		a.working("asking for evidence")
		encoded, nonce, err := fetchEvidence(ctx, from)
		if err != nil {
			return nil, err
		}
		return parseEvidence(sourceService, from, encoded, nonce), nil
	}
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; a service is named by its URL, such as http://127.0.0.1:8780", err)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		b, err := aci.ReadFolder(os.DirFS(from))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		return &evidence{source: sourceFolder, name: from, bundle: b}, nil
	}
	encoded, err := readBundle(from)
	if err != nil {
		return nil, err
	}
	return parseEvidence(sourceBundle, from, encoded, nil), nil
}

func parseEvidence(source, name string, encoded, nonce []byte) *evidence {
	e := &evidence{source: source, name: name, encoded: encoded, nonce: nonce}
	e.bundle, e.problem = attestation.ParseBundle(encoded)
	return e
}

// readBundle reads a file, but no more than a bundle can have.
func readBundle(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, attestation.MaxBundle+1))
}
