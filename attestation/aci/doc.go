// Package aci reads what Azure Container Instances give a confidential container
// group: its security context, and folders that hold a copy of it with a report. It
// makes bundles of that and verifies nothing: attestation.Hardware does.
//
// It also says what is dangerous in a CCE policy, the Rego text whose SHA-256 is
// HOST_DATA ([Dangers]).
//
// It reads files of a known name within a known size, keeps no state, and opens no
// connection. Whatever it reads is the host's or a stranger's. Sources:
// microsoft/confidential-aci-examples, docs/Confidential_ACI_SCHEME.md;
// microsoft/hcsshim, the framework's Rego.
package aci
