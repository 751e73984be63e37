package broker

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/passclave/passclave/keyrelease/operator"
)

const (
	proposalLife = 24 * time.Hour
	maxProposals = 16
)

// proposals are acts that wait for another operator. They live as long as the process: a
// restart forgets them, and they have to be made again.
type proposals struct {
	now func() time.Time

	mu   sync.Mutex
	list []operator.Proposal // guarded by mu; oldest first
}

// expire is called with mu held.
func (p *proposals) expire() {
	now := p.now()
	p.list = slices.DeleteFunc(p.list, func(x operator.Proposal) bool { return !now.Before(x.Expires) })
}

// add gives a proposal its ID and its end.
func (p *proposals) add(x operator.Proposal) (*operator.Proposal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	if len(p.list) >= maxProposals {
		return nil, refuse(http.StatusConflict, "TooManyProposals", "too many proposals wait: approve them, or let them expire")
	}
	var id [8]byte
	rand.Read(id[:])
	x.ID, x.Expires = hex.EncodeToString(id[:]), p.now().Add(proposalLife).UTC().Truncate(time.Second)
	p.list = append(p.list, x)
	return &x, nil
}

func (p *proposals) get(id string) (*operator.Proposal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	for _, x := range p.list {
		if x.ID == id {
			return &x, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "ProposalNotFound", "no such proposal: it expired, took effect, or was made before the broker's last start")
}

func (p *proposals) of(key string) []operator.Proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	list := []operator.Proposal{}
	for _, x := range p.list {
		if x.Key == key {
			list = append(list, x)
		}
	}
	return list
}

func (p *proposals) remove(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(x operator.Proposal) bool { return x.ID == id })
}

// settle ends all proposals of a key once one of them took effect: what else waited was
// proposed before that, and could undo it by one operator's choice.
func (p *proposals) settle(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(x operator.Proposal) bool { return x.Key == key })
}

// approvable refuses an approval that is not another operator's, or not of this proposal.
func approvable(p *operator.Proposal, by *operator.Operator, digest, broker string) error {
	switch {
	case bytes.Equal(p.By.Key, by.Key):
		return refuse(http.StatusForbidden, "SecondOperatorNeeded", "the operator who proposed it cannot approve it")
	case digest != p.Digest(broker):
		return refuse(http.StatusConflict, "DigestMismatch", "the approval is of something else than this proposal")
	}
	return nil
}
