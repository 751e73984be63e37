package broker

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// person is an operator with his key.
type person struct {
	operator.Operator
	private ed25519.PrivateKey
}

func newPerson(t testing.TB, name string) person {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return person{operator.Operator{Name: name, Key: []byte(public)}, private}
}

// office is a broker with two operators.
type office struct {
	*harness
	alice, bob *operator.Client
	a, b       person
}

func newOffice(t testing.TB, change ...func(*Config)) *office {
	t.Helper()
	o := &office{a: newPerson(t, "alice"), b: newPerson(t, "bob")}
	o.harness = newHarness(t, append([]func(*Config){func(c *Config) { c.Operators = []operator.Operator{o.a.Operator, o.b.Operator} }}, change...)...)
	o.alice, o.bob = o.as(t, o.a), o.as(t, o.b)
	return o
}

func (h *harness) as(t testing.TB, p person) *operator.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(testCA().certificate)
	c, err := operator.NewClient(h.url, pool, p.private)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// policies are those of all versions.
func (h *harness) policies(t testing.TB) (out []string) {
	t.Helper()
	versions, err := h.store.Versions(context.Background(), keyName)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		out = append(out, string(v.Policy))
	}
	return out
}

func wantRefused(t testing.TB, err error, status int, code string) {
	t.Helper()
	var e *operator.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code || e.RequestID == "" {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

// loose is what an operator would like to have who wants the KEK.
func (h *harness) loose() []byte {
	return releasepolicy.Require(h.url, map[string]any{"x-passclave-simulated": true})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What one may do alone gives nobody a key who could not have it before.
func TestOneOperator(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	made, err := o.alice.Create(ctx, keyName, o.strict(), false)
	must(t, err)
	turned, err := o.bob.Rotate(ctx, keyName, nil)
	must(t, err)
	again, err := o.bob.Rotate(ctx, keyName, o.strict())
	must(t, err)
	_, err = o.alice.SetEnabled(ctx, keyName, made.Version, false)
	must(t, err)
	k, err := o.bob.Key(ctx, keyName)
	must(t, err)
	if len(k.Versions) != 3 || k.Versions[0].ID != made.Version || k.Versions[0].Enabled || k.Versions[1].ID != turned.Version || k.Versions[2].ID != again.Version ||
		!k.Versions[1].Enabled || k.Versions[1].Immutable || !bytes.Equal(k.Versions[1].Policy, o.strict()) || len(k.Proposals) != 0 {
		t.Errorf("listed %+v", k)
	}
	_, err = o.bob.SetEnabled(ctx, keyName, made.Version, true)
	must(t, err)
	if keks, err := o.client(good).Release(ctx); err != nil || len(keks) != 3 {
		t.Errorf("got %v, %v", keks, err)
	}

	_, err = o.alice.Create(ctx, keyName, o.strict(), false)
	wantRefused(t, err, http.StatusConflict, "KeyExists")
	_, err = o.alice.Create(ctx, "a b", o.strict(), false)
	wantRefused(t, err, http.StatusBadRequest, "BadParameter")
	for _, err := range []error{
		second(o.alice.Create(ctx, "other", []byte("{}"), false)), second(o.alice.Rotate(ctx, keyName, []byte("{}"))), second(o.alice.SetPolicy(ctx, keyName, []byte("{}"))),
	} {
		wantRefused(t, err, http.StatusBadRequest, "BadPolicy")
	}
	for _, err := range []error{
		second(o.alice.Rotate(ctx, "other", nil)), second(o.alice.SetPolicy(ctx, "other", o.strict())), second(o.alice.SetEnabled(ctx, keyName, "00", true)),
		second(o.alice.SetEnabled(ctx, keyName, "00", false)), second(o.alice.Key(ctx, "other")),
	} {
		wantRefused(t, err, http.StatusNotFound, "KeyNotFound")
	}
}

func second[T any](_ T, err error) error { return err }

// Who may have a key is decided by two: not by one, not by one twice, and only what both saw.
func TestPolicyTakesTwo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	first := o.create(t, o.strict())
	_, err := o.store.Rotate(ctx, keyName, o.strict())
	must(t, err)
	must(t, o.store.SetEnabled(ctx, keyName, first, false))

	proposed, err := o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	p := proposed.Proposal
	if p == nil || p.By.Name != "alice" || p.Act != operator.ActPolicy || len(p.Versions) != 2 || !bytes.Equal(p.Policy, o.loose()) {
		t.Fatalf("proposed %+v", p)
	}
	unchanged := func() {
		t.Helper()
		if got := o.policies(t); got[0] != string(o.strict()) || got[1] != string(o.strict()) {
			t.Error("the policy changed")
		}
	}
	unchanged()
	_, err = o.alice.Approve(ctx, p)
	wantRefused(t, err, http.StatusForbidden, "SecondOperatorNeeded")
	for name, change := range map[string]func(*operator.Proposal){
		"text":     func(p *operator.Proposal) { p.Policy = o.strict() },
		"key":      func(p *operator.Proposal) { p.Key = "other" },
		"versions": func(p *operator.Proposal) { p.Versions = p.Versions[:1] },
		"version":  func(p *operator.Proposal) { p.Versions[0] = "00" },
		"act":      func(p *operator.Proposal) { p.Act = operator.ActRotate },
	} {
		other := *p
		other.Versions = slices.Clone(p.Versions)
		change(&other)
		if _, err := o.bob.Approve(ctx, &other); err == nil {
			t.Errorf("approved by another %s", name)
		} else {
			wantRefused(t, err, http.StatusConflict, "DigestMismatch")
		}
	}
	unchanged()

	shown, err := o.bob.Proposal(ctx, p.ID)
	must(t, err)
	_, err = o.bob.Approve(ctx, shown)
	must(t, err)
	if got := o.policies(t); got[0] != string(o.loose()) || got[1] != string(o.loose()) {
		t.Error("the policy of a version did not change")
	}
	_, err = o.bob.Approve(ctx, shown)
	wantRefused(t, err, http.StatusNotFound, "ProposalNotFound")
}

// A new version, or one that was switched off, is no way around the second operator.
func TestOtherPoliciesTakeTwo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	first := o.create(t, o.loose())
	_, err := o.store.Rotate(ctx, keyName, o.strict())
	must(t, err)
	_, err = o.alice.SetEnabled(ctx, keyName, first, false)
	must(t, err)

	// Only v2's policy is in force now. The first version's would release to anybody.
	enabled := func() bool {
		versions, err := o.store.Versions(ctx, keyName)
		must(t, err)
		return versions[0].Enabled
	}
	waits, err := o.alice.SetEnabled(ctx, keyName, first, true)
	must(t, err)
	if waits.Proposal == nil || waits.Proposal.Act != operator.ActEnable || enabled() {
		t.Fatalf("got %+v", waits)
	}
	_, err = o.alice.Approve(ctx, waits.Proposal)
	wantRefused(t, err, http.StatusForbidden, "SecondOperatorNeeded")
	_, err = o.bob.Approve(ctx, waits.Proposal)
	must(t, err)
	if !enabled() {
		t.Error("not enabled by two")
	}

	waits, err = o.bob.Rotate(ctx, keyName, o.loose())
	must(t, err)
	if waits.Proposal == nil || waits.Proposal.Act != operator.ActRotate || len(o.policies(t)) != 2 {
		t.Fatalf("got %+v", waits)
	}
	done, err := o.alice.Approve(ctx, waits.Proposal)
	must(t, err)
	if got := o.policies(t); len(got) != 3 || got[2] != string(o.loose()) || done.Version == "" {
		t.Errorf("%d versions", len(got))
	}
	// A space more is another policy.
	waits, err = o.bob.Rotate(ctx, keyName, append(o.loose(), ' '))
	must(t, err)
	if waits.Proposal == nil {
		t.Error("another policy, by one operator")
	}
}

// One key is one operator, whatever it is called.
func TestSameKeyUnderTwoNames(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	eve := newPerson(t, "eve")
	twin := operator.Operator{Name: "mallory", Key: eve.Key}
	data, err := operator.Encode([]operator.Operator{eve.Operator, twin})
	must(t, err)
	if _, err := operator.Parse(data); !errors.Is(err, operator.ErrOperators) {
		t.Errorf("got %v", err)
	}
	// Not even a broker that was given such a list takes him for two.
	h := newHarness(t, func(c *Config) { c.Operators = []operator.Operator{eve.Operator, twin} })
	h.create(t, h.strict())
	c := h.as(t, eve)
	waits, err := c.SetPolicy(ctx, keyName, h.loose())
	must(t, err)
	waits.Proposal.By = twin
	_, err = c.Approve(ctx, waits.Proposal)
	wantRefused(t, err, http.StatusForbidden, "SecondOperatorNeeded")
}

func TestProposalsExpire(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := time.Now()
	o := newOffice(t, func(c *Config) { c.Now = func() time.Time { return now } })
	o.create(t, o.strict())
	waits, err := o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	now = now.Add(proposalLife)
	_, err = o.bob.Approve(ctx, waits.Proposal)
	wantRefused(t, err, http.StatusNotFound, "ProposalNotFound")

	// A restart forgets what waits.
	waits, err = o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	o.restart(t)
	_, err = o.bob.Approve(ctx, waits.Proposal)
	wantRefused(t, err, http.StatusNotFound, "ProposalNotFound")

	for range maxProposals {
		_, err := o.alice.SetPolicy(ctx, keyName, o.loose())
		must(t, err)
	}
	_, err = o.alice.SetPolicy(ctx, keyName, o.loose())
	wantRefused(t, err, http.StatusConflict, "TooManyProposals")
	if k, err := o.bob.Key(ctx, keyName); err != nil || len(k.Proposals) != maxProposals {
		t.Errorf("got %+v, %v", k, err)
	}
	if got := o.policies(t); got[0] != string(o.strict()) {
		t.Error("the policy changed")
	}
}

// What was approved is what the key was when it was proposed.
func TestStaleProposals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	first := o.create(t, o.loose())
	policy, err := o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	rotate, err := o.alice.Rotate(ctx, keyName, o.strict())
	must(t, err)
	_, err = o.alice.Rotate(ctx, keyName, nil)
	must(t, err)
	for _, p := range []*operator.Outcome{policy, rotate} {
		_, err := o.bob.Approve(ctx, p.Proposal)
		wantRefused(t, err, http.StatusConflict, "ProposalStale")
	}
	versions, err := o.store.Versions(ctx, keyName)
	must(t, err)
	must(t, o.store.SetPolicy(ctx, keyName, versions[1].ID, o.strict()))
	enable, err := o.alice.SetEnabled(ctx, keyName, first, true)
	must(t, err)
	must(t, o.store.SetPolicy(ctx, keyName, first, o.middling()))
	_, err = o.bob.Approve(ctx, enable.Proposal)
	wantRefused(t, err, http.StatusConflict, "ProposalStale")
}

