package collateral

import (
	"bytes"
	"encoding/pem"
	"errors"
	"strings"
)

// maxChain bounds the certificates of one answer.
const maxChain = 8

// decodePEM reads certificates, with nothing but white space between them.
func decodePEM(text []byte) (list [][]byte, err error) {
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		clean := bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----"))
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if !clean || block == nil || len(block.Headers) != 0 || len(list) == maxChain {
			return nil, errors.New("not a few certificates in PEM")
		}
		list = append(list, block.Bytes)
	}
	if len(list) == 0 {
		return nil, errors.New("no certificate")
	}
	return list, nil
}

func encodePEM(list [][]byte) []byte {
	var out bytes.Buffer
	for _, der := range list {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a buffer does not fail
	}
	return out.Bytes()
}

func same(data []byte) ([]byte, error) { return data, nil }

func lower(s string) string { return strings.ToLower(s) }
