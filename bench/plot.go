package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"strings"
)

// A panel is a group of bars on one scale.
type panel struct {
	title string
	holds func(name string) bool
}

var panels = []panel{
	{"assertion: CPU µs of host and enclave", func(n string) bool { return strings.HasPrefix(n, "assertion") }},
	{"changes: CPU µs of host and enclave", func(n string) bool {
		return strings.HasPrefix(n, "create") || n == "pin-attempt" || n == "pin-attempt+secret"
	}},
	{"evidence: CPU µs of the client", func(n string) bool { return strings.HasPrefix(n, "verify") }},
	{"boot: µs on the clock", func(n string) bool { return strings.HasPrefix(n, "boot") }},
}

// Measures of the picture, in its own units.
const (
	plotWidth = 860
	nameWidth = 210
	barWidth  = 420
	rowHeight = 22
)

// plot draws BENCH_JSON's content as SVG: one bar a row, the floor dark in it.
func plot(data []byte) ([]byte, error) {
	var results []result
	if err := json.Unmarshal(data, &results); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	y := 12
	for _, p := range panels {
		var rows []result
		most := 0.0
		for _, r := range results {
			if p.holds(r.Name) {
				rows, most = append(rows, r), max(most, r.Micros)
			}
		}
		if len(rows) == 0 {
			continue
		}
		y += 22
		fmt.Fprintf(&body, "<text x=\"8\" y=\"%d\" class=\"t\">%s</text>\n", y, html.EscapeString(p.title))
		y += 8
		for _, r := range rows {
			drawRow(&body, r, y, most)
			y += rowHeight
		}
		y += 6
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\">\n", plotWidth, y+30)
	out.WriteString("<style>.t{font-weight:bold}.n{text-anchor:end}.f{fill:#1f4e79}.b{fill:#9dc3e6}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n")
	body.WriteTo(&out)
	fmt.Fprintf(&out, "<rect x=\"8\" y=\"%d\" width=\"12\" height=\"12\" class=\"f\"/><text x=\"26\" y=\"%d\">floor: the cryptography alone</text>\n", y+6, y+17)
	fmt.Fprintf(&out, "<rect x=\"230\" y=\"%d\" width=\"12\" height=\"12\" class=\"b\"/><text x=\"248\" y=\"%d\">everything else</text>\n</svg>\n", y+6, y+17)
	return out.Bytes(), nil
}

func drawRow(w *bytes.Buffer, r result, y int, most float64) {
	width := func(us float64) float64 { return barWidth * us / most }
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" class=\"n\">%s</text>", nameWidth-8, y+14, html.EscapeString(r.Name))
	fmt.Fprintf(w, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"16\" class=\"b\"/>", nameWidth, y+1, width(r.Micros))
	label := fmt.Sprintf("%.0f", r.Micros)
	if r.Floor != nil && r.Ratio != nil {
		fmt.Fprintf(w, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"16\" class=\"f\"/>", nameWidth, y+1, width(min(*r.Floor, r.Micros)))
		label += fmt.Sprintf(", floor %.0f (%.0f%%)", *r.Floor, 100**r.Ratio)
	}
	fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", nameWidth+8+width(r.Micros), y+14, label)
}