// Of several proposals the one that took effect ends the others: a policy that was replaced
// does not come back by one operator's choice.
func TestReplacedProposals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	o.create(t, o.middling())
	policy, err := o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	rotate, err := o.alice.Rotate(ctx, keyName, o.loose())
	must(t, err)
	better, err := o.alice.SetPolicy(ctx, keyName, o.strict())
	must(t, err)
	_, err = o.alice.Create(ctx, "other", o.strict(), false)
	must(t, err)
	another, err := o.alice.SetPolicy(ctx, "other", o.middling())
	must(t, err)
	_, err = o.bob.Approve(ctx, better.Proposal)
	must(t, err)
	for _, p := range []*operator.Outcome{policy, rotate} {
		_, err := o.bob.Approve(ctx, p.Proposal)
		wantRefused(t, err, http.StatusNotFound, "ProposalNotFound")
	}
	if got := o.policies(t); len(got) != 1 || got[0] != string(o.strict()) {
		t.Errorf("the policies are %q", got)
	}
	_, err = o.bob.Approve(ctx, another.Proposal)
	must(t, err)
}

// middling is a policy that is neither strict nor loose.
func (h *harness) middling() []byte {
	return releasepolicy.Require(h.url, map[string]any{"x-ms-attestation-type": "sevsnpvm"})
}

