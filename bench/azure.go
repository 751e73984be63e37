package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"

	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/ledger/azure"
	"github.com/passclave/passclave/ledger/azure/azuretest"
	"github.com/passclave/passclave/ledger/azure/receipt"
	"github.com/passclave/passclave/wire"
)

// azureRow measures PIN attempts over the emulator of Azure Confidential Ledger in this
// process, which keeps everything in memory and commits at once: what the service itself
// takes is not in it. The floor's writes are the emulator's, written and seen committed.
func azureRow(ctx context.Context, folder string, k *benchKeys) (_ *result, err error) {
	server, other := azuretest.NewServer(), azuretest.NewServer() // a receipt's time grows with all that was written
	defer server.Close()
	defer other.Close()
	server.Set(func(s *azuretest.Server) { s.Loading = 0 })
	certificates, err := receipt.ParseServiceCertificates(server.Service())
	if err != nil {
		return nil, err
	}
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"access_token": azuretest.Token, "expires_in": "86400", "token_type": "Bearer"})
	}))
	defer metadata.Close()
	s, err := sqlite.Open(filepath.Join(folder, "azure"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	genesis := sha256.Sum256(certificates[0].RawSubjectPublicKeyInfo)
	b := backing{
		benchKeys: k, store: s, metadata: metadata.URL,
		identity: wire.LedgerIdentity{ID: k.LedgerID, Backend: wire.BackendAzure, Genesis: genesis[:], Number: 1},
		azure:    &wire.AzureLedger{URL: server.URL, Service: string(bytes.TrimRight(server.Service(), "\x00")), CollectionKey: random()},
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // the emulator, in this process
		MaxIdleConnsPerHost: pinClients,
	}
	defer transport.CloseIdleConnections()
	return pinRow(ctx, folder, b, func(c *wire.Commit) error {
		return bareAzure(ctx, &http.Client{Transport: transport}, other.URL+"/app/transactions", c)
	})
}

// bareAzure writes an entry and asks once whether it is committed.
func bareAzure(ctx context.Context, client *http.Client, transactions string, c *wire.Commit) error {
	body, err := json.Marshal(map[string]string{"contents": base64.StdEncoding.EncodeToString(c.Append.Entry)})
	if err != nil {
		return err
	}
	ask := func(method, url string, body []byte) (http.Header, []byte, error) {
		r, err := http.NewRequestWithContext(ctx, method, url+"api-version="+azure.APIVersion, bytes.NewReader(body))
		if err != nil {
			return nil, nil, err
		}
		r.Header.Set("Authorization", "Bearer "+azuretest.Token)
		r.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(r)
		if err != nil {
			return nil, nil, err
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		return answer.Header, b, err
	}
	header, _, err := ask(http.MethodPost, transactions+"?collectionId="+c.Append.Account.String()+"&", body)
	if err != nil {
		return err
	}
	_, state, err := ask(http.MethodGet, transactions+"/"+header.Get("x-ms-ccf-transaction-id")+"/status?", nil)
	if err == nil && !bytes.Contains(state, []byte(`"Committed"`)) {
		return fmt.Errorf("the emulator says %s", state)
	}
	return err
}
