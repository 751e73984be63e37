package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	sevtest "github.com/google/go-sev-guest/testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// simulation is a chip of the tests' own, with a root of its own. go-sev-guest's
// test keys are public: no shipped binary may link them.
var simulation = sync.OnceValue(func() (chip struct {
	*sevtest.AmdSigner
	chain [][]byte
	mu    *sync.Mutex // its source of randomness is shared
}) {
	s, err := sevtest.DefaultTestOnlyCertChain("Milan-B1", time.Now().Add(-time.Hour))
	if err != nil {
		panic(err)
	}
	chip.AmdSigner, chip.mu = s, &sync.Mutex{}
	chip.chain = [][]byte{s.Vcek.Raw, s.Ask.Raw, s.Ark.Raw}
	return chip
})

func simulationRoots(testing.TB) attestation.Roots {
	return attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(simulation().Ark.Raw)}}
}

// guest is a confidential VM: every byte of its measurement and host data alike.
type guest struct {
	measurement, hostData byte
	debug, migration, smt bool
	vmpl                  uint32
}

// evidence returns evidence over any bytes, also such as no TEE of ours would bind.
func (g guest) evidence(runtimeData []byte) *attestation.Bundle {
	data := attestation.ReportData(runtimeData)
	r := sevtest.CreateRawReport(&sevtest.TestReportOptions{ReportData: data[:], SignerInfo: abi.SignerInfo{SigningKey: abi.VcekReportSigner}})
	report := r[:abi.ReportSize]
	binary.LittleEndian.PutUint64(report[0x08:], abi.SnpPolicyToBytes(abi.SnpPolicy{Debug: g.debug, MigrateMA: g.migration, SMT: g.smt}))
	binary.LittleEndian.PutUint32(report[0x30:], g.vmpl)
	copy(report[0x90:], bytes.Repeat([]byte{g.measurement}, 48))
	copy(report[0xC0:], bytes.Repeat([]byte{g.hostData}, 32))
	chip := simulation()
	chip.mu.Lock()
	defer chip.mu.Unlock()
	x, y, err := chip.Sign(abi.SignedComponent(report))
	if err == nil {
		err = abi.SetSignature(x, y, report)
	}
	if err != nil {
		panic(err)
	}
	return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report, Certificates: chip.chain, RuntimeData: runtimeData}
}

func pemChain(certificates [][]byte) []byte {
	var out []byte
	for _, der := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// clientRuntime returns runtime data as the enclave shows it to clients.
func clientRuntime(t testing.TB) []byte {
	t.Helper()
	r := attestation.RuntimeData{
		Purpose: attestation.PurposeClient, HPKE: make([]byte, 1216), Config: make([]byte, 32),
		Ledger: &attestation.Ledger{ID: bytes.Repeat([]byte{1}, 32), Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runtime returns runtime data as given, also where attestation would not make it.
func runtime(purpose string, keys ...attestation.RSAKey) []byte {
	b, err := json.Marshal(attestation.RuntimeData{Purpose: purpose, Config: make([]byte, 32), Keys: keys})
	if err != nil {
		panic(err)
	}
	return b
}
