package collateral

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-sev-guest/abi"

	"github.com/passclave/passclave/attestation"
)

// Azure is Azure's cache of AMD's certificates at a base URL, for chips in Azure: a
// chain in PEM, the key first.
func Azure(base string) Source { return azure(base) }

type azure string

func (azure) Name() string { return "Azure's certificate cache" }

func (a azure) certificates(ctx context.Context, f *fetcher, s *snpSubject) ([][][]byte, error) {
	if s.signer != abi.VcekReportSigner {
		return nil, fmt.Errorf("%s: %w: it has VCEKs alone", a.Name(), ErrUnknown)
	}
	address := fmt.Sprintf("%s/SevSnpVM/certificates/%s/%x?api-version=2020-10-15-preview&clientId=ConfidentialACI",
		strings.TrimSuffix(string(a), "/"), hex.EncodeToString(s.chip), s.tcb)
	text, _, err := f.get(ctx, a.Name(), address, nil)
	if err != nil {
		return nil, err
	}
	chain, err := decodePEM(text)
	if err != nil {
		return nil, &Error{Source: a.Name(), Status: http.StatusOK, cause: fmt.Errorf("%w: %w", ErrAnswer, err)}
	}
	return [][][]byte{chain}, nil
}

func (azure) crl(context.Context, *fetcher, string, string) ([]byte, error) { return nil, errNotMine }

// THIM is the metadata service of an Azure host at a base URL, for guests that have no
// other way out: the certificates of the chip that the guest runs on, in JSON.
func THIM(base string) Source { return thim(base) }

type thim string

func (thim) Name() string { return "THIM" }

func (t thim) certificates(ctx context.Context, f *fetcher, s *snpSubject) ([][][]byte, error) {
	if s.signer != abi.VcekReportSigner {
		return nil, fmt.Errorf("%s: %w: it has VCEKs alone", t.Name(), ErrUnknown)
	}
	data, _, err := f.get(ctx, t.Name(), strings.TrimSuffix(string(t), "/")+"/metadata/THIM/amd/certification", http.Header{"Metadata": {"true"}})
	if err != nil {
		return nil, err
	}
	chain, _, err := attestation.ParseHostAMD(data)
	if err != nil {
		return nil, &Error{Source: t.Name(), Status: http.StatusOK, cause: fmt.Errorf("%w: %w", ErrAnswer, err)}
	}
	return [][][]byte{chain}, nil
}

func (thim) crl(context.Context, *fetcher, string, string) ([]byte, error) { return nil, errNotMine }
