package enclave

import (
	"bytes"
	"time"

	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/wire"
)

// ticket says that a login was verified, and fixes the salts: the one in force and
// the one of the PIN that may be set with it. It is sealed under the boot key: after
// a restart the person logs in again, and no attempt is spent.
type ticket struct {
	Account   wire.AccountID `cbor:"1,keyasint"`
	DeviceKey []byte         `cbor:"2,keyasint"`
	Made      uint64         `cbor:"3,keyasint"` // monotonic milliseconds
	FreshSalt []byte         `cbor:"4,keyasint"`
	Issued    uint64         `cbor:"5,keyasint"` // iat of the login
	Fresh     bool           `cbor:"6,keyasint"`
	Salt      []byte         `cbor:"7,keyasint"` // in force when it was given
}

const labelTicket = "ticket"

func (c *Core) ticketScope(account wire.AccountID) wire.Scope {
	return wire.Scope{Ledger: c.config.Ledger.ID, Account: account}
}

// ticket is the command of the same name.
func (t *tx) ticket(args *wire.Ticket) (any, error) {
	if err := t.signedBy(args.DeviceKey); err != nil {
		return nil, err
	}
	who, err := t.login(args.DeviceKey)
	if err != nil {
		return nil, err
	}
	c, id := t.core, t.in.Envelope.Header.Account
	mine := ticket{
		Account: id, DeviceKey: args.DeviceKey, Made: uint64(t.in.Time.Milliseconds()),
		FreshSalt: random(wire.SaltSize), Issued: who.Issued, Fresh: who.Fresh,
	}
	result := &wire.TicketResult{
		Salt: c.falseSalt(id), Argon2id: c.config.PIN.Argon2id, AttemptsLeft: c.config.PIN.ConsecutiveLimit,
		FreshSalt: mine.FreshSalt, FreshParams: c.config.PIN.Argon2id,
	}
	if t.account != nil {
		r := &t.account.head.Recovery
		result.Salt, result.Argon2id = r.Salt, r.Params
		result.AttemptsLeft = c.attemptsLeft(t.account.note)
	}
	mine.Salt = result.Salt
	result.Ticket = wire.SealBox(c.boot, labelTicket, c.ticketScope(id), wire.Marshal(mine))
	return result, nil
}

// current refuses a ticket of before the newest PIN set. A PIN that was stretched
// with its salt could only be a spent attempt; and setting a PIN makes the ticket it
// came with such a one, so that each ticket sets one PIN and no salt comes twice.
func (k *ticket) current(h *head) error {
	if !bytes.Equal(k.Salt, h.Recovery.Salt) {
		return wire.Errorf(wire.CodeChallenge, "ticket of before the newest PIN set")
	}
	return nil
}

// falseSalt is the salt of an account that does not exist: the same each time, so
// that asking twice tells nothing, whatever becomes of the KEK's versions meanwhile.
func (c *Core) falseSalt(id wire.AccountID) (salt []byte) {
	secret.Do(func() { salt = wire.FalseSalt(c.falseSaltSecret(), id) })
	return salt
}

// openTicket checks that a ticket was given by this process at most 10 minutes
// ago, for this account and the key that signs the request.
func (t *tx) openTicket(sealed, deviceKey []byte) (*ticket, error) {
	id := t.in.Envelope.Header.Account
	plain, err := wire.OpenBox(t.core.boot, labelTicket, t.core.ticketScope(id), sealed)
	if err != nil {
		return nil, wire.Errorf(wire.CodeChallenge, "not a ticket of this enclave for this account")
	}
	var k ticket
	if err := wire.Unmarshal(plain, &k); err != nil {
		return nil, err
	}
	made := time.Duration(k.Made) * time.Millisecond
	switch {
	case !bytes.Equal(k.DeviceKey, deviceKey):
		return nil, wire.Errorf(wire.CodeChallenge, "ticket of another device key")
	case made > t.in.Time || t.in.Time-made > loginAge:
		return nil, wire.Errorf(wire.CodeChallenge, "ticket older than %s", loginAge)
	}
	return &k, nil
}
