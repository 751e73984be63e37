// Package keyrelease is how an enclave gets the KEK: attest, then release, in
// Azure's wire format (Azure Attestation; Key Vault Premium and Managed HSM), which
// the project's own broker speaks too. docs/keyrelease.md shows every message.
//
//	runtime data {purpose "release", one RSA key} ─→ evidence
//	POST {attestation}/attest/SevSnpVm              evidence ─→ token
//	GET  {vault}/keys/{name}/versions               ─→ versions
//	POST {vault}/keys/{name}/{version}/release      token ─→ JWS{key wrapped to the RSA key}
//
// Source of truth for where to go and whom to believe is the measured
// configuration's [wire.KeyService]: two URLs, a key name, roots. Nothing is taken
// from the environment (no proxy, no certificate variables), no URL that a service
// names is followed to another host, and redirects are errors.
//
// Trusted: who holds a certificate of the configured roots for the vault's host
// name. He decides the KEK: he could send one that he made up, and a caller who
// has sealed anything before must notice that it does not open. The attestation
// service is trusted by the vault, not by this package. The network is not
// trusted, nor is any answer before its check.
//
// A [Client] keeps nothing: the RSA key is another at each release, and it and what
// unwrapping left are erased if [Client.Do] erases. It is the caller's part to keep
// released keys in locked memory and erase them.
package keyrelease
