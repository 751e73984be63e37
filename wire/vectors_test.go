package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// The golden vectors in testdata are for whoever implements the protocol in
// another language. One file is one case: members "name: value", an empty line, and
// the input in hex. An unknown member fails the test. "expect" is ok or the code
// that the input must be refused with. docs/protocol.md says what the members mean.

var update = flag.Bool("update", false, "write wire/testdata anew")

type vector struct {
	members map[string]string
	input   []byte
}

func (v *vector) hex(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.members[name])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parseVector(data []byte) (*vector, error) {
	head, body, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("no empty line")
	}
	v := &vector{members: map[string]string{}}
	for _, line := range strings.Split(string(head), "\n") {
		name, value, ok := strings.Cut(line, ": ")
		if _, twice := v.members[name]; !ok || twice {
			return nil, fmt.Errorf("member %q", line)
		}
		v.members[name] = value
	}
	var err error
	v.input, err = hex.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	return v, err
}

func (v *vector) encode() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(v.members)) {
		fmt.Fprintf(&b, "%s: %s\n", name, v.members[name])
	}
	b.WriteByte('\n')
	for chunk := range slices.Chunk(v.input, 40) {
		fmt.Fprintf(&b, "%x\n", chunk)
	}
	return b.Bytes()
}

// known lists the members of each kind of vector.
var known = map[string][]string{
	"envelope": {},
	"open":     {"key", "plaintext", "device-transcript", "uv-transcript", "response", "answer"},
	"request":  {},
	"body":     {},
	"response": {},
	"record":   {},
	"hash":     {"label", "digest"},
	"box":      {"key", "label", "ledger", "account", "generation", "epoch", "plaintext"},
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d vectors: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			v, err := parseVector(data)
			if err != nil {
				t.Fatal(err)
			}
			kind := v.members["kind"]
			for name := range v.members {
				if name != "kind" && name != "expect" && name != "why" && !slices.Contains(known[kind], name) {
					t.Fatalf("unknown member %q", name)
				}
			}
			want := Code(v.members["expect"])
			if want == "ok" {
				want = ""
			}
			if err := runVector(t, kind, v); CodeOf(err) != want {
				t.Fatalf("got %v, want %q", err, want)
			}
		})
	}
}

func runVector(t *testing.T, kind string, v *vector) error {
	switch kind {
	case "envelope":
		e, err := ParseEnvelope(v.input)
		if err == nil && !bytes.Equal(Marshal(e), v.input) {
			t.Fatal("encodes to something else")
		}
		return err
	case "open":
		return runOpen(t, v)
	case "request":
		return Unmarshal(v.input, new(Request))
	case "body":
		_, err := ParseBody(v.input)
		return err
	case "response":
		return Unmarshal(v.input, new(Response))
	case "record":
		_, err := ParseRecord(v.input)
		return err
	case "hash":
		if d := Hash(v.members["label"], v.input, uint64(7), "text"); d.String() != v.members["digest"] {
			t.Fatalf("digest %s", d)
		}
		return nil
	case "box":
		s := Scope{Ledger: v.hex(t, "ledger"), Account: AccountID(v.hex(t, "account"))}
		fmt.Sscan(v.members["generation"], &s.Generation)
		fmt.Sscan(v.members["epoch"], &s.Epoch)
		plain, err := OpenBox(v.hex(t, "key"), v.members["label"], s, v.input)
		if err == nil && !bytes.Equal(plain, v.hex(t, "plaintext")) {
			t.Fatal("another plaintext")
		}
		return err
	}
	t.Fatalf("unknown kind %q", kind)
	return nil
}

