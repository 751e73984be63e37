package attestation_test

import (
	"encoding/binary"
	"testing"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

func TestOpenEnclaveHeader(t *testing.T) {
	t.Parallel()
	header := func(version, kind uint32, size uint64) []byte {
		le := binary.LittleEndian
		return le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, version), kind), size)
	}
	m := newIntelMachine(t, false)
	for name, h := range map[string]func(size uint64) []byte{
		"version 0":         func(size uint64) []byte { return header(0, 2, size) },
		"version 2":         func(size uint64) []byte { return header(2, 2, size) },
		"local report":      func(size uint64) []byte { return header(1, 1, size) },
		"custom":            func(size uint64) []byte { return header(1, 3, size) },
		"too long":          func(size uint64) []byte { return header(1, 2, size+1) },
		"too short":         func(size uint64) []byte { return header(1, 2, size-1) },
		"no size":           func(size uint64) []byte { return header(1, 2, 0) },
		"high bits of size": func(size uint64) []byte { return header(1, 2, size|1<<32) },
		"big-endian": func(size uint64) []byte {
			return []byte{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, byte(size >> 8), byte(size)}
		},
		"none": func(size uint64) []byte { return []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			m.oe = h
			_, err := m.verify(t)
			wantCheck(t, err, attestation.CheckReport)
		})
	}
}

// Nobody would see these, though they are signed.
func TestSGXReservedBytes(t *testing.T) {
	t.Parallel()
	for i := range 384 {
		if !reservedByte(false, i) {
			continue
		}
		m := newIntelMachine(t, false)
		m.body[i] = 0x80
		_, err := m.verifyReport(m.report(t), nil)
		wantCheck(t, err, attestation.CheckReport)
	}
}

// bundleOf returns evidence of m that binds runtime data.
func bundleOf(t *testing.T, m *intelMachine, platform attestation.Platform, reportData int) *attestation.Bundle {
	t.Helper()
	file := at.Configuration(t)
	r := at.ReleaseData(t, file)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest := attestation.ReportData(data)
	copy(m.body[reportData:], digest[:])
	b := &attestation.Bundle{Platform: platform, Report: m.report(t), RuntimeData: data, Configuration: file}
	b.Collateral = m.collateral(t)
	return b
}

func TestGenuineSGX(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, false)
	b, err := attestation.ParseBundle(bundleOf(t, m, attestation.PlatformSGX, 320).Encode())
	if err != nil {
		t.Fatal(err)
	}
	for name, genuine := range map[string]func() (*attestation.Claims, error){
		"once": func() (*attestation.Claims, error) { return attestation.Genuine(b, m.roots(), intelNow) },
		"remembering": func() (*attestation.Claims, error) {
			return attestation.NewCache(64).Genuine(b, m.roots(), intelNow)
		},
	} {
		c, err := genuine()
		if err != nil || c.Platform != attestation.PlatformSGX || c.RuntimeData == nil || c.Configuration == nil || c.Intel.TCBStatus != "UpToDate" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	b.RuntimeData[10] ^= 1
	_, err = attestation.Genuine(b, m.roots(), intelNow)
	wantCheck(t, err, attestation.CheckReportData)
	_, err = attestation.NewCache(64).Genuine(b, m.roots(), intelNow)
	wantCheck(t, err, attestation.CheckReportData)
}

func FuzzVerifySGX(f *testing.F) {
	m := newIntelMachine(f, false)
	report := m.report(f)
	if _, err := m.verifyReport(report, m.collateral(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(report)
	f.Add(report[:500])
	known := attestation.NewCache(64)
	f.Fuzz(func(t *testing.T, data []byte) {
		sameVerdict(t, m, known, data)
	})
}
