//go:build cgo

package pkcs11

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/passclave/passclave/development/softhsm/softhsmtest"
)

// faulty is SoftHSM's library, but for what a test puts between.
type faulty struct {
	*p11.Ctx
	library string

	mu     sync.Mutex
	before func(call string) error             // guarded by mu; an error is the answer, and nothing is done
	after  func(call string) error             // guarded by mu; it was done, and this is the answer
	info   func(*p11.TokenInfo)                // guarded by mu; changes what the token says of itself
	list   func(mechanisms []uint) []uint      // guarded by mu
	wrap   func(mechanism uint) []byte         // guarded by mu; not nil: the answer
	seen   func(call string, answer ...[]byte) // guarded by mu; what came out of the library

	clock  atomic.Int64 // seconds
	logins atomic.Int64
	starts atomic.Int64 // of the library
}

func (k *token) newFaulty(t testing.TB) *faulty {
	t.Helper()
	f := &faulty{library: k.place.Library(t)}
	if f.Ctx = p11.New(f.library); f.Ctx == nil {
		t.Fatal("the library does not load")
	}
	return f
}

// openFaulty opens a token by a library with faults, and a clock that stands.
func (k *token) openFaulty(t testing.TB) (*Store, *faulty) {
	t.Helper()
	f := k.newFaulty(t)
	s, err := f.open(k.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, f
}

func (f *faulty) open(c Config) (*Store, error) {
	s, err := open(c, f)
	if err == nil {
		s.now = func() time.Time { return time.Unix(2e9+f.clock.Load(), 0) }
	}
	return s, err
}

// later lets the time pass that a store waits before it logs in again.
func (f *faulty) later() { f.clock.Add(1) }

// set changes the faults.
func (f *faulty) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *faulty) heal() {
	f.set(func() { f.before, f.after, f.info, f.list, f.wrap = nil, nil, nil, nil, nil })
}

// failing returns the fault that the first call of a name gets, and no other.
func failing(call string, err error) func(string) error {
	var done atomic.Bool
	return func(c string) error {
		if c == call && !done.Swap(true) {
			return err
		}
		return nil
	}
}

func (f *faulty) ask(hook *func(string) error, call string) error {
	f.mu.Lock()
	h := *hook
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	return h(call)
}

// do runs a call between its faults.
func (f *faulty) do(call string, run func() error) error {
	if err := f.ask(&f.before, call); err != nil {
		return err
	}
	return errors.Join(run(), f.ask(&f.after, call))
}

func (f *faulty) Initialize(o ...p11.InitializeOption) error {
	f.starts.Add(1)
	softhsmtest.Initializing.Lock()
	defer softhsmtest.Initializing.Unlock()
	return f.do("Initialize", func() error { return f.Ctx.Initialize(o...) })
}

func (f *faulty) GetTokenInfo(slot uint) (info p11.TokenInfo, err error) {
	err = f.do("GetTokenInfo", func() (err error) { info, err = f.Ctx.GetTokenInfo(slot); return err })
	f.set(func() {
		if f.info != nil {
			f.info(&info)
		}
	})
	return info, err
}

func (f *faulty) GetMechanismList(slot uint) ([]*p11.Mechanism, error) {
	all, err := f.Ctx.GetMechanismList(slot)
	var list []uint
	for _, m := range all {
		list = append(list, m.Mechanism)
	}
	f.set(func() {
		if f.list != nil {
			list = f.list(list)
		}
	})
	all = nil
	for _, m := range list {
		all = append(all, p11.NewMechanism(m, nil))
	}
	return all, err
}

func (f *faulty) OpenSession(slot, flags uint) (h p11.SessionHandle, err error) {
	err = f.do("OpenSession", func() (err error) { h, err = f.Ctx.OpenSession(slot, flags); return err })
	return h, err
}

func (f *faulty) Login(h p11.SessionHandle, user uint, pin string) error {
	f.logins.Add(1)
	return f.do("Login", func() error { return f.Ctx.Login(h, user, pin) })
}

func (f *faulty) CreateObject(h p11.SessionHandle, template []*p11.Attribute) (o p11.ObjectHandle, err error) {
	err = f.do("CreateObject", func() (err error) { o, err = f.Ctx.CreateObject(h, template); return err })
	return o, err
}

func (f *faulty) DestroyObject(h p11.SessionHandle, o p11.ObjectHandle) error {
	return f.do("DestroyObject", func() error { return f.Ctx.DestroyObject(h, o) })
}

func (f *faulty) GetAttributeValue(h p11.SessionHandle, o p11.ObjectHandle, a []*p11.Attribute) (values []*p11.Attribute, err error) {
	err = f.do("GetAttributeValue", func() (err error) { values, err = f.Ctx.GetAttributeValue(h, o, a); return err })
	f.set(func() {
		for _, v := range values {
			if f.seen != nil {
				f.seen("GetAttributeValue", v.Value)
			}
		}
	})
	return values, err
}

func (f *faulty) FindObjectsInit(h p11.SessionHandle, template []*p11.Attribute) error {
	return f.do("FindObjectsInit", func() error { return f.Ctx.FindObjectsInit(h, template) })
}

func (f *faulty) GenerateKey(h p11.SessionHandle, m []*p11.Mechanism, template []*p11.Attribute) (o p11.ObjectHandle, err error) {
	err = f.do("GenerateKey", func() (err error) { o, err = f.Ctx.GenerateKey(h, m, template); return err })
	return o, err
}

func (f *faulty) WrapKey(h p11.SessionHandle, m []*p11.Mechanism, by, key p11.ObjectHandle) (out []byte, err error) {
	err = f.do("WrapKey", func() (err error) {
		f.mu.Lock()
		wrap := f.wrap
		f.mu.Unlock()
		if wrap != nil {
			if out = wrap(m[0].Mechanism); out != nil {
				return nil
			}
		}
		out, err = f.Ctx.WrapKey(h, m, by, key)
		return err
	})
	f.set(func() {
		if f.seen != nil {
			f.seen("WrapKey", out)
		}
	})
	return out, err
}
