package attestation

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// status is what collateral says about a TCB level.
type status struct {
	status     pcs.TcbComponentStatus
	date       time.Time
	advisories []string
}

func statusOf(l *pcs.TcbLevel) (*status, error) {
	d, err := time.Parse(time.RFC3339, l.TcbDate)
	if err != nil {
		return nil, err
	}
	if l.TcbStatus == "" {
		return nil, errors.New("a TCB level without a status")
	}
	return &status{l.TcbStatus, d, l.AdvisoryIDs}, nil
}

// judgeTCB finds the level that a platform has reached in TCB info of version 3 (Intel
// PCS API version 4, "Get TCB Info", with the algorithm there). A platform that has
// reached no level at all is refused: the info does not know its TCB.
func judgeTCB(info *pcs.TcbInfo, q *quote, f *quoteFormat, p *platform, now time.Time) (*status, error) {
	if info.ID != f.tcbInfo || info.Version != 3 || info.TcbType != 0 {
		return nil, fmt.Errorf("expected TCB info for %s of version 3 and type 0, found %q, version %d, type %d", f.tcbInfo, info.ID, info.Version, info.TcbType)
	}
	if err := current(info.IssueDate, info.NextUpdate, now); err != nil {
		return nil, err
	}
	if fmspc := hex.EncodeToString(p.fmspc); !strings.EqualFold(info.Fmspc, fmspc) {
		return nil, fmt.Errorf("of the platform %q, not of %s", info.Fmspc, fmspc)
	}
	if !strings.EqualFold(info.PceID, p.pceID) {
		return nil, fmt.Errorf("of the PCE %q, not of %s", info.PceID, p.pceID)
	}
	var tee []byte // SVNs of the TDX module and what loads it
	if f == formatTDX {
		tee = tdBody(q.body).teeTCBSVN()
	}
	i := slices.IndexFunc(info.TcbLevels, func(l pcs.TcbLevel) bool {
		return reaches(p.components, l.Tcb.SgxTcbcomponents) && p.pceSVN >= l.Tcb.Pcesvn && (tee == nil || reachesTDX(tee, l.Tcb.TdxTcbcomponents))
	})
	if i < 0 {
		return nil, errors.New("it has no level for the platform's TCB")
	}
	s, err := statusOf(&info.TcbLevels[i])
	if err != nil || tee == nil {
		return s, err
	}
	module, err := judgeModule(info, tdBody(q.body))
	if err != nil || module == nil {
		return s, err
	}
	s.status, s.advisories = worse(s.status, module.status), merge(s.advisories, module.advisories)
	return s, nil
}

func reaches(has []byte, level []pcs.TcbComponent) bool {
	if len(has) != len(level) {
		return false
	}
	for i, c := range level {
		if has[i] < c.Svn {
			return false
		}
	}
	return true
}

// reachesTDX compares without the first two, the module's own SVN and version, where
// the module has a version: then its identity judges them.
func reachesTDX(has []byte, level []pcs.TcbComponent) bool {
	if len(has) != len(level) {
		return false
	}
	if has[1] > 0 {
		has, level = has[2:], level[2:]
	}
	return reaches(has, level)
}

// judgeModule verifies who signed the TDX module, and finds the level of a module that
// has a version; nil for one of version 0, which the platform's level covers.
func judgeModule(info *pcs.TcbInfo, body tdBody) (*status, error) {
	svn, version := uint32(body.teeTCBSVN()[0]), body.teeTCBSVN()[1]
	if version == 0 {
		m := &info.TdxModule
		return nil, fitsModule(body, m.Mrsigner.Bytes, m.Attributes.Bytes, m.AttributesMask.Bytes)
	}
	id := fmt.Sprintf("TDX_%02X", version)
	i := slices.IndexFunc(info.TdxModuleIdentities, func(m pcs.TdxModuleIdentity) bool { return strings.EqualFold(m.ID, id) })
	if i < 0 {
		return nil, fmt.Errorf("it does not know the TDX module %s", id)
	}
	m := &info.TdxModuleIdentities[i]
	if err := fitsModule(body, m.Mrsigner.Bytes, m.Attributes.Bytes, m.AttributesMask.Bytes); err != nil {
		return nil, err
	}
	return componentStatus(m.TcbLevels, svn)
}

