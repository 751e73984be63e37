package guest

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/passclave/passclave/attestation"
)

// AgentAddress is where Confidential Containers' guest image serves its REST API
// (guest-components, api-server-rest), if it is enabled there.
const AgentAddress = "127.0.0.1:8006"

// Agent is the attestation agent of Confidential Containers, an [attestation.Maker] of
// SEV-SNP and TDX. It is safe for concurrent use.
//
// The agent puts the bytes that it is given into REPORT_DATA as they are, with zeros
// behind them. Ours are 64 arbitrary bytes, so it must know the parameter
// encoding=base64: an older one takes the text of base64 for the data, which is too
// long for it, and refuses. Agents that bind report data by a virtual TPM (Azure's
// peer pods) or through an SVSM's manifest do not put it into the report: what they
// answer is [ErrAnswer].
type Agent struct {
	address string
	http    *http.Client
}

// Limits of the agent.
const (
	maxEvidence  = 4 << 20          // bytes; TDX's comes with an event log
	agentTimeout = 60 * time.Second // its own is 50 s
)

// NewAgent returns the agent at an address: a loopback IP address and a port, since
// anybody else's answer says nothing of this guest. It does not connect.
func NewAgent(address string) (*Agent, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	if !a.Addr().IsLoopback() {
		return nil, fmt.Errorf("the attestation agent's address %s is not a loopback address", a)
	}
	return &Agent{address: a.String(), http: &http.Client{
		Timeout: agentTimeout,
		Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, DisableCompression: true, // never from the environment
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Probe says whether somebody listens there.
func (a *Agent) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", a.address)
	if err != nil {
		return err
	}
	return c.Close()
}

// Make asks for evidence. [ErrAnswer]: it is of another TEE, or over other report data.
func (a *Agent) Make(ctx context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	// URL-safe and without padding: nothing in it needs an escape.
	address := "http://" + a.address + "/aa/evidence?runtime_data=" + base64.RawURLEncoding.EncodeToString(reportData[:]) + "&encoding=base64"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := a.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("attestation agent: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: attestation agent: status %d", ErrAnswer, answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxEvidence+1))
	if err != nil {
		return nil, fmt.Errorf("attestation agent: %w", err)
	}
	if len(body) > maxEvidence {
		return nil, fmt.Errorf("%w: attestation agent: more than %d bytes", ErrAnswer, maxEvidence)
	}
	return parseEvidence(body, reportData)
}
