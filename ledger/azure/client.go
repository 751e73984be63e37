package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/passclave/passclave/ledger/azure/receipt"
	"github.com/passclave/passclave/wire"
)

const (
	transactions      = "/app/transactions"
	transactionHeader = "x-ms-ccf-transaction-id"

	maxAnswer    = 8 << 20               // bytes of one answer
	maxRedirects = 3                     // of a write to the primary
	firstWait    = 20 * time.Millisecond // between two questions; doubles
	maxWait      = time.Second
	maxUnknown   = 5 // answers that a transaction is not known, before it counts as lost: a node may not have heard of it yet
)

// client speaks the data plane's REST API.
type client struct {
	base    *url.URL
	version string
	token   func(context.Context) (string, error)
	http    *http.Client
	pin     *pin

	mu   sync.Mutex
	seen receipt.Transaction // the newest that was seen committed; never goes back
}

func newClient(c Config) (*client, error) {
	service, err := receipt.ParseServiceCertificates(c.Service)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.Path != "" || base.RawQuery != "" || base.User != nil {
		return nil, errors.New("ledger/azure: not the https URL of a ledger")
	}
	p := &pin{service, c.Clock}
	out := &client{base: base, version: c.APIVersion, token: c.Token, pin: p}
	if out.version == "" {
		out.version = APIVersion
	}
	out.http = &http.Client{
		Timeout: 10 * time.Second, Transport: p.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return out, nil
}

func (c *client) saw(t receipt.Transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Sequence > c.seen.Sequence {
		c.seen = t
	}
}

// behind reports whether a node that is at a transaction does not know what was seen.
func (c *client) behind(t receipt.Transaction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.Sequence < c.seen.Sequence || t.View < c.seen.View
}

// reply is one answer of the service.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// busy reports whether the service asks to come again, having done nothing.
func (r *reply) busy() bool {
	return r.status == http.StatusServiceUnavailable || r.status == http.StatusTooManyRequests
}

// do sends one request, and follows it where the service has its primary node.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body []byte) (*reply, error) {
	query.Set("api-version", c.version)
	to := *c.base
	to.Path, to.RawQuery = path, query.Encode()
	for range maxRedirects {
		r, err := c.once(ctx, method, &to, body)
		if err != nil {
			return nil, wire.NewError(wire.CodeUnavailable, err)
		}
		if r.status != http.StatusTemporaryRedirect && r.status != http.StatusPermanentRedirect {
			return r, nil
		}
		next, err := to.Parse(r.header.Get("Location"))
		if err != nil || next.Scheme != "https" || next.Host != c.base.Host && !strings.HasSuffix(next.Host, "."+c.base.Host) {
			return nil, wire.Errorf(wire.CodeUnavailable, "redirected away from the ledger")
		}
		to = *next
	}
	return nil, wire.Errorf(wire.CodeUnavailable, "redirected without end")
}

func (c *client) once(ctx context.Context, method string, to *url.URL, body []byte) (*reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	token, err := c.token(ctx)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	return &reply{response.StatusCode, response.Header, b}, nil
}

// pause waits between two questions: longer each time, and at least as long as the
// service asks for.
type pause struct{ next time.Duration }

