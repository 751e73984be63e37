package guest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/passclave/passclave/attestation"
)

// TSM is configfs-tsm (Linux, Documentation/ABI/testing/configfs-tsm), an
// [attestation.Maker]. It makes and removes a folder for every report, so that it is
// safe for concurrent use.
type TSM struct{ client configfsi.Client }

// NewTSM returns configfs-tsm of this machine, or why there is none.
func NewTSM() (*TSM, error) {
	c, err := linuxtsm.MakeClient()
	if err != nil {
		return nil, err
	}
	return &TSM{c}, nil
}

// Make asks for a report. [ErrAnswer]: the provider is none that bundles have a
// platform for.
func (t *TSM) Make(_ context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	r, err := report.Create(t.client, &report.Request{InBlob: reportData[:]})
	if err != nil {
		return nil, fmt.Errorf("configfs-tsm: %w", err)
	}
	b, err := read(r)
	return b, errors.Join(err, r.Destroy())
}

func read(r *report.OpenReport) (*attestation.Bundle, error) {
	answer, err := r.Get()
	if err != nil {
		return nil, fmt.Errorf("configfs-tsm: %w", err)
	}
	b := &attestation.Bundle{Report: answer.OutBlob}
	switch provider := strings.TrimSpace(answer.Provider); provider {
	case "tdx_guest":
		b.Platform = attestation.PlatformTDX
		return b, nil // its chain is in the quote
	case "sev_guest":
		b.Platform = attestation.PlatformSEVSNP
	default:
		return nil, fmt.Errorf("%w: configfs-tsm's provider is %.32q", ErrAnswer, provider)
	}
	table, err := r.ReadOption("auxblob")
	if g := report.GetGenerationErr(err); g != nil {
		return nil, fmt.Errorf("configfs-tsm: %w", g)
	}
	if err != nil {
		return b, nil // the host gives no certificates: they are found elsewhere
	}
	b.Certificates, err = certificates(table)
	return b, err
}