func runOpen(t *testing.T, v *vector) error {
	key, err := KEM().NewPrivateKey(v.hex(t, "key"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(v.input)
	if err != nil {
		return err
	}
	o, err := e.Open(key)
	if err != nil {
		return err
	}
	if !bytes.Equal(o.Plaintext, v.hex(t, "plaintext")) {
		t.Fatal("another plaintext")
	}
	var r Request
	if err := Unmarshal(o.Plaintext, &r); err != nil {
		return err
	}
	b, err := ParseBody(r.Body)
	if err != nil {
		return err
	}
	for member, role := range map[string]Role{"device-transcript": RoleDevice, "uv-transcript": RoleUV} {
		if got := Transcript(role, o.Binding, b, r.Body); got.String() != v.members[member] {
			t.Fatalf("%s is %s", member, got)
		}
	}
	var sealed sealedResponse
	if err := Unmarshal(v.hex(t, "response"), &sealed); err != nil {
		return err
	}
	aead, nonce := responseKeys(o.secret, o.enc, sealed.Nonce)
	padded, err := aead.Open(nil, nonce, sealed.Ciphertext, nil)
	if err != nil {
		t.Fatal("the response does not open")
	}
	plain, err := unpad(padded)
	if err != nil || !bytes.Equal(plain, v.hex(t, "answer")) {
		t.Fatalf("another answer: %v", err)
	}
	return nil
}

// writeVectors makes every file anew. Sealing is random, so their bytes change.
func writeVectors(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, expect Code, input []byte, more ...string) {
		t.Helper()
		v := &vector{members: map[string]string{"kind": kind, "expect": string(expect)}, input: input}
		if expect == "" {
			v.members["expect"] = "ok"
		}
		for i := 0; i < len(more); i += 2 {
			v.members[more[i]] = more[i+1]
		}
		if err := os.WriteFile("testdata/"+kind+"-"+name+".txt", v.encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	private, err := KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	header := Header{Account: AccountID{1, 2, 3}, Handles: []Handle{{4}}, Known: &Head{Sequence: 5, Hash: Digest{6}}}
	sealer, err := NewSealer(private.PublicKey(), header)
	if err != nil {
		t.Fatal(err)
	}
	body := Body{
		Request: RequestID{1}, Device: DeviceID{2}, Challenge: make([]byte, 24), Number: 3, Epoch: 1,
		VaultSecret: bytes.Repeat([]byte{9}, 32),
		Commands:    []Command{NewCommand(CommandRename, Rename{Handle: Handle{4}, Replaces: VersionID{5}, Label: "é"})},
	}
	encodedBody := Marshal(body)
	plain := Marshal(Request{Body: encodedBody, DeviceSignature: []byte{1}, UV: &UserVerification{Signature: []byte{2}}})
	envelope, err := sealer.Seal(plain)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	o, err := e.Open(private)
	if err != nil {
		t.Fatal(err)
	}
	answer := Marshal(Response{Request: body.Request, Challenge: body.Challenge, Freshness: FreshnessLocal, Error: &Error{Code: CodeNotFound}})
	response, err := o.SealResponse(answer)
	if err != nil {
		t.Fatal(err)
	}
	open := []string{
		"key", hex.EncodeToString(seed), "plaintext", hex.EncodeToString(plain),
		"device-transcript", Transcript(RoleDevice, o.Binding, &body, encodedBody).String(),
		"uv-transcript", Transcript(RoleUV, o.Binding, &body, encodedBody).String(),
		"response", hex.EncodeToString(response), "answer", hex.EncodeToString(answer),
	}
	write("good", "open", "", envelope, open...)
	changed := func(f func(*Envelope)) []byte {
		c, _ := ParseEnvelope(envelope)
		f(c)
		return Marshal(c)
	}
	write("header-changed", "open", CodeMalformed, changed(func(e *Envelope) { e.Header.Account[0]++ }), open...)
	write("ciphertext-flipped", "open", CodeMalformed, changed(func(e *Envelope) { e.Ciphertext[7] ^= 1 }), open...)
	write("ciphertext-cut", "open", CodeMalformed, changed(func(e *Envelope) { e.Ciphertext = e.Ciphertext[:len(e.Ciphertext)-1] }), open...)
	write("enc-flipped", "open", CodeMalformed, changed(func(e *Envelope) { e.Enc[0] ^= 1 }), open...)
	padded := func(p []byte) []byte {
		s, err := NewSealer(private.PublicKey(), header)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.sender.Seal(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		return Marshal(Envelope{Header: s.header, Enc: s.enc, Ciphertext: c})
	}
	dirty := pad(plain, 1<<10)
	dirty[len(dirty)-1] = 1
	write("padding-not-zero", "open", CodeMalformed, padded(dirty), open...)
	write("padding-other-bucket", "open", CodeMalformed, padded(pad(plain, 4<<10)), open...)
	write("padding-no-bucket", "open", CodeMalformed, padded(pad(plain, 1000)), open...)
	write("padding-length-past-end", "open", CodeMalformed, padded(append([]byte{0, 1, 0, 0}, make([]byte, 1020)...)), open...)

	write("good", "envelope", "", envelope)
	write("version", "envelope", CodeVersion, changed(func(e *Envelope) { e.Header.Version = 2 }))
	write("enc-short", "envelope", CodeMalformed, changed(func(e *Envelope) { e.Enc = e.Enc[1:] }))
	write("many-handles", "envelope", CodeTooLarge, changed(func(e *Envelope) { e.Header.Handles = make([]Handle, MaxHandles+1) }))
	write("duplicate-handles", "envelope", CodeMalformed, changed(func(e *Envelope) { e.Header.Handles = []Handle{{4}, {5}, {4}} }))
	write("truncated", "envelope", CodeMalformed, envelope[:len(envelope)-1])
	write("trailing-byte", "envelope", CodeMalformed, append(slices.Clone(envelope), 0))
	write("empty", "envelope", CodeMalformed, nil)

	loose := func(v any, o cbor.EncOptions) []byte {
		mode, err := o.EncMode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := mode.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	request := map[int]any{1: encodedBody, 2: []byte{1}}
	with := func(k, v any) map[any]any {
		m := map[any]any{1: encodedBody, 2: []byte{1}}
		m[k] = v
		return m
	}
	write("good", "request", "", loose(request, cbor.CoreDetEncOptions()))
	write("unknown-member", "request", CodeMalformed, loose(with(9, 1), cbor.CoreDetEncOptions()))
	write("text-member", "request", CodeMalformed, loose(with("body", 1), cbor.CoreDetEncOptions()))
	write("members-out-of-order", "request", CodeMalformed, append([]byte{0xa2, 0x02, 0x41, 0x01, 0x01, 0x58, byte(len(encodedBody))}, encodedBody...))
	write("duplicate-member", "request", CodeMalformed, append(append([]byte{0xa3, 0x01, 0x58, byte(len(encodedBody))}, encodedBody...), 0x02, 0x41, 0x01, 0x02, 0x41, 0x01))
	write("indefinite-map", "request", CodeMalformed, append(append([]byte{0xbf, 0x01, 0x58, byte(len(encodedBody))}, encodedBody...), 0x02, 0x41, 0x01, 0xff))
	write("long-integer", "request", CodeMalformed, append(append([]byte{0xa2, 0x18, 0x01, 0x58, byte(len(encodedBody))}, encodedBody...), 0x02, 0x41, 0x01))
	write("tagged", "request", CodeMalformed, append([]byte{0xc1}, loose(request, cbor.CoreDetEncOptions())...))
	write("null-signature", "request", CodeMalformed, loose(map[int]any{1: encodedBody, 2: nil}, cbor.CoreDetEncOptions()))
	write("empty-uv", "request", "", Marshal(Request{Body: encodedBody, DeviceSignature: []byte{1}, UV: &UserVerification{}}))

	write("good", "body", "", encodedBody)
	none := body
	none.Commands = nil
	write("no-commands", "body", CodeMalformed, Marshal(none))
	many := body
	many.Commands = slices.Repeat(body.Commands, MaxCommands+1)
	write("many-commands", "body", CodeMalformed, Marshal(many))
	bad := body
	bad.Login = &Login{Token: "\xff"}
	write("text-not-utf8", "body", CodeMalformed, Marshal(bad))
	short := bytes.Replace(encodedBody, append([]byte{0x02, 0x50}, body.Device[:]...), append([]byte{0x02, 0x4f}, body.Device[:15]...), 1)
	write("short-device-id", "body", CodeMalformed, short)

	write("good", "response", "", answer)
	record := Record{Handle: Handle{1}, Version: VersionID{2}, Generation: 1, Epoch: 1, Metadata: make([]byte, 552), Secret: make([]byte, 296)}
	write("good", "record", "", Marshal(record))
	record.Secret = make([]byte, MaxRecordSize)
	write("too-large", "record", CodeLimit, Marshal(record))

	write("example", "hash", "", []byte{1, 2, 3}, "label", "example", "digest", Hash("example", []byte{1, 2, 3}, uint64(7), "text").String())
	scope := Scope{Ledger: bytes.Repeat([]byte{1}, 32), Account: AccountID{2}, Generation: 3, Epoch: 4}
	key := bytes.Repeat([]byte{5}, 32)
	box := SealBox(key, "example", scope, []byte("plain"))
	members := []string{"key", hex.EncodeToString(key), "label", "example", "ledger", hex.EncodeToString(scope.Ledger),
		"account", scope.Account.String(), "generation", "3", "epoch", "4", "plaintext", hex.EncodeToString([]byte("plain"))}
	write("good", "box", "", box, members...)
	members[9] = "4"
	write("other-generation", "box", CodeMalformed, box, members...)
	members[9], members[3] = "3", "other"
	write("other-label", "box", CodeMalformed, box, members...)
	write("short", "box", CodeMalformed, box[:BoxOverhead-1], members...)
}
