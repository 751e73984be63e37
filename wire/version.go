// Package wire is what client, host and enclave share: the sealed requests and
// responses, the commands in them, the frames between host and enclave, the
// measured configuration, and the errors that cross.
//
// It owns formats and nothing else: it keeps no state, reads no clock and trusts
// nobody. Every decoder takes untrusted bytes, and what a decoder accepts encodes
// again to the same bytes. docs/protocol.md describes the formats for those who
// write a client in another language; wire/testdata holds the golden vectors.
package wire

// Version is the protocol version. It stands in every envelope, every hash and
// every key derivation.
//
//	1  2026-11-23  first version
const Version = 1
