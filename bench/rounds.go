package main

import (
	"context"
	"time"
)

// series collects the rounds of one operation. Rounds of several operations and of
// their floors take turns, so that what else the machine does meets them all.
type series struct {
	each  []float64 // µs of one operation, by round
	waits []float64 // of every operation, ns
}

func (s *series) add(c cost) {
	s.each = append(s.each, c.each())
	for _, w := range c.wall {
		s.waits = append(s.waits, float64(w))
	}
}

func (s *series) result(name string) *result {
	r := newResult(name, median(s.each))
	r.median = time.Duration(median(s.waits))
	return r
}

// Rounds and what is in one.
const (
	assertionRounds = 9
	assertionCount  = 1500
	changeRounds    = 7
	changePeople    = 160
	changeClients   = 16     // the store makes what waits durable in one go
	touched         = 20_000 // accounts of the large store that the enclave has met
	floorCount      = 300
)

// scenario is a way to ask for assertions.
type scenario struct {
	name    string
	service *service
	clients int
	from    []int // accounts to draw from; nil: all, one after the other
	series
}

// assertionRows measures the four scenarios on one build of the enclave.
func assertionRows(ctx context.Context, small, large *service, suffix string, f *floors, allocs float64) ([]*result, error) {
	firsts := map[*service]*series{small: {}, large: {}}
	sample := drawn(min(touched, large.people.size), large.people.size)
	all := make([]int, small.people.size)
	for i := range all {
		all[i] = i
	}
	for _, s := range []struct {
		service  *service
		accounts []int
	}{{small, all}, {large, sample}} {
		// Each account's first request since the enclave started.
		for rest := s.accounts; len(rest) > 0; {
			n := min(assertionCount, len(rest))
			c, err := s.service.assertions(ctx, rest[:n], 16)
			if err != nil {
				return nil, err
			}
			firsts[s.service].add(c)
			rest = rest[n:]
		}
	}
	scenarios := []*scenario{
		{name: "assertion", service: small, clients: 1},
		{name: "assertion-16", service: small, clients: 16},
		{name: "assertion-1k", service: small, clients: 16, from: all},
		{name: "assertion-1m", service: large, clients: 16, from: sample},
	}
	var floor, firstFloor []float64
	for round := range assertionRounds {
		floor = append(floor, own(floorCount, f.assertion))
		firstFloor = append(firstFloor, own(floorCount, f.firstTouch))
		for _, s := range scenarios {
			accounts := make([]int, assertionCount)
			for i := range accounts {
				accounts[i] = (round*assertionCount + i) % small.people.size
			}
			if s.from != nil {
				for i, k := range drawn(assertionCount, len(s.from)) {
					accounts[i] = s.from[k]
				}
			}
			c, err := s.service.assertions(ctx, accounts, s.clients)
			if err != nil {
				return nil, err
			}
			s.add(c)
		}
	}
	var out []*result
	for _, s := range scenarios {
		out = append(out, s.result(s.name+suffix).floor(median(floor)).allocations(allocs))
	}
	first := median(floor) + median(firstFloor)
	return append(out,
		firsts[small].result("assertion-1k-first"+suffix).floor(first),
		firsts[large].result("assertion-1m-first"+suffix).floor(first)), nil
}

// changeRows measures create and PIN attempts with new accounts.
func changeRows(ctx context.Context, s *service, suffix string, f *floors, appends float64, allocs float64) ([]*result, error) {
	people, err := s.enrol(ctx, changePeople)
	if err != nil {
		return nil, err
	}
	var create, attempt series
	var createFloor, attemptFloor []float64
	for range changeRounds {
		createFloor = append(createFloor, own(floorCount, f.create))
		c, err := s.creates(ctx, people)
		if err != nil {
			return nil, err
		}
		create.add(c)
	}
	for range changeRounds {
		attemptFloor = append(attemptFloor, own(floorCount, f.attempt)+appends)
		c, err := s.attempts(ctx, people, changeClients)
		if err != nil {
			return nil, err
		}
		attempt.add(c)
	}
	return []*result{
		create.result("create" + suffix).floor(median(createFloor)).allocations(allocs),
		attempt.result("pin-attempt" + suffix).floor(median(attemptFloor)),
	}, nil
}
