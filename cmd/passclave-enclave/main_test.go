package main

import (
	"errors"
	"testing"
	"time"
)

// A key service that fails now and then is asked again soon each time.
func TestWaits(t *testing.T) {
	t.Parallel()
	w, down := newWaits(), errors.New("down")
	for round := range 2 {
		want := firstWait
		for range 10 {
			if got := w.after(down); got != want {
				t.Fatalf("round %d: %s, want %s", round, got, want)
			}
			want = min(2*want, longest)
		}
		if want != longest {
			t.Fatalf("the waits end at %s", want)
		}
		if got := w.after(nil); got != lookAgain || got < time.Minute {
			t.Fatalf("%s after a success", got)
		}
	}
}
