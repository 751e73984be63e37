package collateral

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
)

// Real evidence from Azure Container Instances (see attestation/aci_test.go): stapled it
// is left alone; without its certificates they are found, in Azure's wire format.
func TestRealACI(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("PASSCLAVE_EVIDENCE")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "evidence")
	}
	b, err := aci.ReadFolder(os.DirFS(filepath.Join(folder, "aci-snp")))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skipf("no real evidence: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) }
	if err := quick(Options{Now: now}).Complete(t.Context(), b); err != nil || b.HostAMD == nil || b.Certificates != nil {
		t.Fatal(err)
	}
	chain, tcb, err := attestation.ParseHostAMD(b.HostAMD)
	if err != nil || tcb != binary.LittleEndian.Uint64(b.Report[0x180:]) {
		t.Fatal(err)
	}
	s := serve(t, &attestation.Bundle{Report: b.Report, Certificates: chain}, "Milan")
	for _, source := range []Source{Azure(s.URL), AMD(s.URL), THIM(s.URL)} {
		b.HostAMD, b.Certificates = nil, nil
		if err := quick(Options{Now: now, Sources: []Source{source}}).Complete(t.Context(), b); err != nil {
			t.Errorf("%s: %v", source.Name(), err)
		}
		if c, err := attestation.Hardware(b, attestation.Roots{}, now()); err != nil || c.Simulated || c.UVM == nil {
			t.Errorf("%s: %+v, %v", source.Name(), c, err)
		}
	}
}
