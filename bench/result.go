package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// result is one row, and one element of BENCH_JSON's array.
type result struct {
	Name          string   `json:"name"`
	PerSecondCore float64  `json:"per_second_core"` // operations a second that one core does
	Micros        float64  `json:"us"`              // CPU time of one operation; of boot, postgres-commit and what measures ledgers: time on the clock
	Floor         *float64 `json:"floor_us"`        // the cryptography in it; of postgres-commit and ledgers: what each row's function says
	Ratio         *float64 `json:"ratio"`           // floor_us / us
	Allocs        *float64 `json:"allocs"`          // heap allocations, where they can be counted

	median time.Duration // as the client sees it; 0: not measured
}

func newResult(name string, us float64) *result {
	return &result{Name: name, PerSecondCore: 1e6 / us, Micros: us}
}

func (r *result) floor(us float64) *result {
	ratio := us / r.Micros
	r.Floor, r.Ratio = &us, &ratio
	return r
}

func (r *result) allocations(n float64) *result {
	r.Allocs = &n
	return r
}

// median returns the middle of what was measured, or the mean of the middle two.
func median(v []float64) float64 { return (quantile(v, 0.5-1e-9) + quantile(v, 0.5+1e-9)) / 2 }

// quantile returns the smallest value that a share q of all does not exceed.
func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	i := int(q * float64(len(s)))
	return s[min(max(i, 0), len(s)-1)]
}

// printTable writes the results for people.
func printTable(w io.Writer, results []*result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "operation\t1/s and core\tµs\tfloor µs\tratio\tallocs\tmedian latency\t")
	optional := func(v *float64, format string) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf(format, *v)
	}
	for _, r := range results {
		latency := "-"
		if r.median > 0 {
			latency = fmt.Sprintf("%.2f ms", float64(r.median)/float64(time.Millisecond))
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%s\t%s\t%s\t%s\t\n", r.Name, r.PerSecondCore, r.Micros,
			optional(r.Floor, "%.0f"), optional(r.Ratio, "%.2f"), optional(r.Allocs, "%.0f"), latency)
	}
	t.Flush()
}

func encode(results []*result) ([]byte, error) {
	b, err := json.MarshalIndent(results, "", "  ")
	return append(b, '\n'), err
}
