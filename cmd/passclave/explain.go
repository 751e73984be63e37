package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// sentences say in words what a code means: what a person reads first.
var sentences = map[wire.Code]string{
	wire.CodeMalformed:      "a message that is not well formed",
	wire.CodeTooLarge:       "it is too large",
	wire.CodeVersion:        "the other side speaks another version of the protocol",
	wire.CodeUnknownCommand: "the enclave does not know this command: it is older than this program",
	wire.CodeUnknownKey:     "the enclave has a new key by now",
	wire.CodeReplayed:       "the enclave has seen this very request before",
	wire.CodeChallenge:      "the request or its login is too old, made for another enclave, or the PIN was set since",
	wire.CodeSealed:         "the enclave has no key-encryption key yet",
	wire.CodeSignature:      "the device's signature is missing or wrong",
	wire.CodeUVRequired:     "it needs your agreement (user verification)",
	wire.CodeLoginRequired:  "it needs a login",
	wire.CodeLogin:          "the login was not accepted",
	wire.CodeLoginStale:     "the login is not a fresh one",
	wire.CodeUnknownDevice:  "this device is not, or no longer, a member of the account",
	wire.CodeYoung:          "this device is too young",
	wire.CodeUntrusted:      "this device has no user verification key",
	wire.CodeNoAccount:      "there is no such account",
	wire.CodeAccountExists:  "the account exists already",
	wire.CodeVaultSecret:    "the vault secret is not the one of this epoch",
	wire.CodeEpoch:          "a newer vault epoch is in force",
	wire.CodeMembers:        "the list of devices is not authentic",
	wire.CodePINWrong:       "wrong PIN",
	wire.CodePINLocked:      "the account is locked: its limit of PIN attempts is reached",
	wire.CodeNumber:         "this device's requests are out of step",
	wire.CodeConflict:       "another device was faster: what you changed is not as it was",
	wire.CodeNotFound:       "not found",
	wire.CodeExcluded:       "this account has a passkey there already",
	wire.CodeLimit:          "that is more than an account may hold",
	wire.CodeArgument:       "a value is out of its range",
	wire.CodeRollback:       "the host served an older state than the newest",
	wire.CodeHeadMismatch:   "the host served an account head that no ledger entry names",
	wire.CodeRecordMismatch: "the host served a passkey's record that is not the one in force",
	wire.CodeEntry:          "a ledger entry is forged, foreign or out of its chain",
	wire.CodeWrap:           "the account's key does not open: another key-encryption key than the account's",
	wire.CodeUnavailable:    "the service, or a part of it, cannot be reached",
	wire.CodeStorageFull:    "the service's disk is full",
	wire.CodeRateLimited:    "too many requests",
	wire.CodeInternal:       "a fault inside",
	wire.CodeFork:           "the service shows another history than this device remembers",
	wire.CodeReceipt:        "the ledger's receipt does not prove what it should",
	wire.CodeView:           "the ledger's endorsers are not those that its genesis leads to, or too few of them serve",
	wire.CodeDiscontinued:   "the ledger lost its memory of this account",
	wire.CodeEarlierEpoch:   "the copy is from before a revocation or a PIN set: it is never brought back",
	wire.CodeUnsealedAnswer: "the answer did not come from the enclave",
	wire.CodePolicy:         "the trust policy refuses the enclave",
	wire.CodeEvidence:       "what answers is not a genuine enclave",
}

// sentence says in words what a code means.
func sentence(c wire.Code) string { return firstOf(sentences[c], string(c)) }

