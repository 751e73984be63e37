package main

import (
	"errors"
	"fmt"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/wire"
)

// remedies say what a person can do about a refusal.
var remedies = map[wire.Code]string{
	wire.CodeUnavailable:    "is the service running? What became of a change shows at the next sync",
	wire.CodeUnsealedAnswer: "the host answered by itself, in the clear; it is not believed. Try again",
	wire.CodeSealed:         "the enclave has no key-encryption key yet: its operator looks at /readyz",
	wire.CodePolicy:         "the enclave is genuine, but not one that your trust policy names: `passclave verify` shows every check",
	wire.CodeEvidence:       "what answers is not a genuine enclave: `passclave verify` shows every check",
	wire.CodePINLocked:      "type `passclave pin set` on a trusted device: it unlocks",
	wire.CodeUnknownDevice:  "this device was revoked, or never joined; `passclave join` with another --profile begins anew",
	wire.CodeYoung:          "this device joined by PIN less than a day ago: use an older device, or wait; a later `passclave pin set` logs in and shows its age",
	wire.CodeAccountExists:  "the account exists: `passclave join` adds this device to it",
	wire.CodeNoAccount:      "there is no account yet: `passclave enroll` makes it",
	wire.CodeFork:           "ALARM: the service shows a history that does not contain what this device remembers. Someone took back what happened. Do not clear this lightly: `passclave status`",
	wire.CodeRollback:       "ALARM: the host served an older state than the newest. It was refused",
	wire.CodeHeadMismatch:   "ALARM: the host served an account head that no ledger entry names. It was refused",
	wire.CodeRecordMismatch: "ALARM: the host served a passkey's record that is not the one in force. It was refused",
	wire.CodeVaultSecret:    "ALARM: a vault secret that does not lead back to the one this device holds. Someone with the key-encryption key may have made it. It was refused",
	wire.CodeMembers:        "ALARM: the list of devices is not authenticated by the account's vault secret. Someone with the key-encryption key may have changed it. It was refused",
	wire.CodeExcluded:       "this account has a passkey there already",
	wire.CodeStorageFull:    "the service says that its disk is full. What it acknowledged before stands; `passclave status` shows whether this change does",
	wire.CodeRateLimited:    "wait a little",
}

// explain returns the sentence for an error, with what to do about it.
func explain(err error) string {
	text := err.Error()
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return text
	case errors.Is(err, client.ErrNoProfile):
		return "there is no such profile; `passclave enroll URL --policy FILE` makes one, `--profile NAME` chooses another"
	case errors.Is(err, client.ErrNotMember):
		return text + "; `passclave enroll` or `passclave join` makes it one"
	}
	var refusal *wire.Error
	if errors.As(err, &refusal) {
		if remedy := remedies[refusal.Code]; remedy != "" {
			return fmt.Sprintf("%s\n  %s", text, remedy)
		}
	}
	return text
}
