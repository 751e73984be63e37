package wire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestConfigurationIsCanonical(t *testing.T) {
	t.Parallel()
	c := &Configuration{
		Version: 1,
		Ledger:  LedgerIdentity{ID: bytes.Repeat([]byte{1}, 32), Backend: BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers: []Issuer{{Issuer: "https://issuer.example", ClientIDs: []string{"a"}, Algorithms: []string{"ES256"}}},
		PIN:     PINConfiguration{ConsecutiveLimit: 10, LifetimeLimit: 100, Argon2id: Argon2id{MemoryKiB: 65536, Time: 3, Parallelism: 1}},
		KeyService: KeyService{
			Attestation: "https://a.example", Vault: "https://v.example", Key: "kek",
		},
	}
	file, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseConfiguration(file); err != nil {
		t.Fatal(err)
	}
	text := string(file)
	for name, bad := range map[string]string{
		"empty":               "",
		"trailing newline":    text + "\n",
		"compact":             strings.ReplaceAll(text, "\n", ""),
		"unknown member":      strings.Replace(text, `"version": 1,`, `"version": 1, "extra": 1,`, 1),
		"duplicate member":    strings.Replace(text, `"version": 1,`, "\"version\": 1,\n  \"version\": 1,", 1),
		"member in capitals":  strings.Replace(text, `"version"`, `"Version"`, 1),
		"http issuer":         strings.Replace(text, "https://issuer", "http://issuer", 1),
		"no limit":            strings.Replace(text, `"consecutive_limit": 10`, `"consecutive_limit": 0`, 1),
		"limit over lifetime": strings.Replace(text, `"consecutive_limit": 10`, `"consecutive_limit": 101`, 1),
		"unknown algorithm":   strings.Replace(text, "ES256", "HS256", 1),
		"other backend":       strings.Replace(text, `"local"`, `"trust-me"`, 1),
		"zero ledger ID":      strings.Replace(text, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", strings.Repeat("A", 43), 1),
	} {
		if _, err := ParseConfiguration([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An account keeps its ID when its provider moves, by the measured alias alone.
func TestAccountIDOfAlias(t *testing.T) {
	t.Parallel()
	old := Issuer{Issuer: "https://old.example"}
	moved := Issuer{Issuer: "https://new.example", AccountIssuer: "https://old.example"}
	other := Issuer{Issuer: "https://new.example"}
	if old.AccountID("a") != moved.AccountID("a") || old.AccountID("a") == other.AccountID("a") || old.AccountID("a") == old.AccountID("b") {
		t.Fatal("account IDs")
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	f := Frame{Call: 7, Kind: FrameNeed, Body: []byte("body")}
	b := f.Append(nil)
	got, err := ReadFrame(bytes.NewReader(b))
	if err != nil || got.Call != 7 || got.Kind != FrameNeed || string(got.Body) != "body" {
		t.Fatalf("%+v, %v", got, err)
	}
	for cut := range b {
		want := io.ErrUnexpectedEOF
		if cut == 0 {
			want = io.EOF
		}
		if _, err := ReadFrame(bytes.NewReader(b[:cut])); !errors.Is(err, want) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for _, bad := range [][]byte{{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}} {
		if _, err := ReadFrame(bytes.NewReader(bad)); CodeOf(err) != CodeTooLarge {
			t.Fatalf("%x: %v", bad, err)
		}
	}
}

func TestResponseOfAnotherRequest(t *testing.T) {
	t.Parallel()
	key, err := KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*Sealer, *Opened) {
		s, err := NewSealer(key.PublicKey(), Header{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.Seal([]byte("q"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseEnvelope(raw)
		if err != nil {
			t.Fatal(err)
		}
		o, err := e.Open(key)
		if err != nil {
			t.Fatal(err)
		}
		return s, o
	}
	s1, o1 := open()
	_, o2 := open()
	mine, err := o1.SealResponse([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := o2.SealResponse([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s1.OpenResponse(mine); err != nil || string(got) != "a" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := s1.OpenResponse(other); CodeOf(err) != CodeUnsealedAnswer {
		t.Fatalf("the answer to another request: %v", err)
	}
}

// Requests and answers come in few sizes: nothing inside shows in the length.
func TestSizesAreBuckets(t *testing.T) {
	t.Parallel()
	key, err := KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]bool{}
	for n := 0; n < 20_000; n += 97 {
		s, err := NewSealer(key.PublicKey(), Header{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.Seal(make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(raw)] = true
	}
	if len(sizes) != 4 { // 1, 4, 16, 64 KiB
		t.Fatalf("%d different sizes", len(sizes))
	}
	s, _ := NewSealer(key.PublicKey(), Header{})
	if _, err := s.Seal(make([]byte, MaxRequest+1)); CodeOf(err) != CodeTooLarge {
		t.Fatalf("too large: %v", err)
	}
}

func deviceKey(t *testing.T) hpke.PrivateKey {
	t.Helper()
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	bound, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hpke.NewHybridPrivateKey(pq, bound)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVaultSecretEnvelopes(t *testing.T) {
	t.Parallel()
	key, other := deviceKey(t), deviceKey(t)
	secret := bytes.Repeat([]byte{7}, 32)
	s := Scope{Ledger: make([]byte, 32), Generation: 1, Epoch: 2}
	envelope, err := SealVaultSecret(key.PublicKey().Bytes(), s, DeviceID{1}, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenVaultSecret(key, s, DeviceID{1}, envelope); err != nil || !bytes.Equal(got, secret) {
		t.Fatal(err)
	}
	later := s
	later.Epoch++
	for name, open := range map[string]func() ([]byte, error){
		"another device's key": func() ([]byte, error) { return OpenVaultSecret(other, s, DeviceID{1}, envelope) },
		"another device's ID":  func() ([]byte, error) { return OpenVaultSecret(key, s, DeviceID{2}, envelope) },
		"another epoch":        func() ([]byte, error) { return OpenVaultSecret(key, later, DeviceID{1}, envelope) },
	} {
		if _, err := open(); CodeOf(err) != CodeVaultSecret {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFollowPrevious(t *testing.T) {
	t.Parallel()
	s := Scope{Ledger: make([]byte, 32), Generation: 1, Epoch: 3}
	secrets := [][]byte{nil, bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)}
	box := func(epoch uint64) []byte {
		at := s
		at.Epoch = epoch
		return SealPrevious(secrets[epoch], at, Previous{VaultSecret: secrets[epoch-1], NotesKey: make([]byte, 32)})
	}
	got, err := FollowPrevious(secrets[3], s, [][]byte{box(3), box(2)})
	if err != nil || !bytes.Equal(got.Vault[1], secrets[1]) || len(got.Notes) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, boxes := range map[string][][]byte{
		"out of order": {box(2), box(3)},
		"too many":     {box(3), box(2), box(2)},
		"one left out": {box(2)},
	} {
		if _, err := FollowPrevious(secrets[3], s, boxes); CodeOf(err) != CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{1}, 32)
	s := Scope{Ledger: make([]byte, 32), Generation: 1, Epoch: 1}
	sealed := SealManifest(secret, s, Manifest{Sequence: 9, Records: []Listed{{Handle: Handle{1}}}})
	keys := func(g, e uint64) []byte {
		if g == 1 && e == 1 {
			return secret
		}
		return nil
	}
	m, err := OpenManifest(sealed, s.Ledger, s.Account, keys)
	if err != nil || m.Sequence != 9 || len(m.Records) != 1 {
		t.Fatal(err)
	}
	if _, err := OpenManifest(sealed, s.Ledger, AccountID{1}, keys); CodeOf(err) != CodeMalformed {
		t.Fatalf("another account's: %v", err)
	}
	if _, err := OpenManifest(sealed, s.Ledger, s.Account, func(uint64, uint64) []byte { return nil }); CodeOf(err) != CodeEpoch {
		t.Fatalf("unknown epoch: %v", err)
	}
}

// fuzz feeds a decoder; what it accepts must encode to itself.
func fuzz[T any](f *testing.F, seeds ...any) {
	for _, s := range seeds {
		f.Add(Marshal(s))
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v := new(T)
		if err := Unmarshal(data, v); err == nil && !bytes.Equal(Marshal(v), data) {
			t.Fatalf("%x decodes and encodes to something else", data)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	fuzz[Envelope](f, Envelope{Enc: make([]byte, EncSize)}, Envelope{Header: Header{Handles: []Handle{{}}, Known: &Head{}}})
}

func FuzzRequest(f *testing.F) {
	fuzz[Request](f, Request{}, Request{Body: []byte{1}, UV: &UserVerification{Platform: &PlatformAssertion{}}})
}

func FuzzBody(f *testing.F) {
	fuzz[Body](f, Body{Commands: []Command{NewCommand(CommandSync, Sync{})}, Login: &Login{Token: "t"}})
}

func FuzzResponse(f *testing.F) {
	n := uint64(3)
	fuzz[Response](f, Response{}, Response{Error: &Error{Code: CodePINWrong, AttemptsLeft: &n}, Entries: [][]byte{{1}}, Repeated: &Outcome{Handle: &Handle{}}})
}

func FuzzRecord(f *testing.F) {
	fuzz[Record](f, Record{Metadata: []byte{1}})
}

func FuzzForward(f *testing.F) {
	fuzz[Forward](f, Forward{State: State{Entries: [][]byte{{1}}, Wraps: []Wrap{{}}}})
}

func FuzzCommit(f *testing.F) {
	fuzz[Commit](f, Commit{Records: [][]byte{{1}}, Wraps: []Wrap{{}}, FeedTokens: []Digest{{}}})
}

func FuzzRewrap(f *testing.F) {
	fuzz[Rewrap](f, Rewrap{Accounts: []Wrapped{{Wraps: []Wrap{{KEK: "v1", Box: []byte{1}}}}}}, Rewrap{Look: true})
}

func FuzzFrame(f *testing.F) {
	f.Add(Frame{Call: 1, Kind: FrameNeed, Body: []byte("x")}.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := ReadFrame(bytes.NewReader(data))
		if err == nil && !bytes.HasPrefix(data, frame.Append(nil)) {
			t.Fatal("reads and writes something else")
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfiguration(data); err == nil {
			if again, err := c.Encode(); err != nil || !bytes.Equal(again, data) {
				t.Fatal("parses and encodes to something else")
			}
		}
	})
}

func FuzzUnpad(f *testing.F) {
	f.Add(pad([]byte("x"), 16))
	f.Fuzz(func(t *testing.T, data []byte) {
		if content, err := unpad(data); err == nil && !bytes.Equal(pad(content, len(data)), data) {
			t.Fatal("unpads and pads to something else")
		}
	})
}

// What is hashed is the CBOR that Marshal makes, whatever the fields.
func TestLabelledIsMarshal(t *testing.T) {
	t.Parallel()
	long := func(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }
	numbers := []uint64{0, 1, 23, 24, 255, 256, 1<<16 - 1, 1 << 16, 1<<32 - 1, 1 << 32, 1<<64 - 1}
	var fields []any
	for _, n := range numbers {
		fields = append(fields, n)
	}
	for _, n := range []int{0, 1, 23, 24, 255, 256, 1<<16 - 1, 1 << 16} {
		fields = append(fields, long(n), strings.Repeat("é", n/2))
	}
	fields = append(fields, []byte(nil), "", Base64(long(32)), Digest(long(32)), AccountID(long(32)), StreamID(long(32)), DeviceID(long(16)),
		Handle(long(16)), VersionID(long(16)), RequestID(long(16)), KeyID(long(8)))
	for n := range len(fields) + 1 { // as many fields, and each alone
		some := fields[:n]
		if want := Marshal(append([]any{"passclave test", Version}, some...)); !bytes.Equal(labelled("test", some...), want) {
			t.Fatalf("%d fields", n)
		}
		if n == len(fields) {
			break
		}
		if want := Marshal([]any{"passclave ", Version, fields[n]}); !bytes.Equal(labelled("", fields[n]), want) {
			t.Errorf("%T", fields[n])
		}
	}
	h := Header{Version: Version, Handles: []Handle{{1}}, Known: &Head{Sequence: 300}}
	if want := Marshal([]any{"passclave header", Version, h}); !bytes.Equal(labelled("header", Encoded(Marshal(h))), want) {
		t.Error("a field that is encoded already")
	}
	s := Scope{Ledger: long(32), Account: AccountID(long(32)), Generation: 1 << 33, Epoch: 24}
	want := Marshal([]any{"passclave scope", Version, s.Ledger, s.Account, s.Generation, s.Epoch, "x", uint64(5)})
	if !bytes.Equal(boxData("scope", &s, []any{"x", uint64(5)}), want) {
		t.Error("a scope and its context")
	}
}
