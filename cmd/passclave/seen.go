package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/passclave/passclave/attestation"
)

// seen is what each check of genuine evidence found, where that is more than "it holds".
func seen(c *attestation.Claims) map[attestation.Check]string {
	t := c.ReportedTCB
	maker := "Intel's root "
	if c.SNP != nil {
		maker = "AMD's root "
	}
	if c.Simulated {
		maker = "SIMULATION root "
	}
	out := map[attestation.Check]string{
		attestation.CheckPlatform:       fmt.Sprint(c.Platform),
		attestation.CheckRoot:           maker + c.Root.String(),
		attestation.CheckValidity:       "at " + c.Time.UTC().Format(time.RFC3339),
		attestation.CheckRevocation:     "in no list",
		attestation.CheckReportData:     hex.EncodeToString(c.ReportData[:]),
		attestation.CheckSecurityPolicy: "SHA-256 " + hex.EncodeToString(c.HostData),
		attestation.CheckConfiguration:  "SHA-256 " + c.ConfigurationHash.String(),
	}
	if c.ReportVersion != 0 {
		out[attestation.CheckReport] = fmt.Sprint("version ", c.ReportVersion)
	}
	if c.SNP != nil {
		out[attestation.CheckPlatform] += ", " + c.Product
		out[attestation.CheckSigner] = c.Signer
		out[attestation.CheckTCB] = fmt.Sprintf("bootloader %d, tee %d, snp %d, microcode %d", t.Bootloader, t.TEE, t.SNP, t.Microcode)
		if c.Product == "Turin" {
			out[attestation.CheckTCB] += fmt.Sprintf(", fmc %d", t.FMC)
		}
		out[attestation.CheckChip] = hex.EncodeToString(c.ChipID)
		if c.Signer == attestation.SignerVLEK {
			out[attestation.CheckChip] = "a VLEK vouches for no chip"
		}
	}
	if i := c.Intel; i != nil {
		out[attestation.CheckTCBInfo] = fmt.Sprintf("FMSPC %x: with the quoting enclave %s, of %s", i.FMSPC, i.TCBStatus, i.TCBDate.UTC().Format(time.DateOnly))
	}
	if u := c.UVM; u != nil {
		out[attestation.CheckUVM] = fmt.Sprintf("by %s, feed %s, SVN %d", u.Issuer, u.Feed, u.SVN)
	}
	if r := c.RuntimeData; r != nil {
		out[attestation.CheckRuntimeData] = "purpose " + r.Purpose
		if r.Ledger != nil {
			out[attestation.CheckLedger] = fmt.Sprintf("%x, %s", r.Ledger.ID, r.Ledger.Backend)
		}
	}
	if k := c.Token; k != nil {
		delete(out, attestation.CheckRoot)
		out[attestation.CheckTokenIssuer] = k.Issuer
		out[attestation.CheckTokenTime] = "until " + k.Expires.UTC().Format(time.RFC3339)
	}
	return out
}
