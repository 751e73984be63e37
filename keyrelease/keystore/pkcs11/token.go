//go:build cgo

package pkcs11

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/keyrelease/keystore"
)

// module is what is used of a PKCS#11 library. Tests put faults in between.
type module interface {
	Initialize(...p11.InitializeOption) error
	Finalize() error
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (p11.TokenInfo, error)
	GetMechanismList(slot uint) ([]*p11.Mechanism, error)
	OpenSession(slot, flags uint) (p11.SessionHandle, error)
	Login(p11.SessionHandle, uint, string) error
	CreateObject(p11.SessionHandle, []*p11.Attribute) (p11.ObjectHandle, error)
	DestroyObject(p11.SessionHandle, p11.ObjectHandle) error
	GetAttributeValue(p11.SessionHandle, p11.ObjectHandle, []*p11.Attribute) ([]*p11.Attribute, error)
	FindObjectsInit(p11.SessionHandle, []*p11.Attribute) error
	FindObjects(p11.SessionHandle, int) ([]p11.ObjectHandle, bool, error)
	FindObjectsFinal(p11.SessionHandle) error
	GenerateKey(p11.SessionHandle, []*p11.Mechanism, []*p11.Attribute) (p11.ObjectHandle, error)
	WrapKey(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle, p11.ObjectHandle) ([]byte, error)
}

const (
	maxSessions  = 8                      // at once
	connectPause = 500 * time.Millisecond // between two attempts to connect
)

// connection is one login at the token, good until it is lost.
type connection struct {
	module
	slot     uint
	label    string
	info     p11.TokenInfo
	sessions chan p11.SessionHandle // those that are free
	lost     atomic.Bool            // nothing more can be had from it
	known    *known                 // the store's
}

// session is a connection's session, used by one goroutine.
type session struct {
	*connection
	handle p11.SessionHandle
}

// isLost reports whether an error says that the connection is of no more use, whatever
// the reason: makers of HSMs do not agree on what they answer then.
func isLost(err error) bool {
	var code p11.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_SLOT_ID_INVALID,
		p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return true
	}
	return code >= p11.CKR_VENDOR_DEFINED
}

func isCode(err error, code uint) bool {
	var c p11.Error
	return errors.As(err, &c) && uint(c) == code
}

// do runs f with a session of its own. Where the connection turns out to be lost, f is
// run once more, after a new login, if it may be.
func (s *Store) do(ctx context.Context, again bool, f func(*session) error) error {
	err := s.once(ctx, f)
	if isLost(err) && again {
		err = s.once(ctx, f)
	}
	if isLost(err) {
		return fmt.Errorf("%w: %v", keystore.ErrUnavailable, err)
	}
	return err
}

func (s *Store) once(ctx context.Context, f func(*session) error) error {
	s.mu.RLock()
	if c := s.connection; c == nil || c.lost.Load() {
		s.mu.RUnlock()
		if err := s.connect(); err != nil {
			return err
		}
		s.mu.RLock()
	}
	defer s.mu.RUnlock()
	c := s.connection
	if c == nil {
		return fmt.Errorf("%w: the token was lost again", keystore.ErrUnavailable)
	}
	select {
	case handle := <-c.sessions:
		defer func() { c.sessions <- handle }()
		err := f(&session{c, handle})
		if isLost(err) && !c.lost.Swap(true) {
			s.config.Log.Warn("the token is lost", "token", s.config.Token, "error", err)
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: all sessions are in use: %w", keystore.ErrUnavailable, ctx.Err())
	}
}

// connect logs in anew, if nobody else just did. After an attempt the next one has to
// wait: a token that fails at every call must not be worn out by logins.
func (s *Store) connect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.connection; c != nil && !c.lost.Load() {
		return nil
	}
	if s.refused != nil {
		return s.refused
	}
	if now := s.now(); now.Before(s.next) {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, cmp.Or(s.failed, errors.New("the token was lost just now")))
	}
	if s.connection != nil {
		s.module.Finalize() // ends what is left of its sessions; it may be gone already
		s.connection = nil
	}
	c, err := s.login()
	s.next = s.now().Add(connectPause)
	if errors.Is(err, ErrPIN) {
		s.refused = err
		return err
	}
	if err != nil {
		s.failed = fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
		return s.failed
	}
	s.connection, s.failed = c, nil
	s.config.Log.Info("logged in at the token", "token", s.config.Token, "maker", c.info.ManufacturerID, "model", c.info.Model, "serial", c.info.SerialNumber)
	return nil
}

