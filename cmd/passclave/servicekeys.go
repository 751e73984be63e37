package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

const (
	maxServiceKeys    = 1 << 20
	serviceKeysWithin = 20 * time.Second
)

// rootsFor returns what evidence may end at: the policy's simulation roots, and for a
// token the keys of the attestation services that the policy names. The token says
// nothing about where keys come from.
func rootsFor(ctx context.Context, e *evidence, p *policy.TrustPolicy) (attestation.Roots, error) {
	roots := p.Roots()
	if e.bundle == nil || e.bundle.Platform != attestation.PlatformAzureAttestation {
		return roots, nil
	}
	for _, s := range p.AttestationServices {
		keys, err := serviceKeys(ctx, http.DefaultClient, s.Issuer)
		if err != nil {
			return roots, err
		}
		roots.AttestationServices = append(roots.AttestationServices, attestation.AttestationService{Issuer: s.Issuer, Keys: keys})
	}
	return roots, nil
}

// serviceKeys fetches a service's JSON Web Key Set from its own endpoint. What comes
// over another host, or without TLS, are not its keys: redirects are not followed.
func serviceKeys(ctx context.Context, via *http.Client, issuer string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serviceKeysWithin)
	defer cancel()
	url := strings.TrimRight(issuer, "/") + "/certs"
	if !strings.HasPrefix(url, "https://") {
		return nil, usagef("%q is no https URL of an attestation service", issuer)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, usagef("%q is no URL of an attestation service", issuer)
	}
	strict := *via
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := strict.Do(r)
	if err != nil {
		return nil, wire.NewError(wire.CodeUnavailable, fmt.Errorf("the keys of attestation service %s: %w", issuer, err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, wire.Errorf(wire.CodeUnavailable, "the keys of attestation service %s: HTTP status %d", issuer, answer.StatusCode)
	}
	keys, err := io.ReadAll(io.LimitReader(answer.Body, maxServiceKeys+1))
	if err != nil || len(keys) > maxServiceKeys {
		return nil, wire.Errorf(wire.CodeUnavailable, "the keys of attestation service %s: cut off, or more than %d bytes", issuer, maxServiceKeys)
	}
	return keys, nil
}
