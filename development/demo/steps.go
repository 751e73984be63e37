package demo

import (
	"context"
	"path/filepath"
	"time"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// Exit codes of the command line and codes of refusals, spelt out: the story is also
// the test that they do not change.
const (
	exitPolicy    = 2
	exitPINWrong  = 4
	exitPINLocked = 5
	exitDevice    = 6
	exitAlarm     = 7
	exitCode      = 9
)

// rebuilt is the step before which an endorsed ledger has its own.
const rebuilt = "The enclave is rebuilt with one byte more: another measurement"

var steps = []step{
	{"A service starts", "Simulated TEE, key broker, issuer, relying party, enclave and host: six processes. The KEK goes to the one enclave that the release policy names.", (*story).starts},
	{"The client verifies the evidence itself", "Nothing is sent before the client knows which program answers, under which configuration, with which ledger.", (*story).verifies},
	{"Alice enrols her laptop", "Her PIN never leaves the laptop; the vault secret that opens her passkeys is never kept by the service.", (*story).enrols},
	{"She creates a passkey at the demo relying party", "The private key is made in the enclave and stored sealed: neither host nor database can read it.", (*story).creates},
	{"She signs in with it", "An unchanged relying party (go-webauthn) verifies the signature, and that she agreed (software UV).", (*story).signsIn},
	{"A wrong local code signs nothing", "Who holds the laptop but not the code gets no signature; nothing is even sent.", (*story).wrongCode},
	{"Her phone joins by PIN and signs in with the same passkey", "Login and PIN together open the vault to a new device, inside the enclave.", (*story).joins},
	{"A stranger with her login guesses PINs", "Each guess is counted in the ledger before it is judged; nobody can take it back.", (*story).guesses},
	{"At the limit the account locks, also for the right PIN", "Ten guesses are all that a stolen login ever gets.", (*story).locks},
	{"Everything stops: the laptop lists its passkeys offline", "Names of sites are sealed for her devices, and need no service.", (*story).stops},
	{"Everything starts again: still locked", "A restart gives nobody a fresh start.", (*story).restarts},
	{"She sets a new PIN on her laptop", "A trusted device with a fresh login unlocks; a new vault epoch begins, the old PIN opens nothing any more.", (*story).setsPIN},
	{"She revokes the phone", "It is refused from now on, and cannot open the new epoch; her other devices go on.", (*story).revokes},
	{"The host serves an older head", "A database restored from an old copy would bring back the revoked phone.", (*story).olderHead},
	{"The host serves a head that was never committed", "The enclave sealed it, but no ledger entry names it: a host must not choose between two futures.", (*story).uncommittedHead},
	{"The host swaps a record for another", "A host must not be able to choose which passkey signs, or bring back an old version.", (*story).swappedRecord},
	{"The host sends a captured request again", "A recorded sign-in must not sign twice.", (*story).replay},
	{"The host is honest again, and nothing was lost", "Lies cost the liar the service, and nobody a passkey. Every chain is whole, by public keys alone.", (*story).honestAgain},
	{rebuilt, "The broker's release policy does not name it: without the key it opens nothing.", (*story).otherBuild},
	{"Who administers the key store lets the other build have the key", "The last line is the client: its strict policy refuses that build, for its measurement and nothing else.", (*story).collusion},
	{"The measured enclave is back", "The same binary, the same measurement, the same passkeys.", (*story).backAgain},
}

func (s *story) starts(ctx context.Context) error {
	began := time.Now()
	if err := s.up(ctx); err != nil {
		return err
	}
	s.say("ready at %s after %.1f s", s.stack.URL, time.Since(began).Seconds())
	if s.stack.Keys == stack.KeysSoftHSM {
		s.say("the KEK is in a token of SoftHSM, behind PKCS#11, and leaves it wrapped alone")
	}
	return nil
}

// verification is the JSON of verify, as far as the story looks at it.
type verification struct {
	Verdict    string `json:"verdict"`
	Simulation bool   `json:"simulation"`
	Findings   []struct {
		Name    string `json:"name"`
		Verdict string `json:"verdict"`
	} `json:"findings"`
}

func (s *story) verifies(ctx context.Context) error {
	var v verification
	if err := s.done(ctx, "laptop", nil, &v, "verify", s.stack.URL, "--policy", s.stack.PolicyFile); err != nil {
		return err
	}
	s.say("%d checks, %s, SIMULATION said: %v", len(v.Findings), v.Verdict, v.Simulation)
	return first(must("verdict", v.Verdict, "accepted"), must("simulation", v.Simulation, true))
}

func (s *story) enrols(ctx context.Context) error {
	var a struct {
		Name     string `json:"name"`
		UV       string `json:"uv"`
		Passkeys int    `json:"passkeys"`
	}
	err := s.done(ctx, "laptop", secrets{pin, code}, &a,
		"enroll", s.stack.URL, "--policy", s.stack.PolicyFile, "--user", user, "--pin-fd", "3", "--code-fd", "3")
	if err != nil {
		return err
	}
	s.say("%q is the account's first device; its UV is %s UV", a.Name, a.UV)
	return first(must("UV", a.UV, "software"), must("passkeys", a.Passkeys, 0))
}

// ceremony is the JSON of passkey create and sign-in.
type ceremony struct {
	Passkey struct {
		ID           string `json:"id"`
		CredentialID string `json:"credential_id"`
	} `json:"passkey"`
	RelyingParty struct {
		User         string `json:"user"`
		CredentialID string `json:"credential_id"`
		UserVerified bool   `json:"user_verified"`
	} `json:"relying_party"`
}

func (s *story) create(ctx context.Context, profile, rpUser string) (*ceremony, error) {
	var c ceremony
	err := s.done(ctx, profile, secrets{code}, &c, "passkey", "create", "--rp", s.stack.RPURL, "--user", rpUser, "--code-fd", "3")
	if err != nil {
		return nil, err
	}
	return &c, first(
		must("user at the relying party", c.RelyingParty.User, rpUser),
		must("credential ID", c.RelyingParty.CredentialID, c.Passkey.CredentialID),
		must("user verified", c.RelyingParty.UserVerified, true))
}

func (s *story) creates(ctx context.Context) error {
	c, err := s.create(ctx, "laptop", user)
	if err != nil {
		return err
	}
	s.passkey, s.credential = c.Passkey.ID, c.Passkey.CredentialID
	s.say("the relying party knows %q by credential %.12s…", c.RelyingParty.User, s.credential)
	return nil
}

// signIn signs in with the first passkey.
func (s *story) signIn(ctx context.Context, profile string) error {
	var c ceremony
	err := s.done(ctx, profile, secrets{code}, &c, s.signInLine()...)
	if err != nil {
		return err
	}
	s.say("go-webauthn verified %q, credential %.12s…, user verified: %v", c.RelyingParty.User, c.RelyingParty.CredentialID, c.RelyingParty.UserVerified)
	return first(
		must("user at the relying party", c.RelyingParty.User, user),
		must("credential ID", c.RelyingParty.CredentialID, s.credential),
		must("user verified", c.RelyingParty.UserVerified, true))
}

func (s *story) signInLine() []string {
	return []string{"passkey", "sign-in", "--rp", s.stack.RPURL, "--user", user, "--code-fd", "3"}
}

func (s *story) signsIn(ctx context.Context) error { return s.signIn(ctx, "laptop") }

func (s *story) wrongCode(ctx context.Context) error {
	_, err := s.refused(ctx, exitCode, "code-wrong", "laptop", secrets{"a guess"}, s.signInLine()...)
	return err
}

// join joins by a PIN; the caller says what must come of it.
func (s *story) joinLine() []string {
	return []string{"join", s.stack.URL, "--policy", s.stack.PolicyFile, "--user", user, "--pin-fd", "3", "--code-fd", "3"}
}

// admission is the JSON of enroll and join.
type admission struct {
	Device   string `json:"device"`
	Young    bool   `json:"young"`
	Passkeys int    `json:"passkeys"`
}

func (s *story) joins(ctx context.Context) error {
	var a admission
	if err := s.done(ctx, "phone", secrets{pin, code}, &a, s.joinLine()...); err != nil {
		return err
	}
	s.say("the phone has her passkey; for a day it is young and cannot revoke others")
	if err := first(must("passkeys", a.Passkeys, 1), must("young", a.Young, true)); err != nil {
		return err
	}
	return s.signIn(ctx, "phone")
}

// limit is the consecutive limit of the demo's measured configuration, as of the design.
const limit = 10

func (s *story) guesses(ctx context.Context) error {
	for n := 1; n <= 3; n++ {
		if err := s.guess(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// guess is the nth wrong PIN in a row.
func (s *story) guess(ctx context.Context, n int) error {
	r, err := s.refused(ctx, exitPINWrong, "pin-wrong", "stranger", secrets{evilPIN, code}, s.joinLine()...)
	if err != nil {
		return err
	}
	if r.err.AttemptsLeft == nil {
		return mismatch("attempts left", "none said", limit-n)
	}
	return must("attempts left", *r.err.AttemptsLeft, uint64(limit-n))
}

func (s *story) locks(ctx context.Context) error {
	for n := 4; n < limit; n++ {
		if err := s.guess(ctx, n); err != nil {
			return err
		}
	}
	// The last guess reaches the limit.
	if _, err := s.refused(ctx, exitPINLocked, "pin-locked", "stranger", secrets{evilPIN, code}, s.joinLine()...); err != nil {
		return err
	}
	return s.locked(ctx)
}

// locked checks that the right PIN is refused too.
func (s *story) locked(ctx context.Context) error {
	_, err := s.refused(ctx, exitPINLocked, "pin-locked", "tablet", secrets{pin, code}, s.joinLine()...)
	return err
}

func (s *story) stops(ctx context.Context) error {
	if err := s.stopAll(); err != nil {
		return err
	}
	s.endEvil()
	var l struct {
		Passkeys []struct {
			RPID string `json:"rp_id"`
			User string `json:"user"`
		} `json:"passkeys"`
	}
	if err := s.done(ctx, "laptop", nil, &l, "passkey", "list"); err != nil {
		return err
	}
	if len(l.Passkeys) != 1 {
		return mismatch("passkeys", len(l.Passkeys), 1)
	}
	s.say("%s at %s", l.Passkeys[0].User, l.Passkeys[0].RPID)
	return first(must("site", l.Passkeys[0].RPID, "localhost"), must("user", l.Passkeys[0].User, user))
}

// stopAll stops the service. Endorsers are in other failure domains, and go on: what
// they remember has no other copy.
func (s *story) stopAll() error {
	if s.options.Ledger == wire.BackendEndorsed {
		return s.stack.StopParts(stack.Parts...)
	}
	s.stack.Stop()
	s.stack = nil
	return nil
}

func (s *story) restarts(ctx context.Context) error {
	if err := s.up(ctx); err != nil {
		return err
	}
	if s.options.Ledger != wire.BackendEndorsed {
		if err := must("founded anew", s.stack.Founded, false); err != nil {
			return err
		}
	}
	return s.locked(ctx)
}

func (s *story) setsPIN(ctx context.Context) error {
	var p struct {
		Epoch uint64 `json:"epoch"`
	}
	if err := s.done(ctx, "laptop", secrets{newPIN, code}, &p, "pin", "set", "--user", user, "--pin-fd", "3", "--code-fd", "3"); err != nil {
		return err
	}
	s.say("vault epoch %d is in force", p.Epoch)
	if err := must("epoch", p.Epoch, 2); err != nil {
		return err
	}
	if _, err := s.refused(ctx, exitPINWrong, "pin-wrong", "tablet", secrets{pin, code}, s.joinLine()...); err != nil {
		return err
	}
	var a admission
	if err := s.done(ctx, "tablet", secrets{newPIN, code}, &a, s.joinLine()...); err != nil {
		return err
	}
	s.say("the tablet joined by the new PIN")
	return must("passkeys", a.Passkeys, 1)
}

func (s *story) revokes(ctx context.Context) error {
	var r struct {
		Epoch uint64 `json:"epoch"`
	}
	if err := s.done(ctx, "laptop", secrets{code}, &r, "device", "revoke", "phone", "--yes", "--code-fd", "3"); err != nil {
		return err
	}
	s.say("vault epoch %d is in force", r.Epoch)
	if err := must("epoch", r.Epoch, 3); err != nil {
		return err
	}
	if _, err := s.refused(ctx, exitDevice, "unknown-device", "phone", secrets{code}, s.signInLine()...); err != nil {
		return err
	}
	return first(s.signIn(ctx, "tablet"), s.signIn(ctx, "laptop"))
}

func (s *story) backAgain(ctx context.Context) error {
	s.stack.SetBinary(stack.Enclave, "")
	err := first(
		s.stack.SetReleasePolicy(ctx, s.release),
		s.stack.Restart(ctx, stack.Enclave), s.ready(ctx))
	if err != nil {
		return err
	}
	if err := s.signIn(ctx, "laptop"); err != nil {
		return err
	}
	var history []struct {
		Kind string `json:"kind"`
	}
	if err := s.done(ctx, "laptop", nil, &history, "history"); err != nil {
		return err
	}
	count := map[string]int{}
	for _, h := range history {
		count[h.Kind]++
	}
	s.say("the laptop verified her whole history: %d entries, %d wrong PINs among them", len(history), count["pin-wrong"])
	return first(
		must("accounts made", count["enrol"], 1), must("joins", count["join"], 2), must("wrong PINs", count["pin-wrong"], limit+1),
		must("PIN sets", count["pin-set"], 1), must("revocations", count["revoke"], 1))
}

func (s *story) state() string { return filepath.Join(s.dir, "state") }
