package webauthn

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/wire"
)

func refused(t *testing.T, what string, err error, name Name) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Name != name {
		t.Errorf("%s: got %v, want %s", what, err, name)
	}
}

type object = map[string]any

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func creation(changes ...func(object)) object {
	o := object{
		"rp":               object{"id": "shop.example", "name": "Shop"},
		"user":             object{"id": b64("user-1"), "name": "alice", "displayName": "Alice"},
		"challenge":        b64("the challenge"),
		"pubKeyCredParams": []object{{"type": "public-key", "alg": -8}, {"type": "later", "alg": -1}, {"type": "public-key", "alg": -7}},
	}
	for _, change := range changes {
		change(o)
	}
	return o
}

func request(changes ...func(object)) object {
	o := object{"challenge": b64("the challenge"), "rpId": "shop.example"}
	for _, change := range changes {
		change(o)
	}
	return o
}

func set(name string, v any) func(object) { return func(o object) { o[name] = v } }

func allow(ids ...string) func(object) {
	list := []object{{"type": "later", "id": b64("later")}}
	for _, id := range ids {
		list = append(list, object{"type": "public-key", "id": b64(id)})
	}
	return set("allowCredentials", list)
}

const shop = "https://login.shop.example"

// The exact bytes of WebAuthn L3, section 5.8.1.1.
func TestClientDataJSON(t *testing.T) {
	t.Parallel()
	want := `{"type":"webauthn.get","challenge":"AAEC_w","origin":"https://shop.example:8443","crossOrigin":false}`
	if got := clientDataJSON("webauthn.get", []byte{0, 1, 2, 0xff}, "https://shop.example:8443"); string(got) != want {
		t.Errorf("got %s", got)
	}
	var b strings.Builder
	writeString(&b, "\x00\n\"\\/<>&é\u2028\x7f")
	if want := `"\u0000\u000a\"\\/<>&é` + "\u2028\x7f\""; b.String() != want {
		t.Errorf("got %s, want %s", b.String(), want)
	}
}

func TestOriginAndRPID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ origin, rpID, want string }{
		{"https://shop.example", "", "shop.example"},
		{"https://shop.example", "shop.example", "shop.example"},
		{"https://a.login.shop.example:8443", "shop.example", "shop.example"},
		{"http://localhost:8080", "localhost", "localhost"},
		{"http://localhost", "", "localhost"},
		{"https://xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example"},
	} {
		r, err := NewRequest(c.origin, encode(t, request(set("rpId", c.rpID))))
		if err != nil || r.RPID != c.want {
			t.Errorf("%s for %q: %v, %v", c.origin, c.rpID, r, err)
		}
	}
	for _, c := range []struct{ origin, rpID string }{
		// No origin that may ask.
		{"", ""},
		{"shop.example", "shop.example"},
		{"http://shop.example", "shop.example"},
		{"http://localhost.evil.example", ""},
		{"ftp://shop.example", "shop.example"},
		{"https://shop.example/", "shop.example"},
		{"https://shop.example?q", "shop.example"},
		{"https://Shop.example", "shop.example"},
		{"HTTPS://shop.example", "shop.example"},
		{"https://shop.example:", "shop.example"},
		{"https://shop.example:443", "shop.example"},
		{"http://localhost:80", "localhost"},
		{"https://user@shop.example", "shop.example"},
		{"https://127.0.0.1", "127.0.0.1"},
		{"https://[::1]", "::1"},
		{"https://shop.example.", "shop.example"},
		{"https://shop.example.", ""},
		{"https://shop..example", ""},
		{"https://bücher.example", ""},
		{"https://a\x00.example", ""},
		{"https://" + strings.Repeat("a", 64) + ".example", ""},
		{"https://" + strings.Repeat("a.", 124) + "example", ""},
		// An RP ID that is not the origin's.
		{"https://shop.example", "login.shop.example"},
		{"https://shop.example", "op.example"},
		{"https://shop.example", "example"},
		{"https://shop.example", "evil.example"},
		{"https://shop.example", "SHOP.example"},
		{"https://shop.example", ".example"},
		{"http://a.localhost", "localhost"},
	} {
		_, err := NewRequest(c.origin, encode(t, request(set("rpId", c.rpID))))
		refused(t, c.origin+" for "+c.rpID, err, SecurityError)
		_, err = NewCreation(c.origin, encode(t, creation(set("rp", object{"id": c.rpID}))))
		refused(t, c.origin+" for "+c.rpID, err, SecurityError)
	}
}

