package client

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/passclave/passclave/wire"
)

// Options is what a [Device] is made of.
type Options struct {
	Storage Storage      // required
	HTTP    *http.Client // nil: http.DefaultClient. Redirects are never followed.
	Login   LoginFunc    // for calls that log in
	Issuer  string       // which of the measured configuration's issuers; the first where empty

	// Keys that live elsewhere than in the profile. Where nil, the profile holds
	// software keys, and [Status] says so.
	DeviceKey     DeviceKey
	EncryptionKey EncryptionKey

	// UV proves user verification. Where nil, the profile holds a software UV key
	// and Code asks for the local code that seals it.
	UV   UserVerifier
	Code CodeFunc

	// CodeCost is what sealing a new software UV key costs: [DefaultCodeCost] where
	// zero. Less makes the local code cheaper to guess.
	CodeCost wire.Argon2id

	newJudge func(trustPolicy []byte) (judge, error) // tests judge evidence by themselves
}

func (o *Options) service(url string, trustPolicy []byte) (*Service, error) {
	if o.newJudge == nil {
		return NewService(url, trustPolicy, o.HTTP)
	}
	j, err := o.newJudge(trustPolicy)
	if err != nil {
		return nil, err
	}
	return newService(url, j, o.HTTP)
}

// Device is this device: a profile, and the service it belongs to.
type Device struct {
	options Options
	storage Storage
	service *Service
	key     DeviceKey
	kem     EncryptionKey
	wait    func(ctx context.Context, d time.Duration) error

	mu      sync.Mutex // held through every call
	p       *profile
	session *Attested
	cache   *recordCache // nil until loaded
	held    bool         // what the profile says is not decided: it is not saved
}

// New makes a profile for the service at url and pins trustPolicy, a policy file
// that the person got from elsewhere than from the service. [ErrProfileExists]: the
// storage holds one. Nothing is sent yet.
func New(ctx context.Context, url string, trustPolicy []byte, o Options) (*Device, error) {
	if exists, err := profileExists(ctx, o.Storage); err != nil {
		return nil, err
	} else if exists {
		return nil, ErrProfileExists
	}
	p := &profile{Version: profileVersion, URL: url, Policy: trustPolicy}
	if o.DeviceKey == nil || o.EncryptionKey == nil {
		keys, err := newSoftwareKeys()
		if err != nil {
			return nil, err
		}
		p.Keys = keys
	}
	d, err := newDevice(p, o)
	if err != nil {
		return nil, err
	}
	return d, d.save(ctx)
}

// Open loads a profile that [New] made. [ErrNoProfile]: there is none.
func Open(ctx context.Context, o Options) (*Device, error) {
	p, err := loadProfile(ctx, o.Storage)
	if err != nil {
		return nil, err
	}
	return newDevice(p, o)
}

func newDevice(p *profile, o Options) (*Device, error) {
	service, err := o.service(p.URL, p.Policy)
	if err != nil {
		return nil, err
	}
	d := &Device{options: o, storage: o.Storage, service: service, p: p, wait: sleep}
	if p.Keys != nil {
		if d.key, d.kem, err = p.Keys.open(); err != nil {
			return nil, err
		}
	}
	if o.DeviceKey != nil {
		d.key = o.DeviceKey
	}
	if o.EncryptionKey != nil {
		d.kem = o.EncryptionKey
	}
	if d.key == nil || d.kem == nil {
		return nil, wire.Errorf(wire.CodeArgument, "the profile's keys are elsewhere and were not given")
	}
	return d, nil
}

// ID is the device's ID in its account.
func (d *Device) ID() wire.DeviceID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id()
}

func (d *Device) id() wire.DeviceID { return wire.NewDeviceID(d.p.Account, d.key.Public()) }

// Service returns the service that the profile belongs to.
func (d *Device) Service() *Service { return d.service }

// TrustPolicy returns the pinned trust policy.
func (d *Device) TrustPolicy() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.p.Policy)
}

// PinTrustPolicy puts another trust policy in the place of the pinned one. The
// caller has shown the difference to the person (policy.Diff) and got a yes.
//
// The pinned ledger stays, with one exception: where the policy demands a later genesis of
// that very ledger, it is pinned instead. What the device remembers of its account stays,
// so the account goes on only if the service still has it ([Device.Confirm]).
func (d *Device) PinTrustPolicy(ctx context.Context, trustPolicy []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	service, err := d.options.service(d.p.URL, trustPolicy)
	if err != nil {
		return err
	}
	d.p.Policy = slices.Clone(trustPolicy)
	if l := service.judge.genesis(); l != nil {
		d.p.later(l)
	}
	d.service, d.session = service, nil
	return d.save(ctx)
}

// Status is what a device knows without asking anybody.
type Status struct {
	URL          string
	Account      wire.AccountID
	Device       wire.DeviceID
	Name         string
	Member       bool
	Removed      bool // a sealed answer said that the device was revoked
	Young        bool // joined by PIN: may not revoke others or set the PIN yet
	Generation   uint64
	Epoch        uint64
	Remembered   wire.Head        // the newest place in the account's history
	Freshness    string           // wire.FreshnessLocal; empty before the first evidence
	SoftwareKeys bool             // the device's keys lie in the profile, in the clear
	SoftwareUV   bool             // user verification is a key sealed by a local code
	Pending      wire.CommandName // a request whose outcome is not known yet; empty if none
	Unshown      int              // notices
	Alarm        *Alarm
}

// Status returns what the device knows. It reads the profile only.
func (d *Device) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.p
	s := Status{
		URL: p.URL, Account: p.Account, Device: d.id(), Name: p.Name,
		Member: p.Member, Removed: p.Removed, Young: p.Young, Generation: p.Gen,
		Remembered: p.Known, SoftwareKeys: p.Keys != nil, SoftwareUV: d.options.UV == nil,
		Pending: p.Joining, Unshown: len(p.Notices),
	}
	if e := p.epoch(); e != nil {
		s.Epoch = e.Epoch
	}
	if p.Ledger != nil {
		s.Freshness = p.Ledger.Backend
	}
	if p.Pending != nil {
		s.Pending = p.Pending.Command
	}
	if p.Alarm != nil {
		a := *p.Alarm
		s.Alarm = &a
	}
	return s
}

// ClearAlarm takes the alarm away after a person has looked at it. The remembered
// head stays: a service that still shows another history raises it again.
func (d *Device) ClearAlarm(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p.Alarm = nil
	return d.save(ctx)
}

func (d *Device) member() error {
	if !d.p.Member {
		return ErrNotMember
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
