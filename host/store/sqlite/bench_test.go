package sqlite_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// Durable commits a second.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			keys := ledgertest.NewKeys(b)
			s := open(b, b.TempDir())
			defer s.Close()
			commits := make([][]*wire.Commit, writers)
			for i := range commits {
				a := storetest.NewAccount(keys, fmt.Sprint(i))
				for range b.N/writers + 1 {
					commits[i] = append(commits[i], a.Change(1))
				}
			}
			var n atomic.Int64
			b.ResetTimer()
			var all sync.WaitGroup
			for _, own := range commits {
				all.Go(func() {
					for _, c := range own {
						if n.Add(1) > int64(b.N) {
							return
						}
						if _, err := s.Commit(b.Context(), c); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// What an assertion reads: newest entry, head, wrap, one record.
func BenchmarkLoad(b *testing.B) {
	for _, accounts := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("accounts=", accounts), func(b *testing.B) {
			keys := ledgertest.NewKeys(b)
			s := open(b, b.TempDir())
			defer s.Close()
			needs := make([]wire.Need, 0, accounts)
			err := s.Seed(b.Context(), func(yield func(*wire.Commit) bool) {
				for i := range accounts {
					a := storetest.NewAccount(keys, fmt.Sprint(i))
					c := a.Change(1)
					known := uint64(1)
					needs = append(needs, wire.Need{Account: a.ID, State: true, After: &known, Records: a.Handles()})
					if !yield(c) {
						return
					}
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i, before := 0, cpuTime(b)
			for b.Loop() {
				i = (i + 7919) % accounts
				out, err := s.Load(b.Context(), needs[i])
				if err != nil || len(out.Records) != 1 || len(out.Wraps) != 1 || len(out.Entries) != 0 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// cpuTime is what this process used of the processors: steadier than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
