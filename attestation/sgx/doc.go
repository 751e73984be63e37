// Package sgx makes evidence inside an SGX enclave of EGo: [Maker], behind the build
// tag sgx, since EGo needs cgo and its own toolchain. `make sgx` builds the enclave's
// binary with it; a plain Go build with the tag compiles, and its Maker fails with
// [ErrNoEnclave].
//
// The report is EGo's: a header of Open Enclave, then a DCAP quote of version 3. It is
// passed on unverified. Verifying needs neither EGo nor SGX: package attestation does.
//
// The package keeps no state. EGo's other attestation, CreateAzureAttestationToken, is
// not used: it does not verify the service's TLS certificate.
package sgx
