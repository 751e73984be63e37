package intel

import (
	"encoding/hex"
	"time"

	"github.com/passclave/passclave/attestation"
)

// Identity is the statement about a quoting enclave, version 2 (Intel PCS API,
// version 4, "Get Enclave Identity"). Numbers in hex are strings, in the byte order of
// the enclave's report; members stand in Intel's order.
type Identity struct {
	ID                      string     `json:"id"` // "QE" or "TD_QE"
	Version                 int        `json:"version"`
	IssueDate               time.Time  `json:"issueDate"`
	NextUpdate              time.Time  `json:"nextUpdate"`
	TCBEvaluationDataNumber int        `json:"tcbEvaluationDataNumber"`
	MiscSelect              string     `json:"miscselect"`
	MiscSelectMask          string     `json:"miscselectMask"`
	Attributes              string     `json:"attributes"`
	AttributesMask          string     `json:"attributesMask"`
	MRSigner                string     `json:"mrsigner"`
	ISVProdID               uint16     `json:"isvprodid"`
	TCBLevels               []TCBLevel `json:"tcbLevels"`
}

// MRSIGNER of Intel's quoting enclaves for SGX and for TDX, which the simulated ones
// have too.
var (
	qeSigner   = signer("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff")
	tdqeSigner = signer("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
)

func signer(text string) (s [32]byte) {
	if n, err := hex.Decode(s[:], []byte(text)); err != nil || n != len(s) {
		panic("simulated quoting enclave: not a SHA-256: " + text)
	}
	return s
}

// Identity returns the statement about a platform's quoting enclave, in which the
// simulated one is up to date.
func (h *Hardware) Identity(p attestation.Platform, now time.Time) Identity {
	issued := now.UTC().Truncate(time.Second).Add(-backdated)
	i := Identity{
		ID: "QE", Version: 2, IssueDate: issued, NextUpdate: issued.Add(collateralLife),
		TCBEvaluationDataNumber: evaluation,
		MiscSelect:              "00000000", MiscSelectMask: "FFFFFFFF",
		Attributes: "11000000000000000000000000000000", AttributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
		MRSigner: upper(qeSigner[:]), ISVProdID: 1,
	}
	svn := uint16(qeSVN)
	if p == attestation.PlatformTDX {
		i.ID, i.MRSigner, i.ISVProdID, svn = "TD_QE", upper(tdqeSigner[:]), 2, tdqeSVN
	}
	i.TCBLevels = []TCBLevel{
		{TCB{ISVSVN: new(svn)}, tcbDate, UpToDate, nil},
		{TCB{ISVSVN: new(svn - 1)}, oldDate, OutOfDate, []string{"INTEL-SA-00615"}},
	}
	return i
}
