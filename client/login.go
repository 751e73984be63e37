package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/passclave/passclave/wire"
)

// login attests anew and logs in: the login's nonce binds the enclave's challenge. A
// member must log in to its own account; otherwise the login says whose account
// this device is to join.
func (d *Device) login(ctx context.Context, purpose wire.CommandName, fresh bool) (*wire.Login, *wire.Configuration, error) {
	if d.options.Login == nil {
		return nil, nil, ErrNoLogin
	}
	s, err := d.attestPatiently(ctx)
	if err != nil {
		return nil, nil, err
	}
	c := s.Evidence.Configuration
	i := slices.IndexFunc(c.Issuers, func(i wire.Issuer) bool { return d.options.Issuer == "" || i.Issuer == d.options.Issuer })
	if i < 0 {
		return nil, nil, wire.Errorf(wire.CodeLogin, "the measured configuration does not name the issuer asked for")
	}
	issuer, challenge := c.Issuers[i], s.challenge
	token, err := d.options.Login(ctx, LoginRequest{
		Issuer:   issuer,
		ClientID: issuer.ClientIDs[0],
		Nonce:    wire.LoginNonce(d.key.Public(), challenge),
		Fresh:    fresh,
		For:      purpose,
	})
	if err != nil {
		return nil, nil, err
	}
	subject, err := subjectOf(token, issuer.Issuer)
	if err != nil {
		return nil, nil, err
	}
	account := issuer.AccountID(subject)
	if d.p.Account != account && (d.p.Member || d.p.Known.Sequence != 0) {
		return nil, nil, wire.Errorf(wire.CodeLogin, "the login is another account's than this profile's")
	}
	d.p.Account = account
	return &wire.Login{Token: token, Challenge: challenge}, c, nil
}

// ticket logs in and brings the ticket by which enrol, join and pin-set go on.
func (d *Device) ticket(ctx context.Context, purpose wire.CommandName, fresh bool) (*wire.TicketResult, *wire.Configuration, error) {
	login, c, err := d.login(ctx, purpose, fresh)
	if err != nil {
		return nil, nil, err
	}
	var result wire.TicketResult
	err = d.call(ctx, &request{
		account:  d.p.Account,
		login:    login,
		commands: []wire.Command{wire.NewCommand(wire.CommandTicket, wire.Ticket{DeviceKey: d.key.Public()})},
		stranger: true,
		apply:    func(a *answer) error { return a.result(&result) },
	})
	return &result, c, err
}

// attestPatiently attests anew, again where the host does not answer.
func (d *Device) attestPatiently(ctx context.Context) (*Attested, error) {
	for try := 1; ; try++ {
		s, err := d.attest(ctx)
		var host *HostError
		if err == nil || !errors.As(err, &host) || !host.passing() || try == maxTries {
			return s, err
		}
		if d.wait(ctx, backoff(try)) != nil {
			return nil, err
		}
	}
}

// subjectOf reads issuer and subject from an ID token's payload. Nothing of the
// token is verified: the enclave does that, and opens no other account than the
// one that it computes itself.
func subjectOf(token, issuer string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", wire.Errorf(wire.CodeLogin, "not an ID token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", wire.Errorf(wire.CodeLogin, "not an ID token")
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Issuer != issuer || claims.Subject == "" {
		return "", wire.Errorf(wire.CodeLogin, "an ID token of another issuer, or without a subject")
	}
	return claims.Subject, nil
}
