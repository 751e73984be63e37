//go:build cgo

package pkcs11

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
)

func TestSetPolicy(t *testing.T) {
	t.Parallel()
	k, s, first := made(t)
	second, err := s.Rotate(t.Context(), "kek", policy("a"))
	if err != nil {
		t.Fatal(err)
	}
	key := kek(t, s, first.ID)
	if err := s.SetPolicy(t.Context(), "kek", first.ID, policy("b")); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, k.open(t)} {
		all, err := s.Versions(t.Context(), "kek")
		if err != nil || len(all) != 2 || !bytes.Equal(all[0].Policy, policy("b")) || !bytes.Equal(all[1].Policy, policy("a")) || all[0].ID != first.ID || all[0].Created != first.Created {
			t.Errorf("%+v, %v", all, err)
		}
		if kek(t, s, first.ID) != key {
			t.Error("the key changed")
		}
	}
	for _, c := range []struct {
		name, id string
		policy   []byte
		want     error
	}{
		{"kek", second.ID, []byte("{}"), keystore.ErrPolicy},
		{"kek", second.ID + "0", policy("b"), keystore.ErrNotFound},
		{"other", second.ID, policy("b"), keystore.ErrNotFound},
	} {
		if err := s.SetPolicy(t.Context(), c.name, c.id, c.policy); !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v, want %v", c.name, c.id, err, c.want)
		}
	}
}

