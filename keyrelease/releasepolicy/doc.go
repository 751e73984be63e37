// Package releasepolicy reads and evaluates release policies: the rules under
// which a key service hands out a key, in the grammar that Azure documents for
// Key Vault and Managed HSM ("secure key release policy grammar"):
//
//	{"version": "1.0.0",
//	 "anyOf": [{"authority": "https://attestation.example",
//	            "allOf": [{"claim": "x-ms-attestation-type", "equals": "sevsnpvm"},
//	                      {"anyOf": [{"claim": "x-ms-sevsnpvm-hostdata", "equals": "…"},
//	                                 {"claim": "x-ms-sevsnpvm-guestsvn", "greaterOrEquals": 3}]}]}]}
//
// It owns the grammar and its evaluation; it keeps no state and verifies no
// signature: authority and claims must come from a token that the caller has
// verified. A policy is trusted for what it says, not for being well formed:
// anything that is not in the documented grammar is refused when it is read, so
// that no clause is ever skipped because it was not understood.
//
// How a claim compares: see [Claims] and [Operator].
package releasepolicy
