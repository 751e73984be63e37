// Package imds gets access tokens of a managed identity from Azure's instance metadata
// service, which every container group and virtual machine with an identity reaches at
// one link-local address (Microsoft, "How to use managed identities on an Azure VM to
// acquire an access token"). Why not by azidentity: docs/decisions/009.
//
// The answer comes over plain HTTP from a host that nobody attested, which costs nothing:
// a token opens what Azure guards against strangers, and proves nothing to the enclave.
// Never run against the real service here.
package imds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// Base is where the metadata service is.
	Base    = "http://169.254.169.254"
	version = "2018-02-01"

	early     = 5 * time.Minute  // before its end a token is replaced
	again     = 10 * time.Second // between two tries to replace one that is good still
	maxAnswer = 64 << 10         // bytes
)

// Identity is the managed identity of this machine. It is safe for concurrent use.
type Identity struct {
	base, clientID, resource string
	http                     *http.Client

	mu      sync.Mutex
	token   string
	expiry  time.Time
	replace time.Time // from then on another is asked for
}

// New returns an identity for one resource. clientID chooses among several; empty: the
// machine's only one.
func New(base, clientID, resource string) *Identity {
	return &Identity{base: base, clientID: clientID, resource: resource, http: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Token returns a bearer token, from its cache or a new one. It lasts for some minutes at
// least, except while the service gives none: that can be 70 s when it is updated, and it
// limits requests (Microsoft's retry guidance: 404, 410, 429, 5xx).
func (i *Identity) Token(ctx context.Context) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if i.token != "" && now.Before(i.replace) {
		return i.token, nil
	}
	token, lifetime, err := i.ask(ctx)
	switch {
	case err == nil:
		i.token, i.expiry, i.replace = token, now.Add(lifetime), now.Add(lifetime-early)
	case now.Before(i.expiry):
		i.replace = now.Add(again)
	default:
		return "", err
	}
	return i.token, nil
}

// ask gets a token and how long it lasts.
func (i *Identity) ask(ctx context.Context) (token string, lifetime time.Duration, err error) {
	query := url.Values{"api-version": {version}, "resource": {i.resource}}
	if i.clientID != "" {
		query.Set("client_id", i.clientID)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.base+"/metadata/identity/oauth2/token?"+query.Encode(), nil)
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Metadata", "true")
	answer, err := i.http.Do(r)
	if err != nil {
		return "", 0, fmt.Errorf("managed identity: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return "", 0, fmt.Errorf("managed identity: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("managed identity: HTTP status %d: has this machine an identity, and may it use the resource?", answer.StatusCode)
	}
	var t struct {
		Token string      `json:"access_token"`
		In    json.Number `json:"expires_in"` // seconds, a string by the documents
		Type  string      `json:"token_type"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return "", 0, errors.New("managed identity: not the JSON of a token") // the cause could hold the token
	}
	seconds, err := strconv.ParseUint(t.In.String(), 10, 31)
	if err != nil || t.Token == "" || t.Type != "Bearer" {
		return "", 0, errors.New("managed identity: no bearer token with an end")
	}
	return t.Token, time.Duration(seconds) * time.Second, nil
}
