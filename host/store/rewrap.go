package store

import (
	"slices"

	"github.com/passclave/passclave/wire"
)

// Rewrap is an account key under another version of the KEK.
type Rewrap struct {
	Account wire.AccountID
	Wrap    wire.Wrap
	Former  []string // versions whose wraps of the same epoch it takes the place of
}

// CheckRewraps refuses numbers out of the databases' range.
func CheckRewraps(wraps []Rewrap) error {
	for _, r := range wraps {
		if err := inRange(r.Wrap); err != nil {
			return err
		}
	}
	return nil
}

// Page gathers the rows of [Store.Wrapped]: of accounts in ascending order their wraps of
// the epoch in force. The zero Page is empty.
type Page struct {
	accounts []wire.Wrapped
}

// Add takes the next row. A wrap without a version is none: the account has no other row.
func (p *Page) Add(account wire.AccountID, w wire.Wrap) {
	n := len(p.accounts)
	if n == 0 || p.accounts[n-1].Account != account {
		p.accounts, n = append(p.accounts, wire.Wrapped{Account: account}), n+1
	}
	if w.KEK != "" {
		p.accounts[n-1].Wraps = append(p.accounts[n-1].Wraps, w)
	}
}

// Done returns what Wrapped does, once up to limit accounts were added.
func (p *Page) Done(kek string, limit int) (found []wire.Wrapped, next *wire.AccountID) {
	if n := len(p.accounts); n > 0 && n == limit {
		last := p.accounts[n-1].Account
		next = &last
	}
	return slices.DeleteFunc(p.accounts, func(a wire.Wrapped) bool {
		return !slices.ContainsFunc(a.Wraps, func(w wire.Wrap) bool { return w.KEK != kek })
	}), next
}

// CountStaged adds to counts by version the wraps that a staged commit would bring.
func CountStaged(counts map[string]uint64, staged []byte) error {
	var c wire.Commit
	if err := wire.Unmarshal(staged, &c); err != nil {
		return err
	}
	for _, w := range c.Wraps {
		counts[w.KEK]++
	}
	return nil
}
