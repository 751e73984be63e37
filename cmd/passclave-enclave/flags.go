package main

import "github.com/passclave/passclave/attestation"

// teeFlags say who makes reports: the simulation or, by one of its interfaces, hardware.
type teeFlags struct {
	simulated, kind string
	collateral      bool
}

// tee makes reports, with all that goes with them.
type tee struct {
	attestation.Maker
	name      string
	simulated bool
	context   bool     // ACI's security context is stapled
	folders   []string // what the interface needs of the file system while it runs
}
