package wire

import "encoding/binary"

// Encoded is a value that is deterministic CBOR already, as [Marshal] gives it: a
// field of a hash that is neither number, text nor bytes.
type Encoded []byte

// CBOR major types (RFC 8949, section 3.1).
const (
	cborUint  = 0 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
)

func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(appendHead(b, cborBytes, uint64(len(s))), s...)
}

// appendLabelled appends the only input to any hash or key derivation of the
// protocol: deterministic CBOR of [label, version, scope's fields…, fields…].
//
// A request hashes some thirty of these, half of them around secrets. Written out
// for the few types that stand in them, they are the bytes that [Marshal] makes
// (TestLabelledIsMarshal), without reflection, and nothing of them stays behind in
// an encoder's buffers: no field escapes to the heap.
func appendLabelled(b []byte, label string, s *Scope, fields []any) []byte {
	n := 2 + len(fields)
	if s != nil {
		n += 4
	}
	b = appendHead(b, cborArray, uint64(n))
	b = appendHead(b, cborText, uint64(len(labelPrefix)+len(label)))
	b = append(append(b, labelPrefix...), label...)
	b = appendHead(b, cborUint, Version)
	if s != nil {
		b = appendBytes(b, s.Ledger)
		b = appendBytes(b, s.Account[:])
		b = appendHead(b, cborUint, s.Generation)
		b = appendHead(b, cborUint, s.Epoch)
	}
	for _, f := range fields {
		b = appendField(b, f)
	}
	return b
}

const labelPrefix = "passclave "

func appendField(b []byte, field any) []byte {
	switch f := field.(type) {
	case uint64:
		return appendHead(b, cborUint, f)
	case string:
		return appendText(b, f)
	case []byte:
		return appendBytes(b, f)
	case Base64:
		return appendBytes(b, f)
	case Digest:
		return appendBytes(b, f[:])
	case AccountID:
		return appendBytes(b, f[:])
	case StreamID:
		return appendBytes(b, f[:])
	case DeviceID:
		return appendBytes(b, f[:])
	case Handle:
		return appendBytes(b, f[:])
	case VersionID:
		return appendBytes(b, f[:])
	case RequestID:
		return appendBytes(b, f[:])
	case KeyID:
		return appendBytes(b, f[:])
	case Encoded:
		return append(b, f...)
	}
	panic("wire: a field of a type that no hash has") // a programming error, as in Marshal
}
