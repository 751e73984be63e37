package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/passclave/passclave/wire"
)

// Service is one Passclave service, seen through its host and judged by one trust
// policy.
type Service struct {
	url   string
	http  *http.Client
	judge judge
}

// NewService reads the trust policy; one that does not parse is refused with
// [wire.CodePolicy]. client may be nil: http.DefaultClient. Nothing is sent.
func NewService(address string, trustPolicy []byte, client *http.Client) (*Service, error) {
	j, err := newJudge(trustPolicy)
	if err != nil {
		return nil, wire.NewError(wire.CodePolicy, err)
	}
	return newService(address, j, client)
}

func newService(address string, j judge, client *http.Client) (*Service, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, wire.Errorf(wire.CodeArgument, "not the URL of a service")
	}
	if client == nil {
		client = http.DefaultClient
	}
	c := *client
	if c.Timeout == 0 {
		c.Timeout = exchangeTime
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Service{url: strings.TrimRight(address, "/"), http: &c, judge: j}, nil
}

// exchangeTime bounds one HTTP exchange: a host that accepts and then says nothing ends
// in an error. The enclave gives up earlier.
const exchangeTime = time.Minute

// Limits of what the host may send, in bytes.
const (
	maxAttestation = 1 << 20
	maxResponse    = 1<<20 + 4096
	maxFeedPage    = wire.MaxFrame
	maxRefusal     = 4096
)

func (s *Service) getAttestation(ctx context.Context, nonce []byte) ([]byte, error) {
	text, _ := wire.Base64(nonce).MarshalText()
	return s.do(ctx, http.MethodGet, "/v1/attestation?nonce="+string(text), nil, nil, maxAttestation)
}

func (s *Service) postRequest(ctx context.Context, envelope []byte) ([]byte, error) {
	return s.do(ctx, http.MethodPost, "/v1/request", envelope, nil, maxResponse)
}

func (s *Service) getFeed(ctx context.Context, account wire.AccountID, token []byte, after uint64) ([]byte, error) {
	text, _ := wire.Base64(token).MarshalText()
	path := "/v1/feed?account=" + hex.EncodeToString(account[:]) + "&after=" + strconv.FormatUint(after, 10)
	return s.do(ctx, http.MethodGet, path, nil, http.Header{"Authorization": {"Bearer " + string(text)}}, maxFeedPage)
}

// do makes one HTTP exchange; what is no 200 comes back as a [HostError].
func (s *Service) do(ctx context.Context, method, path string, body []byte, header http.Header, limit int64) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, reader)
	if err != nil {
		return nil, wire.NewError(wire.CodeArgument, err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/cbor")
		r.GetBody = nil // the transport must not send a request twice by itself
	}
	answer, err := s.http.Do(r)
	if err != nil {
		return nil, unsealed(&HostError{cause: withoutURL(err)})
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		e := &HostError{Status: answer.StatusCode}
		var refusal wire.Error
		if wire.Unmarshal(b, &refusal) == nil && printable(refusal.Code) {
			e.Hint = refusal.Code
		}
		return nil, unsealed(e)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, unsealed(&HostError{cause: err})
	}
	if int64(len(b)) > limit {
		return nil, wire.Errorf(wire.CodeTooLarge, "answer of more than %d bytes", limit)
	}
	return b, nil
}

// withoutURL drops the address from an error of net/http: it holds the account ID.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok {
		return e.Err
	}
	return err
}

// printable reports whether a code from the host can be shown on a terminal.
func printable(c wire.Code) bool {
	return len(c) <= 32 && strings.Trim(string(c), "abcdefghijklmnopqrstuvwxyz-") == ""
}
