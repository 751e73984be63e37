package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/wire"
)

// keyStore is the broker's, which sees at each call what an operator changed.
func (s *service) keyStore() *file.Store {
	s.t.Helper()
	f, err := file.Open(filepath.Join(s.dir, string(stack.Broker)))
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// rotated adds a version to the KEK and returns its name.
func (s *service) rotated() string {
	s.t.Helper()
	name := s.configuration.KeyService.Key
	versions, err := s.keyStore().Versions(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := s.keyStore().Rotate(s.t.Context(), name, versions[len(versions)-1].Policy)
	if err != nil {
		s.t.Fatal(err)
	}
	return v.ID
}

// enabled switches a version of the KEK on or off, and restarts the enclave.
func (s *service) enabled(version string, on bool) {
	s.t.Helper()
	if err := s.keyStore().SetEnabled(s.t.Context(), s.configuration.KeyService.Key, version, on); err != nil {
		s.t.Fatal(err)
	}
	s.kill(stack.Enclave)()
	s.ready()
}

// resealed is what `passclave keys reseal` prints.
type resealed struct {
	KEK     string            `json:"kek"`
	Done    uint64            `json:"done"`
	Refused uint64            `json:"refused"`
	Left    uint64            `json:"left"`
	Wraps   map[string]uint64 `json:"wraps"`
	Lineage bool              `json:"lineage"`
}

// reseal runs the command and wants an exit code.
func (s *service) reseal(want int) (out resealed) {
	s.t.Helper()
	printed, err := exec.Command(filepath.Join(bin(s.t), "passclave"), "keys", "reseal", "--state", s.dir, "--json").Output()
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	if code != want || json.Unmarshal(printed, &out) != nil {
		s.t.Fatalf("exit code %d: %s", code, printed)
	}
	return out
}

// TestRotation is a rotation to its end: the KEK gets a second version, every account is
// brought under it, also one that nobody touches, and the first version is disabled. Then
// once more with the reseal left out, which is mended by enabling the version again.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", s.log.bytes())
		}
	})
	laptop, idle := s.enrolled("alice"), s.enrolled("bob")
	made, err := laptop.Create(t.Context(), site("under the first"))
	if err != nil {
		t.Fatal(err)
	}
	first := s.keks[0].Version
	second := s.rotated()

	// The host is killed while it reseals, and begins again.
	held := s.proxy.arm(1, late)
	ended := make(chan error, 1)
	go func() {
		ended <- exec.Command(filepath.Join(bin(t), "passclave"), "keys", "reseal", "--state", s.dir).Run()
	}()
	<-held
	restarted := s.kill(stack.Host)
	if err := <-ended; err == nil {
		t.Fatal("the command takes a host that was killed for done")
	}
	s.proxy.disarm()
	restarted()
	s.ready()
	if r := s.reseal(0); r.KEK != second || r.Left != 0 || r.Refused != 0 || r.Wraps[second] != 2 || !r.Lineage {
		t.Fatalf("%+v", r)
	}
	if _, err := laptop.Create(t.Context(), site("under the second")); err != nil {
		t.Fatal(err)
	}

	s.enabled(first, false)
	s.goesOn(laptop, made.Handle)
	idle.sync()
	s.joined("bob", "phone", pin)
	s.commandLineFsck() // by the ledger keys of both

	// Without a reseal, an account stays with the version that is gone.
	third := s.rotated()
	s.kill(stack.Enclave)()
	s.ready()
	if _, err := laptop.Create(t.Context(), site("under the third")); err != nil {
		t.Fatal(err)
	}
	s.enabled(second, false)
	laptop.sync()
	_, err = idle.Sync(t.Context())
	wantCode(t, err, wire.CodeWrap)
	_, err = s.newDevice("bob").Join(t.Context(), "tablet", pin)
	wantCode(t, err, wire.CodeWrap)
	if r := s.reseal(1); r.KEK != third || r.Refused != 1 || r.Left != 1 || r.Wraps[second] != 1 {
		t.Fatalf("%+v", r)
	}
	s.enabled(second, true)
	idle.sync()
	if r := s.reseal(0); r.Wraps[third] != 2 || r.Left != 0 {
		t.Fatalf("%+v", r)
	}
	s.enabled(second, false)
	s.goesOn(laptop, made.Handle)
	idle.sync()
	s.joined("bob", "tablet", pin)
	s.commandLineFsck()
	s.keks = s.brokersKeys()
	s.noSecrets(laptop, idle)
}

// goesOn is what a person does every day.
func (s *service) goesOn(d *device, passkey wire.Handle) {
	s.t.Helper()
	d.sync()
	if _, err := d.Assert(s.t.Context(), client.AssertRequest{Handle: passkey}); err != nil {
		s.t.Fatal(err)
	}
	if len(d.counted()) < 2 {
		s.t.Fatal("the history is not whole")
	}
}
