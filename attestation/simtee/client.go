// Package simtee is the enclave's side of the simulated TEE: it asks
// passclave-simtee for reports over a unix socket, as it would ask /dev/sev-guest, configfs-tsm or EGo.
// It holds no key. What the socket answers is passed on unverified, as hardware's
// answer would be; who listens there is up to the folder's permissions.
package simtee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// The protocol has one exchange a connection: the client sends REPORT_DATA, 64
// bytes; the server answers with an [Answer] in deterministic CBOR and closes.

// MaxAnswer is the largest answer, in bytes.
const MaxAnswer = 64 << 10

// Answer is what the simulated TEE sends: a report with what goes with it in a bundle
// of its platform, or why not.
type Answer struct {
	Report       []byte                   `cbor:"1,keyasint,omitempty"`
	Certificates [][]byte                 `cbor:"2,keyasint,omitempty"` // X.509 in DER: VCEK, ASK, ARK; none for TDX and SGX
	Refusal      string                   `cbor:"3,keyasint,omitempty"`
	Platform     attestation.Platform     `cbor:"4,keyasint,omitempty"`
	Collateral   []attestation.Collateral `cbor:"5,keyasint,omitempty"`
}

// Sentinels of [Client.Make]; what the network does is passed on besides.
var (
	ErrAddress = errors.New("simulated TEE: the address is not unix:PATH")
	ErrAnswer  = errors.New("simulated TEE: not an answer")
	ErrRefused = errors.New("simulated TEE: it refuses")
)

// ParseAnswer reads an answer that has a report. It refuses all others with
// [ErrAnswer], or [ErrRefused] where the server said why. It verifies nothing.
func ParseAnswer(data []byte) (*Answer, error) {
	if len(data) > MaxAnswer {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrAnswer, MaxAnswer)
	}
	var a Answer
	if err := wire.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if a.Refusal != "" {
		return nil, fmt.Errorf("%w: %.200q", ErrRefused, a.Refusal)
	}
	if len(a.Report) == 0 {
		return nil, fmt.Errorf("%w: no report", ErrAnswer)
	}
	switch a.Platform {
	case attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX:
		return &a, nil
	}
	return nil, fmt.Errorf("%w: platform %.40q", ErrAnswer, a.Platform)
}

// Client is an [attestation.Maker]. It is safe for concurrent use.
type Client struct{ address string }

// NewClient returns a client of the passclave-simtee at address: unix:PATH. It does
// not connect.
func NewClient(address string) *Client { return &Client{address} }

// Make asks for a report.
func (c *Client) Make(ctx context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	path, ok := strings.CutPrefix(c.address, "unix:")
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrAddress, c.address)
	}
	encoded, err := exchange(ctx, path, reportData[:])
	if err != nil {
		return nil, fmt.Errorf("simulated TEE: %w", errors.Join(err, ctx.Err()))
	}
	a, err := ParseAnswer(encoded)
	if err != nil {
		return nil, err
	}
	return &attestation.Bundle{Platform: a.Platform, Report: a.Report, Certificates: a.Certificates, Collateral: a.Collateral}, nil
}

// exchange sends question and returns what comes back until the server closes, at
// most one byte more than [MaxAnswer].
func exchange(ctx context.Context, path string, question []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(conn, MaxAnswer+1))
}

// Evidence makes evidence that binds runtime data: [attestation.Make] with this
// client and the wall clock.
func (c *Client) Evidence(ctx context.Context, runtimeData, configuration []byte) (*attestation.Bundle, error) {
	return attestation.Make(ctx, c, runtimeData, configuration, time.Now())
}
