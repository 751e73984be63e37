package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
)

// quote is a DCAP quote of SGX (version 3) or TDX (version 4), cut into its parts
// (Intel SGX ECDSA QuoteGeneration and QuoteVerification, "Quote Format"; Intel TDX
// DCAP Quoting Library API, appendix A.3). All integers are little-endian.
type quote struct {
	whole       []byte // without what is padded behind it
	header      []byte // 48 bytes
	body        []byte // SGX: REPORT body, 384 bytes. TDX: TD quote body 1.0, 584 bytes
	signature   []byte // by key over header and body: r ‖ s, 64 bytes, big-endian
	key         []byte // the quoting enclave's attestation key: x ‖ y, 64 bytes, big-endian
	qeReport    []byte // the quoting enclave's own REPORT body, 384 bytes
	qeSignature []byte // by the PCK over qeReport: r ‖ s
	qeAuth      []byte // bound by qeReport with key
	chain       []byte // PEM: PCK certificate, PCK CA, root
}

// quoteFormat is what sets the two kinds of quotes apart.
type quoteFormat struct {
	version    uint16
	tee        uint32
	body       int    // bytes
	nested     bool   // certification data of type 6 around the quoting enclave's report
	qeSigner   string // MRSIGNER of Intel's quoting enclave
	qeProduct  uint16
	tcbInfo    string // "id" of its collateral
	qeIdentity string
}

var (
	formatSGX = &quoteFormat{
		version: 3, tee: 0, body: sgxReportSize, tcbInfo: "SGX", qeIdentity: "QE", qeProduct: 1,
		qeSigner: "8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff",
	}
	formatTDX = &quoteFormat{
		version: 4, tee: 0x81, body: 584, nested: true, tcbInfo: "TDX", qeIdentity: "TD_QE", qeProduct: 2,
		qeSigner: "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5",
	}
)

const (
	quoteHeaderSize = 48
	keyTypeP256     = 2
	certPCKChain    = 5 // certification data: the PCK certificate's chain in PEM
	certQEReport    = 6 // certification data: the quoting enclave's report, and what certifies it
	intelVendor     = "939a7233f79c4ca9940a0db3957f0607"
)

// cutter takes parts off the front; once one is missing, all that follow are nil.
type cutter struct {
	rest  []byte
	short bool
}

func (c *cutter) take(n uint32) []byte {
	if c.short || uint64(n) > uint64(len(c.rest)) {
		c.short = true
		return nil
	}
	part := c.rest[:n:n]
	c.rest = c.rest[n:]
	return part
}

func (c *cutter) uint16() uint32 {
	if p := c.take(2); p != nil {
		return uint32(binary.LittleEndian.Uint16(p))
	}
	return 0
}

