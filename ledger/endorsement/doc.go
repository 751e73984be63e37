// Package endorsement is the language between enclaves and endorsers, and what
// follows from it: which statements, by whose keys, prove that a head is the newest
// of its stream.
//
// An endorser is an attested process that remembers the newest head of every stream
// of its group, in memory alone, and signs it over the asker's nonce ([Ask],
// [Answer]). Which endorsers count is said by a [View]; views form a chain from the
// genesis that the enclave's measured configuration names, each successor named by a
// majority of every group of the one before ([Chain]).
//
// The package keeps no state and reaches nobody. It verifies with public keys alone,
// so that the enclave, a successor endorser, fsck and a person come to the same
// verdict. It trusts endorsers one by one for nothing: only a majority of distinct
// members of one group in one view says something.
package endorsement
