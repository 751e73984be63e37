package policy

// remedies say, for every field, what a refusal means and what to do.
var remedies = map[Field]string{
	FieldPolicy:      "the policy accepts nothing as it is: correct the file, or get it again from whoever gave it",
	FieldPurpose:     "the evidence was made for somebody else: ask for evidence of this purpose; do not send anything to its keys",
	FieldExpires:     "the policy has ended, or this machine's clock is wrong: get a new policy from whoever gave this one",
	FieldPlatforms:   "another kind of hardware than the policy names: if the service moved on purpose, its new policy says so",
	FieldSimulation:  "SIMULATION protects against nobody with access to the machine: accept it for development only, by naming its root",
	FieldServices:    "an attestation service's word instead of evidence: ask for the hardware's own, or name the service and the compliance you accept",
	FieldRuntimeData: "nothing says whose keys these are: the evidence cannot stand for a service; ask the service itself for a bundle, or, to judge the hardware alone, waive \"runtime_data\"",
	FieldRevocation:  "nobody looked whether the certificates were withdrawn: ask for evidence with the maker's current revocation lists stapled",

	FieldProducts:     "another processor line than the policy names: add it, with its firmware floor, if the service moved there",
	FieldTCB:          "the processor's firmware is too old and may have known holes: the operator updates it; restart the guest where only launch is behind",
	FieldSigners:      "another kind of key signed the report: a VLEK is shared by a cloud's machines; name it only if you trust that cloud with all of them",
	FieldProviders:    "another cloud's key signed the report: if the service moved on purpose, name the cloud",
	FieldGuestPolicy:  "the guest was launched with other permissions (ABI, memory encryption, RAPL, …): compare them bit by bit with the release's",
	FieldPlatformInfo: "the machine is set up otherwise (alias check, ciphertext hiding, RAPL, …): the operator changes it, or updates its firmware",
	FieldMitigations:  "a hole that firmware can close is open here: the operator updates firmware and restarts the guest",
	FieldChipIDs:      "not one of the machines that the policy names: if the service moved on purpose, name the new chip",
	FieldIDKeys:       "the launch was not signed by a key that the policy names: ask who launched it",
	FieldAuthorKeys:   "the launch's key was not signed by an author that the policy names: ask who launched it",
	FieldFamilyIDs:    "another family of images than the policy names: ask who launched it",
	FieldImageIDs:     "another image than the policy names: if it is an update, get its policy",
	FieldGuestSVN:     "an older release than the policy's floor: the operator updates it",
	FieldMigration:    "a migration agent could take this guest, and read it: the operator launches without one",
	FieldSMT:          "two threads share a core: the operator launches with SMT forbidden, or the policy allows it",
	FieldVMPL:         "the report was asked for at a lower privilege level (or by the host) than the policy allows",

	FieldTCBStatus:  "the machine's firmware is behind, misconfigured or unknown: the operator updates it, or has the service staple fresh collateral (TCB info, QE identity)",
	FieldEvaluation: "Intel's judgement in the bundle is older than the policy takes: have the service fetch its collateral again",
	FieldFMSPCs:     "another kind of machine than the policy names: if the service moved on purpose, name its FMSPC",
	FieldAdvisories: "a known hole applies to this machine: the operator updates firmware, or the policy lists the advisory after somebody read it",

	FieldMRSEAM:        "a TDX module that the policy does not know: if the host updated it, add its MRSEAM from Intel's release notes",
	FieldMRSignerSEAM:  "a TDX module that Intel did not sign: do not use it",
	FieldMROwner:       "the host launched the TD for another owner than the policy says: ask the operator",
	FieldMROwnerConfig: "the host launched the TD with another owner's configuration than the policy says: ask the operator",
	FieldTDXAttributes: "the TD was launched with other attributes: bit 28 must usually be set, bit 29 lets a migration TD take it; the operator launches it as the policy says",
	FieldXFAM:          "the TD uses processor features outside the policy's: allow them if the new machine just has more",
	FieldTEETCBSVN:     "the TDX module or its loader is too old: the operator updates it",

	FieldSGXAttributes: "the enclave was loaded with other attributes: compare them with the release's, bit by bit",
	FieldXFRM:          "the enclave uses processor features outside the policy's: allow them if the new machine just has more",
	FieldMiscSelect:    "the enclave saves something else on exits than the release's does: ask whoever built it",
	FieldConfigSVN:     "the enclave was loaded with an older configuration than the policy's floor: the operator updates it",

	FieldMeasurement: "another binary, firmware or launch than any release of the policy: if it is an update, get the release's policy from whoever publishes it",
	FieldUVM:         "the utility VM is not vouched for as the policy says: if it is old, the operator redeploys; if there is no endorsement, the bundle lacks ACI's reference info",
	FieldSigner:      "not signed by the key, for the product and at the SVN of any release: if it is an update, get its policy from whoever publishes it",
	FieldRTMR0:       "the virtual firmware's setup differs from the release's: ask the operator what changed",
	FieldRTMR1:       "another kernel or boot loader than the release's: if it is an update, get its policy",
	FieldRTMR2:       "another kernel command line or initial disk than the release's: if it is an update, get its policy",
	FieldRTMR3:       "something was measured at run time that the release does not: ask the operator what runs there",
	FieldConfig:      "other rules (issuers, PIN limits, ledger) than the release's, or no file to show them: compare the configuration before you name its hash",
	FieldHostData:    "the launch was not bound to this configuration: the host may have given the enclave another one",

	FieldLedgerID:     "another ledger: in it no account, no revocation and no PIN attempt of the old one exists",
	FieldLedgerOrigin: "the ledger begins elsewhere than the policy says: it was founded again, or is another",
	FieldLedgerNumber: "the ledger was founded again: every account's history is discontinued there, ask the operator why",
	FieldBackends:     "the policy does not accept this backend's word for what is newest; to accept \"local\", name it",
	FieldDebug:        "the host can read everything in this enclave: do not use it",
	FieldArgon2id:     "a guess of the PIN is cheaper than the policy allows: the operator raises pin.argon2id in the measured configuration",
}

// unboundFields are judged by runtime data and the configuration that they name.
var unboundFields = []Field{FieldPurpose, FieldConfig, FieldLedgerID, FieldLedgerOrigin, FieldLedgerNumber, FieldBackends, FieldArgon2id}

// unboundRemedy is theirs where there are none: nothing was found that would be wrong.
const unboundRemedy = "the evidence has no runtime data, which would show it: see runtime_data"
