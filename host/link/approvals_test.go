package link_test

import (
	"context"
	"testing"

	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// asker runs a link whose enclave does nothing but ask what it is told to, in calls of one kind.
func asker[Q, A any](t *testing.T, kind wire.FrameKind, notes link.Notes) func(Q) (*A, error) {
	t.Helper()
	var question Q
	var answer A
	var failed error
	l := link.New(linktest.Start(t, func(c *linktest.Conn, _ wire.Frame) *wire.Result {
		answer = *new(A)
		r, ok := c.Call(kind, wire.Marshal(question))
		if !ok {
			return nil
		}
		failed = nil
		if r.Error != nil {
			failed = r.Error
		} else {
			failed = wire.Unmarshal(r.Value, &answer)
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
	return func(q Q) (*A, error) {
		question = q
		if _, err := l.Forward(t.Context(), &wire.Forward{}); err != nil {
			t.Fatal(err)
		}
		return &answer, failed
	}
}

func keeper(t *testing.T, notes link.Notes) func(wire.Keep) (*wire.Kept, error) {
	return asker[wire.Keep, wire.Kept](t, wire.FrameKeep, notes)
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
