package policy

import (
	"fmt"

	"github.com/passclave/passclave/attestation"
)

// leastTCB takes the least of each part over the four TCBs of a report. The
// certificate vouches for the reported one alone; but a guest that began on older
// firmware (launch), or a host that can go back to it (committed), has what that
// firmware has.
func leastTCB(c *attestation.Claims) attestation.TCB {
	least := c.ReportedTCB
	for _, t := range []attestation.TCB{c.CommittedTCB, c.CurrentTCB, c.LaunchTCB} {
		least.FMC = min(least.FMC, t.FMC)
		least.Bootloader = min(least.Bootloader, t.Bootloader)
		least.TEE = min(least.TEE, t.TEE)
		least.SNP = min(least.SNP, t.SNP)
		least.Microcode = min(least.Microcode, t.Microcode)
	}
	return least
}

// showTCB gives bootloader.tee.snp.microcode, and Turin's FMC before it.
func showTCB(t attestation.TCB) string {
	if t.FMC != 0 {
		return fmt.Sprintf("%d.%d.%d.%d.%d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
	}
	return fmt.Sprintf("%d.%d.%d.%d", t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// showTCBs shows the four TCBs of a report, as one where they are equal.
func showTCBs(c *attestation.Claims) string {
	if c.ReportedTCB == c.CommittedTCB && c.ReportedTCB == c.CurrentTCB && c.ReportedTCB == c.LaunchTCB {
		return showTCB(c.ReportedTCB)
	}
	return fmt.Sprintf("reported %s, committed %s, current %s, launch %s",
		showTCB(c.ReportedTCB), showTCB(c.CommittedTCB), showTCB(c.CurrentTCB), showTCB(c.LaunchTCB))
}
