// Package policy answers one question: do we accept this genuine evidence? A trust
// policy is the file by which a verifier (a client; the key broker and endorsers
// with theirs) decides. It takes [attestation.Claims], which are genuine already,
// and says for every field what was expected, what was found, and what follows.
//
// The package owns the file's format and the names of the fields. It opens no file
// and no connection, reads no clock and keeps no state. It trusts whoever gave the
// policy, and nobody else: a first policy is given to a person, never taken from
// the service.
//
// A policy refuses what it does not name. Every member that could weaken it must
// be there; what a verifier does without is waived by name,
// {"measurement": {"waived": "development"}}, and shows as waived on every surface.
// docs/policy.md describes the file.
package policy

// Field is the stable name of one thing that a trust policy decides. It is the same
// in the file, in code, in output and in docs/policy.md.
type Field string

const (
	FieldPolicy      Field = "policy"               // the policy itself is whole; only a refusal names it
	FieldPurpose     Field = "purpose"              // what the evidence was made for; the verifier's own, not in the file
	FieldExpires     Field = "expires"              // when the policy ends
	FieldPlatforms   Field = "platforms"            // kinds of hardware
	FieldSimulation  Field = "simulation"           // roots of simulated hardware
	FieldServices    Field = "attestation_services" // whose word is taken for the evidence
	FieldRuntimeData Field = "runtime_data"         // what the enclave itself says: keys, configuration, ledger
	FieldRevocation  Field = "revocation"           // certificates were looked up in revocation lists

	// SEV-SNP.
	FieldProducts     Field = "products"             // product lines
	FieldTCB          Field = "minimum_tcb"          // firmware, by product line
	FieldSigners      Field = "report_signers"       // kinds of keys that sign reports
	FieldProviders    Field = "vlek_providers"       // whose keys, where they are a cloud's
	FieldChipIDs      Field = "chip_ids"             // single chips
	FieldIDKeys       Field = "id_key_digests"       // who signed the ID block of the launch
	FieldAuthorKeys   Field = "author_key_digests"   // who signed that key
	FieldFamilyIDs    Field = "family_ids"           // by the ID block
	FieldImageIDs     Field = "image_ids"            // by the ID block
	FieldGuestPolicy  Field = "guest_policy"         // what the launch allows and forbids
	FieldPlatformInfo Field = "platform_info"        // how the machine is set up
	FieldMitigations  Field = "required_mitigations" // holes that firmware has closed
	FieldGuestSVN     Field = "minimum_guest_svn"    // of the launched image
	FieldMigration    Field = "migration"            // a migration agent may take the guest, and so read it
	FieldSMT          Field = "smt"                  // two threads a core
	FieldVMPL         Field = "maximum_vmpl"         // privilege level that asked for the report

	// TDX and SGX.
	FieldTCBStatus  Field = "intel.tcb_status"                // firmware, in Intel's words
	FieldEvaluation Field = "intel.minimum_evaluation_number" // how new Intel's own judgement is
	FieldFMSPCs     Field = "intel.fmspcs"                    // kinds of machines
	FieldAdvisories Field = "intel.advisories"                // known holes

	FieldMRSEAM        Field = "tdx.mrseam"              // the TDX module
	FieldMRSignerSEAM  Field = "tdx.mrsignerseam"        // who signed it
	FieldMROwner       Field = "tdx.mrowner"             // declared by the host at launch
	FieldMROwnerConfig Field = "tdx.mrownerconfig"       // declared by the host at launch
	FieldTDXAttributes Field = "tdx.attributes"          // of the TD
	FieldXFAM          Field = "tdx.xfam"                // extended features of the TD
	FieldTEETCBSVN     Field = "tdx.minimum_tee_tcb_svn" // TDX module and SEAM loader

	FieldSGXAttributes Field = "sgx.attributes"         // of the enclave
	FieldXFRM          Field = "sgx.xfrm"               // extended features of the enclave
	FieldMiscSelect    Field = "sgx.miscselect"         // what an exit of the enclave saves
	FieldConfigSVN     Field = "sgx.minimum_config_svn" // declared by the host at launch

	// One release.
	FieldMeasurement Field = "measurement" // the enclave's binary
	FieldUVM         Field = "uvm"         // or who vouches for it, on ACI
	FieldSigner      Field = "signer"      // or who signed it, on SGX
	FieldRTMR0       Field = "rtmrs[0]"    // TDX: what was measured after the launch
	FieldRTMR1       Field = "rtmrs[1]"
	FieldRTMR2       Field = "rtmrs[2]"
	FieldRTMR3       Field = "rtmrs[3]"
	FieldConfig      Field = "configuration" // the measured configuration
	FieldHostData    Field = "host_data"     // what binds the configuration to the launch

	FieldLedgerID     Field = "ledger.id"        // the ledger that accounts stand in
	FieldLedgerOrigin Field = "ledger.genesis"   // its first view
	FieldLedgerNumber Field = "ledger.number"    // how often it was founded
	FieldBackends     Field = "ledger.backends"  // what vouches for the newest entry
	FieldDebug        Field = "debug"            // the host may read and write the guest's memory
	FieldArgon2id     Field = "minimum_argon2id" // how dear a guess of the PIN is

	// Only [Diff] names these two.
	FieldName     Field = "name"     // for people
	FieldReleases Field = "releases" // a whole release
)

var fieldRTMR = []Field{FieldRTMR0, FieldRTMR1, FieldRTMR2, FieldRTMR3}
