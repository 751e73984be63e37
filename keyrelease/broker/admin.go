package broker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/time/rate"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// Operators have a limit of their own, and it counts only what one of them signed: who
// floods the port does not keep them out. Before that nothing is done that costs much.
const (
	adminRate  = 20 // requests a second, of all operators together
	adminBurst = 60
)

// handleOperators serves what operators ask for. Without operators there is nothing of it.
func (b *Broker) handleOperators() {
	if len(b.operators) == 0 {
		return
	}
	unlimited := rate.NewLimiter(rate.Inf, 0)
	b.handleLimited(unlimited, "GET "+operator.Path+"/challenge", func(*request) (any, error) {
		return operator.Challenge{Challenge: b.challenges.issue()}, nil
	})
	for pattern, e := range map[string]struct {
		act      string
		endpoint func(*request) (any, error)
	}{
		"GET /keys/{name}":                    {"list", b.adminList},
		"POST /keys/{name}":                   {"create", b.adminCreate},
		"POST /keys/{name}/rotate":            {operator.ActRotate, b.adminRotate},
		"POST /keys/{name}/policy":            {operator.ActPolicy, b.adminPolicy},
		"POST /keys/{name}/{version}/enable":  {operator.ActEnable, b.adminEnable},
		"POST /keys/{name}/{version}/disable": {"disable", b.adminDisable},
		"GET /proposals/{id}":                 {"show proposal", b.adminProposal},
		"POST /proposals/{id}/approve":        {"approve", b.adminApprove},
		"GET /audit":                          {"read audit log", b.adminAudit},
	} {
		method, path, _ := strings.Cut(pattern, " ")
		b.handleLimited(unlimited, method+" "+operator.Path+path, func(r *request) (any, error) {
			r.record = &audit.Record{Kind: audit.KindOperator, Act: e.act, Key: r.PathValue("name"), Version: r.PathValue("version"), Proposal: r.PathValue("id")}
			if err := b.authenticate(r); err != nil {
				return nil, err
			}
			r.log.Info("operator", "name", r.operator.Name, "act", e.act)
			// One act at a time: what an act decides by does not change under it.
			b.acting.Lock()
			defer b.acting.Unlock()
			answer, err := e.endpoint(r)
			return answer, storeRefusal(err)
		})
	}
}

