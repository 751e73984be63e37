//go:build cgo

package pkcs11

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/passclave/passclave/keyrelease/keywrap"
)

const (
	keySize    = 32           // bytes of a key
	wrappedKey = keySize + 8  // and wrapped by RFC 5649
	aesWrapKWP = uint(0x210B) // CKM_AES_KEY_WRAP_KWP (PKCS#11 v3.0), which the binding lacks
)

// way is how a token wraps; all of it happens in the token.
type way struct {
	name    string
	keyWrap uint // the key wrap of RFC 5649, for a key under a session key under OAEP; 0: CKM_RSA_AES_KEY_WRAP does it all
}

// ways in the order of preference. CKM_AES_KEY_WRAP_PAD is RFC 5649 with some makers and
// another padding with others: trying it tells.
var ways = []way{
	{"CKM_RSA_AES_KEY_WRAP", 0},
	{"OAEP and CKM_AES_KEY_WRAP_KWP", aesWrapKWP},
	{"OAEP and CKM_AES_KEY_WRAP_PAD", p11.CKM_AES_KEY_WRAP_PAD},
}

// mechanisms are those that a way needs.
func (w way) mechanisms() []uint {
	if w.keyWrap == 0 {
		return []uint{p11.CKM_AES_KEY_GEN, p11.CKM_RSA_AES_KEY_WRAP}
	}
	return []uint{p11.CKM_AES_KEY_GEN, p11.CKM_RSA_PKCS_OAEP, w.keyWrap}
}

// wrap wraps a key to pub.
func (x *session) wrap(w way, a keywrap.Algorithm, pub *rsa.PublicKey, key p11.ObjectHandle) ([]byte, error) {
	oaep, err := oaepOf(a)
	if err != nil {
		return nil, err
	}
	to, err := x.CreateObject(x.handle, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_RSA),
		p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_PRIVATE, false),
		p11.NewAttribute(p11.CKA_WRAP, true),
		p11.NewAttribute(p11.CKA_MODULUS, pub.N.Bytes()),
		p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(pub.E)).Bytes()),
	})
	if err != nil {
		return nil, fmt.Errorf("import the RSA key: %w", err)
	}
	defer x.destroy(to)
	var out []byte
	if w.keyWrap == 0 {
		out, err = x.wrapBy(p11.CKM_RSA_AES_KEY_WRAP, &p11.RSAAESKeyWrapParams{AESKeyBits: 8 * keySize, OAEPParams: *oaep}, to, key)
	} else {
		out, err = x.compose(w, oaep, to, key)
	}
	if err != nil {
		return nil, err
	}
	if len(out) != pub.Size()+wrappedKey {
		return nil, fmt.Errorf("%w: a wrapped key has %d bytes, must have %d", ErrCorrupt, len(out), pub.Size()+wrappedKey)
	}
	return out, nil
}

// compose does what CKM_RSA_AES_KEY_WRAP does, step by step.
func (x *session) compose(w way, oaep *p11.OAEPParams, to, key p11.ObjectHandle) ([]byte, error) {
	between, err := x.generate(p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_WRAP, true))
	if err != nil {
		return nil, fmt.Errorf("make a session key: %w", err)
	}
	defer x.destroy(between)
	head, err := x.wrapBy(p11.CKM_RSA_PKCS_OAEP, oaep, to, between)
	if err != nil {
		return nil, err
	}
	tail, err := x.wrapBy(w.keyWrap, nil, between, key)
	return append(head, tail...), err
}

func (x *session) wrapBy(mechanism uint, parameter any, by, key p11.ObjectHandle) ([]byte, error) {
	out, err := x.WrapKey(x.handle, []*p11.Mechanism{p11.NewMechanism(mechanism, parameter)}, by, key)
	if err != nil {
		return nil, fmt.Errorf("wrap by mechanism %#x: %w", mechanism, err)
	}
	return out, nil
}

func oaepOf(a keywrap.Algorithm) (*p11.OAEPParams, error) {
	hash, err := a.Hash()
	if err != nil {
		return nil, err
	}
	mechanism := map[crypto.Hash][2]uint{
		crypto.SHA1:   {p11.CKM_SHA_1, p11.CKG_MGF1_SHA1},
		crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256},
		crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384},
	}[hash]
	return p11.NewOAEPParams(mechanism[0], mechanism[1], p11.CKZ_DATA_SPECIFIED, nil), nil
}

