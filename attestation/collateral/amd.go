package collateral

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"

	"github.com/passclave/passclave/attestation"
)

// Source gives certificates of SEV-SNP: [AMD], [Azure] or [THIM].
type Source interface {
	Name() string
	// certificates returns candidates: key, ASK or ASVK, ARK, in DER. An error may
	// stand beside them.
	certificates(context.Context, *fetcher, *snpSubject) ([][][]byte, error)
	crl(ctx context.Context, f *fetcher, line, signer string) ([]byte, error) // DER
}

// errNotMine is a source's that has no such thing.
var errNotMine = errors.New("has no such thing")

// Addresses of the sources, as the constructors take them.
const (
	AMDBase   = "https://kdsintf.amd.com"
	AzureBase = "https://global.acccache.azure.net"
	THIMBase  = "http://169.254.169.254"
)

// AMD is AMD's key distribution service at a base URL (AMD 57230, section 4): VCEK in
// DER, chains in PEM, revocation lists in DER. VLEKs are the clouds': of these it gives
// the chain alone, for a stapled certificate.
func AMD(base string) Source { return amd(base) }

type amd string

func (amd) Name() string { return "AMD's KDS" }

// at puts the service's own address in the place of the one that kds writes.
func (a amd) at(address string) string {
	return strings.TrimSuffix(string(a), "/") + strings.TrimPrefix(address, AMDBase)
}

func (a amd) certificates(ctx context.Context, f *fetcher, s *snpSubject) (chains [][][]byte, err error) {
	for _, line := range s.lines {
		leaf := s.leaf
		if s.signer == abi.VcekReportSigner {
			der, _, e := f.get(ctx, a.Name(), a.at(vcekURL(line, s.chip, s.tcb)), nil)
			if e != nil {
				err = errors.Join(err, e)
				continue
			}
			leaf = der
		}
		text, _, e := f.get(ctx, a.Name(), a.at(kds.ProductCertChainURL(s.signer, line)), nil)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		rest, e := decodePEM(text)
		if e != nil || len(rest) != 2 {
			err = errors.Join(err, &Error{Source: a.Name(), Status: http.StatusOK, cause: ErrAnswer})
			continue
		}
		chains = append(chains, append([][]byte{leaf}, rest...))
	}
	return chains, err
}

// turinChip is the length of Turin's hardware ID, in bytes.
const turinChip = 8

// vcekURL is kds's, which does not know Turin's: a shorter ID, another TCB_VERSION.
func vcekURL(line string, chip []byte, tcb uint64) string {
	if line != "Turin" {
		return kds.VCEKCertURL(line, chip, kds.TCBVersion(tcb))
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], tcb)
	return fmt.Sprintf("%s/vcek/v1/%s/%s?fmcSPL=%d&blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", AMDBase, line,
		hex.EncodeToString(chip[:turinChip]), b[0], b[1], b[2], b[3], b[7])
}

func (a amd) crl(ctx context.Context, f *fetcher, line, signer string) ([]byte, error) {
	key := abi.VcekReportSigner
	if signer == attestation.SignerVLEK {
		key = abi.VlekReportSigner
	}
	der, _, err := f.get(ctx, a.Name(), a.at(kds.CrlLinkByKey(line, key)), nil)
	return der, err
}
