package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Faults. With traffic, another call crosses while the frame is touched. With leaves,
// the client gives up as soon as it is; what arrives does so afterwards.
var faults = map[string]struct {
	fault                    fault
	traffic, leaves, arrives bool
}{
	"dropped":        {fault: drop},
	"truncated":      {fault: truncate},
	"repeated":       {fault: repeat},
	"swapped":        {fault: swap, traffic: true},
	"late":           {fault: late, leaves: true, arrives: true},
	"flipped length": {fault: flipLength, leaves: true},
	"flipped call":   {fault: flip(func(int) int { return 11 })},
	"flipped kind":   {fault: flipKind, leaves: true},
	"flipped middle": {fault: flip(func(n int) int { return (13 + n) / 2 })},
	"flipped end":    {fault: flip(func(n int) int { return n - 1 })},
}

// flipKind makes a frame another one. An answer that is none leaves the enclave waiting.
func flipKind(p *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
	if f.Kind == wire.FrameAnswer {
		defer p.hold()
	}
	f.Kind ^= 1
	return send(out, f.Append(nil))
}

// flipLength makes the receiver wait for a byte more, or take one less.
func flipLength(p *proxy, f wire.Frame, _ *bufio.Reader, out net.Conn) error {
	b := f.Append(nil)
	b[3] ^= 1
	defer p.hold()
	return send(out, b)
}

// TestFaultAtEveryFrame does one bad thing to one frame of a flow, for every frame.
// Whatever comes of it, the client gets success or a typed refusal, and afterwards
// nothing is lost, nothing done twice, and no guess judged that was not counted.
func TestFaultAtEveryFrame(t *testing.T) {
	t.Parallel()
	for name, f := range flows {
		for fault := range faults {
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				a := newAttacked(t)
				frames := a.frames(f)
				step := 1
				if testing.Short() || raceDetector {
					step = 4 // another of every four for each fault
				}
				for n := len(fault) % step; n < len(frames); n += step {
					a.attack(f, fault, n, frames)
				}
				a.s.whole(1)
			})
		}
	}
}

// attacked is an account whose service's frames are attacked: a laptop that enrolled,
// a phone that joined, one passkey.
type attacked struct {
	*testing.T
	s             *service
	laptop, phone *device
	pin           string // in force
	cases         int
}

// generous limits: the cases count on one account, all together.
const consecutive, lifetime = 5000, 10000

func newAttacked(t *testing.T) *attacked {
	return populated(t, newService(t, options{consecutive: consecutive, lifetime: lifetime}))
}

// populated makes the account on a service.
func populated(t *testing.T, s *service) *attacked {
	t.Helper()
	a := &attacked{T: t, s: s, pin: pin}
	a.laptop = a.s.enrolled("alice")
	if _, err := a.laptop.Create(t.Context(), site("first")); err != nil {
		t.Fatal(err)
	}
	a.phone = a.s.joined("alice", "phone", pin)
	return a
}

// flow is what is attacked. prepare makes what it needs and returns it as run, which
// is done under attack, and check, which is told the result and whether frames were
// touched on the way to the last frame.
type flow func(a *attacked) (run func(context.Context) error, check func(err error, n int, frames []wire.FrameKind, fault string))

// frames records the frames of a flow that nobody attacks.
func (a *attacked) frames(f flow) []wire.FrameKind {
	a.Helper()
	run, check := f(a)
	a.s.proxy.arm(-1, nil)
	err := run(a.Context())
	frames := slices.Clone(a.s.proxy.disarm())
	if err != nil && wire.CodeOf(err) != wire.CodePINWrong {
		a.Fatal(err)
	}
	check(err, -1, frames, "")
	return frames
}

func (a *attacked) attack(f flow, name string, n int, frames []wire.FrameKind) {
	a.Helper()
	defer func() {
		if a.Failed() {
			a.Logf("frame %d of %v was %s", n, frames, name)
		}
	}()
	run, check := f(a)
	a.s.connected()
	fault := faults[name]
	ctx, leave := context.WithCancel(a.Context())
	defer leave()
	touched := make(chan struct{})
	held := a.s.proxy.arm(n, func(p *proxy, f wire.Frame, in *bufio.Reader, out net.Conn) error {
		close(touched)
		return fault.fault(p, f, in, out)
	})
	reacted := make(chan struct{})
	go func() {
		defer close(reacted)
		select {
		case <-held:
		case <-ctx.Done():
			return
		}
		if fault.traffic {
			a.s.status(ctx)
		}
		if fault.leaves {
			leave()
		}
	}()
	err := run(ctx)
	leave()
	<-reacted
	a.s.proxy.disarm()
	select {
	case <-touched:
	default:
		a.Fatalf("frame %d never came", n)
	}
	if !fault.arrives {
		a.s.proxy.cut() // who still waits for what the fault took waits no longer
	}
	typed(a, err)
	if n < len(frames) && damages(frames[n], name) {
		a.damaged()
		*a = *newAttacked(a.T)
		return
	}
	check(err, n, frames, name)
	a.s.whole(1)
}

