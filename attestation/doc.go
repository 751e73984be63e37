// Package attestation makes and verifies evidence: what a TEE's hardware says about
// the enclave that runs in it.
//
// It answers one question, whether evidence is genuine ([Genuine]), and never the
// other, whether anybody should accept it: that is package policy's. What it says in
// [Claims] is what the hardware signed, no more; a claim that nobody compares with
// anything proves nothing.
//
// It trusts the roots of the hardware's makers, which are compiled in, and the
// simulation roots that its caller names ([Roots]); it opens no connection, reads no
// clock, and keeps no state. Bundles, reports, certificates and runtime data are
// untrusted input. A simulated TEE is checked by the same code as a real one: only
// the root that ends its certificate chain is another.
//
// docs/attestation.md describes the formats, with a table of all checks.
package attestation
