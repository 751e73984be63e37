package guest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/passclave/passclave/attestation"
)

// agentEvidence is what the agent answers (guest-components, attestation-agent/attester,
// snp and tdx): one of the two. Other members are left alone.
type agentEvidence struct {
	Report json.RawMessage `json:"attestation_report"` // SEV-SNP
	Chain  []struct {
		Type json.RawMessage `json:"cert_type"` // "VCEK", …; {"OTHER": GUID}
		Data octets          `json:"data"`      // DER
	} `json:"cert_chain"` // null: the host gives none
	Quote string `json:"quote"` // TDX, in base64
}

// Places in a TDX quote of version 4 (Intel TDX DCAP Quoting Library API, appendix A.3).
const (
	teeTypeAt    = 4 // 32 bits
	teeTDX       = 0x81
	tdxDataAt    = 48 + 520 // REPORTDATA, behind the header
	snpDataAt    = 0x50     // REPORT_DATA
	maxChainSize = 8
)

// parseEvidence reads the agent's answer. Errors are [ErrAnswer].
func parseEvidence(data []byte, reportData [64]byte) (*attestation.Bundle, error) {
	var e agentEvidence
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: attestation agent: %w", ErrAnswer, err)
	}
	b := &attestation.Bundle{}
	var err error
	at := 0
	switch isSNP, isTDX := len(e.Report) > 0, e.Quote != ""; {
	case isSNP && !isTDX:
		b.Platform, at = attestation.PlatformSEVSNP, snpDataAt
		if b.Report, err = encodeReport(e.Report); err == nil {
			b.Certificates, err = e.certificates()
		}
	case isTDX && !isSNP:
		b.Platform, at = attestation.PlatformTDX, tdxDataAt
		if b.Report, err = base64.StdEncoding.Strict().DecodeString(e.Quote); err == nil &&
			(len(b.Report) < tdxDataAt+64 || binary.LittleEndian.Uint32(b.Report[teeTypeAt:]) != teeTDX) {
			err = fmt.Errorf("no quote of TDX")
		}
	default:
		err = fmt.Errorf("evidence of neither SEV-SNP nor TDX")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: attestation agent: %w", ErrAnswer, err)
	}
	if !bytes.Equal(b.Report[at:at+64], reportData[:]) {
		return nil, fmt.Errorf("%w: attestation agent: over other report data than it was given", ErrAnswer)
	}
	return b, nil
}

// certificates are the host's, in the order of a bundle; none without the report's key.
func (e *agentEvidence) certificates() ([][]byte, error) {
	found := map[string][]byte{}
	for _, c := range e.Chain {
		name := ""
		if json.Unmarshal(c.Type, &name) != nil {
			continue // OTHER
		}
		if _, twice := found[name]; twice || len(found) == maxChainSize {
			return nil, fmt.Errorf("certificate %.16q twice, or too many", name)
		}
		found[name] = c.Data
	}
	key := found["VCEK"]
	if key == nil {
		key = found["VLEK"]
	}
	if key == nil {
		return nil, nil
	}
	list := [][]byte{key}
	for _, name := range []string{"ASK", "ARK"} {
		if c := found[name]; c != nil {
			list = append(list, c)
		}
	}
	return list, nil
}

// octets are bytes as Rust's serde writes them: an array of numbers.
type octets []byte

func (o *octets) UnmarshalJSON(data []byte) error {
	var numbers []uint16
	if err := json.Unmarshal(data, &numbers); err != nil {
		return err
	}
	*o = make([]byte, len(numbers))
	for i, n := range numbers {
		if n > 255 {
			return fmt.Errorf("%d is no byte", n)
		}
		(*o)[i] = byte(n)
	}
	return nil
}
