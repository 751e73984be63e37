package endorsers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// candidate is an endorser that is to be a member.
type candidate struct {
	address string
	client  *endorser.Client
	who     *endorser.Identity
}

// Found makes the first view of a genesis from fresh endorsers, and returns a file whose
// chain begins with it. Addresses are dealt to groups in order: all groups have the same
// size. Whether the evidence of each is right every one of them decides about the
// others; about the first word of all the operator does, who looks at it before the
// genesis is written into a configuration.
func (o *Operator) Found(ctx context.Context, ledgerID []byte, number uint64, groups int, addresses []string) (*File, error) {
	members, err := identify(ctx, addresses)
	if err != nil {
		return nil, err
	}
	defer closeAll(members)
	v := &endorsement.View{Version: wire.Version, Ledger: ledgerID, Genesis: number, Number: 1}
	if v.Groups, err = deal(members, groups); err != nil {
		return nil, err
	}
	s := o.succession(v, members)
	for _, m := range members {
		if _, err := call(ctx, m.client, wire.FrameFound, wire.Marshal(s)); err != nil {
			return nil, fmt.Errorf("%s: %w", m.address, err)
		}
	}
	f := &File{Addresses: addresses}
	f.extend(&endorsement.Chain{}, endorsement.Link{View: v.Encode()}, members)
	return f, nil
}

// extend adds a view to a chain, and the evidence of its members.
func (f *File) extend(chain *endorsement.Chain, l endorsement.Link, members []candidate) {
	f.Chain = wire.Marshal(&endorsement.Chain{Links: append(slices.Clone(chain.Links), l)})
	for _, m := range members {
		if !slices.ContainsFunc(f.Evidence, func(b wire.Base64) bool { return bytes.Equal(b, m.who.Evidence) }) {
			f.Evidence = append(f.Evidence, m.who.Evidence)
		}
	}
}

