package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// TestKillAtEveryFrame ends host or enclave with SIGKILL while one frame is on its
// way, for every frame of a commit and of a PIN attempt. A frame from the part that
// died still arrives: what it sent may be done.
func TestKillAtEveryFrame(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]flow{"create": createFlow, "wrong PIN": wrongPINFlow, "right PIN": rightPINFlow} {
		for _, part := range []stack.Part{stack.Host, stack.Enclave} {
			t.Run(name+"/"+string(part), func(t *testing.T) {
				t.Parallel()
				a := populated(t, newStack(t))
				frames := a.frames(f)
				for n := max(0, attempt(frames)); n < len(frames); n++ {
					a.killAt(f, part, n, frames)
				}
				a.s.commandLineFsck()
				a.s.noSecrets(a.laptop, a.phone)
			})
		}
	}
}

// killAt does a flow and kills a part while its nth frame is held.
func (a *attacked) killAt(f flow, part stack.Part, n int, frames []wire.FrameKind) {
	a.Helper()
	defer func() {
		if a.Failed() {
			a.Logf("%s was killed at frame %d of %v", part, n, frames)
		}
	}()
	run, check := f(a)
	a.s.connected()
	held := a.s.proxy.arm(n, late)
	restarted := make(chan func(), 1)
	go func() {
		<-held
		restarted <- a.s.kill(part)
		a.s.proxy.disarm()
	}()
	err := run(a.Context())
	select {
	case <-held:
	default:
		a.Fatalf("frame %d never came", n)
	}
	(<-restarted)()
	a.s.ready()
	a.s.log.Write([]byte("client | " + text(err) + "\n"))
	typed(a, err)
	check(err, n, frames, "killed "+string(part))
	a.s.whole(1)
}

func text(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

// TestKillEachPart ends every other part with SIGKILL; then everything at once.
func TestKillEachPart(t *testing.T) {
	t.Parallel()
	a := populated(t, newStack(t))
	site := &relyingParty{t, a.s.stack.RPURL, a.s.stack.RPURL}
	site.register(a.laptop, "alice")
	for _, part := range stack.Parts {
		a.s.kill(part)()
		a.s.ready()
		site.signIn(a.laptop, "alice")
		a.s.joined("alice", "after "+string(part), a.pin)
	}
	var back []func()
	for _, part := range stack.Parts {
		back = append(back, a.s.kill(part))
	}
	for _, wait := range back {
		wait()
	}
	a.s.ready()
	site.signIn(a.laptop, "alice")
	site.signIn(a.s.joined("alice", "last", a.pin), "alice")
	devices, err := a.laptop.Devices(t.Context())
	if err != nil || len(devices) != 2+len(stack.Parts)+1 {
		t.Fatalf("%d devices, %v", len(devices), err)
	}
	a.s.whole(1)
	a.s.commandLineFsck()
	a.s.noSecrets(a.laptop, a.phone)
}

// commandLineFsck runs the product's own check, from public keys in the kept evidence.
func (s *service) commandLineFsck() {
	s.t.Helper()
	out, err := exec.Command(filepath.Join(bin(s.t), "passclave"), "fsck", "--state", s.dir, "--policy", s.policyFile(), "--json").Output()
	var r struct {
		Whole    bool   `json:"whole"`
		Accounts uint64 `json:"accounts"`
		Entries  uint64 `json:"entries"`
	}
	if err != nil || json.Unmarshal(out, &r) != nil || !r.Whole || r.Accounts == 0 || r.Entries == 0 {
		s.t.Fatalf("passclave fsck: %v: %s", err, out)
	}
}

// noSecrets searches logs, errors and the database for what must not stand there.
func (s *service) noSecrets(devices ...*device) {
	s.t.Helper()
	places := map[string][]byte{"logs and errors": s.log.bytes()}
	if len(places["logs and errors"]) == 0 {
		s.t.Error("nothing was logged")
	}
	files, err := filepath.Glob(filepath.Join(s.folder, "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		if places[f], err = os.ReadFile(f); err != nil {
			s.t.Fatal(err)
		}
	}
	for what, secret := range s.secrets(devices...) {
		for place, content := range places {
			for form, b := range forms(secret) {
				if bytes.Contains(content, b) {
					s.t.Errorf("%s (%s) stands in %s", what, form, place)
				}
			}
		}
	}
}
