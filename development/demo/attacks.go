package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

func (s *story) olderHead(ctx context.Context) error {
	old, err := s.evil.Snapshot()
	if err != nil {
		return err
	}
	if err := s.rename(ctx, "Alice's passkey"); err != nil { // from here on, the snapshot is old
		return err
	}
	s.evil.ServeOlder(old)
	defer s.evil.Honest()
	_, err = s.refused(ctx, exitAlarm, "rollback", "tablet", secrets{code}, s.signInLine()...)
	return err
}

func (s *story) rename(ctx context.Context, label string) error {
	return s.done(ctx, "laptop", nil, nil, "passkey", "rename", s.passkey, label)
}

func (s *story) uncommittedHead(ctx context.Context) error {
	s.evil.WithholdCommits()
	defer s.evil.Honest()
	r, err := s.run(ctx, "laptop", nil, "passkey", "rename", s.passkey, "never committed")
	if err != nil {
		return err
	}
	if r.exit == 0 {
		return mismatch("a rename whose commit was withheld", "success", "a refusal")
	}
	s.say("not done: %s", r.err.Message)
	if err := s.evil.ServeUncommitted(); err != nil {
		return err
	}
	_, err = s.refused(ctx, exitAlarm, "head-mismatch", "tablet", secrets{code}, s.signInLine()...)
	return err
}

func (s *story) swappedRecord(ctx context.Context) error {
	if _, err := s.create(ctx, "laptop", "bob"); err != nil { // a second passkey, to swap with
		return err
	}
	s.evil.SwapRecords()
	defer s.evil.Honest()
	_, err := s.refused(ctx, exitAlarm, "record-mismatch", "tablet", secrets{code}, s.signInLine()...)
	return err
}

func (s *story) replay(ctx context.Context) error {
	if err := s.signIn(ctx, "tablet"); err != nil {
		return err
	}
	envelope, err := s.evil.Captured()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.options.Out, "   $ POST %s/v1/request  (the same %d bytes)\n", s.stack.URL, len(envelope))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.stack.URL+"/v1/request", bytes.NewReader(envelope))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/cbor")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode == http.StatusOK {
		return mismatch("HTTP status", answer.StatusCode, "a refusal")
	}
	var refusal wire.Error
	if err := wire.Unmarshal(body, &refusal); err != nil {
		return err
	}
	s.say("refused: the enclave has seen this very request before (%s), HTTP status %d", refusal.Code, answer.StatusCode)
	return must("code", refusal.Code, wire.CodeReplayed)
}

func (s *story) honestAgain(ctx context.Context) error {
	if err := s.rename(ctx, "Alice's passkey, again"); err != nil {
		return err
	}
	if err := first(s.signIn(ctx, "tablet"), s.signIn(ctx, "laptop")); err != nil {
		return err
	}
	var f struct {
		Whole    bool   `json:"whole"`
		Accounts uint64 `json:"accounts"`
		Entries  uint64 `json:"entries"`
	}
	if err := s.done(ctx, "laptop", nil, &f, "fsck", "--state", s.state()); err != nil {
		return err
	}
	s.say("fsck: one account with %d entries, all whole", f.Entries)
	return first(must("whole", f.Whole, true), must("accounts", f.Accounts, 1))
}

func (s *story) otherBuild(ctx context.Context) error {
	other := filepath.Join(s.dir, "passclave-enclave-other")
	binary, err := os.ReadFile(filepath.Join(s.options.Bin, "passclave-enclave"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(other, append(binary, 0), 0o700); err != nil {
		return err
	}
	s.stack.SetBinary(stack.Enclave, other)
	if err := first(s.stack.Restart(ctx, stack.Enclave), s.forbidden(ctx)); err != nil {
		return err
	}
	r, err := s.refused(ctx, 1, "unsealed-answer", "laptop", secrets{code}, s.signInLine()...)
	if err != nil {
		return err
	}
	return must("what the host says", r.err.HostHint, "sealed")
}

// forbidden waits until the enclave was refused its key: the host says that it has
// none, and the enclave logs why.
func (s *story) forbidden(ctx context.Context) error {
	refusal := fmt.Sprintf("%s at %s", keyrelease.ReasonForbidden, keyrelease.StepRelease)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := s.stack.Ready(ctx)
		var not *stack.NotReadyError
		switch {
		case err == nil:
			return mismatch("the service", "ready", "without its key")
		case errors.As(err, &not) && strings.Contains(not.Reason, "enclave-sealed") && strings.Contains(s.stack.LastLine(stack.Enclave), refusal):
			s.say("the broker releases no key: %s", refusal)
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the broker has not refused: %w", err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (s *story) collusion(ctx context.Context) error {
	if err := s.releaseToAny(ctx); err != nil {
		return err
	}
	if err := first(s.stack.Restart(ctx, stack.Enclave), s.ready(ctx)); err != nil {
		return err
	}
	s.say("the broker releases the key to the other build: it answers")
	if err := s.refusesMeasurement(ctx); err != nil {
		return err
	}
	_, err := s.refused(ctx, exitPolicy, "policy", "laptop", secrets{code}, s.signInLine()...)
	return err
}

// releaseToAny takes the measurement out of the KEK's release policy.
func (s *story) releaseToAny(ctx context.Context) error {
	var err error
	if s.release, err = s.stack.ReleasePolicy(); err != nil {
		return err
	}
	loose, err := withoutMeasurement(s.release)
	if err != nil {
		return err
	}
	return s.stack.SetReleasePolicy(ctx, loose)
}

// withoutMeasurement drops one claim of a release policy.
func withoutMeasurement(data []byte) ([]byte, error) {
	var p struct {
		Version string `json:"version"`
		AnyOf   []struct {
			Authority string           `json:"authority"`
			AllOf     []map[string]any `json:"allOf"`
		} `json:"anyOf"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	for i := range p.AnyOf {
		p.AnyOf[i].AllOf = slices.DeleteFunc(p.AnyOf[i].AllOf, func(c map[string]any) bool {
			return c["claim"] == "x-ms-sevsnpvm-launchmeasurement"
		})
	}
	return json.Marshal(p)
}

// refusesMeasurement runs verify, which must refuse the measurement and nothing else.
func (s *story) refusesMeasurement(ctx context.Context) error {
	r, err := s.run(ctx, "laptop", nil, "verify")
	if err != nil {
		return err
	}
	if err := must("exit code", r.exit, exitPolicy); err != nil {
		return err
	}
	var v verification
	if err := decode(r.out, &v); err != nil {
		return err
	}
	var wrong []string
	for _, f := range v.Findings {
		if f.Verdict == "refused" {
			wrong = append(wrong, f.Name)
		}
	}
	s.say("refused by the policy: %s (exit code %d)", strings.Join(wrong, ", "), r.exit)
	return must("what was refused", strings.Join(wrong, ", "), string(policy.FieldMeasurement))
}