// login initialises the library, finds the token and logs in. The library's codes are not
// in the errors' chains: nobody is to take them for those of a session.
func (s *Store) login() (c *connection, err error) {
	unlock, err := s.lock(loginLockFile, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.module.Initialize(); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrModule, s.config.Module, err)
	}
	defer func() {
		if err != nil {
			s.module.Finalize()
		}
	}()
	slot, info, err := findToken(s.module, s.config.Token)
	if err != nil {
		return nil, err
	}
	if info.Flags&(p11.CKF_USER_PIN_COUNT_LOW|p11.CKF_USER_PIN_FINAL_TRY|p11.CKF_USER_PIN_LOCKED) != 0 {
		return nil, ErrPINCount
	}
	c = &connection{module: s.module, slot: slot, label: s.config.Token, info: info, known: &s.known, sessions: make(chan p11.SessionHandle, maxSessions)}
	for range maxSessions {
		handle, err := s.module.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if isCode(err, p11.CKR_SESSION_COUNT) && len(c.sessions) > 0 {
			break // the token has no more
		}
		if err != nil {
			return nil, fmt.Errorf("open a session: %v", err)
		}
		c.sessions <- handle
	}
	first := <-c.sessions
	switch err := s.module.Login(first, p11.CKU_USER, s.config.PIN.text); { // it counts for all
	case isCode(err, p11.CKR_PIN_INCORRECT), isCode(err, p11.CKR_PIN_LEN_RANGE), isCode(err, p11.CKR_PIN_INVALID),
		isCode(err, p11.CKR_PIN_LOCKED), isCode(err, p11.CKR_PIN_EXPIRED):
		return nil, fmt.Errorf("%w: %v", ErrPIN, err)
	case err != nil && !isCode(err, p11.CKR_USER_ALREADY_LOGGED_IN):
		return nil, fmt.Errorf("log in: %v", err)
	}
	c.sessions <- first
	return c, nil
}

// findToken returns the one slot whose token has the label.
func findToken(m module, label string) (uint, p11.TokenInfo, error) {
	slots, err := m.GetSlotList(true)
	if err != nil {
		return 0, p11.TokenInfo{}, fmt.Errorf("list the slots: %v", err)
	}
	var found []uint
	var info p11.TokenInfo
	for _, slot := range slots {
		i, err := m.GetTokenInfo(slot)
		if err == nil && i.Label == label && i.Flags&p11.CKF_TOKEN_INITIALIZED != 0 {
			found, info = append(found, slot), i
		}
	}
	if len(found) != 1 {
		return 0, p11.TokenInfo{}, fmt.Errorf("%w: %d of %d tokens are called %q", ErrToken, len(found), len(slots), label)
	}
	return found[0], info, nil
}

// present returns an error unless an empty answer of the token can be believed: the
// token is there, and did not show objects before of which none is left, as where somebody logged out.
func (x *session) present() error {
	info, err := x.GetTokenInfo(x.slot)
	if err != nil {
		return err
	}
	if info.Label != x.label {
		return p11.Error(p11.CKR_TOKEN_NOT_PRESENT)
	}
	if !x.known.any() {
		return nil
	}
	objects, err := x.find(ours())
	if err == nil && len(objects) == 0 {
		return errMissing
	}
	return err
}

// find returns all objects that match a template.
func (x *session) find(template []*p11.Attribute) (objects []p11.ObjectHandle, err error) {
	if err := x.FindObjectsInit(x.handle, template); err != nil {
		return nil, err
	}
	defer func() {
		if e := x.FindObjectsFinal(x.handle); err == nil {
			err = e
		}
	}()
	for {
		some, _, err := x.FindObjects(x.handle, 256)
		if err != nil || len(some) == 0 {
			return objects, err
		}
		objects = append(objects, some...)
	}
}

// destroy removes an object of the session. What cannot be removed would stay in a
// session that others use: then the connection is given up.
func (x *session) destroy(o p11.ObjectHandle) {
	if x.DestroyObject(x.handle, o) != nil {
		x.lost.Store(true)
	}
}