func identify(ctx context.Context, addresses []string) ([]candidate, error) {
	var out []candidate
	for _, a := range addresses {
		client, err := Dial(ctx, a)
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		who, err := whoIs(ctx, client)
		if err != nil {
			client.Close()
			closeAll(out)
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		out = append(out, candidate{a, client, who})
	}
	return out, nil
}

// memberTime is how long one endorser may take for one frame: to finalise a million
// streams takes seconds.
const memberTime = 30 * time.Second

// call is a call to an endorser that may hang.
func call(ctx context.Context, client *endorser.Client, kind wire.FrameKind, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	return client.Call(ctx, kind, body)
}

func whoIs(ctx context.Context, client *endorser.Client) (*endorser.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	return client.Identify(ctx)
}

func closeAll(list []candidate) {
	for _, c := range list {
		c.client.Close()
	}
}

func deal(members []candidate, groups int) ([]endorsement.Group, error) {
	if groups < 1 || len(members)%groups != 0 {
		return nil, fmt.Errorf("%d endorsers cannot be dealt to %d groups", len(members), groups)
	}
	size := len(members) / groups
	if size != 3 && size != 5 {
		return nil, fmt.Errorf("a group has 3 or 5 endorsers, not %d", size)
	}
	out := make([]endorsement.Group, groups)
	for i, m := range members {
		out[i/size] = append(out[i/size], endorsement.Member{Key: m.who.Key, Evidence: endorsement.EvidenceHash(m.who.Evidence)})
	}
	return out, nil
}

func (o *Operator) succession(v *endorsement.View, members []candidate) *endorsement.Succession {
	s := endorsement.NewSuccession(v, o.Key)
	s.Release = o.Release
	for _, m := range members {
		s.Evidence = append(s.Evidence, m.who.Evidence)
	}
	return s
}

// ErrNoMajority means that too few members of the newest view can be reached, or say
// their last word: nothing but they can bring a next view.
var ErrNoMajority = errors.New("no majority of the endorsers of the newest view")

// LeftOut is an endorser without which a view change went on.
type LeftOut struct {
	Address string
	View    uint64 // the old one, in which it gave no last word, or the new one, which it does not serve
	Err     error  // why
}

// Change makes the next view of endorsers at the given addresses, dealt to groups in
// order, and returns the file with the longer chain, and who was left out. Members of the old view are looked for at the
// addresses of file, where they still serve; those that can be reached say their last
// word, and new members take over what a majority of them remembers. Nobody serves the
// new view before a majority of its members has everything: who does has forgotten the
// old one, and could hand over no more.
//
// It can be repeated with the same addresses after it failed half way, and with no
// others: a member names one successor only. A majority of each group must serve.
func (o *Operator) Change(ctx context.Context, file *File, addresses []string) (*File, []LeftOut, error) {
	chain, err := file.Views()
	if err != nil {
		return nil, nil, err
	}
	if len(chain.Links) == 0 {
		return nil, nil, errors.New("no view that could be followed")
	}
	before := chain.Links[len(chain.Links)-1].View
	old, err := endorsement.ParseView(before)
	if err != nil {
		return nil, nil, err
	}
	members, err := identify(ctx, addresses)
	if err != nil {
		return nil, nil, err
	}
	defer closeAll(members)
	groups, err := deal(members, len(old.Groups))
	if err != nil {
		return nil, nil, err
	}
	v := old.Next(groups)
	s := o.succession(v, members)
	speakers, out, err := finalise(ctx, file, old, s, v)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		for _, w := range speakers {
			w.client.Close()
		}
	}()
	var words []endorsement.Finalised
	for _, w := range speakers {
		words = append(words, w.word)
	}
	c := &change{view: v, speakers: speakers, activation: wire.Marshal(endorser.Activation{Succession: *s, Before: before, Words: words})}
	if err := c.handOver(ctx, members); err != nil {
		return nil, nil, err
	}
	if err := c.activate(ctx, members); err != nil {
		return nil, nil, err
	}
	f := &File{Addresses: addresses, Evidence: file.Evidence}
	f.extend(chain, endorsement.Link{View: v.Encode(), Finalised: words}, members)
	return f, append(out, c.out...), nil
}

// speaker is a member of the old view that said its last word.
type speaker struct {
	candidate
	group int
	word  endorsement.Finalised
}

// finalise collects the last words of a majority of every group of the old view. Only
// where so many are there is anybody asked: who said its last word serves no more. The
// others of the file's addresses are left out.
func finalise(ctx context.Context, file *File, old *endorsement.View, s *endorsement.Succession, v *endorsement.View) (speakers []speaker, out []LeftOut, err error) {
	var there []speaker
	leave := func(address string, err error) { out = append(out, LeftOut{address, old.Number, err}) }
	present := make([]int, len(old.Groups))
	for _, a := range file.Addresses {
		w, err := find(ctx, a, old)
		switch {
		case err != nil:
			leave(a, err)
		case w.group < 0:
			w.client.Close()
			leave(a, errStranger)
		case slices.ContainsFunc(there, func(o speaker) bool { return bytes.Equal(o.who.Key, w.who.Key) }):
			w.client.Close() // it answers at two addresses
		default:
			there = append(there, *w)
			present[w.group]++
		}
	}
	for g, n := range present {
		if n < old.Groups[g].Majority() {
			for _, w := range there {
				w.client.Close()
			}
			return nil, nil, errors.Join(ErrNoMajority, fmt.Errorf("%d of %d members of group %d are there", n, len(old.Groups[g]), g), why(out))
		}
	}
	var words []endorsement.Finalised
	for _, w := range there {
		answer, err := call(ctx, w.client, wire.FrameFinalise, wire.Marshal(s))
		if err == nil {
			err = wire.Unmarshal(answer, &w.word)
		}
		if err != nil {
			w.client.Close()
			leave(w.address, err)
			continue
		}
		speakers, words = append(speakers, w), append(words, w.word)
	}
	if err := endorsement.Succeeds(old, v, words); err != nil {
		for _, w := range speakers {
			w.client.Close()
		}
		return nil, nil, errors.Join(ErrNoMajority, err, why(out))
	}
	return speakers, out, nil
}

