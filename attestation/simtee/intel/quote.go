package intel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
)

// Quote is a quote before it is signed: of version 4 for a TD, of version 3 for an
// enclave. Each part can be made false.
type Quote struct {
	Header         []byte            // 48 bytes, signed with the body
	Body           []byte            // of TDReport or Report, encoded
	Key            *ecdsa.PrivateKey // the attestation key, that signs header and body
	QE             Report            // of the quoting enclave, signed by the PCK: its ReportData binds the key
	Authentication []byte            // QE authentication data, bound with the key
	Chain          []byte            // PEM: PCK, platform CA, root

	nested bool // certification data of type 6 around the rest: version 4
}

// Values of a quote's header ("Intel SGX ECDSA QuoteLibReference DCAP API", section
// A.4; for TDX as for [TDReport], section A.3.1).
const (
	keyECDSAP256    = 2
	teeTDX          = 0x81
	qeReportData    = 6 // certification data type: QE report certification data
	pckChain        = 5 // certification data type: PCK chain in PEM
	quoteHeaderSize = 48
)

// qeVendor is Intel's identifier of its quoting enclaves.
var qeVendor = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// Security version numbers of the simulated quoting enclaves.
const (
	qeSVN   = 8
	tdqeSVN = 4
)

// TDQuote returns an unsigned quote of a TD.
func (h *Hardware) TDQuote(r TDReport) *Quote {
	header := make([]byte, quoteHeaderSize) // bytes 8 to 11 are reserved
	binary.LittleEndian.PutUint16(header[0:], 4)
	binary.LittleEndian.PutUint16(header[2:], keyECDSAP256)
	binary.LittleEndian.PutUint32(header[4:], teeTDX)
	q := h.quote(header, r.Encode(), Report{MRSIGNER: tdqeSigner, MRENCLAVE: sha256.Sum256([]byte("simulated TD QE")), ProductID: 2, SVN: tdqeSVN})
	q.nested = true
	return q
}

// EnclaveQuote returns an unsigned quote of an enclave.
func (h *Hardware) EnclaveQuote(r Report) *Quote {
	header := make([]byte, quoteHeaderSize)
	binary.LittleEndian.PutUint16(header[0:], 3)
	binary.LittleEndian.PutUint16(header[2:], keyECDSAP256)
	binary.LittleEndian.PutUint16(header[8:], qeSVN)
	binary.LittleEndian.PutUint16(header[10:], h.platform.PCESVN)
	return h.quote(header, r.Encode(), Report{MRSIGNER: qeSigner, MRENCLAVE: sha256.Sum256([]byte("simulated QE")), ProductID: 1, SVN: qeSVN})
}

func (h *Hardware) quote(header, body []byte, qe Report) *Quote {
	copy(header[12:], qeVendor[:])
	copy(header[28:], h.platform.InstanceID[:]) // user data: the quoting enclave's identifier
	qe.CPUSVN, qe.XFRM = h.platform.CPUSVN, 0xe7
	qe.Attributes = AttributeInit | Attribute64Bit | AttributeProvisionKey
	q := &Quote{Header: header, Body: body, Key: h.quoting, QE: qe}
	for i := range byte(32) {
		q.Authentication = append(q.Authentication, i)
	}
	for _, role := range []Role{PCK, PlatformCA, Root} {
		q.Chain = append(q.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate(role).Raw})...)
	}
	q.Bind()
	return q
}

// Bind has the quoting enclave's report bind key and authentication data, as they are now.
func (q *Quote) Bind() {
	sum := sha256.Sum256(append(point(q.Key), q.Authentication...))
	q.QE.ReportData = [64]byte{}
	copy(q.QE.ReportData[:], sum[:])
}

// Sign encodes and signs a quote, however false: it is what the holder of these keys
// can do.
func (h *Hardware) Sign(q *Quote) ([]byte, error) {
	signed := append(bytes.Clone(q.Header), q.Body...)
	signature, err := sign(q.Key, signed)
	if err != nil {
		return nil, err
	}
	qe := q.QE.Encode()
	qeSignature, err := sign(h.Key(PCK), qe)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	certification := append(qe, qeSignature...)
	certification = le.AppendUint16(certification, uint16(len(q.Authentication)))
	certification = append(certification, q.Authentication...)
	certification = le.AppendUint16(certification, pckChain)
	certification = le.AppendUint32(certification, uint32(len(q.Chain)))
	certification = append(certification, q.Chain...)

	data := append(signature, point(q.Key)...)
	if q.nested {
		data = le.AppendUint16(data, qeReportData)
		data = le.AppendUint32(data, uint32(len(certification)))
	}
	data = append(data, certification...)
	return append(le.AppendUint32(signed, uint32(len(data))), data...), nil
}

// OpenEnclave puts the header of Open Enclave before an enclave's quote, as EGo's
// GetRemoteReport does (openenclave/bits/report.h, oe_report_header_t).
func OpenEnclave(quote []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 1) // version
	b = le.AppendUint32(b, 2)    // OE_REPORT_TYPE_SGX_REMOTE
	b = le.AppendUint64(b, uint64(len(quote)))
	return append(b, quote...)
}

// sign signs as quotes and TCB statements are: ECDSA over SHA-256, r ‖ s in big-endian
// order, each as long as the curve's order.
func sign(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("simulated signature: %w", err)
	}
	size := (key.Params().BitSize + 7) / 8
	b := make([]byte, 2*size)
	r.FillBytes(b[:size])
	s.FillBytes(b[size:])
	return b, nil
}

// point is a public key as quotes have it: x ‖ y in big-endian order.
func point(key *ecdsa.PrivateKey) []byte {
	public, err := key.PublicKey.Bytes()
	if err != nil {
		panic("simulated attestation key: " + err.Error()) // it was made here, on a named curve
	}
	return public[1:]
}
