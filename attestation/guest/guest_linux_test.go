package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
	"github.com/google/go-configfs-tsm/report"
	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// The structures are the kernel's: their sizes stand in the requests' numbers.
func TestLayout(t *testing.T) {
	t.Parallel()
	iowr := func(number, size uintptr) uintptr { return 3<<30 | size<<16 | 'S'<<8 | number }
	if got := iowr(2, unsafe.Sizeof(guestRequest{})); got != getExtReport {
		t.Errorf("SNP_GET_EXT_REPORT is %#x", got)
	}
	if got := iowr(1, unsafe.Sizeof(sevRequest{})); got != sevGuestRequest {
		t.Errorf("SEV_SNP_GUEST_MSG is %#x", got)
	}
	if n := unsafe.Sizeof(extRequest{}); n != 112 {
		t.Errorf("struct snp_ext_report_req has %d bytes", n)
	}
	var s sevRequest
	for name, place := range map[string][2]uintptr{
		"request length": {unsafe.Offsetof(s.requestLength), 4}, "request": {unsafe.Offsetof(s.request), 8},
		"response length": {unsafe.Offsetof(s.responseLength), 16}, "response": {unsafe.Offsetof(s.response), 24}, "error": {unsafe.Offsetof(s.firmware), 32},
	} {
		if place[0] != place[1] {
			t.Errorf("%s stands at %d, want %d", name, place[0], place[1])
		}
	}
}

// kernel is the other side of both devices, with the simulated machine behind it.
type kernel struct {
	t        *testing.T
	table    []byte
	status   uint32
	size     uint32
	firmware uint32
	fail     error
	calls    int
}

