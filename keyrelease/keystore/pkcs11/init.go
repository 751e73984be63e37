//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// InitToken makes a token with a label and PINs in the first slot that has none yet. A
// token that is initialised is never touched: where one has the label it is [ErrToken]. HSMs
// have tools of their own for this; SoftHSM's wants a terminal.
func InitToken(library, label string, officer, user PIN) (err error) {
	m := p11.New(library)
	if m == nil {
		return fmt.Errorf("%w: %s", ErrModule, library)
	}
	if err := m.Initialize(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrModule, library, err)
	}
	defer func() { err = errors.Join(err, m.Finalize()) }()
	slots, err := m.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("list the slots: %w", err)
	}
	var empty []uint
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		switch {
		case err != nil:
		case info.Flags&p11.CKF_TOKEN_INITIALIZED == 0:
			empty = append(empty, slot)
		case info.Label == label:
			return fmt.Errorf("%w: one is called %q already", ErrToken, label)
		}
	}
	if len(empty) == 0 {
		return fmt.Errorf("%w: no slot has a token that is not initialised", ErrToken)
	}
	if err := m.InitToken(empty[0], officer.text, label); err != nil {
		return fmt.Errorf("initialise the token: %w", err)
	}
	slot, _, err := findToken(m, label)
	if err != nil {
		return err
	}
	session, err := m.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	if err := m.Login(session, p11.CKU_SO, officer.text); err != nil {
		return fmt.Errorf("log in as security officer: %w", err)
	}
	if err := m.InitPIN(session, user.text); err != nil {
		return fmt.Errorf("set the user's PIN: %w", err)
	}
	return nil
}