func TestImmutable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	_, err := o.alice.Create(ctx, keyName, o.strict(), true)
	must(t, err)
	_, err = o.alice.SetPolicy(ctx, keyName, o.loose())
	wantRefused(t, err, http.StatusConflict, "PolicyImmutable")
	_, err = o.bob.Rotate(ctx, keyName, o.loose())
	wantRefused(t, err, http.StatusConflict, "PolicyImmutable")
	_, err = o.bob.Rotate(ctx, keyName, nil)
	must(t, err)
	k, err := o.alice.Key(ctx, keyName)
	must(t, err)
	if len(k.Versions) != 2 || !k.Versions[0].Immutable || !k.Versions[1].Immutable || len(k.Proposals) != 0 {
		t.Errorf("listed %+v", k)
	}
}

// Everything that operators do is in the audit log, beginning and end, and nothing is
// begun that cannot be recorded.
func TestActsAreRecorded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	made, err := o.alice.Create(ctx, keyName, o.strict(), false)
	must(t, err)
	_, err = o.alice.Key(ctx, keyName)
	must(t, err)
	waits, err := o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	_, err = o.alice.Approve(ctx, waits.Proposal)
	wantRefused(t, err, http.StatusForbidden, "SecondOperatorNeeded")
	_, err = o.bob.Approve(ctx, waits.Proposal)
	must(t, err)
	_, err = o.as(t, newPerson(t, "eve")).Rotate(ctx, keyName, nil)
	wantRefused(t, err, http.StatusUnauthorized, "Unauthorized")
	_, err = o.bob.SetEnabled(ctx, keyName, made.Version, false)
	must(t, err)

	type line struct {
		by, act string
		outcome audit.Outcome
		version string
		policy  []byte
		text    bool
	}
	v := made.Version
	want := []line{
		{"alice", "create", audit.Begun, "", o.strict(), true},
		{"alice", "create", audit.Done, v, o.strict(), false},
		{"alice", "list", audit.Done, "", nil, false},
		{"alice", "set policy", audit.Proposed, "", o.loose(), true},
		{"alice", "approve: set policy", audit.Refused, "", o.loose(), false},
		{"bob", "approve: set policy", audit.Begun, "", o.loose(), false},
		{"bob", "approve: set policy", audit.Done, "", o.loose(), false},
		{"", "rotate", audit.Refused, "", nil, false},
		{"bob", "disable", audit.Begun, v, nil, false},
		{"bob", "disable", audit.Done, v, nil, false},
	}
	got := o.records(t)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, w := range want {
		r := got[i]
		by := ""
		if r.Operator != nil {
			by = r.Operator.Name
		}
		hash := ""
		if w.policy != nil {
			hash = policyHash(w.policy)
		}
		if r.Kind != audit.KindOperator || by != w.by || r.Act != w.act || r.Outcome != w.outcome || r.Version != w.version || r.Key != keyName ||
			r.Policy != hash || (r.PolicyText != "") != w.text || w.text && r.PolicyText != string(w.policy) {
			t.Errorf("record %d is %+v", i, r)
		}
	}
	if p := waits.Proposal.ID; got[3].Proposal != p || got[6].Proposal != p || !slices.Equal(got[6].Versions, []string{v}) {
		t.Errorf("the proposal is recorded as %+v, %+v", got[3], got[6])
	}

	lines, head, err := o.bob.Audit(ctx)
	must(t, err)
	n := 0
	verified, err := audit.Verify(bytes.NewReader(lines), o.config.Audit.PublicKey(), []audit.Head{*head}, func(*audit.Record) error { n++; return nil })
	if err != nil || n != len(want)+1 || verified.Head.Digest != head.Digest {
		t.Errorf("%d records, %v", n, err)
	}
	if all := o.records(t); len(all) != len(want)+1 || all[len(want)].Act != "read audit log" {
		t.Errorf("%d records", len(all))
	}
	trail, err := os.ReadFile(filepath.Join(o.dir, audit.FileName))
	must(t, err)
	for _, secret := range [][]byte{o.stored2(t, v), o.a.private.Seed(), o.b.private.Seed()} {
		if leaks(append(trail, o.log.Bytes()...), secret) {
			t.Error("a log holds a key")
		}
	}
}

