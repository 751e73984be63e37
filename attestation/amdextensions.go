package attestation

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-sev-guest/abi"
)

// amdExtensions are what a VCEK or VLEK certificate says in AMD's own extensions,
// 1.3.6.1.4.1.3704.1.… (AMD 57230, tables "VCEK certificate extensions" and "VLEK
// certificate extensions").
type amdExtensions struct {
	line       string        // of productName, without the stepping; empty where it is unknown
	levels     map[int]uint8 // security patch levels by the last arc of 1.3.…: blSPL and so on
	hardwareID []byte        // VCEK: 64 bytes, Turin 8; nil in a VLEK
	csp        string        // VLEK alone
}

// Last arcs of the security patch levels.
const (
	arcBootloader = 1
	arcTEE        = 2
	arcSNP        = 3
	arcMicrocode  = 8
	arcFMC        = 9 // Turin
	// 4 to 7 are reserved.
)

var (
	amdArc       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	authorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
)

const turinHardwareID = 8

// parseAMDExtensions reads the extensions of a certificate for the kind of key. Beside
// AMD's own there may be the authority key identifier alone. (None stands there twice:
// crypto/x509 refuses that.)
func parseAMDExtensions(c *x509.Certificate, signer abi.ReportSigner) (*amdExtensions, error) {
	e := &amdExtensions{levels: map[int]uint8{}}
	seen := map[string]bool{}
	for _, x := range c.Extensions {
		if x.Id.Equal(authorityKey) {
			continue
		}
		arc, ok := strings.CutPrefix(x.Id.String(), amdArc.String()+".")
		if !ok {
			return nil, fmt.Errorf("extension %s is not AMD's", x.Id)
		}
		seen[arc] = true
		var err error
		switch {
		case arc == "1":
			_, err = derByte(x.Value) // structVersion: the product line says which layout it is
		case arc == "2":
			e.line, err = productOf(x.Value, signer)
		case len(x.Id) == len(amdArc)+2 && strings.HasPrefix(arc, "3.") && x.Id[len(amdArc)+1] <= arcFMC:
			e.levels[x.Id[len(amdArc)+1]], err = derByte(x.Value)
		case arc == "4" && signer == abi.VcekReportSigner:
			e.hardwareID, err = hardwareID(x.Value)
		case arc == "5" && signer == abi.VlekReportSigner:
			e.csp, err = ia5(x.Value)
		default:
			err = errors.New("unknown, or of another kind of key")
		}
		if err != nil {
			return nil, fmt.Errorf("extension %s: %w", x.Id, err)
		}
	}
	if !seen["1"] || !seen["2"] || signer == abi.VcekReportSigner && e.hardwareID == nil || signer == abi.VlekReportSigner && e.csp == "" {
		return nil, errors.New("an extension of AMD's is missing")
	}
	return e, nil
}

// fit refuses extensions that are not those of the product line.
func (e *amdExtensions) fit(line string) error {
	required := []int{arcBootloader, arcTEE, arcSNP, arcMicrocode, 4, 5, 6, 7}
	if line == turin {
		required = []int{arcBootloader, arcTEE, arcSNP, arcMicrocode, arcFMC}
	}
	for _, arc := range required {
		if _, ok := e.levels[arc]; !ok {
			return refuse(CheckChain, fmt.Errorf("no security patch level %d", arc))
		}
	}
	_, fmc := e.levels[arcFMC]
	if n := len(e.hardwareID); fmc != (line == turin) || n != 0 && (n == turinHardwareID) != (line == turin) {
		return refuse(CheckChain, fmt.Errorf("the extensions are not those of %s", line))
	}
	if line == turin && e.levels[4]|e.levels[5]|e.levels[6]|e.levels[7] != 0 {
		return refuse(CheckChain, errors.New("a reserved security patch level is not zero"))
	}
	return nil
}

// tcb composes TCB_VERSION in the layout of the product line, as function tcb takes
// it apart.
func (e *amdExtensions) tcb(line string) uint64 {
	l := e.levels
	b := []byte{l[arcBootloader], l[arcTEE], l[4], l[5], l[6], l[7], l[arcSNP], l[arcMicrocode]}
	if line == turin {
		b = []byte{l[arcFMC], l[arcBootloader], l[arcTEE], l[arcSNP], 0, 0, 0, l[arcMicrocode]}
	}
	return binary.LittleEndian.Uint64(b)
}

func derByte(der []byte) (uint8, error) {
	var n int
	if rest, err := asn1.Unmarshal(der, &n); err != nil || len(rest) != 0 || n < 0 || n > 255 {
		return 0, errors.New("not an INTEGER of one byte")
	}
	return uint8(n), nil
}

func ia5(der []byte) (string, error) {
	var s string
	if len(der) == 0 || der[0] != asn1.TagIA5String {
		return "", errors.New("not an IA5String")
	}
	if rest, err := asn1.UnmarshalWithParams(der, &s, "ia5"); err != nil || len(rest) != 0 {
		return "", errors.New("not an IA5String")
	}
	return s, nil
}

// productOf reads "Milan-B1" of a VCEK, "Milan" of a VLEK.
func productOf(der []byte, signer abi.ReportSigner) (string, error) {
	name, err := ia5(der)
	if err != nil {
		return "", err
	}
	line, stepping, dash := strings.Cut(name, "-")
	if dash != (signer == abi.VcekReportSigner) || dash && stepping == "" {
		return "", fmt.Errorf("product %s", text(name))
	}
	switch line {
	case milan, genoa, turin:
		return line, nil
	}
	return "", nil
}

// hardwareID reads the ID of a chip. AMD puts its bytes there without a tag; an OCTET
// STRING is what the standard asks for.
func hardwareID(value []byte) ([]byte, error) {
	id := value
	if n := len(value); n != abi.ChipIDSize && n != turinHardwareID {
		if rest, err := asn1.Unmarshal(value, &id); err != nil || len(rest) != 0 {
			return nil, errors.New("not a hardware ID")
		}
	}
	if n := len(id); n != abi.ChipIDSize && n != turinHardwareID {
		return nil, fmt.Errorf("a hardware ID of %d bytes", n)
	}
	return id, nil
}
