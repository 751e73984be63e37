package keyrelease

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/wire"
)

// wrapping is what is asked for, fallback what a vault is asked for then that has an HSM
// without it (SoftHSM, and some of hardware, have OAEP with SHA-1 alone). The two are equally good:
// OAEP does not rest on its hash being free of collisions, and nothing better is known
// against it with SHA-1. So whoever makes the client fall back has gained nothing.
const (
	wrapping = keywrap.RSAAESKeyWrap256
	fallback = keywrap.RSAAESKeyWrap
)

const (
	maxVersions = 64 // enabled versions of one key
	maxPages    = 16 // of a list of versions
	timeLimit   = time.Minute
)

// Client gets the KEK. Service, Config and Evidence must be set. A Client may be
// used by several goroutines, and again after a failure.
type Client struct {
	Service wire.KeyService // from the measured configuration
	Config  wire.Digest     // hash of the measured configuration, for the runtime data

	// Evidence has the TEE report on runtime data. What it returns is sent to the
	// attestation service alone.
	Evidence func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error)

	// Bearer returns the managed identity's access token for the vault; nil where
	// the vault asks for none, as the project's broker.
	Bearer func(ctx context.Context) (string, error)

	// RSA gives the key that the KEK is wrapped to, once for each Release; nil makes
	// it then. [GenerateRSA] makes the first while the enclave starts.
	RSA RSASource

	// Do runs what handles private keys and the KEK, so that what it leaves behind is
	// erased (enclave/secret); nil just runs it.
	Do func(f func())

	// Clock is what the vault's certificates are judged by; nil is the host's clock.
	// The enclave gives the later of that and the newest signed time it has seen.
	Clock func() time.Time

	TimeLimit time.Duration // of a whole Release; zero means one minute

	pause func(context.Context, time.Duration) error // nil: a timer
}

// RSASource returns an RSA key of 2048 bits or more. What opens a recorded answer is
// to live no longer than it is needed: each call should return another key.
type RSASource func() (*rsa.PrivateKey, error)

// GenerateRSA begins to make an RSA-2048 key in the background (80 ms at the
// median, at times 300) and returns a source that waits for it, hands it out once,
// and makes another at each later call. do is as [Client.Do].
func GenerateRSA(do func(func())) RSASource {
	type made struct {
		key *rsa.PrivateKey
		err error
	}
	first := make(chan made, 1)
	go func() {
		defer close(first)
		key, err := makeRSA(do)
		first <- made{key, err}
	}()
	return func() (*rsa.PrivateKey, error) {
		if m, ok := <-first; ok {
			return m.key, m.err
		}
		return makeRSA(do)
	}
}

func makeRSA(do func(func())) (key *rsa.PrivateKey, err error) {
	within(do, func() { key, err = rsa.GenerateKey(rand.Reader, 2048) })
	return key, err
}

func within(do func(func()), f func()) {
	if do == nil {
		f()
		return
	}
	do(f)
}

// Release returns all enabled versions of the KEK, oldest first. It is all or
// nothing: were a version missing, what is sealed under it would look corrupt.
//
// Broken connections, 429 and 5xx are tried again with growing pauses; a vault
// that does not know the attestation service's token (a broker that was started
// anew) gets one new token. Errors are of type [*Error].
//
// It does not check that the versions are all there have ever been, nor that a
// key is the one of an earlier start: the vault decides that (see the package).
func (c *Client) Release(ctx context.Context) ([]KEK, error) {
	limit := c.TimeLimit
	if limit == 0 {
		limit = timeLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	defer s.transport.http.CloseIdleConnections()
	keks, err := s.release(ctx)
	if err != nil && err.Reason == ReasonUnauthorized && err.Step == StepRelease {
		keks, err = s.release(ctx)
	}
	if err != nil {
		return nil, err
	}
	return keks, nil
}

// session is one Release.
type session struct {
	*Client
	transport *transport
	roots     *x509.CertPool
	vault     *url.URL
	authority *url.URL // the attestation service
	key       string   // URL
	enc       keywrap.Algorithm
	rsa       *rsa.PrivateKey
	clock     func() time.Time
}

func (c *Client) session() (*session, *Error) {
	roots, err := pool(c.Service.Roots)
	if err != nil {
		return nil, &Error{Reason: ReasonConfiguration, cause: err, Next: "key_service.roots"}
	}
	vault, err := base(c.Service.Vault)
	if err != nil {
		return nil, &Error{Reason: ReasonConfiguration, cause: err, Next: "key_service.vault"}
	}
	authority, err := base(c.Service.Attestation)
	if err != nil {
		return nil, &Error{Reason: ReasonConfiguration, cause: err, Next: "key_service.attestation"}
	}
	if !segment(c.Service.Key) {
		return nil, &Error{Reason: ReasonConfiguration, cause: errors.New("not a key's name"), Next: "key_service.key"}
	}
	if c.Evidence == nil {
		return nil, &Error{Reason: ReasonConfiguration, cause: errors.New("no source of evidence")}
	}
	source := c.RSA
	if source == nil {
		source = func() (*rsa.PrivateKey, error) { return makeRSA(c.Do) }
	}
	priv, err := source()
	if err != nil {
		return nil, &Error{Reason: ReasonConfiguration, cause: err}
	}
	s := &session{
		Client: c, transport: newTransport(roots, c), roots: roots, vault: vault, rsa: priv, clock: c.Clock,
		authority: authority, enc: wrapping,
		key: vault.JoinPath("keys", c.Service.Key).String(),
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if c.pause != nil {
		s.transport.pause = c.pause
	}
	return s, nil
}

func base(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not an https URL without query")
	}
	return url.Parse(canonical(s)) // as the vault writes it into the IDs of its keys
}

// canonical returns an https URL with its host in lower case and without the default port,
// which Key Vault writes into nextLink (REST reference, "Get Key Versions") and some
// clients have seen in IDs. What is no https URL comes back as it is.
func canonical(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" {
		return s
	}
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	return u.String()
}

