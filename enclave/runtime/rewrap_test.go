package runtime

import (
	"errors"
	"testing"
	"time"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/wire"
)

// wrapped is an account as a host has it that is wrapped under versions of the KEK.
func wrapped(t *testing.T, r *Runtime, keks ...enclave.KEK) wire.Wrapped {
	t.Helper()
	a := wire.Wrapped{Account: wire.AccountID{1}}
	s := wire.Scope{Ledger: r.configuration.Ledger.ID, Account: a.Account, Generation: 1, Epoch: 1}
	for _, k := range keks {
		box := wire.SealBox(wire.WrapKey(k.Key, s), wire.LabelWrap, s, make([]byte, wire.SecretSize), k.Version)
		a.Wraps = append(a.Wraps, wire.Wrap{Generation: 1, Epoch: 1, KEK: k.Version, Box: box})
	}
	return a
}

func (h *host) rewrap(q wire.Rewrap) (out wire.Rewrapped, err error) {
	h.t.Helper()
	err = h.ask(wire.FrameRewrap, wire.Marshal(q), &out)
	return out, err
}

func TestRewrapFrame(t *testing.T) {
	t.Parallel()
	_, err := dial(t, start(t)).rewrap(wire.Rewrap{})
	wantCode(t, err, wire.CodeSealed)
	r := unsealed(t)
	h := dial(t, r)
	_, err = h.rewrap(wire.Rewrap{Accounts: make([]wire.Wrapped, wire.MaxRewraps+1)})
	wantCode(t, err, wire.CodeTooLarge)
	wantCode(t, h.ask(wire.FrameRewrap, []byte{0xff}, &wire.None{}), wire.CodeMalformed)
	genuine := wrapped(t, r, r.keks...)
	out, err := h.rewrap(wire.Rewrap{Accounts: []wire.Wrapped{genuine, genuine}})
	if err != nil || out.KEK != "v1" || len(out.Wraps) != 2 || len(out.Wraps[1].Box) == 0 {
		t.Fatalf("%+v, %v", out, err)
	}
}

// An enclave that meets wraps of a version alone that it does not hold has the key
// service asked, once in a while; so it does where its host asks for that.
func TestRewrapLooksForNewerVersions(t *testing.T) {
	t.Parallel()
	next := newKEK("v2")
	for name, look := range map[string]bool{"because of the wrap": false, "because the host asks": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := unsealed(t)
			looks := make(chan struct{}, 8)
			go func() { // the unseal loop, whose key service has a second version
				for range 2 {
					var looked func(error)
					select {
					case looked = <-r.Wanted():
					case <-t.Context().Done():
						return
					}
					looks <- struct{}{}
					held := append(r.keks[:1:1], next)
					core, err := enclave.NewCore(r.configuration, r.boot, held)
					if err != nil {
						t.Error(err)
					}
					r.install(core, held)
					looked(nil)
				}
			}()
			h := dial(t, r)
			q := wire.Rewrap{Look: look}
			if !look {
				q.Accounts = []wire.Wrapped{wrapped(t, r, next)}
			}
			out, err := h.rewrap(q)
			if err != nil || out.KEK != "v2" || !look && len(out.Wraps[0].Box) == 0 {
				t.Fatalf("%+v, %v", out, err)
			}
			began := time.Now()
			q = wire.Rewrap{Look: look, Accounts: []wire.Wrapped{wrapped(t, r, newKEK("v3"))}}
			if out, err := h.rewrap(q); err != nil || out.KEK != "v2" || len(out.Wraps[0].Box) != 0 {
				t.Fatalf("%+v, %v", out, err)
			}
			if n := len(looks); n != 1 || time.Since(began) > lookTime {
				t.Fatalf("%d looks, the second call took %s", n, time.Since(began))
			}
		})
	}
}

// A host that asks for the newest version does not get an older one for it where the key
// service could not be asked.
func TestRewrapWithoutKeyService(t *testing.T) {
	t.Parallel()
	r := unsealed(t)
	go func() {
		(<-r.Wanted())(errors.New("the key service is away"))
	}()
	h := dial(t, r)
	for range 2 { // the second is told what became of the first
		_, err := h.rewrap(wire.Rewrap{Look: true})
		wantCode(t, err, wire.CodeUnavailable)
	}
	if _, err := h.rewrap(wire.Rewrap{}); err != nil {
		t.Fatal(err)
	}
}