func (k *kernel) report(reportData []byte) []byte {
	r, _, err := at.NewMachine(k.t).Report([48]byte{1}, [32]byte{2}, [64]byte(reportData))
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

func (k *kernel) answer(response []byte, report []byte) {
	size := k.size
	if size == 0 {
		size = uint32(len(report))
	}
	binary.LittleEndian.PutUint32(response, k.status)
	binary.LittleEndian.PutUint32(response[4:], size)
	copy(response[reportAt:], report)
}

func (k *kernel) ioctl(request uintptr, argument unsafe.Pointer) error {
	k.calls++
	switch request {
	case getExtReport:
		call := (*guestRequest)(argument)
		ext := (*extRequest)(call.request)
		if k.fail != nil {
			call.exitInfo = uint64(k.firmware)
			return k.fail
		}
		if int(ext.length) < len(k.table) {
			ext.length, call.exitInfo = uint32(len(k.table)), invalidLength<<32
			return unix.EIO
		}
		if !bytes.Equal(ext.data[64:], make([]byte, 32)) || call.version != 1 {
			k.t.Error("VMPL or reserved bytes are not zero, or another version")
		}
		copy(unsafe.Slice((*byte)(ext.certs), ext.length), k.table)
		k.answer((*extResponse)(call.response)[:], k.report(ext.data[:64]))
	case sevGuestRequest:
		call := (*sevRequest)(argument)
		if k.fail != nil {
			call.firmware = k.firmware
			return k.fail
		}
		if call.requestType != 5 || call.responseType != 6 || call.version != 1 || call.requestLength != 96 || call.responseLength != 1280 {
			k.t.Errorf("asked %+v", call)
		}
		data := (*[reportRequest]byte)(call.request)
		k.answer((*sevResponse)(call.response)[:], k.report(data[:64]))
	default:
		k.t.Errorf("ioctl %#x", request)
	}
	return nil
}

// certTable makes a host's table of certificates.
func certTable(order [][16]byte, certificates [][]byte) []byte {
	table := make([]byte, certEntry*(len(order)+1))
	for i, id := range order {
		entry := table[i*certEntry:]
		copy(entry, id[:])
		binary.LittleEndian.PutUint32(entry[16:], uint32(len(table)))
		binary.LittleEndian.PutUint32(entry[20:], uint32(len(certificates[i])))
		table = append(table, certificates[i]...)
	}
	return table
}

// machineTable is a host's table for the simulated machine, in another order than a bundle's.
func machineTable(t *testing.T) []byte {
	c := at.NewMachine(t).Certificates()
	return certTable([][16]byte{guidARK, guidASK, {9}, guidVCEK}, [][]byte{c[2], c[1], []byte("other"), c[0]})
}

// genuine demands that what a maker gives is genuine and binds the runtime data.
func genuine(t *testing.T, m attestation.Maker) *attestation.Bundle {
	t.Helper()
	file := at.Configuration(t)
	r := at.ReleaseData(t, file)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := attestation.Make(t.Context(), m, data, file, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Certificates) < 3 { // completed elsewhere
		b.Certificates = at.NewMachine(t).Certificates()
	}
	if _, err := attestation.Genuine(b, at.Roots(at.NewMachine(t)), time.Now()); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSEVGuest(t *testing.T) {
	t.Parallel()
	for name, table := range map[string][]byte{
		"with certificates":   machineTable(t),
		"without":             nil,
		"that need more room": append(machineTable(t), make([]byte, firstTable)...),
		"without our key":     certTable([][16]byte{guidARK}, [][]byte{[]byte("ark")}),
		"an empty table":      make([]byte, certEntry),
		"of a VLEK":           certTable([][16]byte{guidVLEK, guidASK, guidARK}, at.NewMachine(t).Certificates()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &kernel{t: t, table: table}
			b := genuine(t, &SEVGuest{device: k})
			if want := 1 + len(table)/firstTable; k.calls != want {
				t.Errorf("%d calls, want %d", k.calls, want)
			}
			if !bytes.Equal(b.Certificates[0], at.NewMachine(t).Certificates()[0]) {
				t.Error("another key")
			}
		})
	}
}

func TestSEV(t *testing.T) {
	t.Parallel()
	genuine(t, &SEV{device: &kernel{t: t}})
}

func TestDevicesRefuse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kernel kernel
		want   error
	}{
		"status":           {kernel{status: 0x16}, ErrAnswer},
		"short":            {kernel{size: 1183}, ErrAnswer},
		"long":             {kernel{size: 4000}, ErrAnswer},
		"the device fails": {kernel{fail: unix.ENOTTY, firmware: 7}, unix.ENOTTY},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, m := range []attestation.Maker{
				&SEVGuest{device: &kernel{t, nil, test.kernel.status, test.kernel.size, test.kernel.firmware, test.kernel.fail, 0}},
				&SEV{device: &kernel{t, nil, test.kernel.status, test.kernel.size, test.kernel.firmware, test.kernel.fail, 0}},
			} {
				if b, err := m.Make(t.Context(), [64]byte{}); !errors.Is(err, test.want) || b != nil {
					t.Errorf("%T: %v, %v", m, b, err)
				}
			}
		})
	}
	huge := &kernel{t: t, table: make([]byte, maxCertTable+1)}
	if _, err := (&SEVGuest{device: huge}).Make(t.Context(), [64]byte{}); err == nil || huge.calls != 1 {
		t.Errorf("a table of %d bytes: %v after %d calls", len(huge.table), err, huge.calls)
	}
}

// tsm is configfs-tsm with a provider behind it; aux nil: it has no auxblob.
func tsm(t *testing.T, provider string, out func(reportData []byte) []byte, aux []byte) *TSM {
	t.Helper()
	sub := &faketsm.ReportSubsystem{
		CheckInAttr: func(*faketsm.ReportEntry, string, []byte) error { return nil },
		MakeEntry: func() *faketsm.ReportEntry {
			return &faketsm.ReportEntry{InAttrs: map[string]*faketsm.ReportAttributeState{"inblob": {}}}
		},
		ReadAttr: func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
			switch {
			case attr == "provider":
				return []byte(provider + "\n"), nil
			case attr == "outblob":
				return out(e.InAttrs["inblob"].Value), nil
			case attr == "auxblob" && aux != nil:
				return aux, nil
			}
			return nil, fs.ErrNotExist
		},
		Random: bytes.NewReader(bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 64)),
	}
	client := &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": sub}}
	t.Cleanup(func() {
		if len(sub.Entries) != 0 {
			t.Errorf("left behind: %v", sub.Entries)
		}
	})
	return &TSM{client}
}