// errStranger is why an endorser that was started again is left out.
var errStranger = errors.New("who answers there is no member: an endorser that was started again is a new one")

// why joins the causes.
func why(out []LeftOut) error {
	var errs []error
	for _, l := range out {
		errs = append(errs, fmt.Errorf("%s: %w", l.Address, l.Err))
	}
	return errors.Join(errs...)
}

// change is a view change whose old members have said their last word.
type change struct {
	view       *endorsement.View
	speakers   []speaker
	activation []byte
	out        []LeftOut // of the new view
}

// leave leaves a new member out, for the first reason that there is.
func (c *change) leave(m candidate, err error) {
	if !slices.ContainsFunc(c.out, func(l LeftOut) bool { return l.Address == m.address }) {
		c.out = append(c.out, LeftOut{m.address, c.view.Number, err})
	}
}

// majority demands that a majority of every group of the new view did something.
func (c *change) majority(what string, done []candidate) error {
	count := make([]int, len(c.view.Groups))
	for _, m := range done {
		count[c.view.Find(m.who.Key)]++
	}
	for g, n := range count {
		if n < c.view.Groups[g].Majority() {
			return errors.Join(fmt.Errorf("%d members of group %d %s view %d", n, g, what, c.view.Number), why(c.out))
		}
	}
	return nil
}

// handOver brings to every member what the speakers of its group remember. Where one
// serves the new view already, an earlier try had come to the end of this.
func (c *change) handOver(ctx context.Context, members []candidate) error {
	hash := c.view.Hash()
	for _, m := range members {
		if m.who.Status.Hash == hash {
			return nil
		}
	}
	var done []candidate
	for _, m := range members {
		if err := c.handOverTo(ctx, m); err != nil {
			c.leave(m, err)
			continue
		}
		done = append(done, m)
	}
	return c.majority("took over for", done)
}

func (c *change) handOverTo(ctx context.Context, m candidate) error {
	for _, w := range c.speakers {
		if w.group != c.view.Find(m.who.Key) {
			continue
		}
		if err := w.handOver(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// activate has all members serve that took over.
func (c *change) activate(ctx context.Context, members []candidate) error {
	var done []candidate
	for _, m := range members {
		if _, err := call(ctx, m.client, wire.FrameActivate, c.activation); err != nil {
			c.leave(m, err)
			continue
		}
		done = append(done, m)
	}
	return c.majority("serve", done)
}

// find looks who is at an address; its group is -1 where that is no member.
func find(ctx context.Context, address string, old *endorsement.View) (*speaker, error) {
	client, err := Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	who, err := whoIs(ctx, client)
	if err != nil {
		client.Close()
		return nil, err
	}
	return &speaker{candidate: candidate{address, client, who}, group: old.Find(who.Key)}, nil
}

// handOver brings a member's tails to one of the new view.
func (w *speaker) handOver(ctx context.Context, to candidate) error {
	for index := uint64(0); index == 0 || index < w.word.Streams; {
		answer, err := call(ctx, w.client, wire.FrameTails, wire.Marshal(endorser.From{Index: index}))
		if err != nil {
			return fmt.Errorf("%s: %w", w.address, err)
		}
		var page endorser.Page
		if err := wire.Unmarshal(answer, &page); err != nil {
			return fmt.Errorf("%s: %w", w.address, err)
		}
		if _, err := call(ctx, to.client, wire.FrameAdopt, wire.Marshal(endorser.Adoption{Word: w.word, Index: index, Tails: page.Tails})); err != nil {
			return fmt.Errorf("%s: %w", to.address, err)
		}
		if len(page.Tails) == 0 {
			break
		}
		index += uint64(len(page.Tails))
	}
	return nil
}