// segment reports whether s is a name as vaults have them: one part of a path.
func segment(s string) bool {
	return s != "" && len(s) <= 127 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func (s *session) release(ctx context.Context) ([]KEK, *Error) {
	token, err := s.token(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := s.versions(ctx)
	if err != nil {
		return nil, err
	}
	var keks []KEK
	for _, v := range versions {
		kek, err := s.releaseVersion(ctx, token, v)
		if err != nil && err.Code == azure.CodeEnc {
			s.enc = fallback // for all further versions, too
			kek, err = s.releaseVersion(ctx, token, v)
		}
		if err != nil {
			for _, k := range keks {
				clear(k.Key)
			}
			err.Step, err.Version = StepRelease, v.version
			return nil, err
		}
		keks = append(keks, *kek)
	}
	return keks, nil
}

// token has the TEE and then the attestation service say that the RSA key is ours.
func (s *session) token(ctx context.Context) (string, *Error) {
	runtimeData, err := runtimeData(s.Config, &s.rsa.PublicKey)
	if err != nil {
		return "", &Error{Reason: ReasonEvidence, cause: err}
	}
	bundle, err := s.Evidence(ctx, runtimeData)
	if err != nil {
		return "", &Error{Reason: ReasonEvidence, cause: err}
	}
	path, version, request, err := attestRequest(bundle, runtimeData, nonce())
	if err != nil {
		return "", &Error{Reason: ReasonEvidence, cause: err}
	}
	var answer azure.AttestResponse
	if err := s.transport.call(ctx, StepAttest, s.authority.JoinPath(path).String()+"?api-version="+version, request, &answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", &Error{Reason: ReasonAnswer, Step: StepAttest, cause: errors.New("no token")}
	}
	return answer.Token, nil
}

type version struct {
	version string
	kid     string
	created uint64
}

// versions lists the enabled versions, oldest first.
func (s *session) versions(ctx context.Context) ([]version, *Error) {
	bad := func(why string) *Error {
		return &Error{Reason: ReasonAnswer, Step: StepList, cause: errors.New(why)}
	}
	var versions []version
	next := s.key + "/versions?api-version=" + azure.VaultVersion
	for page := 0; next != ""; page++ {
		if page == maxPages {
			return nil, bad("the list of versions does not end")
		}
		var list azure.KeyList
		if err := s.transport.call(ctx, StepList, next, nil, &list); err != nil {
			return nil, err
		}
		for _, item := range list.Value {
			kid := canonical(item.KID)
			name, ok := strings.CutPrefix(kid, s.key+"/")
			if !ok || !segment(name) {
				return nil, bad("a version of another key or vault")
			}
			if !item.Attributes.Enabled {
				continue
			}
			if slices.ContainsFunc(versions, func(v version) bool { return v.version == name }) || len(versions) == maxVersions {
				return nil, bad("a version twice, or too many")
			}
			versions = append(versions, version{name, kid, item.Attributes.Created})
		}
		next = ""
		if list.NextLink != nil && *list.NextLink != "" {
			u, err := url.Parse(canonical(*list.NextLink))
			if err != nil || u.Scheme != "https" || u.Host != s.vault.Host || u.User != nil {
				return nil, bad("the next page is on another host")
			}
			next = u.String()
		}
	}
	if len(versions) == 0 {
		return nil, &Error{Reason: ReasonNoVersion, Step: StepList, Next: "that the key exists in key_service.vault and has an enabled version"}
	}
	slices.SortFunc(versions, func(a, b version) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.version, b.version))
	})
	return versions, nil
}

func (s *session) releaseVersion(ctx context.Context, token string, v version) (*KEK, *Error) {
	n := nonce()
	request := azure.ReleaseRequest{Target: token, Enc: string(s.enc), Nonce: azure.Nonce(n)}
	var answer azure.ReleaseResponse
	url := v.kid + "/release?api-version=" + azure.VaultVersion
	if err := s.transport.call(ctx, StepRelease, url, request, &answer); err != nil {
		return nil, err
	}
	released, err := openJWS(answer.Value, expected{
		host: s.vault.Hostname(), roots: s.roots, now: s.clock(),
		kid: v.kid, enc: s.enc, nonce: n,
	})
	if err != nil {
		return nil, err
	}
	if created := released.Response.Key.Attributes.Created; created != 0 && created != v.created {
		return nil, refuse(ReasonVersion, "the answer has another time of creation than the list")
	}
	var key []byte
	within(s.Do, func() { key, err = unwrap(released, s.Service.Key, s.enc, s.rsa) })
	if err != nil {
		return nil, err
	}
	return &KEK{Version: v.version, Created: v.created, Key: key}, nil
}

func nonce() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
