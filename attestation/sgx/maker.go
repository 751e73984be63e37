//go:build sgx

package sgx

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgelesssys/ego/enclave"

	"github.com/passclave/passclave/attestation"
)

// ErrNoEnclave says that EGo gave no report: the process runs in no SGX enclave, or the
// machine's quoting service does not answer. EGo's own words are in the error's text.
var ErrNoEnclave = errors.New("sgx: EGo gives no report")

// Maker is an [attestation.Maker] on EGo's runtime. Its zero value is ready; it is safe
// for concurrent use.
type Maker struct{}

// Make has the processor and the platform's quoting enclave make a report over
// reportData. It may take long, since the untrusted host answers for the quoting
// enclave; it returns when ctx ends and leaves the call to itself then. The bundle has
// no collateral: who has it staples it.
func (Maker) Make(ctx context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	type made struct {
		report []byte
		err    error
	}
	done := make(chan made, 1)
	go func() {
		report, err := enclave.GetRemoteReport(reportData[:])
		done <- made{report, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m := <-done:
		if m.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoEnclave, m.err)
		}
		return &attestation.Bundle{Platform: attestation.PlatformSGX, Report: m.report}, nil
	}
}