// damages reports whether a fault changes what the host is told to store. Frames have
// no checksum: such a host has chosen to keep something else.
func damages(k wire.FrameKind, fault string) bool {
	return (k == wire.FrameAppend || k == wire.FrameCommit) && (fault == "flipped middle" || fault == "flipped end")
}

// damaged demands that a host which stored something else has harmed the availability
// of this account, and nothing else: every refusal has its code, what the device holds
// stays readable, other accounts go on.
func (a *attacked) damaged() {
	a.Helper()
	_, err := a.laptop.Sync(a.Context())
	typed(a, err)
	if l, err := a.laptop.List(a.Context()); err == nil && len(l.Passkeys) == 0 {
		a.Fatal("the laptop's own list is gone")
	}
	_, err = a.phone.SignIn(a.Context(), client.SignInRequest{RPID: "site.test"})
	typed(a, err)
	bob := a.s.enrolled("bob")
	if _, err := bob.Create(a.Context(), site("bob")); err != nil {
		a.Fatal(err)
	}
	bob.sync()
	for _, f := range findings(a, a.s.folder, a.s.verifier()) {
		if f.Account == nil || *f.Account != a.laptop.Status().Account {
			a.Fatalf("fsck: %s", f)
		}
	}
}

// done reports whether a call says that its command was done.
func done(err error) bool {
	var after *client.AfterError
	return err == nil || errors.As(err, &after)
}

// rose returns by how much the history has grown in a kind since before.
func (a *attacked) rose(before map[ledger.Kind]uint64, k ledger.Kind) uint64 {
	a.Helper()
	return a.laptop.counted()[k] - before[k]
}

func (a *attacked) atMostOnce(what string, n uint64, err error) {
	a.Helper()
	if n > 1 || done(err) && n == 0 {
		a.Fatalf("%s %d times, while the client was told: %v", what, n, err)
	}
}

var flows = map[string]flow{
	"create":    createFlow,
	"wrong PIN": wrongPINFlow,
	"right PIN": rightPINFlow,
	"pin set":   pinSetFlow,
	"revoke":    revokeFlow,
}

type (
	running  = func(context.Context) error
	checking = func(error, int, []wire.FrameKind, string)
)

func createFlow(a *attacked) (running, checking) {
	a.cases++
	user := fmt.Sprint("user", a.cases)
	run := func(ctx context.Context) error {
		_, err := a.laptop.Create(ctx, site(user))
		return err
	}
	return run, func(err error, _ int, _ []wire.FrameKind, _ string) {
		pending := a.laptop.Status().Pending != ""
		settled := a.laptop.sync().Settled
		made := len(a.laptop.passkeysOf(user))
		a.atMostOnce("made", uint64(made), err)
		if pending && (settled == nil || settled.Done != (made == 1)) {
			a.Fatalf("%d passkeys were made, the sync says %+v", made, settled)
		}
		if made == 0 {
			if err := run(a.Context()); err != nil {
				a.Fatal("again: ", err)
			}
		}
		a.phone.sync()
		if n := len(a.phone.passkeysOf(user)); n != 1 {
			a.Fatalf("the phone has %d passkeys", n)
		}
	}
}

func wrongPINFlow(a *attacked) (running, checking) {
	guest := a.s.newDevice("alice")
	before := a.laptop.counted()
	run := func(ctx context.Context) error {
		_, err := guest.Join(ctx, "guest", wrongPIN)
		return err
	}
	return run, func(err error, n int, frames []wire.FrameKind, fault string) {
		told := wire.CodeOf(err) == wire.CodePINWrong
		now := a.laptop.counted()
		reserved, judged := now[ledger.KindReserve]-before[ledger.KindReserve], now[ledger.KindWrong]-before[ledger.KindWrong]
		if err == nil || reserved > 1 || judged > reserved || told && reserved != 1 {
			a.Fatalf("%d attempts counted, %d results written, the client was told: %v", reserved, judged, err)
		}
		if n == attempt(frames) && (fault == "dropped" || fault == "truncated") && (told || reserved != 0) {
			a.Fatalf("the client repeated an attempt by itself: %d counted, %v", reserved, err)
		}
		// One more guess is told what is left: nothing of what was counted came back.
		_, err = guest.Join(a.Context(), "guest", wrongPIN)
		kinds := a.laptop.counted()
		wantLeft(a, err, wire.CodePINWrong, consecutive-(kinds[ledger.KindReserve]-kinds[ledger.KindJoin]))
	}
}