func fitsModule(body tdBody, signer, attributes, mask []byte) error {
	if !bytes.Equal(signer, body.mrSignerSEAM()) {
		return fmt.Errorf("TDX module signed by %x, not by %x", body.mrSignerSEAM(), signer)
	}
	if !masked(body.seamAttributes(), mask, attributes) {
		return errors.New("the TDX module has other attributes")
	}
	return nil
}

// judgeQE verifies that the quoting enclave is the one of its identity, version 2
// (Intel PCS API version 4, "Get Quoting Enclave Identity"), and finds its level.
func judgeQE(e *pcs.EnclaveIdentity, q *quote, f *quoteFormat, now time.Time) (*status, error) {
	if e.ID != f.qeIdentity || e.Version != 2 {
		return nil, fmt.Errorf("expected the identity of %s of version 2, found %q, version %d", f.qeIdentity, e.ID, e.Version)
	}
	if err := current(e.IssueDate, e.NextUpdate, now); err != nil {
		return nil, err
	}
	r := sgxReport(q.qeReport)
	if !bytes.Equal(e.Mrsigner.Bytes, r.mrSigner()) || e.IsvProdID != r.product() {
		return nil, fmt.Errorf("of product %d by %x, not of product %d by %x", e.IsvProdID, e.Mrsigner.Bytes, r.product(), r.mrSigner())
	}
	// Of four bytes, in the order of the report.
	if !masked(r[16:20], e.MiscselectMask.Bytes, e.Miscselect.Bytes) || !masked(r[48:64], e.AttributesMask.Bytes, e.Attributes.Bytes) {
		return nil, errors.New("the quoting enclave has other attributes")
	}
	return componentStatus(e.TcbLevels, uint32(r.svn()))
}

// masked reports whether value is want under mask.
func masked(value, mask, want []byte) bool {
	if len(mask) != len(value) || len(want) != len(value) {
		return false
	}
	for i := range value {
		if value[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// componentStatus finds the level of a quoting enclave or a TDX module by its SVN. Such
// levels have three statuses only.
func componentStatus(levels []pcs.TcbLevel, svn uint32) (*status, error) {
	i := slices.IndexFunc(levels, func(l pcs.TcbLevel) bool { return svn >= l.Tcb.Isvsvn })
	if i < 0 {
		return nil, fmt.Errorf("it has no level for SVN %d", svn)
	}
	s, err := statusOf(&levels[i])
	if err != nil {
		return nil, err
	}
	switch s.status {
	case pcs.TcbComponentStatusUpToDate, pcs.TcbComponentStatusOutOfDate, pcs.TcbComponentStatusRevoked:
		return s, nil
	}
	return nil, fmt.Errorf("a component of status %s", s.status)
}

// worse is the status of a platform with one of its components, as Intel's quote
// verification converges them.
func worse(platform, component pcs.TcbComponentStatus) pcs.TcbComponentStatus {
	switch {
	case component == pcs.TcbComponentStatusRevoked || platform == pcs.TcbComponentStatusRevoked:
		return pcs.TcbComponentStatusRevoked
	case component != pcs.TcbComponentStatusOutOfDate:
		return platform
	}
	switch platform {
	case pcs.TcbComponentStatusConfigurationNeeded, pcs.TcbComponentStatusConfigurationAndSWHardeningNeeded,
		pcs.TcbComponentStatusOutOfDateConfigurationNeeded:
		return pcs.TcbComponentStatusOutOfDateConfigurationNeeded
	}
	return pcs.TcbComponentStatusOutOfDate
}

// merge joins lists of advisories, sorted, each once.
func merge(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
