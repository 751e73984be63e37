//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rsa"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
)

// processVariable makes this binary a process that uses a token for a test.
const processVariable = "PKCS11_TEST_PROCESS"

// process is a store that another process opened. It does one thing after another.
type process struct {
	mu   sync.Mutex
	send *gob.Encoder
	get  *gob.Decoder
}

type question struct {
	Method    string
	Name, ID  string
	Policy    []byte
	Enabled   bool
	Immutable bool
	Algorithm keywrap.Algorithm
	RSA       *rsa.PublicKey
}

type answer struct {
	Versions []keystore.Version
	Wrapped  []byte
	Failed   bool
	Error    string
	Is       []int // of sentinels
}

var sentinels = []error{
	keystore.ErrNotFound, keystore.ErrExists, keystore.ErrName, keystore.ErrDisabled, keystore.ErrPolicy, keystore.ErrRSA, keystore.ErrImmutable,
	keystore.ErrUnavailable, keywrap.ErrAlgorithm,
}

// process opens the token in a process of its own.
func (k *token) process(t testing.TB) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	environment, library := k.place.Environ()
	c := exec.Command(self)
	c.Env = append(environment, processVariable+"="+library, "GORACE=atexit_sleep_ms=0")
	c.Args = []string{self, k.label, k.dir}
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &process{send: gob.NewEncoder(in), get: gob.NewDecoder(out)}
}

func serveProcess() {
	s, err := Open(Config{
		Module: os.Getenv(processVariable), Token: os.Args[1], Dir: os.Args[2],
		PIN: PIN{testUser}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer s.Close()
	get, send := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var q question
		if get.Decode(&q) != nil {
			return
		}
		var a answer
		if err := a.from(s, q); err != nil {
			a.Failed, a.Error = true, err.Error()
			for i, sentinel := range sentinels {
				if errors.Is(err, sentinel) {
					a.Is = append(a.Is, i)
				}
			}
		}
		if err := send.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func (a *answer) from(s *Store, q question) (err error) {
	ctx := context.Background()
	one := func(v keystore.Version, err error) error {
		a.Versions = []keystore.Version{v}
		return err
	}
	switch q.Method {
	case "Create":
		return one(s.Create(ctx, q.Name, q.Policy, q.Immutable))
	case "Rotate":
		return one(s.Rotate(ctx, q.Name, q.Policy))
	case "Versions":
		a.Versions, err = s.Versions(ctx, q.Name)
	case "SetEnabled":
		err = s.SetEnabled(ctx, q.Name, q.ID, q.Enabled)
	case "SetPolicy":
		err = s.SetPolicy(ctx, q.Name, q.ID, q.Policy)
	case "Wrap":
		a.Wrapped, err = s.Wrap(ctx, q.Name, q.ID, q.Algorithm, q.RSA)
	}
	return err
}

func (p *process) ask(q question) (a answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.send.Encode(q); err != nil {
		return a, err
	}
	if err := p.get.Decode(&a); err != nil {
		return a, err
	}
	if a.Failed {
		err = errors.New(a.Error)
		for _, i := range a.Is {
			err = errors.Join(err, sentinels[i])
		}
	}
	return a, err
}

func (p *process) version(q question) (keystore.Version, error) {
	a, err := p.ask(q)
	if len(a.Versions) != 1 {
		return keystore.Version{}, err
	}
	return a.Versions[0], err
}

func (p *process) Create(_ context.Context, name string, policy []byte, immutable bool) (keystore.Version, error) {
	return p.version(question{Method: "Create", Name: name, Policy: policy, Immutable: immutable})
}

func (p *process) Rotate(_ context.Context, name string, policy []byte) (keystore.Version, error) {
	return p.version(question{Method: "Rotate", Name: name, Policy: policy})
}

func (p *process) Versions(_ context.Context, name string) ([]keystore.Version, error) {
	a, err := p.ask(question{Method: "Versions", Name: name})
	return a.Versions, err
}

func (p *process) SetEnabled(_ context.Context, name, id string, enabled bool) error {
	_, err := p.ask(question{Method: "SetEnabled", Name: name, ID: id, Enabled: enabled})
	return err
}

func (p *process) SetPolicy(_ context.Context, name, id string, policy []byte) error {
	_, err := p.ask(question{Method: "SetPolicy", Name: name, ID: id, Policy: policy})
	return err
}

func (p *process) Wrap(_ context.Context, name, id string, a keywrap.Algorithm, pub *rsa.PublicKey) ([]byte, error) {
	answer, err := p.ask(question{Method: "Wrap", Name: name, ID: id, Algorithm: a, RSA: pub})
	return answer.Wrapped, err
}
