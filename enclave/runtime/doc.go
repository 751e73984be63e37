// Package runtime drives the enclave's core: it listens for the host, opens
// envelopes, runs [enclave.Core.Step] with one lock a stream, and carries out its
// effects.
//
// It owns what lives in memory only: the HPKE key pairs with their replay filters,
// the boot key, the endorser of the local ledger, and the cache of issuers' keys.
// All of it is gone with the process, on purpose.
//
// The host at the other end of the socket is hostile. It may send any frame at any
// time; what it can reach is bounded by limits on frames and on calls under way,
// and what its answers may do is decided by the core.
package runtime
