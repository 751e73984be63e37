package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
)

// eachTEE runs a test for TDX and for SGX.
func eachTEE(t *testing.T, test func(*testing.T, bool)) {
	t.Helper()
	for name, tdx := range map[string]bool{"tdx": true, "sgx": false} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "js" && !tdx {
				t.Skip("P-256 is slow here; both take the same way")
			}
			t.Parallel()
			test(t, tdx)
		})
	}
}

func TestIntelClaims(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		m := newIntelMachine(t, tdx)
		fill := func(from, size int, with byte) { copy(m.body[from:], bytes.Repeat([]byte{with}, size)) }
		if tdx {
			m.body[120], m.body[123], m.body[127] = 1, 0x20, 0x80 // debug, migratable, performance counters
			m.body[128] = 0xe7
			fill(16, 48, 1)
			fill(136, 48, 3)
			fill(184, 48, 4)
			fill(232, 48, 5)
			fill(280, 48, 6)
			for i := range 4 {
				fill(328+48*i, 48, byte(7+i))
			}
			fill(520, 64, 11)
		} else {
			fill(0, 16, 1)
			m.body[16], m.body[48], m.body[56] = 2, 7, 3
			fill(64, 32, 3)
			fill(128, 32, 4)
			fill(192, 64, 5)
			m.body[256], m.body[257], m.body[258], m.body[260] = 6, 1, 7, 8
			fill(320, 64, 11)
		}
		report := m.report(t)
		c, err := m.verifyReport(report, m.collateral(t))
		if err != nil {
			t.Fatal(err)
		}
		clear(report) // claims are their own
		is := func(name string, got []byte, size int, with byte) {
			t.Helper()
			if !bytes.Equal(got, bytes.Repeat([]byte{with}, size)) {
				t.Errorf("%s: %x", name, got)
			}
		}
		is("report data", c.ReportData[:], 64, 11)
		if tdx {
			is("MRTD", c.Measurement, 48, 3)
			is("MRCONFIGID", c.HostData, 48, 4)
			is("MRSEAM", c.TDX.MRSEAM, 48, 1)
			is("MRSIGNERSEAM", c.TDX.MRSignerSEAM, 48, 0)
			is("MROWNER", c.TDX.MROwner, 48, 5)
			is("MROWNERCONFIG", c.TDX.MROwnerConfig, 48, 6)
			for i, r := range c.TDX.RTMRs {
				is("RTMR", r, 48, byte(7+i))
			}
			if c.Platform != attestation.PlatformTDX || c.TDX.Attributes != 0x80000000_20000001 || c.TDX.XFAM != 0xe7 || !c.Debug || !c.Migration ||
				!bytes.Equal(c.TDX.TEETCBSVN[:4], []byte{5, 1, 7, 0}) || c.ReportVersion != 4 || c.SGX != nil {
				t.Errorf("%+v %+v", c, c.TDX)
			}
		} else {
			is("MRENCLAVE", c.Measurement, 32, 3)
			is("MRSIGNER", c.SGX.MRSigner, 32, 4)
			is("CONFIGID", c.HostData, 64, 5)
			is("CPUSVN", c.SGX.CPUSVN, 16, 1)
			if c.Platform != attestation.PlatformSGX || c.SGX.ProductID != 0x106 || c.SGX.SVN != 7 || c.SGX.ConfigSVN != 8 || c.SGX.MiscSelect != 2 ||
				c.SGX.Attributes != 7 || c.SGX.XFRM != 3 || !c.Debug || c.ReportVersion != 3 || c.TDX != nil {
				t.Errorf("%+v %+v", c, c.SGX)
			}
		}
		i := c.Intel
		if !c.Simulated || c.Root != m.roots().Simulation[0] || !c.Time.Equal(intelNow) || !bytes.Equal(i.FMSPC, unhex(testFMSPC)) || i.PCESVN != 11 ||
			i.TCBStatus != "UpToDate" || !i.TCBDate.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || len(i.Advisories) != 0 ||
			i.EvaluationNumber != 17 || !c.RevocationChecked {
			t.Errorf("%+v %+v", c, i)
		}
		if c.VMPL != 0 || c.Product != "" || c.ChipID != nil {
			t.Errorf("claims of another platform: %+v", c)
		}
	})
}

