package wire

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Limits of every decoder in this package. They are generous for an account of
// MaxRecords records and small enough that no input makes a decoder allocate
// more than a few times the input's own size.
const (
	maxNesting  = 8
	maxElements = 1 << 13
	maxPairs    = 64
)

var (
	encMode = must(cbor.EncOptions{
		Sort:          cbor.SortCoreDeterministic,
		ShortestFloat: cbor.ShortestFloat16,
		NaNConvert:    cbor.NaNConvertReject,
		InfConvert:    cbor.InfConvertReject,
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsEmpty,
		TagsMd:        cbor.TagsForbidden,
	}.UserBufferEncMode())

	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxPairs,
		UTF8:              cbor.UTF8RejectInvalid,
		IntDec:            cbor.IntDecConvertNone,
		BignumTag:         cbor.BignumTagForbidden,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options are constants: this can only fail at start-up
	}
	return v
}

// Marshal returns v in core deterministic CBOR (RFC 8949, section 4.2.1).
//
// It panics if v has a type that CBOR cannot hold: values come from this
// module's own types, so that is a programming error, never an input.
func Marshal(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: encoding %s: %v", reflect.TypeOf(v), err))
	}
	return b
}

// Unmarshal decodes exactly one deterministic CBOR value into the struct that v
// points to. Unknown and duplicate members, indefinite lengths, tags, trailing
// bytes, and any encoding that v would not itself encode to are refused with
// [CodeMalformed]. Byte strings of the wrong length for a fixed-size field are
// refused by the same comparison. Values are not checked for meaning.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return &Error{Code: CodeMalformed, cause: err}
	}
	if !encodesTo(v, data) {
		return &Error{Code: CodeMalformed, cause: errNotCanonical}
	}
	return nil
}

// encodesTo reports whether data is the encoding of v. What it encodes may be a
// secret and is only compared: it is wiped before the buffer serves again.
func encodesTo(v any, data []byte) bool {
	buf := scratch.Get().(*bytes.Buffer)
	buf.Grow(len(data)) // so that no growth leaves a copy behind
	err := encMode.MarshalToBuffer(v, buf)
	same := err == nil && bytes.Equal(buf.Bytes(), data)
	clear(buf.Bytes())
	buf.Reset()
	if buf.Cap() <= maxScratch {
		scratch.Put(buf)
	}
	return same
}

// maxScratch is the largest buffer that is kept, in bytes: few messages are longer.
const maxScratch = 64 << 10

var scratch = sync.Pool{New: func() any { return new(bytes.Buffer) }}

var errNotCanonical = fmt.Errorf("not in deterministic encoding")

// labelled returns what [appendLabelled] appends.
func labelled(label string, fields ...any) []byte {
	return appendLabelled(make([]byte, 0, 256), label, nil, fields)
}

// Hash is SHA-256 over the deterministic CBOR of [label, version, fields…].
// docs/protocol.md lists all labels. Fields are uint64, strings, byte strings, the
// IDs and digests of this package, and [Encoded].
func Hash(label string, fields ...any) Digest {
	return sha256.Sum256(appendLabelled(make([]byte, 0, 512), label, nil, fields))
}

// Derive is HKDF-SHA256 (RFC 5869) with an empty salt, the secret as input key
// material and the deterministic CBOR of [label, version, fields…] as info. It
// returns 32 bytes. Fields are those of [Hash].
func Derive(secret []byte, label string, fields ...any) []byte {
	return derive(secret, label, nil, fields)
}

func derive(secret []byte, label string, s *Scope, fields []any) []byte {
	info := appendLabelled(make([]byte, 0, 256), label, s, fields)
	key, err := hkdf.Key(sha256.New, secret, nil, string(info), 32)
	if err != nil {
		panic(err) // 32 bytes are always to be had from SHA-256
	}
	return key
}
