package attestation

import (
	"bytes"
	"time"
)

// verifyQuote verifies what quotes of SGX and TDX have in common, in the order of
// [Checks]. The body's own claims are left to the caller.
func (known *Cache) verifyQuote(q *quote, f *quoteFormat, list []Collateral, roots Roots, now time.Time) (*Claims, error) {
	chain, err := once(known, func() fact { return factOf("PCK certificates", q.chain) }, func() (*pckChain, error) { return parsePCKChain(q.chain) })
	if err != nil {
		return nil, err
	}
	root, simulated, err := roots.findIntel(chain.root)
	if err != nil {
		return nil, err
	}
	if err := chain.checkValidity(now); err != nil {
		return nil, err
	}
	if err := known.verifySignatures(q, f, chain, now); err != nil {
		return nil, err
	}
	p, err := once(known, func() fact { return factOf("platform", chain.pck.Raw) }, chain.platform)
	if err != nil {
		return nil, err
	}
	c := &Claims{
		Simulated: simulated, Root: root, Time: now, ReportVersion: uint32(f.version),
		Intel: &Intel{FMSPC: bytes.Clone(p.fmspc), PCESVN: p.pceSVN},
	}
	if err := known.verifyCollateral(c, q, f, chain, p, list, now); err != nil {
		return nil, err
	}
	return c, nil
}

// verifySignatures verifies the chain, the quoting enclave and the quote's signature.
func (known *Cache) verifySignatures(q *quote, f *quoteFormat, chain *pckChain, now time.Time) error {
	if err := chain.checkForm(); err != nil {
		return err
	}
	fact := factOf("PCK chain", chain.pck.Raw, chain.ca.Raw, chain.root.Raw)
	if f == formatTDX && !known.knows(fact) {
		if err := q.verifyByLibrary(chain, now); err != nil {
			// Its errors have no types. The checks of our own say which refusal it is, not
			// whether there is one.
			if own := (*Cache)(nil).verifyOwn(q, f, chain, fact); own != nil {
				return own
			}
			return refuse(CheckChain, err)
		}
		known.learn(fact)
		known.learn(q.factOfQE(chain.pck))
		return q.checkIntelQE(f)
	}
	return known.verifyOwn(q, f, chain, fact)
}

func (known *Cache) verifyOwn(q *quote, f *quoteFormat, chain *pckChain, fact fact) error {
	if err := known.held(fact, chain.checkSignatures); err != nil {
		return err
	}
	if err := known.checkQE(q, f, chain.pck); err != nil {
		return err
	}
	return q.checkSignature()
}
