package main

import "github.com/passclave/passclave/attestation"

const (
	distrust      = "Do not use it; ask the operator, on another way than this service."
	genuineRemedy = "What answers cannot prove what it is. " + distrust
	nonceRemedy   = "The evidence is an old one, or was made for somebody else. Try again; if it stays so, somebody stands between."
)

// checkRemedies say, for each check that fails, what it means and what to do.
var checkRemedies = map[attestation.Check]string{
	attestation.CheckBundle:   "This is no evidence bundle of this version: save it again with `passclave evidence save`, or name the folder instead of a file.",
	attestation.CheckPlatform: "This version cannot verify such evidence; a newer one may. Until then nothing is known about the service.",
	attestation.CheckReport: "The hardware's report is not in the one form that this version reads: damaged, changed, or made by newer firmware. " +
		"Take it again; if it stays so, nothing is known about the service until a newer version reads it.",
	attestation.CheckSigner: "The report names no chip's and no cloud's key as its signer: nothing vouches for it. " + distrust,
	attestation.CheckChain: "The certificates are not those that the maker gives for such a machine: damaged, cut, mixed or forged. " +
		"The operator fetches them again; if it stays so: " + distrust,
	attestation.CheckSignature: "The machine's key has not signed this: something in it was changed, or the report and the certificates are of two machines. " +
		"Take the evidence again; if it stays so, it is forged. " + distrust,
	attestation.CheckQE:         "The enclave that signed the quote is not Intel's, or the machine does not vouch for it: whoever owns the machine may have written it. " + distrust,
	attestation.CheckReportData: "The hardware vouches for other runtime data: the keys shown here are not the enclave's. Send nothing to them. " + distrust,
	attestation.CheckRuntimeData: "What the enclave says of itself is not in the one form that it may have: another version made it, or somebody slips something in. " +
		"Send nothing to its keys. " + distrust,
	attestation.CheckConfiguration: "The configuration shown is not the one that the enclave runs with, or cannot be read: somebody shows other rules than those in force. " + distrust,
	attestation.CheckLedger:        "Runtime data and configuration name two ledgers: the enclave contradicts what it was measured with. " + distrust,
	attestation.CheckToken:         "This is no token as Azure Attestation or the key broker makes them. Ask for a new token. If it stays so: " + distrust,
	attestation.CheckRoot:          "The certificates end at a root that is no hardware maker's. A simulation is believed only if the trust policy names its root (`simulation.roots`); anything else is forged.",
	attestation.CheckValidity: "A certificate has ended, or this machine's clock is wrong. If the clock is right, the operator fetches the certificates again " +
		"(AMD: kdsintf.amd.com, on Azure the THIM cache; Intel: the PCS, or the PCCS in use) and staples the new ones.",
	attestation.CheckRevocation: "A certificate was withdrawn, or the stapled revocation list has ended or is not the maker's. The operator fetches the list again " +
		"(AMD: kdsintf.amd.com/vcek/v1/{product}/crl; Intel: the PCS's pckcrl and rootcacrl); if it stays so, the machine is withdrawn: do not use it.",
	attestation.CheckTCB: "The certificate belongs to other firmware than the report: mostly a stale copy after a firmware update. The operator empties the certificate cache, " +
		"fetches the certificate for the REPORTED_TCB above, and makes the report again.",
	attestation.CheckHostAMD: "The host's certificates (tcbm) are of other firmware than the report: a stale copy after a firmware update. The operator fetches host-amd-cert again " +
		"(THIM, or Azure's cache for the chip and the TCB above), and then makes the report again.",
	attestation.CheckChip:           "The certificate belongs to another chip: the guest has moved, or the cache mixes machines. The operator fetches the certificate of this chip; if it stays so, do not use the service.",
	attestation.CheckTCBInfo:        "The stapled TCB info has ended, or is not Intel's or not of this kind of machine. The operator fetches it again (PCS v4, tcb?fmspc=…, or the PCCS in use) and staples the new one.",
	attestation.CheckQEIdentity:     "The stapled QE identity has ended, is not Intel's, or does not fit the machine's quoting enclave. The operator fetches it again (PCS v4, qe/identity), and updates the quoting enclave if it stays so.",
	attestation.CheckUVM:            "The endorsement is not of this utility VM, or its signature does not hold at its own signing time. The operator takes reference-info from the running container group again; a copy of another group does not fit.",
	attestation.CheckSecurityPolicy: "The security policy shown is not the one in force: it belongs to another deployment. Take it from the running container group again.",
	attestation.CheckTokenIssuer:    "The token is of a service that the trust policy does not name (`attestation_services`): compare the endpoint letter by letter.",
	attestation.CheckTokenSignature: "None of the service's present keys signed the token: it is forged, or so old that the key was replaced. Ask for a new token.",
	attestation.CheckTokenTime:      "The token has ended, or this machine's clock is wrong. Ask for a new token.",
}

func remedyOf(c attestation.Check) string {
	if text := checkRemedies[c]; text != "" {
		return text
	}
	return genuineRemedy
}
