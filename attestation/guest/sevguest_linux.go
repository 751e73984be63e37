package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/attestation"
)

// Sizes and places of SEV-SNP's messages (AMD 56860, MSG_REPORT_REQ and MSG_REPORT_RSP).
const (
	reportRequest = 96 // REPORT_DATA, VMPL, reserved
	reportAt      = 32 // in the response: status, size, reserved
)

// device is an ioctl on an open device; tests put a kernel of their own there.
type device interface {
	ioctl(request uintptr, argument unsafe.Pointer) error
}

type file struct{ *os.File }

func (f file) ioctl(request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

func openDevice(path string) (device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// SEVGuest is /dev/sev-guest (Linux, include/uapi/linux/sev-guest.h), an
// [attestation.Maker]. Its requests run one after another.
type SEVGuest struct {
	mu     sync.Mutex
	device device
}

// NewSEVGuest opens the device.
func NewSEVGuest() (*SEVGuest, error) {
	d, err := openDevice("/dev/sev-guest")
	if err != nil {
		return nil, err
	}
	return &SEVGuest{device: d}, nil
}

// getExtReport is SNP_GET_EXT_REPORT: _IOWR('S', 2, struct snp_guest_request_ioctl).
const getExtReport = 0xC0205302

// guestRequest is struct snp_guest_request_ioctl.
type guestRequest struct {
	version  uint8
	_        [7]byte
	request  unsafe.Pointer
	response unsafe.Pointer
	exitInfo uint64 // low half: the firmware's error, high half: the hypervisor's
}

// extRequest is struct snp_ext_report_req.
type extRequest struct {
	data   [reportRequest]byte
	certs  unsafe.Pointer
	length uint32
	_      [4]byte
}

// extResponse is struct snp_report_resp, which has room for any message.
type extResponse [4000]byte

// invalidLength is the hypervisor's word that the certificates need more room; the
// length that they need then stands in the request.
const invalidLength = 1

// firstTable is room for the usual chain: three pages.
const firstTable = 3 * 4096

// Make asks for a report at VMPL 0, with the certificates that the host has stored.
func (s *SEVGuest) Make(_ context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := make([]byte, firstTable)
	response, needed, err := s.extended(reportData, table)
	if errors.Is(err, errRoom) && needed > firstTable && needed <= maxCertTable {
		table = make([]byte, needed)
		response, _, err = s.extended(reportData, table)
	}
	if err != nil {
		return nil, fmt.Errorf("/dev/sev-guest: %w", err)
	}
	r, err := reportOf(response[:])
	if err != nil {
		return nil, err
	}
	b := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: r}
	b.Certificates, err = certificates(table)
	return b, err
}

var errRoom = errors.New("the certificates need more room")

func (s *SEVGuest) extended(reportData [64]byte, table []byte) (response *extResponse, needed uint32, err error) {
	request := &extRequest{certs: unsafe.Pointer(unsafe.SliceData(table)), length: uint32(len(table))}
	copy(request.data[:], reportData[:])
	response = new(extResponse)
	call := &guestRequest{version: 1, request: unsafe.Pointer(request), response: unsafe.Pointer(response)}
	// The kernel follows these pointers: what they point to must stay where it is.
	var pin runtime.Pinner
	defer pin.Unpin()
	for _, p := range []any{unsafe.SliceData(table), request, response, call} {
		pin.Pin(p)
	}
	err = s.device.ioctl(getExtReport, unsafe.Pointer(call))
	switch hypervisor, firmware := uint32(call.exitInfo>>32), uint32(call.exitInfo); {
	case err != nil && hypervisor == invalidLength:
		return nil, request.length, errRoom
	case err != nil:
		return nil, 0, fmt.Errorf("%w (firmware %#x, hypervisor %#x)", err, firmware, hypervisor)
	}
	return response, 0, nil
}

// reportOf takes the report out of a MSG_REPORT_RSP.
func reportOf(response []byte) ([]byte, error) {
	if status := binary.LittleEndian.Uint32(response); status != 0 {
		return nil, fmt.Errorf("%w: the firmware's status is %#x", ErrAnswer, status)
	}
	if size := binary.LittleEndian.Uint32(response[4:]); size != reportSize {
		return nil, fmt.Errorf("%w: a report of %d bytes", ErrAnswer, size)
	}
	return append([]byte(nil), response[reportAt:reportAt+reportSize]...), nil
}
