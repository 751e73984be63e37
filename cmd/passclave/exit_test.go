package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/wire"
)

// The table is what help promises to scripts.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	refusal := func(c wire.Code) error { return fmt.Errorf("wrapped: %w", wire.NewError(c, errors.New("cause"))) }
	for name, c := range map[string]struct {
		err  error
		exit int
		code string
	}{
		"any":             {errors.New("any"), 1, "error"},
		"usage":           {usagef("wrong"), 8, "usage"},
		"policy":          {refusal(wire.CodePolicy), 2, "policy"},
		"evidence":        {refusal(wire.CodeEvidence), 3, "evidence"},
		"PIN wrong":       {refusal(wire.CodePINWrong), 4, "pin-wrong"},
		"PIN locked":      {refusal(wire.CodePINLocked), 5, "pin-locked"},
		"revoked":         {refusal(wire.CodeUnknownDevice), 6, "unknown-device"},
		"not a member":    {client.ErrNotMember, 6, "not-a-member"},
		"fork":            {refusal(wire.CodeFork), 7, "fork"},
		"rollback":        {refusal(wire.CodeRollback), 7, "rollback"},
		"head mismatch":   {refusal(wire.CodeHeadMismatch), 7, "head-mismatch"},
		"record mismatch": {refusal(wire.CodeRecordMismatch), 7, "record-mismatch"},
		"entry":           {refusal(wire.CodeEntry), 7, "entry"},
		"receipt":         {refusal(wire.CodeReceipt), 7, "receipt"},
		"local code":      {client.ErrWrongCode, 9, "code-wrong"},
		"unavailable":     {refusal(wire.CodeUnavailable), 1, "unavailable"},
		"replayed":        {refusal(wire.CodeReplayed), 1, "replayed"},
		"PIN refused":     {&client.PINError{Reason: "a run"}, 1, "pin-refused"},
		"no profile":      {client.ErrNoProfile, 1, "no-profile"},
		"in use":          {client.ErrProfileInUse, 1, "profile-in-use"},
		"after an alarm":  {&client.AfterError{Err: refusal(wire.CodeFork)}, 7, "fork"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := exitCode(c.err); got != c.exit {
				t.Errorf("exit code %d, not %d", got, c.exit)
			}
			if j := toJSON(c.err); j.Code != c.code || j.Exit != c.exit {
				t.Errorf("JSON says %q and %d, not %q", j.Code, j.Exit, c.code)
			}
		})
	}
	if exitCode(nil) != 0 {
		t.Error("nil")
	}
}

// What the host said in the clear stands apart from what is believed.
func TestHostHint(t *testing.T) {
	t.Parallel()
	err := wire.NewError(wire.CodeUnsealedAnswer, &client.HostError{Status: 503, Hint: wire.CodeUnknownDevice})
	if j := toJSON(err); j.Code != "unsealed-answer" || j.HostHint != "unknown-device" || j.Exit != 1 {
		t.Errorf("%+v", j)
	}
}

// Names that others chose do not reach the terminal as they are.
func TestPrintable(t *testing.T) {
	t.Parallel()
	if got := printable("a\x1b[2Jb\nc\u202ed é"); got != "a�[2Jb�c�d é" {
		t.Errorf("%q", got)
	}
}

// People read a sentence first, and the code behind it.
func TestWords(t *testing.T) {
	t.Parallel()
	left := uint64(9)
	for want, err := range map[string]error{
		"wrong PIN: 9 attempts left (pin-wrong)":                                                        &wire.Error{Code: wire.CodePINWrong, AttemptsLeft: &left},
		`no device "x" in this account (not-found)`:                                                     wire.Errorf(wire.CodeNotFound, "no device %q in this account", "x"),
		"done, but afterwards: another device was faster: what you changed is not as it was (conflict)": &client.AfterError{Err: &wire.Error{Code: wire.CodeConflict}},
		"the answer did not come from the enclave; the host says, unproven: the enclave has no key-encryption key yet (sealed) (unsealed-answer)": wire.NewError(
			wire.CodeUnsealedAnswer, &client.HostError{Status: 503, Hint: wire.CodeSealed}),
	} {
		if got := words(err); got != want {
			t.Errorf("%q, not %q", got, want)
		}
		if got := toJSON(err).Message; got != want {
			t.Errorf("JSON: %q, not %q", got, want)
		}
	}
	if got := words(fmt.Errorf("state/broker: %w", file.ErrInUse)); !strings.Contains(got, "stop the service") {
		t.Errorf("%q", got)
	}
	locked := uint64(0)
	if got := words(&wire.Error{Code: wire.CodePINLocked, AttemptsLeft: &locked}); got != "the account is locked: its limit of PIN attempts is reached (pin-locked)" {
		t.Errorf("%q", got)
	}
}

// Every code of the protocol has its sentence.
func TestEveryCodeHasASentence(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../wire/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`Code = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(codes) < 40 {
		t.Fatalf("%d codes", len(codes))
	}
	for _, c := range codes {
		if sentences[wire.Code(c[1])] == "" {
			t.Errorf("%s", c[1])
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"1 passkey": count(1, "passkey"), "0 passkeys": count(0, "passkey"), "1 entry": count(1, "entry"), "2 entries": count(2, "entry"),
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
