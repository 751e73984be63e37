package platform_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/passclave/passclave/enclave/passkey/platform"
	"github.com/passclave/passclave/wire"
)

var (
	config = wire.PlatformUserVerification{
		RPID:    "passclave.example",
		Origins: []string{"https://passclave.example", "chrome-extension://abcdef"},
	}
	challenge = wire.Hash("test challenge")
)

// An authenticator is a platform authenticator built by hand, so that a test can
// change any one thing of an assertion and still have it signed.
type authenticator struct {
	credential wire.PlatformCredential
	sign       func(digest []byte) []byte
}

type ec2Key struct {
	KeyType   int64  `cbor:"1,keyasint"`
	Algorithm int64  `cbor:"3,keyasint"`
	Curve     int64  `cbor:"-1,keyasint"`
	X         []byte `cbor:"-2,keyasint"`
	Y         []byte `cbor:"-3,keyasint"`
}

// keyWithID has a member that nobody reads.
type keyWithID struct {
	KeyType   int64  `cbor:"1,keyasint"`
	KeyID     []byte `cbor:"2,keyasint"`
	Algorithm int64  `cbor:"3,keyasint"`
	Curve     int64  `cbor:"-1,keyasint"`
	X         []byte `cbor:"-2,keyasint"`
	Y         []byte `cbor:"-3,keyasint"`
}

type rsaKey struct {
	KeyType   int64  `cbor:"1,keyasint"`
	Algorithm int64  `cbor:"3,keyasint"`
	Modulus   []byte `cbor:"-1,keyasint"`
	Exponent  []byte `cbor:"-2,keyasint"`
}

func ec2(curve elliptic.Curve, algorithm, cose int64, size int) (ec2Key, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return ec2Key{KeyType: 2, Algorithm: algorithm, Curve: cose, X: point[1 : 1+size], Y: point[1+size:]}, key
}

func es256() *authenticator {
	public, key := ec2(elliptic.P256(), -7, 1, 32)
	return &authenticator{
		credential: wire.PlatformCredential{ID: []byte("credential"), PublicKey: wire.Marshal(public)},
		sign: func(digest []byte) []byte {
			signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
			if err != nil {
				panic(err)
			}
			return signature
		},
	}
}

var rsaPrivate = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func rs256() *authenticator {
	key := rsaPrivate()
	public := rsaKey{KeyType: 3, Algorithm: -257, Modulus: key.N.Bytes(), Exponent: big.NewInt(int64(key.E)).Bytes()}
	return &authenticator{
		credential: wire.PlatformCredential{ID: []byte("credential"), PublicKey: wire.Marshal(public)},
		sign: func(digest []byte) []byte {
			signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
			if err != nil {
				panic(err)
			}
			return signature
		},
	}
}

// An attempt is what goes into one assertion before it is signed.
type attempt struct {
	clientData        map[string]any
	clientDataJSON    []byte // instead of clientData
	rpID              string
	flags             byte
	extra             []byte // after the signature counter
	authenticatorData []byte // instead of the three above
}

func good() *attempt {
	return &attempt{
		clientData: map[string]any{
			"type":        "webauthn.get",
			"challenge":   base64.RawURLEncoding.EncodeToString(challenge[:]),
			"origin":      "https://passclave.example",
			"crossOrigin": false,
		},
		rpID:  "passclave.example",
		flags: 0x05, // UP, UV
	}
}

func (a *authenticator) assert(t *attempt) *wire.PlatformAssertion {
	clientDataJSON := t.clientDataJSON
	if clientDataJSON == nil {
		var err error
		if clientDataJSON, err = json.Marshal(t.clientData); err != nil {
			panic(err)
		}
	}
	data := t.authenticatorData
	if data == nil {
		rpIDHash := sha256.Sum256([]byte(t.rpID))
		data = slices.Concat(rpIDHash[:], []byte{t.flags, 0, 0, 0, 7}, t.extra)
	}
	hash := sha256.Sum256(clientDataJSON)
	digest := sha256.Sum256(slices.Concat(data, hash[:]))
	return &wire.PlatformAssertion{
		CredentialID:      bytes.Clone(a.credential.ID),
		AuthenticatorData: data,
		ClientDataJSON:    clientDataJSON,
		Signature:         a.sign(digest[:]),
	}
}

