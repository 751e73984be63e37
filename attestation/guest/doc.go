// Package guest makes evidence inside a confidential guest on Linux: it asks the
// interface that the kernel or the guest's image offers for a report over REPORT_DATA.
//
//   - [TSM]: configfs-tsm, since Linux 6.7; SEV-SNP and TDX.
//   - [SEVGuest]: /dev/sev-guest, since Linux 5.19; SEV-SNP.
//   - [SEV]: /dev/sev of Azure Container Instances' older kernels; SEV-SNP.
//   - [Agent]: the attestation agent of Confidential Containers over loopback HTTP;
//     SEV-SNP and TDX.
//
// It owns no state and verifies nothing: what comes back is as untrusted as the host
// that may have had a hand in it (certificates do come from the host), and whoever
// receives the evidence verifies it. It is bounded and parsed so that no answer can do
// more than be wrong.
//
// None of this was run on hardware yet: the formats are the kernel's and AMD's, the
// tests put the other side of each interface there.
package guest

import "errors"

// ErrAnswer is returned for what is not the answer of its interface.
var ErrAnswer = errors.New("not the answer of a guest's interface")
