package machine

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/passclave/passclave/attestation"
)

// Measurement is what the simulation has for a binary's launch measurement: hashes of
// its file.
type Measurement struct {
	SHA384 [48]byte // MEASUREMENT of SEV-SNP, MRTD of TDX
	SHA256 [32]byte // MRENCLAVE of SGX
}

// Of returns the measurement as a platform's reports have it.
func (m Measurement) Of(p attestation.Platform) []byte {
	if p == attestation.PlatformSGX {
		return m.SHA256[:]
	}
	return m.SHA384[:]
}

// Measure measures the binary at path.
func Measure(path string) (Measurement, error) {
	f, err := os.Open(path)
	if err != nil {
		return Measurement{}, err
	}
	defer f.Close()
	return measure(f)
}

func measure(f *os.File) (m Measurement, err error) {
	long, short := sha512.New384(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(long, short), f); err != nil {
		return m, fmt.Errorf("measure: %w", err)
	}
	long.Sum(m.SHA384[:0])
	short.Sum(m.SHA256[:0])
	return m, nil
}

// measured remembers the measurement of the binary that asked last, as long as its
// file looks the same: an enclave asks once an hour and for every nonce.
type measured struct {
	mu          sync.Mutex
	file        fs.FileInfo // nil: none
	measurement Measurement
}

// of measures an open file, or remembers.
func (c *measured) of(f *os.File) (Measurement, error) {
	info, err := f.Stat()
	if err != nil {
		return Measurement{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil && os.SameFile(c.file, info) && c.file.ModTime().Equal(info.ModTime()) && c.file.Size() == info.Size() {
		return c.measurement, nil
	}
	m, err := measure(f)
	if err != nil {
		return m, err
	}
	c.file, c.measurement = info, m
	return m, nil
}