// data counts the data objects of the key.
func data(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.do(t.Context(), true, func(x *session) error {
		all, err := x.find(dataOf("kek"))
		n = len(all)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A change that fails, or that failed and was made all the same, at any of its steps:
// what is there then is whole, the state before or the one after, and a disabled version
// never comes back by itself.
func TestChangeIsCutShort(t *testing.T) {
	t.Parallel()
	lost := p11.Error(p11.CKR_DEVICE_REMOVED)
	for _, call := range []string{"GenerateKey", "CreateObject", "DestroyObject"} {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprint(call, persisted), func(t *testing.T) {
				t.Parallel()
				k, _, v := made(t)
				s, f := k.openFaulty(t)
				fault := func() {
					f.later()
					f.set(func() {
						f.before, f.after = failing(call, lost), nil
						if persisted {
							f.before, f.after = nil, failing(call, lost)
						}
					})
				}
				fault()
				_, err := s.Rotate(t.Context(), "kek", policy("b"))
				if reached := call != "DestroyObject"; errors.Is(err, keystore.ErrUnavailable) != reached || err == nil == reached {
					t.Fatalf("rotate: %v", err)
				}
				f.heal()
				f.later()
				all, err := s.Versions(t.Context(), "kek")
				if err != nil || len(all) == 0 || all[0].ID != v.ID {
					t.Fatalf("%+v, %v", all, err)
				}
				if want := 1; call != "DestroyObject" && (!persisted || call == "GenerateKey") && len(all) != want {
					t.Errorf("%d versions, want %d", len(all), want)
				}
				for _, v := range all {
					kek(t, s, v.ID)
				}

				fault()
				err = s.SetEnabled(t.Context(), "kek", v.ID, false)
				if reached := call != "GenerateKey"; errors.Is(err, keystore.ErrUnavailable) != reached || err == nil == reached {
					t.Fatalf("disable: %v", err)
				}
				f.heal()
				f.later()
				now, err := s.Versions(t.Context(), "kek")
				if err != nil || len(now) != len(all) || now[0].ID != v.ID {
					t.Fatalf("%+v, %v", now, err)
				}
				if made := call != "CreateObject" || persisted; now[0].Enabled == made {
					t.Errorf("enabled: %v", now[0].Enabled)
				}
				// The same again is done, and clears up.
				if err := s.SetEnabled(t.Context(), "kek", v.ID, false); err != nil {
					t.Fatal(err)
				}
				if n := data(t, s); n != len(all) {
					t.Errorf("%d data objects for %d versions", n, len(all))
				}
				if now, err := s.Versions(t.Context(), "kek"); err != nil || now[0].Enabled {
					t.Errorf("%+v, %v", now, err)
				}
			})
		}
	}
}

// Of several objects that changes left, each cut short, the newest counts.
func TestNewestCounts(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	f.set(func() {
		f.before = func(call string) error {
			if call == "DestroyObject" {
				return p11.Error(p11.CKR_DEVICE_REMOVED)
			}
			return nil
		}
	})
	for i := range 6 {
		f.later()
		if err := s.SetEnabled(t.Context(), "kek", v.ID, i%2 == 1); !errors.Is(err, keystore.ErrUnavailable) {
			t.Fatal(err)
		}
		f.later()
		if all, err := s.Versions(t.Context(), "kek"); err != nil || len(all) != 1 || all[0].Enabled != (i%2 == 1) {
			t.Errorf("%+v, %v", all, err)
		}
	}
	if n := data(t, s); n != 7 {
		t.Errorf("%d data objects", n)
	}
	f.heal()
	if err := s.SetEnabled(t.Context(), "kek", v.ID, true); err != nil || data(t, s) != 1 {
		t.Errorf("%v, %d data objects", err, data(t, s))
	}
}

// A power cut in the middle of SoftHSM's own write: the file of the newer object is cut.
// The older one stands, as the change was not reported as done.
func TestTornFile(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	files := func() []string {
		all, err := filepath.Glob(filepath.Join(k.folder, "*.object"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := files()
	f.set(func() { f.before = failing("DestroyObject", p11.Error(p11.CKR_DEVICE_REMOVED)) })
	if err := s.SetEnabled(t.Context(), "kek", v.ID, false); !errors.Is(err, keystore.ErrUnavailable) {
		t.Fatal(err)
	}
	f.heal()
	after := slices.DeleteFunc(files(), func(f string) bool {
		return slices.Contains(before, f) || filepath.Base(f) == "token.object"
	})
	if len(after) != 1 {
		t.Fatalf("new files %v", after)
	}
	whole, err := os.ReadFile(after[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{len(whole), 0, 1, 8, 9, len(whole) / 3, len(whole) / 2, len(whole) - 20, len(whole) - 1} {
		if err := os.WriteFile(after[0], whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s := k.open(t)
		all, err := s.Versions(t.Context(), "kek")
		if err != nil || len(all) != 1 || all[0].Enabled != (n < len(whole)) {
			t.Errorf("%d of %d bytes: %+v, %v", n, len(whole), all, err)
		}
		s.Close()
	}
}

// Data objects that this package did not leave so make all of the key's versions
// unavailable to everybody: what they said is not known.
func TestDamagedData(t *testing.T) {
	t.Parallel()
	_, s, v := made(t)
	good := metadata{Format: metadataFormat, Name: "kek", ID: v.ID, Created: v.Created, Enabled: true, Policy: v.Policy}
	damaged := func(change func(*metadata)) []byte {
		m := good
		change(&m)
		return m.encode()
	}
	for name, value := range map[string][]byte{
		"empty":          nil,
		"cut":            good.encode()[:40],
		"more":           append(good.encode(), ' '),
		"a member twice": bytes.Replace(good.encode(), []byte(`{`), []byte(`{"format":1,`), 1),
		"unknown member": bytes.Replace(good.encode(), []byte(`{`), []byte(`{"immutable":true,`), 1),
		"other format":   damaged(func(m *metadata) { m.Format = 2 }),
		"another key's":  damaged(func(m *metadata) { m.Name = "other" }),
		"no version":     damaged(func(m *metadata) { m.ID = "" }),
		"a path":         damaged(func(m *metadata) { m.ID = "../x" }),
		"no policy":      damaged(func(m *metadata) { m.Policy = nil }),
	} {
		var planted p11.ObjectHandle
		err := s.do(t.Context(), false, func(x *session) (err error) {
			planted, err = x.CreateObject(x.handle, append(dataOf("kek"), p11.NewAttribute(p11.CKA_VALUE, value)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for call, err := range map[string]error{
			"Versions":   second(s.Versions(t.Context(), "kek")),
			"Wrap":       second(s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey)),
			"Create":     second(s.Create(t.Context(), "kek", policy("a"), false)),
			"SetEnabled": s.SetEnabled(t.Context(), "kek", v.ID, false),
		} {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
		if err := s.do(t.Context(), false, func(x *session) error { return x.DestroyObject(x.handle, planted) }); err != nil {
			t.Fatal(err)
		}
	}
	kek(t, s, v.ID)
}

// A reader never misses a version that another process is just changing. One without the
// lock may have to come again, and is told so.
func TestReadWhileChanging(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{true, false} {
		t.Run(fmt.Sprint(locked), func(t *testing.T) {
			t.Parallel()
			k, s, v := made(t)
			if !locked {
				k.dir = t.TempDir()
			}
			other := k.process(t)
			done := make(chan error, 1)
			go func() {
				defer close(done)
				for i := range 50 {
					if err := other.SetPolicy(t.Context(), "kek", v.ID, policy(fmt.Sprint(i%2))); err != nil {
						done <- err
						return
					}
				}
			}()
			for {
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
					return
				default:
				}
				all, err := s.Versions(t.Context(), "kek")
				if !locked && errors.Is(err, keystore.ErrUnavailable) {
					continue
				}
				if err != nil || len(all) != 1 || all[0].ID != v.ID {
					t.Errorf("%+v, %v", all, err)
				}
			}
		})
	}
}

// A list without a version that it had before is not believed.
func TestVersionIsMissing(t *testing.T) {
	t.Parallel()
	k, s, first := made(t)
	if _, err := s.Rotate(t.Context(), "kek", policy("b")); err != nil {
		t.Fatal(err)
	}
	s, f := k.openFaulty(t)
	if all, err := s.Versions(t.Context(), "kek"); err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, name := range []string{"one", "all"} {
		f.later()
		err := s.do(t.Context(), true, func(x *session) error {
			if name == "one" {
				r, err := x.record("kek", first.ID)
				return errors.Join(err, x.DestroyObject(x.handle, r.object))
			}
			all, err := x.find(dataOf("kek"))
			return errors.Join(err, x.DestroyObject(x.handle, all[0]))
		})
		if err != nil {
			t.Fatal(err)
		}
		for call, err := range map[string]error{
			"Versions": second(s.Versions(t.Context(), "kek")),
			"Create":   second(s.Create(t.Context(), "kek", policy("a"), false)),
			"Rotate":   second(s.Rotate(t.Context(), "kek", policy("a"))),
		} {
			f.later()
			if !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("%s gone: %s: %v", name, call, err)
			}
		}
	}
	// Another store never saw them.
	if _, err := k.open(t).Versions(t.Context(), "kek"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Two that wrote one revision each: every reader takes the same, and the next change clears up.
func TestSameRevision(t *testing.T) {
	t.Parallel()
	k, s, v := made(t)
	err := s.do(t.Context(), false, func(x *session) error {
		r, err := x.record("kek", v.ID)
		if err != nil {
			return err
		}
		r.Policy = policy("b")
		return x.write(&r.metadata)
	})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, s := range []*Store{s, k.open(t), k.open(t)} {
		all, err := s.Versions(t.Context(), "kek")
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		seen = append(seen, string(all[0].Policy))
	}
	if len(slices.Compact(seen)) != 1 {
		t.Errorf("read %q", seen)
	}
	if err := s.SetPolicy(t.Context(), "kek", v.ID, policy("c")); err != nil {
		t.Fatal(err)
	}
	if n := data(t, s); n != 1 {
		t.Errorf("%d data objects", n)
	}
}

// Whoever has no PIN makes no version and no key, and takes none away: what is not private is
// nobody's word. Any session may make such objects, and with SoftHSM whoever may write its files.
func TestPlantedWithoutPIN(t *testing.T) {
	t.Parallel()
	k, s, v := made(t)
	before := kek(t, s, v.ID)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	other := metadata{Format: metadataFormat, Name: "kek", ID: v.ID, Revision: 9, Created: v.Created, Enabled: true, Policy: policy("anybody")}
	added := other
	added.ID, added.Created = strings.Repeat("0", 32), v.Created+1
	kept, public := p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, false)

	f := k.newFaulty(t) // without faults, and without a login
	if err := f.Initialize(); err != nil {
		t.Fatal(err)
	}
	slot, _, err := findToken(f, k.label)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := f.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	for _, template := range [][]*p11.Attribute{
		{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_DATA), kept, public, p11.NewAttribute(p11.CKA_APPLICATION, application), p11.NewAttribute(p11.CKA_LABEL, "kek"), p11.NewAttribute(p11.CKA_VALUE, other.encode())},
		{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_DATA), kept, public, p11.NewAttribute(p11.CKA_APPLICATION, application), p11.NewAttribute(p11.CKA_LABEL, "kek"), p11.NewAttribute(p11.CKA_VALUE, added.encode())},
		{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES), kept, public, p11.NewAttribute(p11.CKA_LABEL, "kek"), p11.NewAttribute(p11.CKA_ID, raw),
			p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_VALUE, make([]byte, keySize))},
	} {
		if _, err := f.CreateObject(handle, template); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Finalize(); err != nil {
		t.Fatal(err)
	}

	s = k.open(t)
	all, err := s.Versions(t.Context(), "kek")
	if err != nil || len(all) != 1 || all[0].ID != v.ID || !bytes.Equal(all[0].Policy, v.Policy) {
		t.Fatalf("%+v, %v", all, err)
	}
	if kek(t, s, v.ID) != before {
		t.Error("another key is wrapped")
	}
}
