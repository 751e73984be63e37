//go:build sgx

package sgx_test

import (
	"context"
	"errors"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/sgx"
)

// Outside of an enclave there is no report, and no pretence of one.
func TestOutsideOfAnEnclave(t *testing.T) {
	t.Parallel()
	var maker attestation.Maker = sgx.Maker{}
	if b, err := maker.Make(t.Context(), [64]byte{}); !errors.Is(err, sgx.ErrNoEnclave) || b != nil {
		t.Errorf("%+v, %v", b, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if b, err := maker.Make(ended, [64]byte{}); err == nil || b != nil {
		t.Errorf("%+v, %v", b, err)
	}
}