// generate makes an AES-256 key that can be wrapped and, beyond more, do nothing.
func (x *session) generate(more ...*p11.Attribute) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_VALUE_LEN, keySize),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, true), // by wrapping
		p11.NewAttribute(p11.CKA_MODIFIABLE, false),
	}
	template = append(template, more...)
	for _, use := range []uint{p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_SIGN, p11.CKA_VERIFY, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_DERIVE} {
		if !slices.ContainsFunc(more, func(a *p11.Attribute) bool { return a.Type == use }) {
			template = append(template, p11.NewAttribute(use, false))
		}
	}
	return x.GenerateKey(x.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, template)
}

// keyTemplate names the key object of a version. An ID is hexadecimal, as Create made it.
func keyTemplate(name, id string) ([]*p11.Attribute, error) {
	raw, err := hex.DecodeString(id)
	if err != nil {
		return nil, fmt.Errorf("%w: version %q", ErrCorrupt, id)
	}
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_LABEL, name),
		p11.NewAttribute(p11.CKA_ID, raw),
	}, nil
}

// key finds the key object of a version and checks that it can be wrapped, and not read.
func (x *session) key(name, id string) (p11.ObjectHandle, error) {
	template, err := keyTemplate(name, id)
	if err != nil {
		return 0, err
	}
	objects, err := x.find(append(template, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_PRIVATE, true)))
	if err != nil {
		return 0, err
	}
	if len(objects) != 1 {
		return 0, fmt.Errorf("%w: version %s of key %q has %d keys", ErrCorrupt, id, name, len(objects))
	}
	return objects[0], x.checkKey(objects[0])
}

// checkKey refuses a key whose bytes the token would show, or that it would not wrap:
// there are HSMs that make a key otherwise than they were told.
func (x *session) checkKey(key p11.ObjectHandle) error {
	attributes, err := x.GetAttributeValue(x.handle, key, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_SENSITIVE, nil), p11.NewAttribute(p11.CKA_EXTRACTABLE, nil),
	})
	if err != nil {
		return err
	}
	for _, a := range attributes {
		if len(a.Value) != 1 || a.Value[0] != 1 {
			return fmt.Errorf("%w: a key is not sensitive, or cannot be wrapped", ErrCorrupt)
		}
	}
	return nil
}

// throwaway is the key that tries are wrapped to, and nothing else.
var throwaway = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// tryWays finds out by which algorithms the token wraps, and how: for each the first way
// by which a key of the session, wrapped to a key made here, opens again.
func (x *session) tryWays() (map[keywrap.Algorithm]way, error) {
	list, err := x.GetMechanismList(x.slot)
	if err != nil {
		return nil, fmt.Errorf("list the mechanisms: %w", err)
	}
	has := map[uint]bool{}
	for _, m := range list {
		has[m.Mechanism] = true
	}
	to, err := throwaway()
	if err != nil {
		return nil, err
	}
	key, err := x.generate(p11.NewAttribute(p11.CKA_TOKEN, false))
	if err != nil {
		return nil, fmt.Errorf("%w: make an AES-256 key: %w", ErrMechanism, err)
	}
	defer x.destroy(key)
	found, failures := map[keywrap.Algorithm]way{}, []error{}
	for _, a := range []keywrap.Algorithm{keywrap.RSAAESKeyWrap, keywrap.RSAAESKeyWrap256, keywrap.RSAAESKeyWrap384} {
		for _, w := range ways {
			if slices.ContainsFunc(w.mechanisms(), func(m uint) bool { return !has[m] }) {
				continue
			}
			err := x.try(w, a, to, key)
			if err == nil {
				found[a] = w
				break
			}
			failures = append(failures, fmt.Errorf("%s by %s: %w", a, w.name, err))
		}
	}
	if _, ok := found[keywrap.RSAAESKeyWrap]; !ok {
		return nil, fmt.Errorf("%w: it must have CKM_AES_KEY_GEN, and CKM_RSA_AES_KEY_WRAP, or CKM_RSA_PKCS_OAEP with CKM_AES_KEY_WRAP_KWP or CKM_AES_KEY_WRAP_PAD as in RFC 5649: %w", ErrMechanism, errors.Join(failures...))
	}
	return found, nil
}

func (x *session) try(w way, a keywrap.Algorithm, to *rsa.PrivateKey, key p11.ObjectHandle) error {
	wrapped, err := x.wrap(w, a, &to.PublicKey, key)
	if err != nil {
		return err
	}
	opened, err := keywrap.Unwrap(a, to, wrapped)
	clear(opened)
	return err
}
