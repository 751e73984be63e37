package attestation

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"github.com/passclave/passclave/wire"
)

// hostAMD is what Azure's host hands a guest with its report (THIM): the certificates
// of the chip it runs on, and the TCB that they were fetched for.
type hostAMD struct {
	certificates [][]byte // VCEK, ASK, ARK
	tcb          uint64   // TCB_VERSION, as REPORTED_TCB has it
}

const maxHostAMD = 32 << 10

// ParseHostAMD reads THIM's JSON, as ACI's host-amd-cert-base64 holds it, into
// certificates in DER (VCEK, ASK, ARK) and TCB_VERSION. Refusals are of
// [CheckHostAMD]. It verifies nothing: see [Hardware].
func ParseHostAMD(data []byte) (certificates [][]byte, tcb uint64, err error) {
	h, err := parseHostAMD(data, nil)
	if err != nil {
		return nil, 0, err
	}
	if h == nil {
		return nil, 0, refuse(CheckHostAMD, errors.New("empty"))
	}
	return h.certificates, h.tcb, nil
}

// parseHostAMD returns nil for no data.
func parseHostAMD(data []byte, known *Cache) (*hostAMD, error) {
	if len(data) == 0 {
		return nil, nil
	}
	if len(data) > maxHostAMD {
		return nil, differ(CheckHostAMD, fmt.Sprintf("at most %d bytes", maxHostAMD), len(data))
	}
	return once(known, func() wire.Digest { return cacheKey("host-amd", data) }, func() (*hostAMD, error) {
		h, err := decodeHostAMD(data)
		if err != nil {
			return nil, refuse(CheckHostAMD, err)
		}
		return h, nil
	})
}

func decodeHostAMD(data []byte) (*hostAMD, error) {
	object, err := flatJSON(data)
	if err != nil {
		return nil, err
	}
	var member [3]string
	for i, name := range []string{"vcekCert", "certificateChain", "tcbm"} {
		s, ok := object[name].(string)
		if !ok {
			return nil, fmt.Errorf("no %s, or not a string", name)
		}
		member[i] = s
		delete(object, name)
	}
	delete(object, "cacheControl") // for who fetches it
	if len(object) != 0 {
		return nil, errors.New("an unknown member")
	}
	h := &hostAMD{}
	for i, count := range []int{1, 2} {
		list, err := decodePEM(member[i])
		if err != nil {
			return nil, err
		}
		if len(list) != count {
			return nil, fmt.Errorf("%d certificates instead of %d", len(list), count)
		}
		h.certificates = append(h.certificates, list...)
	}
	// Sixteen digits, less without leading zeros; upper case and lower case are in use.
	if h.tcb, err = strconv.ParseUint(member[2], 16, 64); err != nil || len(member[2]) > 16 {
		return nil, fmt.Errorf("tcbm %s is no hexadecimal number of 64 bits", text(member[2]))
	}
	return h, nil
}

// decodePEM reads certificates, with nothing but white space between them.
func decodePEM(s string) (list [][]byte, err error) {
	for rest := bytes.TrimSpace([]byte(s)); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, errors.New("not PEM of certificates")
		}
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, errors.New("not PEM of certificates")
		}
		list = append(list, block.Bytes)
	}
	return list, nil
}

// checkSecurityPolicy returns the policy whose SHA-256 is HOST_DATA, nil for none.
func checkSecurityPolicy(policy, hostData []byte) ([]byte, error) {
	if len(policy) == 0 {
		return nil, nil
	}
	if h := sha256.Sum256(policy); !bytes.Equal(h[:], hostData) {
		return nil, differ(CheckSecurityPolicy, wire.Digest(hostData), wire.Digest(h))
	}
	return policy, nil
}
