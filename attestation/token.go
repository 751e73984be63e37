package attestation

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// maxToken bounds a token in bytes. Azure's have some 5 kB, most of it runtime data.
const maxToken = 128 << 10

// maxKeys bounds the keys of one service.
const maxKeys = 64

// tokenAlgorithms are RS256, which Azure Attestation signs with, and ES256, which the
// project's key broker does. What the token itself says decides nothing else.
var tokenAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

// verifyToken takes the word of an attestation service for evidence that it has
// verified: a JWT (RFC 7519) as Azure Attestation gives it, whose claims become those
// of the platform that it speaks of.
//
// The service is one of roots, and its keys are those that the caller had from it: no
// address in the token is followed. What is not in a token cannot be claimed: its
// claims name no product line, no chip, and one TCB only, which stands for all four.
func verifyToken(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	if len(b.Report) > maxToken {
		return nil, refuse(CheckToken, fmt.Errorf("%d bytes are more than %d", len(b.Report), maxToken))
	}
	jws, err := jose.ParseSignedCompact(string(b.Report), tokenAlgorithms)
	if err != nil {
		return nil, refuse(CheckToken, err)
	}
	var t token
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &t); err != nil {
		return nil, refuse(CheckToken, errors.New("the payload is not the JSON of a token"))
	}
	service, err := roots.service(t.Issuer, jws)
	if err != nil {
		return nil, err
	}
	if err := service.verify(jws); err != nil {
		return nil, err
	}
	if t.NotBefore == nil || t.Expires == nil || now.Unix() < *t.NotBefore || now.Unix() >= *t.Expires {
		return nil, differ(CheckTokenTime, t.life(), date(now))
	}
	c, err := t.claims()
	if err != nil {
		return nil, err
	}
	c.Time = now
	c.Token = &Token{Issuer: t.Issuer, Compliance: t.Compliance, Expires: time.Unix(*t.Expires, 0).UTC()}
	return c, nil
}

// service returns the configured service that the token names. A token may repeat where
// its keys are, as Azure's do, and must then name that very service.
func (r Roots) service(issuer string, jws *jose.JSONWebSignature) (*AttestationService, error) {
	for i, s := range r.AttestationServices {
		if s.Issuer != issuer || s.Issuer == "" {
			continue
		}
		keys := s.Issuer + "/certs"
		if jku, ok := jws.Signatures[0].Protected.ExtraHeaders["jku"]; ok && jku != keys {
			return nil, differ(CheckTokenIssuer, keys, jku)
		}
		return &r.AttestationServices[i], nil
	}
	return nil, differ(CheckTokenIssuer, "an attestation service that is named", issuer)
}

// verify checks the signature by the key that the token names, among the service's.
func (s *AttestationService) verify(jws *jose.JSONWebSignature) error {
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(s.Keys, &keys); err != nil || len(keys.Keys) > maxKeys {
		return refuse(CheckTokenSignature, errors.New("the service's keys are no JSON Web Key Set"))
	}
	id := jws.Signatures[0].Protected.KeyID
	found := keys.Key(id)
	if id == "" || len(found) != 1 {
		return differ(CheckTokenSignature, "one key of the service", fmt.Sprintf("%d keys of ID %s", len(found), text(id)))
	}
	if k := found[0]; !k.Valid() || k.Use != "" && k.Use != "sig" {
		return refuse(CheckTokenSignature, errors.New("the key of this ID is none to verify signatures with"))
	}
	if _, err := jws.Verify(found[0]); err != nil {
		return refuse(CheckTokenSignature, err)
	}
	return nil
}

// token is the payload of a token: the claims of Azure Attestation that are read.
// Others may stand beside them. Byte strings are in hexadecimal.
type token struct {
	Issuer     string `json:"iss"`
	NotBefore  *int64 `json:"nbf"`
	Expires    *int64 `json:"exp"`
	Type       string `json:"x-ms-attestation-type"`
	Compliance string `json:"x-ms-compliance-status"`

	// Of the project's own broker.
	Simulated bool   `json:"x-passclave-simulated"`
	Root      string `json:"x-passclave-root"`

	snpToken
	tdxToken
	sgxToken
}