func TestCreation(t *testing.T) {
	t.Parallel()
	bare := encode(t, creation(
		set("excludeCredentials", []object{{"type": "public-key", "id": b64("old")}, {"type": "later", "id": b64("x")}}),
		set("authenticatorSelection", object{"userVerification": "required", "residentKey": "required"}),
		set("extensions", object{"prf": object{"eval": object{"first": b64("salt")}}, "unknown": true}),
		set("user", object{"id": b64("user-1"), "name": strings.Repeat("é", 200), "displayName": ""}),
	))
	wrapped := encode(t, object{"publicKey": json.RawMessage(bare), "mediation": "optional"})
	for _, options := range [][]byte{bare, wrapped} {
		c, err := NewCreation(shop, options)
		if err != nil {
			t.Fatal(err)
		}
		if c.RPID != "shop.example" || c.UserVerification != Required || c.ClientData.Hash != sha256.Sum256(c.ClientData.JSON) {
			t.Errorf("%+v", c)
		}
		w := c.Command(1_800_000_000, true)
		if !slices.Equal(w.Algorithms, []int64{-8, -7}) || string(w.UserHandle) != "user-1" || w.UserName != strings.Repeat("é", 128) ||
			w.Created != 1_800_000_000 || !w.NoUVNeeded || w.ClientDataHash != c.ClientData.Hash {
			t.Errorf("%+v", w)
		}
		if len(w.Exclude) != 1 || string(w.Exclude[0]) != "old" {
			t.Errorf("excluded %q", w.Exclude)
		}
		if w.PRF == nil || w.PRF.First != PRFInput([]byte("salt")) || w.PRF.Second != nil {
			t.Errorf("prf %+v", w.PRF)
		}
	}
	c, err := NewCreation(shop, encode(t, creation(set("pubKeyCredParams", nil))))
	if err != nil || !slices.Equal(c.Command(0, false).Algorithms, []int64{-7, -257}) || c.UserVerification != Preferred {
		t.Errorf("defaults: %+v, %v", c, err)
	}
}

func TestCreationRefuses(t *testing.T) {
	t.Parallel()
	extension := func(name string, v any) func(object) { return set("extensions", object{name: v}) }
	for what, c := range map[string]struct {
		name   Name
		change func(object)
	}{
		"no user handle":        {TypeError, set("user", object{"id": ""})},
		"long user handle":      {TypeError, set("user", object{"id": b64(strings.Repeat("u", 65))})},
		"padded user handle":    {TypeError, set("user", object{"id": "AA=="})},
		"no challenge":          {TypeError, set("challenge", "")},
		"challenge no base64":   {TypeError, set("challenge", "!")},
		"challenge loose bits":  {TypeError, set("challenge", "AB")},
		"exclude too long":      {TypeError, set("excludeCredentials", make([]object, 1025))},
		"no public-key":         {NotSupportedError, set("pubKeyCredParams", []object{{"type": "later", "alg": 1}})},
		"roaming":               {NotAllowedError, set("authenticatorSelection", object{"authenticatorAttachment": "cross-platform"})},
		"prf by credential":     {NotSupportedError, extension("prf", object{"evalByCredential": object{}})},
		"blob read":             {NotSupportedError, extension("largeBlob", object{"read": true})},
		"blob write":            {NotSupportedError, extension("largeBlob", object{"write": "AA"})},
		"protection that binds": {NotAllowedError, set("extensions", object{"credentialProtectionPolicy": "userVerificationRequired", "enforceCredentialProtectionPolicy": true})},
	} {
		_, err := NewCreation(shop, encode(t, creation(c.change)))
		refused(t, what, err, c.name)
	}
	for _, options := range []string{"", "[]", "{", `{"publicKey":1}`, `{"publicKey":{}}`, `{"rp":{"id":"` + strings.Repeat("a", maxOptions) + `"}}`} {
		_, err := NewCreation(shop, []byte(options))
		refused(t, options[:min(20, len(options))], err, TypeError)
	}
}

