package operator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
)

const (
	clientTime = 30 * time.Second // of one request
	maxAnswer  = 16 << 20         // bytes
)

// Client asks a key broker in an operator's name.
type Client struct {
	broker string
	key    ed25519.PrivateKey
	http   *http.Client
}

// Error is a broker's refusal. Its texts are the broker's.
type Error struct {
	Status    int
	Code      string
	Message   string
	RequestID string // by which the broker's log and audit log have it
}

func (e *Error) Error() string {
	return fmt.Sprintf("the key broker refuses (HTTP %d %q): %.1000q; request ID %q", e.Status, e.Code, e.Message, e.RequestID)
}

// NewClient returns a client of the broker with this URL, exactly as the broker was
// started with, whose certificate chains to roots (nil: the system's).
func NewClient(broker string, roots *x509.CertPool, key ed25519.PrivateKey) (*Client, error) {
	u, err := url.Parse(broker)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%.200q is not the URL of a key broker: https://host[:port] and nothing after it", broker)
	}
	return &Client{broker, key, &http.Client{
		Timeout:       clientTime,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Broker is the URL that the client was made for.
func (c *Client) Broker() string { return c.broker }

// Key returns a key with its proposals.
func (c *Client) Key(ctx context.Context, name string) (*Key, error) {
	var k Key
	_, err := c.ask(ctx, http.MethodGet, "/keys/"+url.PathEscape(name), nil, &k)
	return &k, err
}

// Create makes a key.
func (c *Client) Create(ctx context.Context, name string, policy []byte, immutable bool) (*Outcome, error) {
	return c.act(ctx, "/keys/"+url.PathEscape(name), Create{policy, immutable})
}

// Rotate adds a version to a key, with the newest version's policy where policy is nil.
func (c *Client) Rotate(ctx context.Context, name string, policy []byte) (*Outcome, error) {
	return c.act(ctx, "/keys/"+url.PathEscape(name)+"/rotate", Policy{policy})
}

// SetPolicy proposes another release policy for all versions of a key.
func (c *Client) SetPolicy(ctx context.Context, name string, policy []byte) (*Outcome, error) {
	return c.act(ctx, "/keys/"+url.PathEscape(name)+"/policy", Policy{policy})
}

// SetEnabled switches a version on or off.
func (c *Client) SetEnabled(ctx context.Context, name, version string, enabled bool) (*Outcome, error) {
	how := map[bool]string{true: "/enable", false: "/disable"}[enabled]
	return c.act(ctx, "/keys/"+url.PathEscape(name)+"/"+url.PathEscape(version)+how, struct{}{})
}

// Proposal returns one that waits.
func (c *Client) Proposal(ctx context.Context, id string) (*Proposal, error) {
	var p Proposal
	_, err := c.ask(ctx, http.MethodGet, "/proposals/"+url.PathEscape(id), nil, &p)
	return &p, err
}

// Approve lets a proposal take effect, if the broker's is exactly this one.
func (c *Client) Approve(ctx context.Context, p *Proposal) (*Outcome, error) {
	return c.act(ctx, "/proposals/"+url.PathEscape(p.ID)+"/approve", Approve{p.Digest(c.broker)})
}

// ErrStaleHead is returned where a broker answers with an audit log's head that it did not
// sign for this question.
var ErrStaleHead = errors.New("the broker's audit log: its head is not an answer to this question")

// Audit returns the broker's audit log as it stood when it was first asked, and its head, whose key
// is for the caller to judge.
func (c *Client) Audit(ctx context.Context) (lines []byte, head *audit.Head, err error) {
	for {
		var page Audit
		challenge, err := c.ask(ctx, http.MethodGet, "/audit?offset="+strconv.Itoa(len(lines)), nil, &page)
		if err != nil {
			return nil, nil, err
		}
		if page.Head.Verify() != nil || !bytes.Equal(page.Head.Nonce, challenge) {
			return nil, nil, ErrStaleHead
		}
		if head == nil {
			head = &page.Head
		}
		lines = append(lines, page.Lines...)
		if int64(len(lines)) >= head.End {
			return lines[:head.End], head, nil
		}
		if len(page.Lines) == 0 {
			return lines, head, nil // cut: its head will show it
		}
	}
}

func (c *Client) act(ctx context.Context, path string, body any) (*Outcome, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var o Outcome
	_, err = c.ask(ctx, http.MethodPost, path, b, &o)
	return &o, err
}

// ask sends a signed request, and returns the challenge that it was signed over.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, answer any) ([]byte, error) {
	var ch Challenge
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.broker+Path+"/challenge", nil)
	if err != nil {
		return nil, err
	}
	if err := c.do(r, &ch); err != nil {
		return nil, err
	}
	if r, err = http.NewRequestWithContext(ctx, method, c.broker+Path+path, bytes.NewReader(body)); err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", azure.ContentType)
	Sign(r, c.broker, body, ch.Challenge, c.key)
	return ch.Challenge, c.do(r, answer)
}

func (c *Client) do(r *http.Request, answer any) error {
	res, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var e azure.ErrorResponse
		azure.Decode(data, &e) // what is no error body leaves it empty
		return &Error{res.StatusCode, e.Error.Code, e.Error.Message, res.Header.Get(azure.RequestIDHeader)}
	}
	if err := azure.Decode(data, answer); err != nil {
		return fmt.Errorf("the key broker's answer: %w", err)
	}
	return nil
}