type snpToken struct {
	Measurement *string `json:"x-ms-sevsnpvm-launchmeasurement"`
	HostData    *string `json:"x-ms-sevsnpvm-hostdata"`
	ReportData  *string `json:"x-ms-sevsnpvm-reportdata"`
	Debuggable  *bool   `json:"x-ms-sevsnpvm-is-debuggable"`
	Migration   *bool   `json:"x-ms-sevsnpvm-migration-allowed"`
	SMT         *bool   `json:"x-ms-sevsnpvm-smt-allowed"`
	VMPL        *uint32 `json:"x-ms-sevsnpvm-vmpl"`
	GuestSVN    *uint32 `json:"x-ms-sevsnpvm-guestsvn"`
	Bootloader  *uint8  `json:"x-ms-sevsnpvm-bootloader-svn"`
	TEE         *uint8  `json:"x-ms-sevsnpvm-tee-svn"`
	Firmware    *uint8  `json:"x-ms-sevsnpvm-snpfw-svn"`
	Microcode   *uint8  `json:"x-ms-sevsnpvm-microcode-svn"`
	FamilyID    *string `json:"x-ms-sevsnpvm-familyId"`
	ImageID     *string `json:"x-ms-sevsnpvm-imageId"`
	IDKey       *string `json:"x-ms-sevsnpvm-idkeydigest"`
	AuthorKey   *string `json:"x-ms-sevsnpvm-authorkeydigest"`
	VLEK        *bool   `json:"x-passclave-vlek"` // of the project's own broker; nil: the service does not say
}

type tdxToken struct {
	MRTD          *string `json:"tdx_mrtd"`
	RTMR0         *string `json:"tdx_rtmr0"`
	RTMR1         *string `json:"tdx_rtmr1"`
	RTMR2         *string `json:"tdx_rtmr2"`
	RTMR3         *string `json:"tdx_rtmr3"`
	MRConfigID    *string `json:"tdx_mrconfigid"`
	MROwner       *string `json:"tdx_mrowner"`
	MROwnerConfig *string `json:"tdx_mrownerconfig"`
	MRSEAM        *string `json:"tdx_mrseam"`
	MRSignerSEAM  *string `json:"tdx_mrsignerseam"`
	Attributes    *string `json:"tdx_td_attributes"`
	XFAM          *string `json:"tdx_xfam"`
	TCBSVN        *string `json:"tdx_tee_tcb_svn"`
	TDReportData  *string `json:"tdx_report_data"`
	TCBStatus     string  `json:"attester_tcb_status"`
}

type sgxToken struct {
	MREnclave     *string `json:"x-ms-sgx-mrenclave"`
	MRSigner      *string `json:"x-ms-sgx-mrsigner"`
	ProductID     *uint16 `json:"x-ms-sgx-product-id"`
	SVN           *uint16 `json:"x-ms-sgx-svn"`
	SGXDebuggable *bool   `json:"x-ms-sgx-is-debuggable"`
	SGXReportData *string `json:"x-ms-sgx-report-data"`
	ConfigID      *string `json:"x-ms-sgx-config-id"`
	ConfigSVN     *uint16 `json:"x-ms-sgx-config-svn"`
	SGXTCBStatus  string  `json:"x-passclave-tcb-status"` // of the project's own broker
}

func (t *token) life() string {
	if t.NotBefore == nil || t.Expires == nil {
		return "nbf and exp"
	}
	return date(time.Unix(*t.NotBefore, 0)) + " to " + date(time.Unix(*t.Expires, 0))
}

// claims reads the claims of the platform that the token speaks of. Azure's "azurevm",
// a guest behind Microsoft's paravisor, is none of them: its measurement is the
// paravisor's, and the workload stands in claims of a vTPM that nobody here reads.
func (t *token) claims() (*Claims, error) {
	r := tokenReader{}
	c := &Claims{Simulated: t.Simulated}
	if t.Root != "" {
		copy(c.Root[:], r.bytes("x-passclave-root", &t.Root, len(c.Root)))
	}
	switch t.Type {
	case "sevsnpvm":
		t.snp(&r, c)
	case "tdxvm":
		t.tdx(&r, c)
	case "sgx":
		t.sgx(&r, c)
	default:
		return nil, differ(CheckToken, "x-ms-attestation-type sevsnpvm, tdxvm or sgx", t.Type)
	}
	if r.problem != nil {
		return nil, refuse(CheckToken, r.problem)
	}
	return c, nil
}

