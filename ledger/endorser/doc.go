// Package endorser is one member of the endorsed ledger: an attested process that
// remembers the newest head of every stream of its group and signs it over the
// asker's nonce.
//
// It owns that memory, which is gone with the process on purpose: what could be
// written down could be brought back old. It trusts attested enclaves to append
// truthfully (the entry is durable, the expected head is a majority's), known by a
// ledger key that their evidence named; the operator's key to choose successors whose
// evidence shows a release that the release key signed; and nobody else: every other
// word comes through the hostile host.
package endorser