// made returns an enclave's result: the key is P-256's generator.
func made(rpID string, flags byte) *wire.CreateResult {
	hash := sha256.Sum256([]byte(rpID))
	x := []byte("\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96")
	y := []byte("\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5")
	key := slices.Concat([]byte("\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"), x, []byte("\x22\x58\x20"), y)
	data := slices.Concat(hash[:], []byte{flags, 0, 0, 0, 0}, make([]byte, 16), []byte{0, 2, 'i', 'd'}, key)
	return &wire.CreateResult{CredentialID: []byte("id"), AttestationObject: attestation(data)}
}

func attestation(data []byte) []byte {
	return wire.Marshal(struct {
		Format            string   `cbor:"fmt"`
		Statement         struct{} `cbor:"attStmt"`
		AuthenticatorData []byte   `cbor:"authData"`
	}{"none", struct{}{}, data})
}

func TestCreationResponse(t *testing.T) {
	t.Parallel()
	c, err := NewCreation(shop, encode(t, creation(
		set("authenticatorSelection", object{"userVerification": "required"}),
		set("extensions", object{"credProps": true, "prf": object{}, "largeBlob": object{"support": "preferred"}}))))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Response(made("shop.example", 0x5d))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		ID         string
		Type       string
		Extensions json.RawMessage `json:"clientExtensionResults"`
		Response   struct {
			ClientDataJSON     wire.Base64
			PublicKey          wire.Base64
			PublicKeyAlgorithm int64
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.ID != b64("id") || r.Type != "public-key" || !bytes.Equal(r.Response.ClientDataJSON, c.ClientData.JSON) || r.Response.PublicKeyAlgorithm != -7 {
		t.Errorf("%s", out)
	}
	if _, err := x509.ParsePKIXPublicKey(r.Response.PublicKey); err != nil {
		t.Error(err)
	}
	if want := `{"credProps":{"rk":true},"prf":{"enabled":true},"largeBlob":{"supported":true}}`; string(r.Extensions) != want {
		t.Errorf("extensions %s", r.Extensions)
	}
	for what, bad := range map[string]struct {
		name   Name
		result *wire.CreateResult
	}{
		"no CBOR":         {UnknownError, &wire.CreateResult{}},
		"short data":      {UnknownError, &wire.CreateResult{AttestationObject: attestation(make([]byte, 36))}},
		"another RP ID":   {ConstraintError, made("evil.example", 0x5d)},
		"not verified":    {ConstraintError, made("shop.example", 0x59)},
		"nothing to keep": {UnknownError, made("shop.example", 0x1d)},
		"cut key": {UnknownError, func() *wire.CreateResult {
			hash := sha256.Sum256([]byte("shop.example"))
			return &wire.CreateResult{AttestationObject: attestation(slices.Concat(hash[:], []byte{0x5d}, make([]byte, 22)))}
		}()},
		"no length": {UnknownError, func() *wire.CreateResult {
			hash := sha256.Sum256([]byte("shop.example"))
			return &wire.CreateResult{AttestationObject: attestation(slices.Concat(hash[:], []byte{0x5d}, make([]byte, 21)))}
		}()},
		"no key": {UnknownError, func() *wire.CreateResult {
			hash := sha256.Sum256([]byte("shop.example"))
			return &wire.CreateResult{AttestationObject: attestation(slices.Concat(hash[:], []byte{0x5d}, make([]byte, 22+coseKeySize)))}
		}()},
	} {
		_, err := c.Response(bad.result)
		refused(t, what, err, bad.name)
	}
	plain, err := NewCreation(shop, encode(t, creation()))
	if err != nil {
		t.Fatal(err)
	}
	out, err = plain.Response(made("shop.example", 0x59))
	if err != nil || !bytes.Contains(out, []byte(`"clientExtensionResults":{}`)) {
		t.Errorf("nothing was asked for: %s, %v", out, err)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r, err := NewRequest(shop, encode(t, request(
		allow("one", "two"),
		set("userVerification", "required"),
		set("extensions", object{
			"prf":       object{"eval": object{"first": b64("a")}, "evalByCredential": object{b64("two"): object{"first": b64("b"), "second": b64("c")}}},
			"largeBlob": object{"read": true},
		}))))
	if err != nil {
		t.Fatal(err)
	}
	one := &wire.Metadata{RPID: "shop.example", CredentialID: []byte("one"), UserHandle: []byte("user-1")}
	two := &wire.Metadata{RPID: "shop.example", CredentialID: []byte("two")}
	if c := r.Command(wire.Handle{1}, one); c.Handle != (wire.Handle{1}) || !c.ReadBlob || c.RPID != "shop.example" || c.PRF.First != PRFInput([]byte("a")) || c.PRF.Second != nil {
		t.Errorf("%+v", c)
	}
	if c := r.Command(wire.Handle{}, two); c.PRF.First != PRFInput([]byte("b")) || *c.PRF.Second != PRFInput([]byte("c")) {
		t.Errorf("%+v", c)
	}
	if !r.Matches(one) || r.Matches(&wire.Metadata{RPID: "shop.example", CredentialID: []byte("three")}) || r.Matches(&wire.Metadata{RPID: "other.example", CredentialID: []byte("one")}) {
		t.Error("matches the wrong ones")
	}
	data := func(rpID string, flags byte) []byte {
		hash := sha256.Sum256([]byte(rpID))
		return append(hash[:], flags, 0, 0, 0, 0)
	}
	out, err := r.Response(one, &wire.AssertResult{
		AuthenticatorData: data("shop.example", 0x1d), Signature: []byte("signature"), Blob: []byte("blob"), PRF: &wire.PRFResult{First: []byte("x")},
	}, false)
	want := `{"id":"b25l","rawId":"b25l","type":"public-key","authenticatorAttachment":"platform",` +
		`"clientExtensionResults":{"prf":{"results":{"first":"eA"}},"largeBlob":{"blob":"YmxvYg"}},` +
		`"response":{"clientDataJSON":"` + b64(string(r.ClientData.JSON)) + `","authenticatorData":"` + b64(string(data("shop.example", 0x1d))) +
		`","signature":"c2lnbmF0dXJl","userHandle":"dXNlci0x"}}`
	if err != nil || string(out) != want {
		t.Errorf("%v\n got %s\nwant %s", err, out, want)
	}
	_, err = r.Response(one, &wire.AssertResult{AuthenticatorData: data("evil.example", 0x1d)}, false)
	refused(t, "another RP ID", err, ConstraintError)
	_, err = r.Response(one, &wire.AssertResult{AuthenticatorData: data("shop.example", 0x19)}, false)
	refused(t, "not verified", err, ConstraintError)
	_, err = r.Response(one, &wire.AssertResult{}, false)
	refused(t, "no data", err, UnknownError)
	_, err = r.Response(&wire.Metadata{RPID: "shop.example", CredentialID: []byte("three")}, &wire.AssertResult{AuthenticatorData: data("shop.example", 0x1d)}, false)
	refused(t, "not allowed", err, ConstraintError)
}

// A sign-in without a user name, once with prf and once with nothing.
func TestDiscoverable(t *testing.T) {
	t.Parallel()
	m := &wire.Metadata{RPID: "shop.example", CredentialID: []byte("any")}
	r, err := NewRequest(shop, encode(t, request(set("extensions", object{"prf": object{"eval": object{"first": b64("a")}}}))))
	if err != nil || !r.Matches(m) || r.Command(wire.Handle{}, m).PRF.First != PRFInput([]byte("a")) {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = NewRequest(shop, encode(t, request())); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("shop.example"))
	result := &wire.AssertResult{AuthenticatorData: append(hash[:], 0x19, 0, 0, 0, 0), Blob: []byte("not asked for"), PRF: &wire.PRFResult{First: []byte("not asked for")}}
	out, err := r.Response(m, result, true)
	if err != nil || !bytes.Contains(out, []byte(`"clientExtensionResults":{}`)) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestLargeBlobWrite(t *testing.T) {
	t.Parallel()
	r, err := NewRequest(shop, encode(t, request(allow("one"), set("extensions", object{"largeBlob": object{"write": b64("blob")}}))))
	if err != nil || string(r.Blob) != "blob" {
		t.Fatalf("%v, %v", r, err)
	}
	hash := sha256.Sum256([]byte("shop.example"))
	one := &wire.Metadata{RPID: "shop.example", CredentialID: []byte("one")}
	out, err := r.Response(one, &wire.AssertResult{AuthenticatorData: append(hash[:], 0x1d, 0, 0, 0, 0)}, true)
	if err != nil || !bytes.Contains(out, []byte(`{"largeBlob":{"written":true}}`)) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestRequestRefuses(t *testing.T) {
	t.Parallel()
	by := func(id string) func(object) {
		return set("extensions", object{"prf": object{"evalByCredential": object{id: object{"first": "AA"}}}})
	}
	blob := func(v object) func(object) { return set("extensions", object{"largeBlob": v}) }
	for what, c := range map[string]struct {
		name    Name
		changes []func(object)
	}{
		"no challenge":            {TypeError, []func(object){set("challenge", "")}},
		"allow too long":          {TypeError, []func(object){set("allowCredentials", make([]object, 1025))}},
		"none of a known type":    {NotSupportedError, []func(object){allow()}},
		"prf by, nobody allowed":  {NotSupportedError, []func(object){by(b64("one"))}},
		"prf by another":          {SyntaxError, []func(object){allow("one"), by(b64("two"))}},
		"prf by none":             {SyntaxError, []func(object){allow("one", ""), by("")}},
		"prf by no base64":        {SyntaxError, []func(object){allow("one"), by("!")}},
		"blob support":            {NotSupportedError, []func(object){blob(object{"support": "required"})}},
		"blob read and write":     {NotSupportedError, []func(object){allow("one"), blob(object{"read": true, "write": "AA"})}},
		"blob write to somebody":  {NotSupportedError, []func(object){blob(object{"write": "AA"})}},
		"blob write to either":    {NotSupportedError, []func(object){allow("one", "two"), blob(object{"write": "AA"})}},
		"blob write of no base64": {TypeError, []func(object){allow("one"), blob(object{"write": "="})}},
	} {
		_, err := NewRequest(shop, encode(t, request(c.changes...)))
		refused(t, what, err, c.name)
	}
}

func TestPRFInput(t *testing.T) {
	t.Parallel()
	if PRFInput([]byte("x")) != sha256.Sum256([]byte("WebAuthn PRF\x00x")) {
		t.Error("not SHA-256 of the prefixed input")
	}
}

// Whatever a relying party sends, the answer is options that may be acted on or a typed refusal.
func FuzzOptions(f *testing.F) {
	for _, seed := range []object{
		creation(), request(), request(allow("one")), {"publicKey": creation()},
		request(allow("one"), set("extensions", object{"prf": object{"evalByCredential": object{b64("one"): object{"first": "AA"}}}})),
	} {
		f.Add(encode(f, seed))
	}
	f.Fuzz(func(t *testing.T, options []byte) {
		var e *Error
		c, err := NewCreation(shop, options)
		if err != nil && !errors.As(err, &e) {
			t.Errorf("untyped: %v", err)
		}
		if err == nil {
			w := c.Command(0, false)
			if len(w.UserHandle) == 0 || len(w.UserHandle) > 64 || len(w.UserName) > wire.MaxName || !strings.HasSuffix("login.shop.example", w.RPID) {
				t.Errorf("%+v", w)
			}
			wire.Marshal(w)
		}
		r, err := NewRequest(shop, options)
		if err != nil && !errors.As(err, &e) {
			t.Errorf("untyped: %v", err)
		}
		if err == nil {
			wire.Marshal(r.Command(wire.Handle{}, &wire.Metadata{}))
		}
	})
}
