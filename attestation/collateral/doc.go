// Package collateral completes evidence after it was made, so that others can verify it
// offline: the certificates of a SEV-SNP report and, where asked, revocation lists and
// Intel's collateral (TCB info, quoting enclave identity).
//
// What is stapled comes first, then a store ([Folder], [Memory]), then the configured
// sources in turn: AMD's key distribution service ([AMD]), Azure's cache ([Azure]), the
// host's metadata service ([THIM]), Intel's provisioning certification service
// ([Intel]). None of them is believed: each candidate is verified against the report
// by package attestation before it is used. A stored one that does not hold is removed
// and fetched anew; a stapled one that does not hold is replaced.
//
// The package keeps no state but the store's, and is safe for concurrent use. It judges
// nothing: whether genuine evidence is accepted is package policy's question.
package collateral
