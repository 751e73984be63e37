package main

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/wire"
)

// person is one with an account that was enrolled through the service itself.
type person struct {
	subject string
	first   *device
}

// login signs an ID token with the development issuer's key: what its authorization
// endpoint would do, without the round trips.
func (s *asker) login(subject string, d *device) (*wire.Login, error) {
	public := jose.JSONWebKey{Key: s.issuer.Public()}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	key := jose.JSONWebKey{Key: s.issuer, KeyID: base64.RawURLEncoding.EncodeToString(thumbprint)}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return nil, err
	}
	trusted, now := s.config.Issuers[0], time.Now().Unix()
	claims, err := json.Marshal(map[string]any{
		"iss": trusted.Issuer, "sub": subject, "aud": trusted.ClientIDs[0], "iat": now, "auth_time": now, "exp": now + 300,
		"nonce": wire.LoginNonce(point(d.key), s.session.challenge),
	})
	if err != nil {
		return nil, err
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		return nil, err
	}
	token, err := jws.CompactSerialize()
	return &wire.Login{Token: token, Challenge: s.session.challenge}, err
}

// tickets logs every device in and returns their tickets.
func (s *asker) tickets(ctx context.Context, people []person, devices []*device) ([]*wire.TicketResult, error) {
	if err := s.attest(ctx); err != nil {
		return nil, err
	}
	asks := make([]ask, len(devices))
	for i, d := range devices {
		l, err := s.login(people[i].subject, d)
		if err != nil {
			return nil, err
		}
		asks[i] = d.ticket(l)
	}
	return send[wire.TicketResult](ctx, s, asks)
}

// send sends requests from four clients and returns the results.
func send[T any](ctx context.Context, s *asker, asks []ask) ([]*T, error) {
	requests, err := s.prepareAll(asks)
	if err != nil {
		return nil, err
	}
	if _, err := s.fire(ctx, requests, 4); err != nil {
		return nil, err
	}
	out := make([]*T, len(asks))
	for i, r := range requests {
		out[i] = new(T)
		if err := r.open(out[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", asks[i].command.Name, err)
		}
	}
	return out, nil
}

// pin is everybody's.
const pin = "492751"

// enrol makes n new accounts with one device each.
func (s *asker) enrol(ctx context.Context, n int) ([]person, error) {
	people, devices := make([]person, n), make([]*device, n)
	run := time.Now().UnixNano()
	for i := range people {
		people[i].subject = fmt.Sprintf("bench-%d-%d", run, i)
		people[i].first = newDevice(s.config.Issuers[0].AccountID(people[i].subject))
		devices[i] = people[i].first
	}
	tickets, err := s.tickets(ctx, people, devices)
	if err != nil {
		return nil, err
	}
	asks := make([]ask, n)
	for i, d := range devices {
		asks[i] = d.enrol(tickets[i], pin)
	}
	members, err := send[wire.Membership](ctx, s, asks)
	if err != nil {
		return nil, err
	}
	for i, m := range members {
		devices[i].number, devices[i].vault, devices[i].epoch = 1, m.VaultSecret, m.Epoch
	}
	return people, nil
}

// creates measures one create for each person.
func (s *asker) creates(ctx context.Context, people []person) (cost, error) {
	if err := s.attest(ctx); err != nil {
		return cost{}, err
	}
	asks := make([]ask, len(people))
	for i, p := range people {
		asks[i] = p.first.create()
	}
	requests, err := s.prepareAll(asks)
	if err != nil {
		return cost{}, err
	}
	c, err := s.fire(ctx, requests, changeClients)
	if err != nil {
		return c, err
	}
	for i, r := range requests {
		var result wire.CreateResult
		if err := r.open(&result); err != nil {
			return c, fmt.Errorf("create: %w", err)
		}
		people[i].first.number++
	}
	return c, nil
}

// attempts measures one PIN attempt for each person: the right PIN, by which a new
// device joins, from so many clients. The logins before it are not counted.
func (s *asker) attempts(ctx context.Context, people []person, clients int) (cost, error) {
	devices := make([]*device, len(people))
	for i, p := range people {
		devices[i] = newDevice(p.first.account)
	}
	tickets, err := s.tickets(ctx, people, devices)
	if err != nil {
		return cost{}, err
	}
	asks := make([]ask, len(people))
	for i, d := range devices {
		asks[i] = d.join(tickets[i], pin)
	}
	requests, err := s.prepareAll(asks)
	if err != nil {
		return cost{}, err
	}
	c, err := s.fire(ctx, requests, clients)
	if err != nil {
		return c, err
	}
	for _, r := range requests {
		var result wire.Membership
		if err := r.open(&result); err != nil {
			return c, fmt.Errorf("PIN attempt: %w", err)
		}
	}
	return c, nil
}