// attempt is the frame that carries the PIN attempt: the last request before the
// first entry.
func attempt(frames []wire.FrameKind) int {
	at := -1
	for i, k := range frames {
		switch k {
		case wire.FrameRequest:
			at = i
		case wire.FrameAppend:
			return at
		}
	}
	return -1
}

func rightPINFlow(a *attacked) (running, checking) {
	guest := a.s.newDevice("alice")
	before := a.laptop.counted()
	run := func(ctx context.Context) error {
		_, err := guest.Join(ctx, "guest", a.pin)
		return err
	}
	return run, func(err error, n int, frames []wire.FrameKind, fault string) {
		reserved, joins := a.rose(before, ledger.KindReserve), a.rose(before, ledger.KindJoin)
		if reserved > 1 || joins > reserved || done(err) && joins != 1 {
			a.Fatalf("%d attempts counted, %d joins, the client was told: %v", reserved, joins, err)
		}
		if n == attempt(frames) && (fault == "dropped" || fault == "truncated") && reserved != 0 {
			a.Fatalf("the client repeated an attempt by itself: %v", err)
		}
		_, err = guest.Sync(a.Context())
		switch {
		case joins == 1 && err != nil:
			a.Fatalf("joined, and its sync ends with: %v", err)
		case joins == 0 && !errors.Is(err, client.ErrNotMember) && wire.CodeOf(err) != wire.CodeUnknownDevice:
			a.Fatalf("not joined, and its sync ends with: %v", err)
		case joins == 0:
			if err := run(a.Context()); err != nil {
				a.Fatal("again: ", err)
			}
			guest.sync()
		}
		if len(guest.passkeysOf("first")) != 1 {
			a.Fatal("the new device lacks the passkey")
		}
	}
}

func pinSetFlow(a *attacked) (running, checking) {
	a.cases++
	before := a.laptop.counted()
	next := fmt.Sprint(730264 + 37*a.cases)
	run := func(ctx context.Context) error { return a.laptop.PINSet(ctx, next) }
	return run, func(err error, _ int, _ []wire.FrameKind, _ string) {
		a.laptop.sync()
		set := a.rose(before, ledger.KindPINSet)
		a.atMostOnce("set", set, err)
		if set == 0 {
			a.s.joined("alice", "with the old PIN", a.pin)
			if err := run(a.Context()); err != nil {
				a.Fatal("again: ", err)
			}
		}
		_, err = a.s.newDevice("alice").Join(a.Context(), "guest", a.pin)
		wantLeft(a, err, wire.CodePINWrong, consecutive-1)
		a.pin = next
		a.s.joined("alice", "with the new PIN", next)
		a.goesOn()
	}
}

func revokeFlow(a *attacked) (running, checking) {
	guest := a.s.joined("alice", "guest", a.pin)
	before := a.laptop.counted()
	run := func(ctx context.Context) error { return a.laptop.Revoke(ctx, guest.ID()) }
	return run, func(err error, _ int, _ []wire.FrameKind, _ string) {
		a.laptop.sync()
		revoked := a.rose(before, ledger.KindRevoke)
		a.atMostOnce("revoked", revoked, err)
		if revoked == 0 {
			guest.sync()
			if err := run(a.Context()); err != nil {
				a.Fatal("again: ", err)
			}
		}
		_, err = guest.Sync(a.Context())
		wantCode(a, err, wire.CodeUnknownDevice)
		a.goesOn()
	}
}

// goesOn demands that the phone, which did nothing, follows into the epoch in force.
func (a *attacked) goesOn() {
	a.Helper()
	a.phone.sync()
	k := a.phone.passkeysOf("first")
	if len(k) != 1 || a.phone.Status().Epoch != a.laptop.Status().Epoch {
		a.Fatalf("the phone is in epoch %d with %d passkeys", a.phone.Status().Epoch, len(k))
	}
	if _, err := a.phone.Assert(a.Context(), client.AssertRequest{Handle: k[0].Handle}); err != nil {
		a.Fatal(err)
	}
}
