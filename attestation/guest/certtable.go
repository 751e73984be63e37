package guest

import (
	"encoding/binary"
	"fmt"
)

// GUIDs of a certificate table (GHCB specification 56421, section 4.1.8.1), whose bytes
// stand in it in the order of their text.
var (
	guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = [16]byte{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	guidASK  = [16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = [16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

// Limits of a certificate table, in bytes and entries.
const (
	maxCertTable   = 64 << 10
	maxCertEntries = 16
	certEntry      = 16 + 4 + 4 // GUID, offset, length
)

// certificates reads a certificate table (GHCB specification 56421, extended guest
// request) and returns what a bundle needs of it: the report's key, VCEK or VLEK, then
// ASK (of a VLEK: ASVK), then ARK, in DER. The host makes the table: one without a key
// gives no certificates, one that is no table is [ErrAnswer].
func certificates(table []byte) ([][]byte, error) {
	if len(table) > maxCertTable {
		return nil, fmt.Errorf("%w: a certificate table of %d bytes", ErrAnswer, len(table))
	}
	if len(table) == 0 {
		return nil, nil
	}
	found := map[[16]byte][]byte{}
	for at := 0; ; at += certEntry {
		if at+certEntry > len(table) || at/certEntry > maxCertEntries {
			return nil, fmt.Errorf("%w: a certificate table without an end", ErrAnswer)
		}
		id := [16]byte(table[at:])
		if id == [16]byte{} {
			break
		}
		// In 64 bits: the two are the host's and could overflow.
		offset := uint64(binary.LittleEndian.Uint32(table[at+16:]))
		end := offset + uint64(binary.LittleEndian.Uint32(table[at+20:]))
		if end > uint64(len(table)) {
			return nil, fmt.Errorf("%w: a certificate past the table's end", ErrAnswer)
		}
		if _, twice := found[id]; twice {
			return nil, fmt.Errorf("%w: a certificate stands twice", ErrAnswer)
		}
		found[id] = table[offset:end]
	}
	key := found[guidVCEK]
	if key == nil {
		key = found[guidVLEK]
	}
	if key == nil {
		return nil, nil
	}
	list := [][]byte{key}
	for _, id := range [][16]byte{guidASK, guidARK} {
		if c := found[id]; c != nil {
			list = append(list, c)
		}
	}
	return list, nil
}