func TestIntelNotDebug(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		m := newIntelMachine(t, tdx)
		c, err := m.verify(t)
		if err != nil || c.Debug || c.Migration {
			t.Fatalf("%+v, %v", c, err)
		}
		if tdx {
			m.body[120] = 0x10 // one of the bits under which a TD is not to be trusted either
			if c, err := m.verify(t); err != nil || !c.Debug {
				t.Errorf("%+v, %v", c, err)
			}
		}
	})
}

// Whatever is changed afterwards, evidence stays genuine only where the change says the
// same: in the PEM's white space.
func TestEveryByteOfQuoteCounts(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		m := newIntelMachine(t, tdx)
		report := m.report(t)
		known := attestation.NewCache(64)
		verify := func(data []byte) (error, error) {
			_, err := m.verifyReport(data, nil)
			var again error
			if tdx {
				_, again = known.VerifyTDX(data, nil, m.roots(), intelNow)
			} else {
				_, again = known.VerifySGX(data, nil, m.roots(), intelNow)
			}
			return err, again
		}
		if err, again := verify(report); err != nil || again != nil {
			t.Fatal(err, again)
		}
		begin := bytes.Index(report, []byte("-----BEGIN"))
		signed := 48 + len(m.body)
		offset := 0
		if !tdx {
			offset = 16
		}
		for i := range report {
			if (i >= begin || runtime.GOOS == "js") && i%37 != 0 { // some, where it is slow and of the certificates
				continue
			}
			changed := bytes.Clone(report)
			changed[i] ^= 1 << (i % 8)
			err, again := verify(changed)
			if (err == nil || again == nil) && !(i >= begin && bytes.IndexByte([]byte("\n\r\t "), report[i]) >= 0) {
				t.Errorf("byte %#x: genuine", i)
			}
			if body := i - offset; body >= 48 && body < signed && !reservedByte(tdx, body-48) {
				wantCheck(t, err, attestation.CheckSignature)
				wantCheck(t, again, attestation.CheckSignature)
			}
		}
	})
}

// reservedByte reports whether a byte of the body must be zero.
func reservedByte(tdx bool, i int) bool {
	in := func(ranges ...[2]int) bool {
		return slices.ContainsFunc(ranges, func(r [2]int) bool { return r[0] <= i && i < r[1] })
	}
	if tdx {
		return in([2]int{112, 120})
	}
	return in([2]int{20, 48}, [2]int{96, 128}, [2]int{160, 192}, [2]int{262, 320})
}

func TestIntelReportForm(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		for name, change := range map[string]func(*intelMachine){
			"version 3 or 4": func(m *intelMachine) { m.header[0] ^= 7 },
			"version 5":      func(m *intelMachine) { m.header[0] = 5 },
			"version's high": func(m *intelMachine) { m.header[1] = 1 },
			"P-384":          func(m *intelMachine) { m.header[2] = 3 },
			"TEE type":       func(m *intelMachine) { m.header[4] ^= 0x81 },
			"TEE type high":  func(m *intelMachine) { m.header[7] = 1 },
			"vendor":         func(m *intelMachine) { m.header[12] ^= 1 },
			"vendor's end":   func(m *intelMachine) { m.header[27] ^= 1 },
			"reserved body": func(m *intelMachine) {
				for i := range m.body {
					if reservedByte(m.tdx, i) {
						m.body[i] = 1
					}
				}
			},
			"something behind":  func(m *intelMachine) { m.trailer = []byte{0, 0, 1} },
			"longer signature":  func(m *intelMachine) { m.trailer, m.raw = []byte{0}, func(q []byte) { q[48+len(m.body)]++ } },
			"shorter signature": func(m *intelMachine) { m.raw = func(q []byte) { q[48+len(m.body)]-- } },
			"no signature":      func(m *intelMachine) { m.raw = func(q []byte) { clear(q[48+len(m.body):][:4]) } },
			"huge signature":    func(m *intelMachine) { m.raw = func(q []byte) { q[51+len(m.body)] = 0xff } },
			"huge QE data": func(m *intelMachine) {
				m.raw = func(q []byte) { copy(q[bytes.Index(q, m.auth)-2:], []byte{0xff, 0xff}) }
			},
			"PCK identity instead of a chain": func(m *intelMachine) { m.raw = func(q []byte) { q[bytes.Index(q, m.auth)+len(m.auth)] = 3 } },
			"chain too long":                  func(m *intelMachine) { m.raw = func(q []byte) { q[bytes.Index(q, m.auth)+len(m.auth)+2]++ } },
			"chain too short":                 func(m *intelMachine) { m.raw = func(q []byte) { q[bytes.Index(q, m.auth)+len(m.auth)+2]-- } },
		} {
			t.Run(name, func(t *testing.T) {
				m := newIntelMachine(t, tdx)
				change(m)
				_, err := m.verify(t)
				wantCheck(t, err, attestation.CheckReport)
			})
		}
		report := newIntelMachine(t, tdx)
		whole := report.report(t)
		for _, n := range []int{0, 1, 15, 16, 47, 48, 63, 64, 400, 635, 636, 700, 1020, len(whole) - 1} {
			cut := bytes.Clone(whole[:n])
			if !tdx && n >= 16 { // the header of Open Enclave agrees
				cut[8], cut[9] = byte(n-16), byte((n-16)>>8)
			}
			_, err := report.verifyReport(cut, nil)
			wantCheck(t, err, attestation.CheckReport)
		}
		// The signature ends early, and every length around it agrees.
		start := 48 + len(report.body)
		if !tdx {
			start += 16
		}
		for _, n := range []int{0, 64, 128, 134, 134 + 384 + 64} {
			cut := bytes.Clone(whole[:start+4+n])
			binary.LittleEndian.PutUint32(cut[start:], uint32(n))
			if !tdx {
				binary.LittleEndian.PutUint64(cut[8:], uint64(len(cut)-16))
			}
			_, err := report.verifyReport(cut, nil)
			wantCheck(t, err, attestation.CheckReport)
		}
	})
}