// authenticate finds out which operator signed a request, and that it is not a replay.
func (b *Broker) authenticate(r *request) error {
	body, err := r.read()
	if err != nil {
		return err
	}
	who, challenge, err := operator.Verify(r.Request, b.url, body, b.operators)
	if err == nil && !b.admins.Allow() {
		return refuse(http.StatusTooManyRequests, "Throttled", "too many requests of operators")
	}
	if err == nil {
		err = b.challenges.redeem(challenge)
	}
	if err != nil {
		return refuse(http.StatusUnauthorized, "Unauthorized", "not an operator's request: "+err.Error()).because(err)
	}
	r.operator, r.record.Operator, r.challenge = who, &audit.Operator{Name: who.Name, Key: who.Key}, challenge
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// storeRefusal turns what a store refuses into an answer.
func storeRefusal(err error) error {
	for _, known := range []struct {
		err    error
		status int
		code   string
	}{
		{keystore.ErrNotFound, http.StatusNotFound, "KeyNotFound"},
		{keystore.ErrExists, http.StatusConflict, "KeyExists"},
		{keystore.ErrName, http.StatusBadRequest, "BadParameter"},
		{keystore.ErrPolicy, http.StatusBadRequest, "BadPolicy"},
		{keystore.ErrImmutable, http.StatusConflict, "PolicyImmutable"},
	} {
		if errors.Is(err, known.err) {
			return refuse(known.status, known.code, err.Error())
		}
	}
	return err
}

// begin records an act that is about to change the store.
func (b *Broker) begin(r *request) error {
	record := *r.record
	record.Outcome = audit.Begun
	r.fill(&record)
	if err := b.audit.Append(record); err != nil {
		r.log.Error("audit log", "error", err)
		return unrecorded(err)
	}
	r.begun = true
	r.record.PolicyText = "" // stands in the record of the beginning
	return nil
}

func (r *request) policy(p []byte) {
	r.record.Policy, r.record.PolicyText = policyHash(p), string(p)
}

func (b *Broker) adminList(r *request) (any, error) {
	name := r.PathValue("name")
	versions, err := b.store.Versions(r.Context(), name)
	if err != nil {
		return nil, err
	}
	k := operator.Key{Name: name, Proposals: b.proposals.of(name)}
	for _, v := range versions {
		k.Versions = append(k.Versions, operator.Version{ID: v.ID, Created: v.Created, Enabled: v.Enabled, Immutable: v.Immutable, Policy: v.Policy})
	}
	return k, nil
}

func (b *Broker) adminCreate(r *request) (any, error) {
	var ask operator.Create
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	if err := readable(ask.Policy); err != nil {
		return nil, err
	}
	r.policy(ask.Policy)
	r.record.Immutable = ask.Immutable
	if err := b.begin(r); err != nil {
		return nil, err
	}
	v, err := b.store.Create(r.Context(), r.PathValue("name"), ask.Policy, ask.Immutable)
	if err != nil {
		return nil, err
	}
	r.record.Version = v.ID
	return operator.Outcome{Version: v.ID}, nil
}

// readable refuses what is no release policy before it is written anywhere.
func readable(policy []byte) error {
	if _, err := releasepolicy.Parse(policy); err != nil {
		return refuse(http.StatusBadRequest, "BadPolicy", err.Error())
	}
	return nil
}

// versionsOf returns the versions of a key, at least one, and their IDs.
func (b *Broker) versionsOf(ctx context.Context, name string) ([]keystore.Version, []string, error) {
	versions, err := b.store.Versions(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	var ids []string
	for _, v := range versions {
		ids = append(ids, v.ID)
	}
	return versions, ids, nil
}

// adminRotate adds a version: with the newest one's policy at once, with another one as a
// proposal.
func (b *Broker) adminRotate(r *request) (any, error) {
	var ask operator.Policy
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	versions, ids, err := b.versionsOf(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	newest := versions[len(versions)-1]
	if len(ask.Policy) == 0 {
		ask.Policy = newest.Policy
	}
	if err := readable(ask.Policy); err != nil {
		return nil, err
	}
	r.policy(ask.Policy)
	if !bytes.Equal(ask.Policy, newest.Policy) {
		return b.propose(r, newest, operator.Proposal{Act: operator.ActRotate, Versions: ids, Policy: ask.Policy})
	}
	return b.rotate(r, ask.Policy)
}

func (b *Broker) rotate(r *request, policy []byte) (any, error) {
	if err := b.begin(r); err != nil {
		return nil, err
	}
	v, err := b.store.Rotate(r.Context(), r.record.Key, policy)
	if err != nil {
		return nil, err
	}
	r.record.Version = v.ID
	return operator.Outcome{Version: v.ID}, nil
}

// adminPolicy proposes a release policy for all versions of a key: one that stayed with
// another would be released by that.
func (b *Broker) adminPolicy(r *request) (any, error) {
	var ask operator.Policy
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	if err := readable(ask.Policy); err != nil {
		return nil, err
	}
	versions, ids, err := b.versionsOf(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	r.policy(ask.Policy)
	return b.propose(r, versions[len(versions)-1], operator.Proposal{Act: operator.ActPolicy, Versions: ids, Policy: ask.Policy})
}

// propose lets an act wait for another operator.
func (b *Broker) propose(r *request, newest keystore.Version, p operator.Proposal) (any, error) {
	r.record.Versions = p.Versions
	if newest.Immutable {
		return nil, keystore.ErrImmutable
	}
	p.Key, p.By = r.record.Key, *r.operator
	made, err := b.proposals.add(p)
	if err != nil {
		return nil, err
	}
	r.record.Outcome, r.record.Proposal = audit.Proposed, made.ID
	return operator.Outcome{Proposal: made}, nil
}

// adminEnable switches a version on: at once where its policy is the newest version's.
// Otherwise one operator could bring back a policy that two have left.
func (b *Broker) adminEnable(r *request) (any, error) {
	versions, _, err := b.versionsOf(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(versions, func(v keystore.Version) bool { return v.ID == r.PathValue("version") })
	if i < 0 {
		return nil, keystore.ErrNotFound
	}
	v, newest := versions[i], versions[len(versions)-1]
	r.policy(v.Policy)
	if !bytes.Equal(v.Policy, newest.Policy) {
		return b.propose(r, newest, operator.Proposal{Act: operator.ActEnable, Versions: []string{v.ID}, Policy: v.Policy})
	}
	return b.setEnabled(r, v.ID, true)
}

// adminDisable switches a version off. What still needs it, the operator has to know.
func (b *Broker) adminDisable(r *request) (any, error) {
	return b.setEnabled(r, r.PathValue("version"), false)
}

func (b *Broker) setEnabled(r *request, version string, enabled bool) (any, error) {
	if err := b.begin(r); err != nil {
		return nil, err
	}
	return operator.Outcome{}, b.store.SetEnabled(r.Context(), r.record.Key, version, enabled)
}

func (b *Broker) adminProposal(r *request) (any, error) {
	p, err := b.proposals.get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	r.record.Key = p.Key
	return p, nil
}

// adminApprove lets a proposal take effect: by another operator than the one who made it,
// over exactly what it says, while the key has the versions that it names.
func (b *Broker) adminApprove(r *request) (any, error) {
	var ask operator.Approve
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	p, err := b.proposals.get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	r.record.Act, r.record.Key, r.record.Versions, r.record.Policy = "approve: "+p.Act, p.Key, p.Versions, policyHash(p.Policy)
	if err := approvable(p, r.operator, ask.Digest, b.url); err != nil {
		return nil, err
	}
	versions, ids, err := b.versionsOf(r.Context(), p.Key)
	if err != nil {
		return nil, err
	}
	if stale(p, versions, ids) {
		return nil, refuse(http.StatusConflict, "ProposalStale", "the key has changed since it was proposed: propose it again")
	}
	answer, err := b.carryOut(r, p)
	if err == nil {
		b.proposals.settle(p.Key)
	}
	return answer, err
}

// stale reports whether a key is not as a proposal found it.
func stale(p *operator.Proposal, versions []keystore.Version, ids []string) bool {
	if p.Act != operator.ActEnable {
		return !slices.Equal(p.Versions, ids)
	}
	return !slices.ContainsFunc(versions, func(v keystore.Version) bool {
		return v.ID == p.Versions[0] && bytes.Equal(v.Policy, p.Policy)
	})
}

func (b *Broker) carryOut(r *request, p *operator.Proposal) (any, error) {
	switch p.Act {
	case operator.ActRotate:
		return b.rotate(r, p.Policy)
	case operator.ActEnable:
		r.record.Version = p.Versions[0]
		return b.setEnabled(r, p.Versions[0], true)
	}
	if err := b.begin(r); err != nil {
		return nil, err
	}
	for _, v := range p.Versions {
		if err := b.store.SetPolicy(r.Context(), p.Key, v, p.Policy); err != nil {
			return nil, err
		}
	}
	return operator.Outcome{}, nil
}

// adminAudit returns a page of the audit log. Reading it is recorded at its beginning.
func (b *Broker) adminAudit(r *request) (any, error) {
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "offset is missing")
	}
	if offset > 0 {
		r.record = nil
	}
	lines, head, err := b.audit.Page(offset, r.challenge)
	if err != nil {
		return nil, err
	}
	return operator.Audit{Lines: lines, Head: *head}, nil
}
