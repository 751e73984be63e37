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
	FieldPolicy       Field = "policy"            // the policy itself is whole; only a refusal names it
	FieldPurpose      Field = "purpose"           // what the evidence was made for; the verifier's own, not in the file
	FieldExpires      Field = "expires"           // when the policy ends
	FieldPlatforms    Field = "platforms"         // kinds of hardware
	FieldSimulation   Field = "simulation"        // roots of simulated hardware
	FieldProducts     Field = "products"          // product lines
	FieldTCB          Field = "minimum_tcb"       // firmware, by product line
	FieldChipIDs      Field = "chip_ids"          // single chips
	FieldMeasurement  Field = "measurement"       // the enclave's binary, by release
	FieldConfig       Field = "configuration"     // the measured configuration, by release
	FieldHostData     Field = "host_data"         // what binds the configuration to the launch, by release
	FieldLedgerID     Field = "ledger.id"         // the ledger that accounts stand in
	FieldLedgerOrigin Field = "ledger.genesis"    // its first view
	FieldLedgerNumber Field = "ledger.number"     // how often it was founded
	FieldBackends     Field = "ledger.backends"   // what vouches for the newest entry
	FieldGuestSVN     Field = "minimum_guest_svn" // of the launched image
	FieldDebug        Field = "debug"             // the host may read and write the guest's memory
	FieldMigration    Field = "migration"         // a migration agent may take the guest, and so read it
	FieldSMT          Field = "smt"               // two threads a core
	FieldVMPL         Field = "maximum_vmpl"      // privilege level that asked for the report
	FieldArgon2id     Field = "minimum_argon2id"  // how dear a guess of the PIN is

	// Only [Diff] names these two.
	FieldName     Field = "name"     // for people
	FieldReleases Field = "releases" // a whole release
)