func TestQuotePaddedWithZeros(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		m := newIntelMachine(t, tdx)
		m.trailer = make([]byte, 100)
		if _, err := m.verify(t); err != nil {
			t.Error(err)
		}
	})
}

func TestQuotingEnclave(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		stranger := p256(t)
		for name, change := range map[string]func(*intelMachine){
			"not Intel's":           func(m *intelMachine) { m.qe[128] ^= 1 },
			"the other TEE's":       func(m *intelMachine) { copy(m.qe[128:160], newIntelMachine(t, !tdx).qe[128:160]) },
			"other product":         func(m *intelMachine) { m.qe[256] ^= 3 },
			"debug":                 func(m *intelMachine) { m.qe[48] |= 2 },
			"reserved 1":            func(m *intelMachine) { m.qe[47] = 1 },
			"reserved 2":            func(m *intelMachine) { m.qe[96] = 1 },
			"reserved 3":            func(m *intelMachine) { m.qe[160] = 1 },
			"reserved 4":            func(m *intelMachine) { m.qe[319] = 1 },
			"binds nothing":         func(m *intelMachine) { m.unbound = true },
			"half of the binding":   func(m *intelMachine) { m.qe[383] = 1 },
			"other key":             func(m *intelMachine) { m.raw = replaceKey(t, m, stranger) },
			"other data":            func(m *intelMachine) { m.raw = func(q []byte) { q[bytes.Index(q, m.auth)] ^= 1 } },
			"signed by another key": func(m *intelMachine) { m.chain = func([][]byte) [][]byte { return samePlatform(t, m) } },
		} {
			t.Run(name, func(t *testing.T) {
				m := newIntelMachine(t, tdx)
				m.qeIdentity = nil
				change(m)
				_, err := m.verify(t)
				wantCheck(t, err, attestation.CheckQE)
			})
		}
	})
}

// replaceKey signs the quote with a key that the quoting enclave does not bind.
func replaceKey(t *testing.T, m *intelMachine, key *ecdsa.PrivateKey) func([]byte) {
	return func(q []byte) {
		public, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		n := 48 + len(m.body)
		copy(q[n+4:], rawSign(t, key, q[:n]))
		copy(q[n+68:], public[1:])
	}
}

// samePlatform is a chain under the same authority with another PCK.
func samePlatform(t *testing.T, m *intelMachine) [][]byte {
	return [][]byte{m.certify(t, m.pck, m.ca, p256(t), m.caKey), m.certificates[1], m.certificates[2]}
}