func (t *snpToken) snp(r *tokenReader, c *Claims) {
	c.Platform = PlatformSEVSNP
	c.Measurement = r.bytes("x-ms-sevsnpvm-launchmeasurement", t.Measurement, 48)
	c.HostData = r.bytes("x-ms-sevsnpvm-hostdata", t.HostData, 32)
	copy(c.ReportData[:], r.bytes("x-ms-sevsnpvm-reportdata", t.ReportData, 64))
	c.Debug = need(r, "x-ms-sevsnpvm-is-debuggable", t.Debuggable)
	c.Migration = need(r, "x-ms-sevsnpvm-migration-allowed", t.Migration)
	c.SMT = need(r, "x-ms-sevsnpvm-smt-allowed", t.SMT)
	c.SMTEnabled = c.SMT // a token does not tell whether the machine has it on
	c.VMPL = need(r, "x-ms-sevsnpvm-vmpl", t.VMPL)
	c.GuestSVN = need(r, "x-ms-sevsnpvm-guestsvn", t.GuestSVN)
	c.ReportedTCB = TCB{
		Bootloader: need(r, "x-ms-sevsnpvm-bootloader-svn", t.Bootloader),
		TEE:        need(r, "x-ms-sevsnpvm-tee-svn", t.TEE),
		SNP:        need(r, "x-ms-sevsnpvm-snpfw-svn", t.Firmware),
		Microcode:  need(r, "x-ms-sevsnpvm-microcode-svn", t.Microcode),
	}
	c.CommittedTCB, c.CurrentTCB, c.LaunchTCB = c.ReportedTCB, c.ReportedTCB, c.ReportedTCB
	if t.VLEK != nil {
		c.Signer = map[bool]string{false: SignerVCEK, true: SignerVLEK}[*t.VLEK]
	}
	c.FamilyID = r.optional("x-ms-sevsnpvm-familyId", t.FamilyID, 16)
	c.ImageID = r.optional("x-ms-sevsnpvm-imageId", t.ImageID, 16)
	c.IDKeyDigest = r.optional("x-ms-sevsnpvm-idkeydigest", t.IDKey, 48)
	c.AuthorKeyDigest = r.optional("x-ms-sevsnpvm-authorkeydigest", t.AuthorKey, 48)
}

func (t *tdxToken) tdx(r *tokenReader, c *Claims) {
	c.Platform = PlatformTDX
	c.Measurement = r.bytes("tdx_mrtd", t.MRTD, 48)
	c.HostData = r.bytes("tdx_mrconfigid", t.MRConfigID, 48)
	copy(c.ReportData[:], r.bytes("tdx_report_data", t.TDReportData, 64))
	c.TDX = &TDX{
		MRSEAM:        r.bytes("tdx_mrseam", t.MRSEAM, 48),
		MRSignerSEAM:  r.bytes("tdx_mrsignerseam", t.MRSignerSEAM, 48),
		MROwner:       r.bytes("tdx_mrowner", t.MROwner, 48),
		MROwnerConfig: r.bytes("tdx_mrownerconfig", t.MROwnerConfig, 48),
		Attributes:    r.littleEndian("tdx_td_attributes", t.Attributes),
		XFAM:          r.littleEndian("tdx_xfam", t.XFAM),
		TEETCBSVN:     r.bytes("tdx_tee_tcb_svn", t.TCBSVN, 16),
	}
	for i, v := range []*string{t.RTMR0, t.RTMR1, t.RTMR2, t.RTMR3} {
		c.TDX.RTMRs[i] = r.bytes(fmt.Sprint("tdx_rtmr", i), v, 48)
	}
	c.Debug, c.Migration = c.TDX.Attributes&tdUnderDebug != 0, c.TDX.Attributes&tdMigratable != 0
	c.Intel = &Intel{TCBStatus: t.TCBStatus}
}

func (t *sgxToken) sgx(r *tokenReader, c *Claims) {
	c.Platform = PlatformSGX
	c.Measurement = r.bytes("x-ms-sgx-mrenclave", t.MREnclave, 32)
	c.HostData = r.optional("x-ms-sgx-config-id", t.ConfigID, 64)
	copy(c.ReportData[:], r.bytes("x-ms-sgx-report-data", t.SGXReportData, 64))
	c.Debug = need(r, "x-ms-sgx-is-debuggable", t.SGXDebuggable)
	c.SGX = &SGX{
		MRSigner:  r.bytes("x-ms-sgx-mrsigner", t.MRSigner, 32),
		ProductID: need(r, "x-ms-sgx-product-id", t.ProductID),
		SVN:       need(r, "x-ms-sgx-svn", t.SVN),
	}
	if t.ConfigSVN != nil {
		c.SGX.ConfigSVN = *t.ConfigSVN
	}
	c.Intel = &Intel{TCBStatus: t.SGXTCBStatus}
}

// tokenReader keeps the first problem. A claim that is not there is one: absence must
// not read as zero.
type tokenReader struct{ problem error }

func (r *tokenReader) fail(claim, why string) {
	if r.problem == nil {
		r.problem = fmt.Errorf("claim %s %s", claim, why)
	}
}

func need[T any](r *tokenReader, claim string, v *T) (value T) {
	if v == nil {
		r.fail(claim, "is missing")
		return value
	}
	return *v
}

func (r *tokenReader) bytes(claim string, v *string, size int) []byte {
	b, err := hex.DecodeString(need(r, claim, v))
	if err != nil || len(b) != size {
		r.fail(claim, fmt.Sprintf("is not %d bytes in hexadecimal", size))
		return nil
	}
	return b
}

func (r *tokenReader) optional(claim string, v *string, size int) []byte {
	if v == nil {
		return nil
	}
	return r.bytes(claim, v, size)
}

func (r *tokenReader) littleEndian(claim string, v *string) (n uint64) {
	for i, b := range r.bytes(claim, v, 8) {
		n |= uint64(b) << (8 * i)
	}
	return n
}
