package storetest

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

func (f *fixture) feed(t *testing.T, after uint64, limit int) wire.FeedPage {
	t.Helper()
	page, err := f.Feed(f.ctx, f.account.ID, wire.FeedTokenHash(f.account.Token()), after, limit)
	if err != nil {
		t.Fatalf("Feed: %v", err)
	}
	return page
}

// Every limit must give every record exactly once, and those of one commit on one page.
func feedPages(t *testing.T, f *fixture) {
	for _, n := range []int{3, 1, 0, 5, 2} {
		f.commit(t, f.account.Change(n))
	}
	last := f.account.Reserve() // moves the sequence, changes no record
	f.commit(t, last)
	for limit := 1; limit < 13; limit++ {
		var got []wire.Handle
		after, pages := uint64(0), 0
		for {
			page := f.feed(t, after, limit)
			for _, b := range page.Records {
				r, err := wire.ParseRecord(b)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, r.Handle)
			}
			if page.More == (page.Next == f.account.At.Sequence) {
				t.Fatalf("limit %d: next %d, more %v", limit, page.Next, page.More)
			}
			after, pages = page.Next, pages+1
			if !page.More {
				break
			}
		}
		slices.SortFunc(got, func(a, b wire.Handle) int { return slices.Compare(a[:], b[:]) })
		want := slices.SortedFunc(slices.Values(f.account.Handles()), func(a, b wire.Handle) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(got, want) {
			t.Fatalf("limit %d: %d records on %d pages, want each of %d once", limit, len(got), pages, len(want))
		}
	}
	if page := f.feed(t, f.account.At.Sequence, 10); len(page.Records) != 0 || page.More || len(page.Manifest) == 0 {
		t.Fatalf("nothing changed, but %+v", page)
	}
}

func feedTokens(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	f.feed(t, 0, 10)
	c := f.account.Change(0) // says nothing of tokens: they stay
	f.commit(t, c)
	f.feed(t, 0, 10)
	c = f.account.Change(0)
	c.SetFeedTokens, c.FeedTokens = true, []wire.Digest{wire.FeedTokenHash([]byte("new"))}
	f.commit(t, c)
	f.noFeed(t, f.Store, wire.FeedTokenHash(f.account.Token()))
	if _, err := f.Feed(f.ctx, f.account.ID, c.FeedTokens[0], 0, 10); err != nil {
		t.Fatalf("the new token: %v", err)
	}
	c = f.account.Change(0)
	c.SetFeedTokens = true
	f.commit(t, c)
	f.noFeed(t, f.Store, wire.FeedTokenHash([]byte("new")))
}

func (f *fixture) noFeed(t *testing.T, s store.Store, token wire.Digest) {
	t.Helper()
	if _, err := s.Feed(f.ctx, f.account.ID, token, 0, 10); wire.CodeOf(err) != wire.CodeUnknownDevice {
		t.Fatalf("Feed: %v, want %s", err, wire.CodeUnknownDevice)
	}
}

func feedForeign(t *testing.T, f *fixture) {
	f.noFeed(t, f.Store, wire.FeedTokenHash(f.account.Token())) // no account yet
	f.commit(t, f.account.Change(1))
	f.noFeed(t, f.Store, wire.FeedTokenHash([]byte("guess")))
	f.noFeed(t, f.Store, wire.Digest{})
	other := NewAccount(f.keys, "neighbour")
	f.commit2(t, other.Change(1))
	f.noFeed(t, f.Store, wire.FeedTokenHash(other.Token()))
}
