package azuretest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/ledger/azure/azuretest"
	"github.com/passclave/passclave/ledger/azure/receipt"
)

const version = "api-version=2023-01-18-preview"

type client struct {
	t *testing.T
	s *azuretest.Server
	c *http.Client
}

func open(t *testing.T) *client {
	s := azuretest.NewServer()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Service())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t, s, &http.Client{Transport: transport}}
}

func (c *client) do(method, path, body string) (int, http.Header, []byte) {
	c.t.Helper()
	r, err := http.NewRequest(method, c.s.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+azuretest.Token)
	response, err := c.c.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, response.Header, b
}

// The verifier, which shares no code with the emulator, takes its receipts wherever
// in the tree an entry stands.
func TestReceiptsVerify(t *testing.T) {
	t.Parallel()
	c := open(t)
	service, err := receipt.ParseServiceCertificates(c.s.Service())
	if err != nil {
		t.Fatal(err)
	}
	c.s.Set(func(s *azuretest.Server) { s.Loading = 0 })
	var ids []string
	for i := range 9 {
		ids = append(ids, c.s.Put("c", fmt.Sprint(i)))
		for n, id := range ids {
			_, _, b := c.do("GET", "/app/transactions/"+id+"/receipt?"+version, "")
			st, err := receipt.Verify(b, service)
			if err != nil {
				t.Fatalf("receipt of %s among %d: %v\n%s", id, len(ids), err, b)
			}
			if e, ok := st.Entry(); !ok || e != (receipt.Entry{Collection: "c", Contents: fmt.Sprint(n)}) || st.Transaction.String() != id {
				t.Fatalf("%+v", st)
			}
		}
	}
}

// A page covers a stretch of the ledger, whoever's entries are in it.
func TestPagesOfOthers(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.s.Set(func(s *azuretest.Server) { s.Loading, s.Page = 0, 2 })
	for _, collection := range []string{"mine", "others", "others", "mine"} { // at 2, 4, 6 and 8, each with a signature behind it
		c.s.Put(collection, "x")
	}
	path, got := "/app/transactions?"+version+"&collectionId=mine", []int{}
	for path != "" {
		var page struct {
			Entries []json.RawMessage
			Next    string `json:"nextLink"`
		}
		_, _, b := c.do("GET", path, "")
		if err := json.Unmarshal(b, &page); err != nil {
			t.Fatal(err)
		}
		path = page.Next
		got = append(got, len(page.Entries))
	}
	if want := []int{1, 0, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("entries a page: %v, want %v", got, want)
	}
}

// What does not fit is refused, with the documented codes, and nothing is written.
func TestLimits(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.s.Set(func(s *azuretest.Server) { s.Collections = 1 })
	c.s.Put("c", "x")
	at := c.s.Committed()
	post := func(collection string, size int) string {
		t.Helper()
		status, _, b := c.do("POST", "/app/transactions?"+version+"&collectionId="+collection, `{"contents":"`+strings.Repeat("x", size)+`"}`)
		var e struct{ Error struct{ Code string } }
		if err := json.Unmarshal(b, &e); err != nil || status != http.StatusOK && status != http.StatusBadRequest {
			t.Fatal(status, string(b))
		}
		return e.Error.Code
	}
	for _, w := range []struct {
		collection string
		size       int
		code       string
	}{
		{"c", 8193, "EntrySizeCapacityExceeded"}, {"d", 1, "CollectionCapacityExceeded"}, {strings.Repeat("e", 257), 1, "CollectionIdTooLong"},
	} {
		if got := post(w.collection, w.size); got != w.code {
			t.Errorf("%.10s, %d bytes: %q, want %q", w.collection, w.size, got, w.code)
		}
	}
	if c.s.Committed() != at {
		t.Error("something was written")
	}
	if a, b := post("c", 8192), post("", 1); a != "" || b != "" {
		t.Error(a, b)
	}
}

// The shapes that the documentation and recordings of the real service have.
func TestDocumentedShapes(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.s.Set(func(s *azuretest.Server) { s.Pending = 1 })
	want := func(path, body string) {
		t.Helper()
		status, header, b := c.do("GET", path, "")
		if status != http.StatusOK || header.Get("x-ms-ccf-transaction-id") == "" || strings.TrimSpace(string(b)) != body {
			t.Fatalf("%s: %d\n%s\nwant\n%s", path, status, b, body)
		}
	}
	status, header, b := c.do("POST", "/app/transactions?"+version+"&collectionId=132", `{"contents":"x"}`)
	if id := header.Get("x-ms-ccf-transaction-id"); status != http.StatusOK || id != "2.2" || strings.TrimSpace(string(b)) != `{"collectionId":"132"}` {
		t.Fatal(status, id, string(b))
	}
	if status, header, b := c.do("GET", "/app/transactions/2.2/receipt?"+version, ""); status != http.StatusNotAcceptable ||
		!strings.Contains(string(b), "UncommittedLedgerEntry") || header.Get("x-ms-ccf-transaction-id") != "" {
		t.Fatal(status, header, string(b))
	}
	want("/app/transactions/2.2/status?"+version, `{"state":"Pending","transactionId":"2.2"}`)
	want("/app/transactions/2.2/status?"+version, `{"state":"Committed","transactionId":"2.2"}`)
	want("/app/transactions/2.2/receipt?"+version, `{"receipt":null,"state":"Loading","transactionId":""}`)
	want("/app/transactions/2.2?"+version, `{"entry":{"collectionId":"132","contents":"x","transactionId":"2.2"},"state":"Ready"}`)
	want("/app/transactions/current?"+version+"&collectionId=132", `{"collectionId":"132","contents":"x","transactionId":"2.2"}`)
	list := "/app/transactions?" + version + "&collectionId=132&fromTransactionId=2.2"
	want(list, `{"entries":[],"nextLink":"`+strings.ReplaceAll(list, "&", `\u0026`)+`","state":"Loading"}`)
	want(list, `{"entries":[{"collectionId":"132","contents":"x","transactionId":"2.2"}],"state":"Ready"}`)

	var r struct {
		Claims json.RawMessage `json:"applicationClaims"`
	}
	if _, _, b := c.do("GET", "/app/transactions/2.2/receipt?api-version=2022-05-13", ""); json.Unmarshal(b, &r) != nil || r.Claims != nil {
		t.Fatalf("application claims in an older version of the API: %s", b)
	}
	var i struct {
		Certificate string `json:"ledgerTlsCertificate"`
	}
	if _, _, b := c.do("GET", "/ledgerIdentity/"+azuretest.Name+"?api-version=2022-05-13", ""); json.Unmarshal(b, &i) != nil || i.Certificate != string(c.s.Service()) {
		t.Fatalf("%s", b)
	}
	for path, want := range map[string]int{
		"/app/transactions/current": http.StatusBadRequest, "/app/transactions/9.9/status?" + version: http.StatusNotFound, "/app/nothing?" + version: http.StatusNotFound,
	} {
		if status, _, _ := c.do("GET", path, ""); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
}