func refused(t *testing.T, name string, err error, code wire.Code, reason platform.Reason) {
	t.Helper()
	var r *platform.Refusal
	if err == nil || err.Error() == "" || wire.CodeOf(err) != code || !errors.As(err, &r) || r.Reason != reason {
		t.Errorf("%s: got %v, want %s for %s", name, err, code, reason)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*authenticator{"ES256": es256(), "RS256": rs256()} {
		if err := platform.CheckCredential(&a.credential); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, change := range map[string]func(*attempt){
			"as it is":               func(*attempt) {},
			"from the extension":     func(t *attempt) { t.clientData["origin"] = "chrome-extension://abcdef" },
			"older browser":          func(t *attempt) { delete(t.clientData, "crossOrigin") },
			"member of a later spec": func(t *attempt) { t.clientData["later"] = []int{1} },
			"extension outputs":      func(t *attempt) { t.flags |= 0x80; t.extra = []byte{0xa1, 0x61, 0x78, 0xf5} },
		} {
			attempt := good()
			change(attempt)
			if err := platform.Verify(config, &a.credential, challenge, a.assert(attempt)); err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// Each assertion is properly signed and breaks one condition.
func TestEachCondition(t *testing.T) {
	t.Parallel()
	a := es256()
	for name, c := range map[string]struct {
		reason platform.Reason
		change func(*attempt)
	}{
		"a registration":              {platform.ReasonType, func(t *attempt) { t.clientData["type"] = "webauthn.create" }},
		"no type":                     {platform.ReasonType, func(t *attempt) { delete(t.clientData, "type") }},
		"another request":             {platform.ReasonChallenge, func(t *attempt) { t.clientData["challenge"] = base64.RawURLEncoding.EncodeToString(make([]byte, 32)) }},
		"padded challenge":            {platform.ReasonChallenge, func(t *attempt) { t.clientData["challenge"] = base64.URLEncoding.EncodeToString(challenge[:]) }},
		"no challenge":                {platform.ReasonChallenge, func(t *attempt) { delete(t.clientData, "challenge") }},
		"another origin":              {platform.ReasonOrigin, func(t *attempt) { t.clientData["origin"] = "https://evil.example" }},
		"origin with a suffix":        {platform.ReasonOrigin, func(t *attempt) { t.clientData["origin"] = "https://passclave.example.evil.example" }},
		"origin with a port":          {platform.ReasonOrigin, func(t *attempt) { t.clientData["origin"] = "https://passclave.example:443" }},
		"origin in capitals":          {platform.ReasonOrigin, func(t *attempt) { t.clientData["origin"] = "https://PASSCLAVE.example" }},
		"no origin":                   {platform.ReasonOrigin, func(t *attempt) { delete(t.clientData, "origin") }},
		"in a frame":                  {platform.ReasonCrossOrigin, func(t *attempt) { t.clientData["crossOrigin"] = true }},
		"under a top origin":          {platform.ReasonCrossOrigin, func(t *attempt) { t.clientData["topOrigin"] = "https://passclave.example" }},
		"another RP ID":               {platform.ReasonRPID, func(t *attempt) { t.rpID = "evil.example" }},
		"user not present":            {platform.ReasonNotPresent, func(t *attempt) { t.flags = 0x04 }},
		"user not verified":           {platform.ReasonNotVerified, func(t *attempt) { t.flags = 0x01 }},
		"backup eligible":             {platform.ReasonSynced, func(t *attempt) { t.flags |= 0x08 }},
		"backed up":                   {platform.ReasonSynced, func(t *attempt) { t.flags |= 0x18 }},
		"backed up, not eligible":     {platform.ReasonSynced, func(t *attempt) { t.flags |= 0x10 }},
		"client data not JSON":        {platform.ReasonClientData, func(t *attempt) { t.clientDataJSON = []byte("{") }},
		"client data with two values": {platform.ReasonClientData, func(t *attempt) { t.clientDataJSON = []byte("{}{}") }},
		"client data too large":       {platform.ReasonTooLarge, func(t *attempt) { t.clientDataJSON = make([]byte, 4097) }},
		"authenticator data cut":      {platform.ReasonAuthenticator, func(t *attempt) { t.authenticatorData = make([]byte, 36) }},
		"authenticator data longer":   {platform.ReasonAuthenticator, func(t *attempt) { t.extra = []byte{0} }},
		"authenticator data large":    {platform.ReasonTooLarge, func(t *attempt) { t.authenticatorData = make([]byte, 4097) }},
	} {
		attempt := good()
		c.change(attempt)
		refused(t, name, platform.Verify(config, &a.credential, challenge, a.assert(attempt)), wire.CodeUVRequired, c.reason)
	}
}

// A good assertion, changed after it was signed or measured against something else.
func TestChangedAfterSigning(t *testing.T) {
	t.Parallel()
	a, other := es256(), es256()
	other.credential.ID = []byte("other")
	for name, c := range map[string]struct {
		reason platform.Reason
		verify func() error
	}{
		"switched off": {platform.ReasonOff, func() error {
			return platform.Verify(wire.PlatformUserVerification{}, &a.credential, challenge, a.assert(good()))
		}},
		"no RP ID": {platform.ReasonOff, func() error {
			return platform.Verify(wire.PlatformUserVerification{Origins: config.Origins}, &a.credential, challenge, a.assert(good()))
		}},
		"no origins": {platform.ReasonOff, func() error {
			return platform.Verify(wire.PlatformUserVerification{RPID: config.RPID}, &a.credential, challenge, a.assert(good()))
		}},
		"no assertion": {platform.ReasonMissing, func() error {
			return platform.Verify(config, &a.credential, challenge, nil)
		}},
		"another credential": {platform.ReasonOther, func() error {
			return platform.Verify(config, &a.credential, challenge, other.assert(good()))
		}},
		"another key under the same ID": {platform.ReasonSignature, func() error {
			forged := other.assert(good())
			forged.CredentialID = a.credential.ID
			return platform.Verify(config, &a.credential, challenge, forged)
		}},
		"another challenge": {platform.ReasonChallenge, func() error {
			return platform.Verify(config, &a.credential, wire.Hash("another"), a.assert(good()))
		}},
		"a flipped signature": {platform.ReasonSignature, func() error {
			forged := a.assert(good())
			forged.Signature[len(forged.Signature)-1] ^= 1
			return platform.Verify(config, &a.credential, challenge, forged)
		}},
		"no signature": {platform.ReasonSignature, func() error {
			forged := a.assert(good())
			forged.Signature = nil
			return platform.Verify(config, &a.credential, challenge, forged)
		}},
		"a long signature": {platform.ReasonTooLarge, func() error {
			forged := a.assert(good())
			forged.Signature = make([]byte, 513)
			return platform.Verify(config, &a.credential, challenge, forged)
		}},
		"changed client data": {platform.ReasonSignature, func() error {
			forged := a.assert(good())
			forged.ClientDataJSON = append(forged.ClientDataJSON, ' ')
			return platform.Verify(config, &a.credential, challenge, forged)
		}},
		"changed counter": {platform.ReasonSignature, func() error {
			forged := a.assert(good())
			forged.AuthenticatorData[36]++
			return platform.Verify(config, &a.credential, challenge, forged)
		}},
	} {
		refused(t, name, c.verify(), wire.CodeUVRequired, c.reason)
	}
}

func TestCredential(t *testing.T) {
	t.Parallel()
	key := rsaPrivate()
	p256, _ := ec2(elliptic.P256(), -7, 1, 32)
	p384, _ := ec2(elliptic.P384(), -35, 2, 48)
	change := func(f func(*ec2Key)) []byte {
		k := p256
		k.X = bytes.Clone(k.X)
		f(&k)
		return wire.Marshal(k)
	}
	good := wire.Marshal(p256)
	for name, c := range map[string]*wire.PlatformCredential{
		"none":            nil,
		"no ID":           {PublicKey: good},
		"long ID":         {ID: make([]byte, 1024), PublicKey: good},
		"no key":          {ID: []byte("id")},
		"long key":        {ID: []byte("id"), PublicKey: slices.Concat(good, make([]byte, 600))},
		"padded out key":  {ID: []byte("id"), PublicKey: wire.Marshal(keyWithID{2, make([]byte, 600), -7, 1, p256.X, p256.Y})},
		"trailing bytes":  {ID: []byte("id"), PublicKey: append(bytes.Clone(good), 0)},
		"not on curve":    {ID: []byte("id"), PublicKey: change(func(k *ec2Key) { k.X[31] ^= 1 })},
		"wrong curve":     {ID: []byte("id"), PublicKey: change(func(k *ec2Key) { k.Curve = 2 })},
		"wrong algorithm": {ID: []byte("id"), PublicKey: change(func(k *ec2Key) { k.Algorithm = -8 })},
		"P-384":           {ID: []byte("id"), PublicKey: wire.Marshal(p384)},
		"PS256":           {ID: []byte("id"), PublicKey: wire.Marshal(rsaKey{3, -37, key.N.Bytes(), []byte{1, 0, 1}})},
		"RSA-1024":        {ID: []byte("id"), PublicKey: wire.Marshal(rsaKey{3, -257, key.N.Bytes()[:128], []byte{1, 0, 1}})},
		"RSA-4104":        {ID: []byte("id"), PublicKey: wire.Marshal(rsaKey{3, -257, bytes.Repeat([]byte{0xff}, 513), []byte{1, 0, 1}})},
		"RSA-1024 padded": {ID: []byte("id"), PublicKey: wire.Marshal(rsaKey{3, -257, append(make([]byte, 128), key.N.Bytes()[:128]...), []byte{1, 0, 1}})},
	} {
		refused(t, name, platform.CheckCredential(c), wire.CodeArgument, platform.ReasonCredential)
		refused(t, name+", used", platform.Verify(config, c, challenge, es256().assert(&attempt{})), wire.CodeArgument, platform.ReasonCredential)
	}
	if err := platform.CheckCredential(&wire.PlatformCredential{ID: make([]byte, 1023), PublicKey: good}); err != nil {
		t.Error(err)
	}
}

// Whatever a device sends as credential or assertion, the enclave answers with a refusal.
func FuzzVerify(f *testing.F) {
	a := es256()
	seed := a.assert(good())
	if err := platform.Verify(config, &a.credential, challenge, seed); err != nil {
		f.Fatal(err)
	}
	attested := good()
	attested.flags |= 0x40
	attested.extra = slices.Concat(make([]byte, 16), []byte{0, 1, 9}, a.credential.PublicKey)
	f.Add(a.credential.PublicKey, seed.AuthenticatorData, seed.ClientDataJSON, seed.Signature)
	f.Add(rs256().credential.PublicKey, a.assert(attested).AuthenticatorData, []byte(`{"type":1}`), []byte{})
	f.Fuzz(func(t *testing.T, key, data, clientData, signature []byte) {
		err := platform.Verify(config, &wire.PlatformCredential{ID: a.credential.ID, PublicKey: key}, challenge, &wire.PlatformAssertion{
			CredentialID: a.credential.ID, AuthenticatorData: data, ClientDataJSON: clientData, Signature: signature,
		})
		var r *platform.Refusal
		if err != nil && !errors.As(err, &r) {
			t.Errorf("untyped refusal: %v", err)
		}
		if err == nil && (len(data) < 37 || data[32]&0x1d != 0x05) {
			t.Errorf("accepted flags of %x", data)
		}
	})
}