func (p *pause) wait(ctx context.Context, r *reply) error {
	p.next = min(max(firstWait, 2*p.next), maxWait)
	d := p.next
	if s, err := strconv.Atoi(r.header.Get("Retry-After")); err == nil && s > 0 {
		d = max(d, time.Duration(min(s, 3600))*time.Second)
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return wire.Errorf(wire.CodeUnavailable, "the ledger was not ready in time")
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}

// unexpected is the error for an answer that no request here can use. Its code says what is
// wrong with the ledger: CollectionCapacityExceeded, EntrySizeCapacityExceeded and so on.
func unexpected(r *reply) error {
	var a struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	json.Unmarshal(r.body, &a)
	return wire.Errorf(wire.CodeUnavailable, "the ledger answers with status %d %.64q", r.status, a.Error.Code)
}

// post writes an entry and returns the transaction that it may become. To send it again
// does no harm: the copy is void at its position.
func (c *client) post(ctx context.Context, collection, contents string) (receipt.Transaction, error) {
	body, err := json.Marshal(map[string]string{"contents": contents})
	if err != nil {
		return receipt.Transaction{}, err
	}
	var p pause
	for {
		r, err := c.do(ctx, http.MethodPost, transactions, url.Values{"collectionId": {collection}}, body)
		if err != nil {
			return receipt.Transaction{}, err
		}
		if r.busy() {
			if err := p.wait(ctx, r); err != nil {
				return receipt.Transaction{}, err
			}
			continue
		}
		if r.status != http.StatusOK && r.status != http.StatusCreated {
			return receipt.Transaction{}, unexpected(r)
		}
		id, err := receipt.ParseTransaction(r.header.Get(transactionHeader))
		if err != nil {
			return id, wire.NewError(wire.CodeUnavailable, err)
		}
		return id, nil
	}
}

// committed waits until a transaction is committed. A time-out is no answer.
func (c *client) committed(ctx context.Context, id receipt.Transaction) error {
	var p pause
	for unknown := 0; ; {
		r, err := c.do(ctx, http.MethodGet, transactions+"/"+id.String()+"/status", url.Values{}, nil)
		if err != nil {
			return err
		}
		var a struct {
			State       string `json:"state"`
			Transaction string `json:"transactionId"`
		}
		switch {
		case r.status == http.StatusNotFound:
			if unknown++; unknown == maxUnknown {
				return wire.NewError(wire.CodeUnavailable, ErrLost)
			}
		case r.busy():
		case r.status != http.StatusOK:
			return unexpected(r)
		case json.Unmarshal(r.body, &a) != nil || a.Transaction != id.String():
			return wire.Errorf(wire.CodeUnavailable, "status of another transaction")
		case a.State == "Committed":
			c.saw(id)
			return nil
		case a.State != "Pending":
			return wire.NewError(wire.CodeUnavailable, ErrLost)
		}
		if err := p.wait(ctx, r); err != nil {
			return err
		}
	}
}

// receipt gets the receipt of a committed transaction and verifies it. A node that has not
// heard of the commit yet says 406 (UncommittedLedgerEntry), or 404.
func (c *client) receipt(ctx context.Context, id receipt.Transaction) (*receipt.Statement, error) {
	var p pause
	for {
		r, err := c.do(ctx, http.MethodGet, transactions+"/"+id.String()+"/receipt", url.Values{}, nil)
		if err != nil {
			return nil, err
		}
		if r.status == http.StatusOK {
			s, err := receipt.Verify(r.body, c.pin.service)
			var e *receipt.Error
			if err == nil {
				return s, nil
			} else if !errors.As(err, &e) || e.Check != receipt.CheckState {
				return nil, wire.NewError(wire.CodeReceipt, err)
			}
		} else if !r.busy() && r.status != http.StatusNotFound && r.status != http.StatusNotAcceptable && r.status != http.StatusAccepted {
			return nil, unexpected(r)
		}
		if err := p.wait(ctx, r); err != nil {
			return nil, err
		}
	}
}

// page is an answer of GET /app/transactions.
type page struct {
	State   string `json:"state"`
	Next    string `json:"nextLink"`
	Entries []struct {
		Collection  string `json:"collectionId"`
		Contents    string `json:"contents"`
		Transaction string `json:"transactionId"`
	} `json:"entries"`
}

// list calls take with a collection's committed entries, in order and one page at a
// time: from one transaction, included, or the beginning, to another or the end. A
// collection that the node does not have has no entries; to believe that, and anything
// else, from this node is what the pinned TLS is for.
func (c *client) list(ctx context.Context, collection, from, to string, take func(receipt.Transaction, string) error) error {
	query := url.Values{"collectionId": {collection}}
	if from != "" {
		query.Set("fromTransactionId", from)
	}
	if to != "" {
		query.Set("toTransactionId", to)
	}
	var p pause
	var late error // why the node must be asked again
	for {
		r, err := c.do(ctx, http.MethodGet, transactions, query, nil)
		if err != nil && late != nil && ctx.Err() != nil {
			return wire.NewError(wire.CodeUnavailable, late)
		} else if err != nil {
			return err
		}
		var a page
		late = nil
		switch {
		case r.busy():
		case r.status == http.StatusNotFound && from == "" && to == "":
			if late = c.current(ctx); late == nil {
				return nil
			}
		case r.status == http.StatusNotFound: // it does not have from or to, yet
			late = ErrBehind
		case r.status == http.StatusOK && c.late(r):
			late = ErrBehind
		case r.status != http.StatusOK:
			return unexpected(r)
		case json.Unmarshal(r.body, &a) != nil:
			return wire.Errorf(wire.CodeUnavailable, "not a page of entries")
		}
		if a.State == "Ready" {
			if err := c.takeAll(&a, collection, take); err != nil {
				return err
			}
			if a.Next == "" {
				return nil
			}
		}
		if a.Next != "" {
			if query, err = nextPage(a.Next, collection); err != nil {
				return err
			}
		}
		if a.State == "Ready" {
			p = pause{} // it loads each page anew
			continue
		}
		if err := p.wait(ctx, r); err != nil && late != nil {
			return wire.NewError(wire.CodeUnavailable, late)
		} else if err != nil {
			return err
		}
	}
}

// late reports whether an answer is of a node that was cut off, and would show an older
// end: it must know what this process has seen committed, by whichever node.
func (c *client) late(r *reply) bool {
	at, err := receipt.ParseTransaction(r.header.Get(transactionHeader))
	return err != nil || c.behind(at)
}

// current returns [ErrBehind] where the service, asked once more, does not know what this
// process has seen committed. Answers with an error do not say how far their node is (CCF
// names a transaction only where it ran one to its end), so this is who asks after a 404.
// The connection is the same one, or another to whichever node the service chooses.
func (c *client) current(ctx context.Context) error {
	c.mu.Lock()
	seen := c.seen
	c.mu.Unlock()
	if seen == (receipt.Transaction{}) {
		return nil
	}
	r, err := c.do(ctx, http.MethodGet, transactions+"/"+seen.String()+"/status", url.Values{}, nil)
	if err != nil || r.status != http.StatusOK || c.late(r) {
		return ErrBehind
	}
	return nil
}

func (c *client) takeAll(a *page, collection string, take func(receipt.Transaction, string) error) error {
	for _, e := range a.Entries {
		id, err := receipt.ParseTransaction(e.Transaction)
		if err != nil || e.Collection != collection {
			return wire.Errorf(wire.CodeReceipt, "an entry of another collection")
		}
		if err := take(id, e.Contents); err != nil {
			return err
		}
		c.saw(id)
	}
	return nil
}

// nextPage reads the path of the next page: of this ledger, and of this collection.
func nextPage(link, collection string) (url.Values, error) {
	u, err := url.Parse(link)
	if err != nil || u.Host != "" || u.Path != transactions || u.Query().Get("collectionId") != collection {
		return nil, wire.Errorf(wire.CodeReceipt, "a next page that is not of this collection")
	}
	return u.Query(), nil
}
