package runtime

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/passclave/passclave/wire"
)

const (
	keysLife    = 10 * time.Minute // a cached key set
	keysRefresh = 10 * time.Second // at most one refresh an issuer in so long
	fetchTime   = 10 * time.Second // discovery document and key set together
	maxKeys     = 256 << 10        // bytes of a key set or discovery document
)

// issuers fetches OpenID providers' signing keys over TLS that ends here. No proxy,
// no certificate variable of the environment has a say.
type issuers struct {
	now    func() time.Duration
	signed signedTime

	mu     sync.Mutex
	cached map[string]*issuerKeys // by issuer
}

type issuerKeys struct {
	// one is taken while fetching, and guards the fields up to failed.
	one     chan struct{}
	client  *http.Client
	keys    *jose.JSONWebKeySet
	fetched time.Duration
	tried   time.Duration // the last fetch, failed or not
	failed  error         // of the last fetch
}

// signedTime is the newest time that anybody has signed whom the enclave believes:
// the iat of every ID token accepted, whoever issued it.
type signedTime struct {
	newest atomic.Int64 // Unix seconds
}

// now is what all certificates are judged by: the host's clock, or the newest signed
// time if that is later. A host that turns its clock back cannot bring an expired
// certificate back. It does not hinder a host whose clock was wrong from the start.
func (s *signedTime) now() time.Time {
	now, signed := time.Now(), time.Unix(s.newest.Load(), 0)
	if signed.After(now) {
		return signed
	}
	return now
}

// saw notes a signed time.
func (s *signedTime) saw(unix uint64) {
	for {
		old := s.newest.Load()
		if int64(unix) <= old || s.newest.CompareAndSwap(old, int64(unix)) {
			return
		}
	}
}

func (s *issuers) of(issuer string) *issuerKeys {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.cached[issuer]
	if k == nil {
		k = &issuerKeys{one: make(chan struct{}, 1)}
		s.cached[issuer] = k
	}
	return k
}

func newIssuers(now func() time.Duration) *issuers {
	return &issuers{now: now, cached: map[string]*issuerKeys{}}
}

// keys returns an issuer's keys, from memory unless they are old, or refresh asks
// for newer ones and the last fetch is not too recent. While an issuer cannot be
// reached, one request in keysRefresh waits for it; the others are told at once.
func (s *issuers) keys(ctx context.Context, i *wire.Issuer, refresh bool) (*jose.JSONWebKeySet, error) {
	k := s.of(i.Issuer)
	select {
	case k.one <- struct{}{}:
		defer func() { <-k.one }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	age := s.now() - k.fetched
	if k.keys != nil && (age < keysRefresh || !refresh && age < keysLife) {
		return k.keys, nil
	}
	if k.failed != nil && s.now()-k.tried < keysRefresh {
		if k.keys != nil && age < keysLife {
			return k.keys, nil
		}
		return nil, k.failed
	}
	if k.client == nil {
		client, err := tlsClient(i.Roots, s.signed.now)
		if err != nil {
			return nil, err
		}
		k.client = client
	}
	// Not ended by whoever asked: one that goes away would leave the issuer unasked.
	fetching, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	keys, err := fetchKeys(fetching, k.client, i.Issuer)
	k.tried, k.failed = s.now(), err
	if err != nil {
		return nil, err
	}
	k.keys, k.fetched = keys, k.tried
	return keys, nil
}

// fetchKeys follows OpenID Connect Discovery 1.0: the configuration's issuer must
// be the one asked for. Its keys stand wherever that document says, which with large
// providers is another host: what vouches for them is TLS under the issuer's roots,
// for both, and that neither redirects.
func fetchKeys(ctx context.Context, client *http.Client, issuer string) (*jose.JSONWebKeySet, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := fetchJSON(ctx, client, issuer+"/.well-known/openid-configuration", &document); err != nil {
		return nil, err
	}
	keysURL, err := url.Parse(document.Keys)
	if err != nil || document.Issuer != issuer || keysURL.Scheme != "https" {
		return nil, fmt.Errorf("discovery document of another issuer, or without https keys")
	}
	var keys jose.JSONWebKeySet
	if err := fetchJSON(ctx, client, document.Keys, &keys); err != nil {
		return nil, err
	}
	return &keys, nil
}

func fetchJSON(ctx context.Context, client *http.Client, from string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", from, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeys+1))
	if err != nil {
		return err
	}
	if len(body) > maxKeys {
		return fmt.Errorf("%s answers more than %d bytes", from, maxKeys)
	}
	return json.Unmarshal(body, into)
}

// tlsClient trusts the given PEM roots, or those compiled in, and nothing else.
func tlsClient(pem string, clock func() time.Time) (*http.Client, error) {
	roots := x509.NewCertPool()
	if pem != "" {
		if !roots.AppendCertsFromPEM([]byte(pem)) {
			return nil, fmt.Errorf("no certificate in the configured roots")
		}
	} else {
		for root := range bundle.Roots() {
			certificate, err := x509.ParseCertificate(root.Certificate)
			if err != nil {
				return nil, err
			}
			roots.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return fmt.Errorf("redirected") },
		Transport: &http.Transport{
			Proxy:               nil,
			TLSClientConfig:     &tls.Config{RootCAs: roots, Time: clock, MinVersion: tls.VersionTLS12},
			MaxIdleConns:        2,
			IdleConnTimeout:     time.Minute,
			TLSHandshakeTimeout: 5 * time.Second,
		},
	}, nil
}
