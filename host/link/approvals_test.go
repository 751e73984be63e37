package link_test

import (
	"context"
	"testing"

	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// keeper runs a link whose enclave does nothing but what keep asks of it.
func keeper(t *testing.T, notes link.Notes) func(wire.Keep) (*wire.Kept, error) {
	t.Helper()
	var ask wire.Keep
	var kept wire.Kept
	var failed error
	l := link.New(linktest.Start(t, func(c *linktest.Conn, _ wire.Frame) *wire.Result {
		kept = wire.Kept{}
		r, ok := c.Call(wire.FrameKeep, wire.Marshal(ask))
		if !ok {
			return nil
		}
		failed = nil
		if r.Error != nil {
			failed = r.Error
		} else {
			failed = wire.Unmarshal(r.Value, &kept)
		}
		return linktest.Value(wire.Reply{})
	}).Dial, storetest.NewMemory(), quiet)
	l.Notes = notes
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := l.Connected(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func(k wire.Keep) (*wire.Kept, error) {
		ask = k
		if _, err := l.Forward(t.Context(), &wire.Forward{}); err != nil {
			t.Fatal(err)
		}
		return &kept, failed
	}
}

func TestApprovalsAreKept(t *testing.T) {
	t.Parallel()
	notes := storetest.NewMemory()
	keep := keeper(t, notes)
	alice, bob := wire.AccountID{1}, wire.AccountID{2}
	if k, err := keep(wire.Keep{Account: alice}); err != nil || len(k.Approvals) != 0 {
		t.Fatalf("%v, %v", k, err)
	}
	for i := range wire.MaxApprovals + 2 {
		k, err := keep(wire.Keep{Account: alice, Approval: []byte{byte(i >> 8), byte(i)}})
		if err != nil || len(k.Approvals) != min(i+1, wire.MaxApprovals) {
			t.Fatalf("%d: %d kept, %v", i, len(k.Approvals), err)
		}
	}
	if k, err := keep(wire.Keep{Account: bob}); err != nil || len(k.Approvals) != 0 {
		t.Fatalf("another account's: %v, %v", k, err)
	}
	k, err := keeper(t, notes)(wire.Keep{Account: alice}) // another host, later
	if err != nil || len(k.Approvals) != wire.MaxApprovals || k.Approvals[0][1] != 2 {
		t.Fatalf("%v, %v", k, err)
	}
}

func TestNoApprovalsWithoutNotes(t *testing.T) {
	t.Parallel()
	if _, err := keeper(t, nil)(wire.Keep{Account: wire.AccountID{1}}); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("%v", err)
	}
}