// remedies say what a person can do about a refusal.
var remedies = map[wire.Code]string{
	wire.CodeUnavailable:    "is the service running, and a majority of its ledger's endorsers if it has some (its operator looks at `passclave ledger status`)? What became of a change shows at the next sync",
	wire.CodeView:           "its operator looks at `passclave ledger status`",
	wire.CodeUnsealedAnswer: "the host answered by itself, in the clear; it is not believed. Try again",
	wire.CodeSealed:         "its operator looks at /readyz",
	wire.CodePolicy:         "the enclave is genuine, but not one that your trust policy names: `passclave verify` shows every check. Where its operator announced a change and you have the new policy: `passclave policy pin FILE`",
	wire.CodeEvidence:       "`passclave verify` shows every check",
	wire.CodePINLocked:      "type `passclave pin set` on a trusted device: it unlocks",
	wire.CodeChallenge:      "the same command again logs in anew",
	wire.CodeUnknownDevice:  "`passclave join` with another --profile begins anew",
	wire.CodeYoung:          "use an older device, or wait until a day after the join: then a login shows its age",
	wire.CodeConflict:       "look at what stands now, and try again",
	wire.CodeAccountExists:  "`passclave join` adds this device to it",
	wire.CodeNoAccount:      "`passclave enroll` makes it",
	wire.CodeFork:           "ALARM: someone took back what happened. Do not clear this lightly: `passclave status`",
	wire.CodeRollback:       "ALARM: it was refused. If the service's operator told you that a newer copy is lost: `passclave ledger restore`",
	wire.CodeHeadMismatch:   "ALARM: it was refused",
	wire.CodeRecordMismatch: "ALARM: it was refused",
	wire.CodeVaultSecret:    "ALARM: it does not lead back to the one this device holds. Someone with the key-encryption key may have made it. It was refused",
	wire.CodeMembers:        "ALARM: the account's vault secret does not authenticate it. Someone with the key-encryption key may have changed it. It was refused",
	wire.CodeDiscontinued:   "`passclave confirm` on more than half of the account's devices brings it back, if none of them remembers more than the service has",
	wire.CodeEarlierEpoch:   "its operator looks for a newer copy, or founds the next genesis of an endorsed ledger",
	wire.CodeStorageFull:    "what it acknowledged before stands; `passclave sync` shows whether this change does",
	wire.CodeRateLimited:    "wait a little",
}

// words are an error as people read it: for a refusal its sentence, what is known of
// the cause, and in brackets the code.
func words(err error) string {
	switch {
	case errors.Is(err, errNothingPinned):
		return err.Error()
	case errors.Is(err, client.ErrNoProfile):
		return "there is no such profile; `passclave enroll URL --policy FILE` makes one, `--profile NAME` chooses another"
	case errors.Is(err, client.ErrNotMember):
		return err.Error() + "; `passclave enroll` or `passclave join` makes it one"
	case errors.Is(err, keystore.ErrNotFound):
		return "there is no key-encryption key in that folder; --state names the service's"
	case errors.Is(err, errInToken):
		return err.Error() + ": copy the folder broker/ of the stopped service, with token and PIN; an HSM has a backup of its own"
	case errors.Is(err, keystore.ErrExists):
		return "there are keys already, and they are never touched; where another service's are to come, use another --state folder"
	case errors.Is(err, file.ErrInUse):
		return err.Error() + ": stop the service that runs there (Ctrl-C at `passclave up`), then try again"
	}
	var refusal *wire.Error
	if !errors.As(err, &refusal) {
		return err.Error()
	}
	// What stands around the refusal stays.
	return strings.Replace(err.Error(), refusal.Error(), refusalWords(refusal), 1)
}

func refusalWords(e *wire.Error) string {
	text := sentence(e.Code)
	if e.Code == wire.CodePINWrong && e.AttemptsLeft != nil {
		text += ": " + count(int(*e.AttemptsLeft), "attempt") + " left"
	}
	var host *client.HostError
	var refused *policy.Refusal
	cause := e.Unwrap()
	switch {
	case errors.As(cause, &refused):
		text = refused.Error() // says it better: which fields, and what was found
	case errors.As(cause, &host) && host.Hint != "":
		text += fmt.Sprintf("; the host says, unproven: %s (%s)", sentence(host.Hint), host.Hint)
	case e.Code == wire.CodeNotFound && cause != nil:
		text = words(cause)
	case cause != nil:
		text += ": " + words(cause)
	}
	return fmt.Sprintf("%s (%s)", text, e.Code)
}

// explain returns [words] for an error, with what to do about it.
func explain(err error) string {
	text := words(err)
	var usage *usageError
	var refusal *wire.Error
	if errors.As(err, &usage) || !errors.As(err, &refusal) {
		return text
	}
	var nothing noEvidence
	if errors.As(err, &nothing) {
		return text + "\n  is the service running and ready (its operator looks at /readyz), and is this its URL? Nothing was learned about it"
	}
	if remedy := remedies[refusal.Code]; remedy != "" {
		return fmt.Sprintf("%s\n  %s", text, remedy)
	}
	return text
}
