package evilhost

import "github.com/passclave/passclave/wire"

// Honest ends all lies.
func (p *Proxy) Honest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie, p.withhold = nil, false
}

// Snapshot is an account's state as it once was.
type Snapshot struct{ state wire.State }

// Snapshot keeps the state that the newest request came with.
func (p *Proxy) Snapshot() (*Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return nil, ErrNothingSeen
	}
	return &Snapshot{p.last.State}, nil
}

// ServeOlder serves a snapshot instead of what stands now: newest entry, head and
// wraps of then, which all fit together.
func (p *Proxy) ServeOlder(s *Snapshot) {
	p.set(func(now *wire.State) {
		if now.Newest != nil {
			now.Newest, now.Head, now.Wraps, now.Entries = s.state.Newest, s.state.Head, s.state.Wraps, nil
		}
	})
}

// WithholdCommits keeps commits for itself and says that the store cannot be reached.
func (p *Proxy) WithholdCommits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie, p.withhold, p.withheld = nil, true, nil
}

// ServeUncommitted serves the head of the commit that was withheld, beside the entry
// that stands: genuinely sealed by the enclave, and named by no entry.
func (p *Proxy) ServeUncommitted() error {
	p.mu.Lock()
	head := p.withheld
	p.withhold = false
	p.mu.Unlock()
	if head == nil {
		return ErrNothingSeen
	}
	p.set(func(now *wire.State) {
		if now.Head != nil {
			now.Head = head.Head
		}
	})
	return nil
}

// SwapRecords serves for each record that is asked for another one that has passed,
// under the wanted handle's place.
func (p *Proxy) SwapRecords() {
	p.set(func(now *wire.State) {
		for i, encoded := range now.Records {
			wanted, err := wire.ParseRecord(encoded)
			if err != nil {
				continue
			}
			for handle, other := range p.records {
				if handle != wanted.Handle {
					now.Records[i] = wire.Marshal(*other)
					break
				}
			}
		}
	})
}

// Captured returns the envelope of the newest request that passed, to be sent again.
func (p *Proxy) Captured() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return nil, ErrNothingSeen
	}
	return p.last.Envelope, nil
}

// set makes lie be called, with mu held, for every state on its way to the enclave.
func (p *Proxy) set(lie func(*wire.State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = lie
}
