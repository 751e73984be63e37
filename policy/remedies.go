package policy

// remedies say, for every field, what a refusal means and what to do.
var remedies = map[Field]string{
	FieldPolicy:       "the policy accepts nothing as it is: correct the file, or get it again from whoever gave it",
	FieldPurpose:      "the evidence was made for somebody else: ask for evidence of this purpose; do not send anything to its keys",
	FieldExpires:      "the policy has ended, or this machine's clock is wrong: get a new policy from whoever gave this one",
	FieldPlatforms:    "another kind of hardware than the policy names: if the service moved on purpose, its new policy says so",
	FieldSimulation:   "SIMULATION protects against nobody with access to the machine: accept it for development only, by naming its root",
	FieldProducts:     "another processor line than the policy names: add it, with its firmware floor, if the service moved there",
	FieldTCB:          "the processor's firmware is too old and may have known holes: the operator updates it; restart the guest where only launch is behind",
	FieldChipIDs:      "not one of the machines that the policy names: if the service moved on purpose, name the new chip",
	FieldMeasurement:  "another binary, firmware or launch than any release of the policy: if it is an update, get the release's policy from whoever publishes it",
	FieldConfig:       "other rules (issuers, PIN limits, ledger) than the release's, or no file to show them: compare the configuration before you name its hash",
	FieldHostData:     "the launch was not bound to this configuration: the host may have given the enclave another one",
	FieldLedgerID:     "another ledger: in it no account, no revocation and no PIN attempt of the old one exists",
	FieldLedgerOrigin: "the ledger begins elsewhere than the policy says: it was founded again, or is another",
	FieldLedgerNumber: "the ledger was founded again: every account's history is discontinued there, ask the operator why",
	FieldBackends:     "the policy does not accept this backend's word for what is newest; to accept \"local\", name it",
	FieldGuestSVN:     "an older release than the policy's floor: the operator updates it",
	FieldDebug:        "the host can read everything in this enclave: do not use it",
	FieldMigration:    "a migration agent could take this guest, and read it: the operator launches without one",
	FieldSMT:          "two threads share a core: the operator launches with SMT forbidden, or the policy allows it",
	FieldVMPL:         "the report was asked for at a lower privilege level (or by the host) than the policy allows",
	FieldArgon2id:     "a guess of the PIN is cheaper than the policy allows: the operator raises pin.argon2id in the measured configuration",
}
