package rp

import (
	"errors"
	"strconv"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

func TestAccountsAreBounded(t *testing.T) {
	t.Parallel()
	s := &store{Accounts: make([]*account, maxAccounts)}
	for i := range s.Accounts {
		s.Accounts[i] = &account{Name: strconv.Itoa(i)}
	}
	var r *Refusal
	if _, err := s.make("one more"); !errors.As(err, &r) || r.Refused != "user" {
		t.Errorf("got %v", err)
	}
	if _, err := s.make("7"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	rp := &RP{sessions: map[pending]webauthn.SessionData{}}
	for i := range maxSessions + 10 {
		rp.remember(protocol.AssertCeremony, &webauthn.SessionData{Challenge: strconv.Itoa(i)})
	}
	if len(rp.sessions) != maxSessions {
		t.Errorf("%d sessions", len(rp.sessions))
	}
	newest := strconv.Itoa(maxSessions + 9)
	var r *Refusal
	if _, err := rp.take(protocol.CreateCeremony, newest); !errors.As(err, &r) || r.Refused != "challenge" {
		t.Errorf("a sign-in's challenge at a registration: %v", err)
	}
	if _, err := rp.take(protocol.AssertCeremony, newest); err != nil {
		t.Error(err)
	}
}