func (c *cutter) uint32() uint32 {
	if p := c.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// parseQuote cuts a quote into parts. Every length must be exact: go-tdx-guest
// panics where a length points behind the end. Only zero bytes may follow, which
// the quoting services of Azure and of older Google images append.
func parseQuote(data []byte, f *quoteFormat) (*quote, error) {
	if err := f.checkHeader(data); err != nil {
		return nil, err
	}
	all := cutter{rest: data}
	q := &quote{header: all.take(quoteHeaderSize), body: all.take(uint32(f.body))}
	signed := cutter{rest: all.take(all.uint32())}
	if all.short {
		return nil, refuse(CheckReport, errors.New("the quote is cut short"))
	}
	if len(bytes.Trim(all.rest, "\x00")) != 0 {
		return nil, refuse(CheckReport, errors.New("something follows the quote"))
	}
	q.whole = data[:len(data)-len(all.rest)]

	q.signature, q.key = signed.take(64), signed.take(64)
	certified := &signed
	if f.nested {
		if kind := signed.uint16(); kind != certQEReport && !signed.short {
			return nil, differ(CheckReport, fmt.Sprintf("certification data of type %d", certQEReport), kind)
		}
		certified = &cutter{rest: signed.take(signed.uint32())}
	}
	q.qeReport, q.qeSignature = certified.take(sgxReportSize), certified.take(64)
	q.qeAuth = certified.take(certified.uint16())
	if kind := certified.uint16(); kind != certPCKChain && !certified.short {
		return nil, differ(CheckReport, fmt.Sprintf("certification data of type %d, the PCK certificate chain", certPCKChain), kind)
	}
	q.chain = certified.take(certified.uint32())
	if signed.short || certified.short || len(signed.rest) != 0 || len(certified.rest) != 0 {
		return nil, refuse(CheckReport, errors.New("lengths in the quote's signature do not fit each other"))
	}
	return q, nil
}

func (f *quoteFormat) checkHeader(data []byte) error {
	if len(data) < quoteHeaderSize {
		return differ(CheckReport, fmt.Sprintf("a quote of version %d", f.version), fmt.Sprintf("%d bytes", len(data)))
	}
	h := data[:quoteHeaderSize]
	u16 := func(i int) uint16 { return binary.LittleEndian.Uint16(h[i:]) }
	if v := u16(0); v != f.version {
		return differ(CheckReport, fmt.Sprintf("a quote of version %d", f.version), fmt.Sprintf("version %d, which is not supported yet", v))
	}
	if tee := binary.LittleEndian.Uint32(h[4:]); tee != f.tee {
		return differ(CheckReport, fmt.Sprintf("TEE type %#x", f.tee), fmt.Sprintf("%#x", tee))
	}
	if k := u16(2); k != keyTypeP256 {
		return differ(CheckReport, "an attestation key of type 2, ECDSA P-256", fmt.Sprintf("type %d, which is not supported yet", k))
	}
	// SGX has the quoting enclave's and the PCE's SVN here, as its collateral judges them.
	if f.tee != 0 && !zero(h[8:12]) {
		return refuse(CheckReport, errors.New("a reserved byte of the header is set"))
	}
	if vendor := hex.EncodeToString(h[12:28]); vendor != intelVendor {
		return differ(CheckReport, "quoting enclave of vendor "+intelVendor+", Intel", vendor)
	}
	return nil
}

// checkQE verifies that the PCK has signed the quoting enclave's report, that this
// enclave is Intel's and cannot be looked into, and that its report binds the key
// that signs the quote. Who owns a machine can have the PCK sign any enclave's
// report, so that without the second a quote would prove nothing.
func (known *Cache) checkQE(q *quote, f *quoteFormat, pck *x509.Certificate) error {
	err := known.held(q.factOfQE(pck), func() error {
		if !verifyRaw(pck.PublicKey.(*ecdsa.PublicKey), q.qeReport, q.qeSignature) { // a P-256 key, by checkForm
			return refuse(CheckQE, errors.New("its report is not signed by the PCK"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if want := reportOf(q.key, q.qeAuth); !bytes.Equal(want[:], q.qeReport[sgxReportData:]) {
		return refuse(CheckQE, errors.New("its report does not bind the key that signs the quote"))
	}
	return q.checkIntelQE(f)
}

// factOfQE is the same for all quotes of a machine until its quoting enclave makes a new key.
func (q *quote) factOfQE(pck *x509.Certificate) fact {
	return factOf("QE report", pck.Raw, q.qeReport, q.qeSignature)
}

func (q *quote) checkIntelQE(f *quoteFormat) error {
	r := sgxReport(q.qeReport)
	if signer := hex.EncodeToString(r.mrSigner()); signer != f.qeSigner {
		return differ(CheckQE, "signed by Intel: MRSIGNER "+f.qeSigner, signer)
	}
	if r.product() != f.qeProduct {
		return differ(CheckQE, fmt.Sprintf("product %d", f.qeProduct), r.product())
	}
	if r.debug() {
		return refuse(CheckQE, errors.New("it runs in debug mode: the host can take its key"))
	}
	if !r.reservedZero() {
		return refuse(CheckQE, errors.New("a reserved byte of its report is set"))
	}
	return nil
}

// checkSignature verifies the quote's signature by the attestation key.
func (q *quote) checkSignature() error {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.key...))
	if err != nil {
		return refuse(CheckSignature, err)
	}
	if !verifyRaw(key, q.whole[:len(q.header)+len(q.body)], q.signature) {
		return refuse(CheckSignature, errors.New("not the quote's"))
	}
	return nil
}

// verifyRaw verifies ECDSA with SHA-256, signature = r ‖ s as Intel's formats have it.
func verifyRaw(key *ecdsa.PublicKey, message, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	hash := sha256.Sum256(message)
	return ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// reportOf is the REPORTDATA of a quoting enclave: SHA-256(key ‖ authentication data)
// ‖ 32 zero bytes. The key's length is fixed.
func reportOf(key, auth []byte) (d [64]byte) {
	h := sha256.New()
	h.Write(key)
	h.Write(auth)
	h.Sum(d[:0])
	return d
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
