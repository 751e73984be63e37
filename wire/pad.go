package wire

import "encoding/binary"

// Requests and responses are padded to these sizes, in bytes: whoever watches the
// network learns the bucket and nothing finer.
var buckets = []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}

// MaxMessage is the largest plaintext of a request or response.
const MaxMessage = 1<<20 - 4

func bucket(n int) (int, error) {
	for _, b := range buckets {
		if n+4 <= b {
			return b, nil
		}
	}
	return 0, Errorf(CodeTooLarge, "%d bytes do not fit the largest message of %d", n, MaxMessage)
}

// pad returns uint32 length (big-endian) ‖ content ‖ zeros, size bytes in all.
func pad(content []byte, size int) []byte {
	out := make([]byte, size)
	binary.BigEndian.PutUint32(out, uint32(len(content)))
	copy(out[4:], content)
	return out
}

func unpad(padded []byte) ([]byte, error) {
	if len(padded) < 4 {
		return nil, Errorf(CodeMalformed, "padding: no length")
	}
	n := binary.BigEndian.Uint32(padded)
	if uint64(n) > uint64(len(padded)-4) {
		return nil, Errorf(CodeMalformed, "padding: length past the end")
	}
	for _, b := range padded[4+n:] {
		if b != 0 {
			return nil, Errorf(CodeMalformed, "padding: not zero")
		}
	}
	return padded[4 : 4+n], nil
}

func roundUp(n, size int) int { return (n + size - 1) / size * size }