// An act whose beginning cannot be recorded does not begin.
func TestNoActWithoutItsRecord(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOffice(t)
	version := o.create(t, o.loose())
	_, err := o.store.Rotate(ctx, keyName, o.strict())
	must(t, err)
	waits, err := o.alice.SetPolicy(ctx, keyName, o.loose())
	must(t, err)
	must(t, os.Remove(filepath.Join(o.dir, audit.FileName)))
	for name, act := range map[string]func() error{
		"create":  func() error { return second(o.alice.Create(ctx, "other", o.strict(), false)) },
		"rotate":  func() error { return second(o.alice.Rotate(ctx, keyName, nil)) },
		"disable": func() error { return second(o.alice.SetEnabled(ctx, keyName, version, false)) },
		"approve": func() error { return second(o.bob.Approve(ctx, waits.Proposal)) },
		"list":    func() error { return second(o.bob.Key(ctx, keyName)) },
		"propose": func() error { return second(o.bob.SetPolicy(ctx, keyName, o.loose())) },
	} {
		err := act()
		wantRefused(t, err, http.StatusServiceUnavailable, "AuditUnavailable")
		if err != nil && !strings.Contains(err.Error(), audit.ErrChanged.Error()) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	versions, err := o.store.Versions(ctx, keyName)
	must(t, err)
	if len(versions) != 2 || !versions[0].Enabled || !bytes.Equal(versions[1].Policy, o.strict()) {
		t.Errorf("something was done: %+v", versions)
	}
	if waiting := o.proposals.of(keyName); len(waiting) != 1 {
		t.Errorf("%d proposals wait", len(waiting))
	}
	if _, err := o.store.Versions(ctx, "other"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a key was made: %v", err)
	}
}