func TestTSM(t *testing.T) {
	t.Parallel()
	k := &kernel{t: t}
	b := genuine(t, tsm(t, "sev_guest", k.report, machineTable(t)))
	if len(b.Certificates) != 3 {
		t.Errorf("%d certificates", len(b.Certificates))
	}
	genuine(t, tsm(t, "sev_guest", k.report, nil))
	genuine(t, tsm(t, "sev_guest", k.report, []byte{})) // no table
	b, err := tsm(t, "tdx_guest", func(d []byte) []byte { return d }, nil).Make(t.Context(), [64]byte{7})
	if err != nil || b.Platform != attestation.PlatformTDX || len(b.Report) != 64 || b.Report[0] != 7 || b.Certificates != nil {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := tsm(t, "arm_cca_guest", k.report, nil).Make(t.Context(), [64]byte{}); !errors.Is(err, ErrAnswer) {
		t.Errorf("another provider: %v", err)
	}
	if _, err := tsm(t, "sev_guest", k.report, []byte{1}).Make(t.Context(), [64]byte{}); !errors.Is(err, ErrAnswer) {
		t.Errorf("no table: %v", err)
	}
	// Somebody else has another report made in this folder before the table is read.
	m := tsm(t, "sev_guest", k.report, machineTable(t))
	sub := m.client.(*faketsm.Client).Subsystems["report"].(*faketsm.ReportSubsystem)
	read := sub.ReadAttr
	sub.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		if attr == "auxblob" {
			e.WriteGeneration, e.ReadGeneration = e.WriteGeneration+1, e.ReadGeneration+1
		}
		return read(e, attr)
	}
	if _, err := m.Make(t.Context(), [64]byte{}); !errors.As(err, new(*report.GenerationErr)) {
		t.Errorf("another report in between: %v", err)
	}
}

func TestCertTableRefused(t *testing.T) {
	t.Parallel()
	good := machineTable(t)
	changed := func(f func([]byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	endless := make([]byte, (maxCertEntries+3)*certEntry) // each entry another, of no bytes
	for i := range maxCertEntries + 2 {
		endless[i*certEntry] = byte(i + 1)
	}
	for name, table := range map[string][]byte{
		"past its end": changed(func(b []byte) { binary.LittleEndian.PutUint32(b[20:], uint32(len(b))) }),
		"length overflows": changed(func(b []byte) {
			binary.LittleEndian.PutUint32(b[16:], 2)
			binary.LittleEndian.PutUint32(b[20:], 1<<32-1)
		}),
		"offset overflows":  changed(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 1<<32-1) }),
		"cut in its header": append(append([]byte{7}, make([]byte, certEntry-1)...), 1, 2, 3),
		"without an end":    endless,
		"one key twice":     changed(func(b []byte) { copy(b[certEntry:certEntry+16], b[:16]) }),
		"too large":         make([]byte, maxCertTable+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if list, err := certificates(table); !errors.Is(err, ErrAnswer) || list != nil {
				t.Errorf("%d certificates, %v", len(list), err)
			}
		})
	}
}

func FuzzCertTable(f *testing.F) {
	good := certTable([][16]byte{guidVCEK, guidASK, guidARK}, [][]byte{{1}, {2, 2}, {3, 3, 3}})
	if list, err := certificates(good); err != nil || len(list) != 3 {
		f.Fatal(list, err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, table []byte) {
		list, err := certificates(table)
		total := 0
		for _, c := range list {
			total += len(c)
		}
		if err != nil && (list != nil || !errors.Is(err, ErrAnswer)) || total > 3*len(table) {
			t.Errorf("%d certificates, %v", len(list), err)
		}
	})
}
