package machine

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-sev-guest/kds"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/statefile"
)

// Files of a state folder.
const (
	KeysFile      = "simulation-keys.pem"       // certificates and private keys of ARK, ASK and VCEK
	RootFile      = "simulation-root.pem"       // AMD's root certificate alone: public
	IntelKeysFile = "simulation-intel-keys.pem" // the same of Intel's root, platform CA, PCK and TCB signing
	IntelRootFile = "simulation-intel-root.pem" // Intel's root certificate alone
)

// RootFileOf returns the name of the file of the root that a platform's verifiers
// have to trust by name.
func RootFileOf(p attestation.Platform) string {
	if p == attestation.PlatformSEVSNP {
		return RootFile
	}
	return IntelRootFile
}

// ErrState says that a state folder does not hold the keys of a machine. It is not
// replaced by a new one: its root stands in trust policies.
var ErrState = errors.New("simulated hardware: the state is damaged")

// New returns the machine whose keys the folder dir holds. Where it holds none, it
// makes them: that takes seconds.
func New(dir string) (*Machine, error) {
	path := filepath.Join(dir, KeysFile)
	state, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		m, err := Found(time.Now())
		if err != nil {
			return nil, err
		}
		return m, m.Save(dir)
	}
	if err != nil {
		return nil, err
	}
	m, err := decode(state)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, m.loadIntel(dir)
}

// loadIntel finds Intel's keys beside AMD's, or makes them: folders of earlier
// versions have none.
func (m *Machine) loadIntel(dir string) error {
	path := filepath.Join(dir, IntelKeysFile)
	state, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if m.intel, err = intel.Found(time.Now()); err != nil {
			return err
		}
		return m.saveIntel(dir)
	}
	if err != nil {
		return err
	}
	if m.intel, err = intel.Decode(state); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrState, err)
	}
	return nil
}

// saveIntel writes the root before the keys: where the keys are, all is.
func (m *Machine) saveIntel(dir string) error {
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.intel.Certificate(intel.Root).Raw})
	if err := statefile.Write(filepath.Join(dir, IntelRootFile), root); err != nil {
		return err
	}
	state, err := m.intel.Encode()
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, IntelKeysFile), state)
}

// Save writes the machine to a state folder, which it makes where there is none. A
// machine that was there is lost, and all trust in its root is for nothing.
func (m *Machine) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Root().Raw})
	if err := statefile.Write(filepath.Join(dir, RootFile), root); err != nil {
		return err
	}
	if err := m.saveIntel(dir); err != nil {
		return err
	}
	state, err := m.encode()
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, KeysFile), state)
}

// encode writes a certificate and its PKCS #8 key for each of ARK, ASK and VCEK.
func (m *Machine) encode() ([]byte, error) {
	var out bytes.Buffer
	for _, pair := range []struct {
		certificate *x509.Certificate
		key         any
	}{{m.ark.certificate, m.ark.key}, {m.ask.certificate, m.ask.key}, {m.vcek, m.key}} {
		key, err := x509.MarshalPKCS8PrivateKey(pair.key)
		if err != nil {
			return nil, err
		}
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: pair.certificate.Raw})
		pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	}
	return out.Bytes(), nil
}

// decode reads what encode wrote. Errors are [ErrState] and say nothing of the content.
func decode(state []byte) (*Machine, error) {
	var m Machine
	var ok [3]bool
	var key any
	if m.ark.certificate, key, state = decodePair(state); key != nil {
		m.ark.key, ok[0] = key.(*rsa.PrivateKey)
	}
	if m.ask.certificate, key, state = decodePair(state); key != nil {
		m.ask.key, ok[1] = key.(*rsa.PrivateKey)
	}
	if m.vcek, key, state = decodePair(state); key != nil {
		m.key, ok[2] = key.(*ecdsa.PrivateKey)
	}
	if ok != [3]bool{true, true, true} || len(state) != 0 {
		return nil, ErrState
	}
	e, err := kds.VcekCertificateExtensions(m.vcek)
	if err != nil {
		return nil, ErrState
	}
	p := kds.DecomposeTCBVersion(e.TCBVersion)
	m.chip.TCB = TCB{Bootloader: p.BlSpl, TEE: p.TeeSpl, SNP: p.SnpSpl, Microcode: p.UcodeSpl}
	copy(m.chip.ID[:], e.HWID)
	return &m, nil
}

// decodePair returns the first certificate of state with its private key, and what
// follows them; a nil key where there is no such pair, or they do not belong together.
func decodePair(state []byte) (*x509.Certificate, any, []byte) {
	first, rest := pem.Decode(state)
	if first == nil {
		return nil, nil, nil
	}
	second, rest := pem.Decode(rest)
	if second == nil {
		return nil, nil, nil
	}
	certificate, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, nil, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return nil, nil, nil
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, nil
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certificate.PublicKey) {
		return nil, nil, nil
	}
	return certificate, key, rest
}
