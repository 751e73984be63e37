package guest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/passclave/passclave/attestation"
)

// SEV is /dev/sev as Azure Container Instances' older guests have it (Linux 5 with
// Microsoft's patches), an [attestation.Maker]. It gives no certificates: there they
// come with the security context. Its requests run one after another.
type SEV struct {
	mu     sync.Mutex
	device device
}

// NewSEV opens the device.
func NewSEV() (*SEV, error) {
	d, err := openDevice("/dev/sev")
	if err != nil {
		return nil, err
	}
	return &SEV{device: d}, nil
}

// sevGuestRequest is SEV_SNP_GUEST_MSG_REPORT: _IOWR('S', 1, struct sev_snp_guest_request).
const sevGuestRequest = 0xC0285301

// Kinds of guest messages (AMD 56860, table "guest messages").
const (
	messageReportRequest  = 5
	messageReportResponse = 6
)

// sevRequest is struct sev_snp_guest_request.
type sevRequest struct {
	requestType    uint8
	responseType   uint8
	version        uint8
	_              byte
	requestLength  uint16
	_              [2]byte
	request        unsafe.Pointer
	responseLength uint16
	_              [6]byte
	response       unsafe.Pointer
	firmware       uint32 // error
	_              [4]byte
}

// sevResponse is MSG_REPORT_RSP with the padding that this kernel wants.
type sevResponse [reportAt + reportSize + 64]byte

// Make asks for a report at VMPL 0.
func (s *SEV) Make(_ context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	request, response := new([reportRequest]byte), new(sevResponse)
	copy(request[:], reportData[:])
	call := &sevRequest{
		requestType: messageReportRequest, responseType: messageReportResponse, version: 1,
		requestLength: reportRequest, request: unsafe.Pointer(request),
		responseLength: uint16(len(response)), response: unsafe.Pointer(response),
	}
	// The kernel follows these pointers: what they point to must stay where it is.
	var pin runtime.Pinner
	defer pin.Unpin()
	for _, p := range []any{request, response, call} {
		pin.Pin(p)
	}
	if err := s.device.ioctl(sevGuestRequest, unsafe.Pointer(call)); err != nil {
		return nil, fmt.Errorf("/dev/sev: %w (firmware %#x)", err, call.firmware)
	}
	r, err := reportOf(response[:])
	if err != nil {
		return nil, err
	}
	return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: r}, nil
}
