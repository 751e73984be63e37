package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// forge makes the line of a record anew, as somebody could who has another key.
func forge(t testing.TB, line []byte, key ed25519.PrivateKey, change func(*Record)) []byte {
	t.Helper()
	r, _, _, err := parse(bytes.TrimSpace(line))
	check(t, err)
	change(r)
	b, _, err := encode(r, key)
	check(t, err)
	return b
}

// Whoever has the file and not the key changes nothing unseen.
func TestAttacks(t *testing.T) {
	t.Parallel()
	_, stranger, err := ed25519.GenerateKey(nil)
	check(t, err)
	refused := func(r *Record) { r.Outcome = Refused }
	for name, c := range map[string]struct {
		change func(t *testing.T, lines [][]byte) [][]byte
		record uint64
		check  Check
	}{
		"a record changed": {func(_ *testing.T, l [][]byte) [][]byte {
			l[2] = bytes.Replace(l[2], []byte(`"done"`), []byte(`"gone"`), 1)
			return l
		}, 3, CheckSignature},
		"a record changed and signed by another": {func(t *testing.T, l [][]byte) [][]byte {
			l[2] = forge(t, l[2], stranger, refused)
			return l
		}, 3, CheckSignature},
		"rewritten from a record on, by another": {func(t *testing.T, l [][]byte) [][]byte {
			previous := ""
			for i := 2; i < len(l); i++ {
				l[i] = forge(t, l[i], stranger, func(r *Record) {
					if r.Outcome = Refused; previous != "" {
						r.Previous = previous
					}
				})
				_, d, _, err := parse(bytes.TrimSpace(l[i]))
				check(t, err)
				previous = hexDigest(d)
			}
			return l
		}, 3, CheckSignature},
		"a signature changed": {func(_ *testing.T, l [][]byte) [][]byte {
			i := bytes.Index(l[2], []byte(`"signature":"`)) + 20
			l[2][i] = map[bool]byte{true: 'B', false: 'A'}[l[2][i] == 'A']
			return l
		}, 3, CheckSignature},
		"a record taken out":         {func(_ *testing.T, l [][]byte) [][]byte { return slices.Delete(l, 2, 3) }, 3, CheckSequence},
		"the first record taken out": {func(_ *testing.T, l [][]byte) [][]byte { return l[1:] }, 1, CheckSequence},
		"a record twice":             {func(_ *testing.T, l [][]byte) [][]byte { return slices.Insert(l, 2, l[1]) }, 3, CheckSequence},
		"two records swapped": {func(_ *testing.T, l [][]byte) [][]byte {
			l[1], l[2] = l[2], l[1]
			return l
		}, 2, CheckSequence},
		"a record of another log of the same key": {nil, 3, CheckPrevious},
		"cut behind a record":                     {func(_ *testing.T, l [][]byte) [][]byte { return l[:3] }, 4, CheckEnd},
		"cut within a record": {func(_ *testing.T, l [][]byte) [][]byte {
			l[4] = l[4][:30]
			return l
		}, 5, CheckEnd},
		"emptied":             {func(*testing.T, [][]byte) [][]byte { return nil }, 1, CheckEnd},
		"an empty line":       {func(_ *testing.T, l [][]byte) [][]byte { return slices.Insert(l, 1, []byte("\n")) }, 2, CheckForm},
		"a space":             {func(_ *testing.T, l [][]byte) [][]byte { l[1] = append([]byte(" "), l[1]...); return l }, 2, CheckForm},
		"a member of no use":  {func(_ *testing.T, l [][]byte) [][]byte { l[1] = append([]byte(`{"x":1,`), l[1][1:]...); return l }, 2, CheckForm},
		"a line without end":  {func(_ *testing.T, l [][]byte) [][]byte { l[1] = make([]byte, maxLine+9); return l }, 2, CheckForm},
		"something behind it": {func(_ *testing.T, l [][]byte) [][]byte { return append(l, []byte("\n")) }, 6, CheckForm},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := written(t, 5)
			lines := bytes.SplitAfter(read(t, dir, FileName), []byte("\n"))[:5]
			if c.change == nil { // the broker's own word, for another place
				key := open(t, dir).key
				lines[2] = forge(t, lines[2], key, func(r *Record) { r.Previous = firstPrevious })
			} else {
				lines = c.change(t, lines)
			}
			write(t, dir, FileName, bytes.Join(lines, nil))
			got, err := versions(t, dir)
			wantBreak(t, err, c.record, c.check)
			if len(got) != int(c.record)-1 {
				t.Errorf("%d records were shown as good", len(got))
			}
		})
	}
}

// A head that somebody kept shows also what whoever has the key rewrote before it.
func TestKeptHead(t *testing.T) {
	t.Parallel()
	dir := written(t, 3)
	kept, err := ReadHead(dir)
	check(t, err)
	older := t.TempDir()
	check(t, os.CopyFS(older, os.DirFS(dir)))
	fill(t, open(t, dir), 2)
	none := func(*Record) error { return nil }
	if _, _, err := VerifyFile(dir, nil, kept, none); err != nil {
		t.Error(err)
	}
	later, err := ReadHead(dir)
	check(t, err)
	// Log and head file put back together look whole, but for who kept a later head.
	if _, _, err := VerifyFile(older, nil, nil, none); err != nil {
		t.Error(err)
	}
	_, _, err = VerifyFile(older, nil, later, none)
	wantBreak(t, err, 4, CheckEnd)

	// With the key, everything can be written anew.
	rewritten := t.TempDir()
	write(t, rewritten, KeyName, read(t, dir, KeyName))
	l := open(t, rewritten)
	fill(t, l, 1)
	if _, _, err := VerifyFile(rewritten, nil, nil, none); err != nil {
		t.Error(err)
	}
	_, _, err = VerifyFile(rewritten, nil, kept, none)
	wantBreak(t, err, 2, CheckEnd)
	fill(t, l, 4)
	_, _, err = VerifyFile(rewritten, nil, kept, none)
	wantBreak(t, err, 3, CheckHead)

	// Another key's log is not this one's.
	other := open(t, written(t, 3))
	_, _, err = VerifyFile(other.path, nil, kept, none)
	wantBreak(t, err, 1, CheckKey)
	_, _, err = VerifyFile(dir, other.PublicKey(), nil, none)
	wantBreak(t, err, 1, CheckKey)
	if _, _, err := VerifyFile(other.path, other.PublicKey(), kept, none); !errors.Is(err, ErrHead) {
		t.Errorf("got %v", err)
	}
}

// An older head, put back beside a log that is whole, would take the place of the kept one,
// and the log could be cut down to it the next time.
func TestOlderHeadBeside(t *testing.T) {
	t.Parallel()
	dir := written(t, 3)
	older := read(t, dir, HeadName)
	l := open(t, dir)
	fill(t, l, 2)
	check(t, l.Close())
	kept, err := ReadHead(dir)
	check(t, err)
	none := func(*Record) error { return nil }
	if _, _, err := VerifyFile(dir, nil, kept, none); err != nil {
		t.Error(err)
	}
	write(t, dir, HeadName, older)
	v, _, err := VerifyFile(dir, nil, kept, none)
	wantBreak(t, err, 4, CheckHead)
	if v.Head.Sequence != 5 {
		t.Errorf("%d records hold", v.Head.Sequence)
	}
}

// A log alone, without its head, cannot show that it was cut, and says so.
func TestNoHeadBeside(t *testing.T) {
	t.Parallel()
	dir := written(t, 3)
	key := open(t, dir).PublicKey()
	check(t, os.Remove(filepath.Join(dir, HeadName)))
	none := func(*Record) error { return nil }
	if _, _, err := VerifyFile(dir, nil, nil, none); !errors.Is(err, ErrNoKey) {
		t.Errorf("got %v", err)
	}
	if v, beside, err := VerifyFile(dir, key, nil, none); err != nil || beside != nil || v.Head.Sequence != 3 {
		t.Errorf("got %+v, %v, %v", v, beside, err)
	}
	log := read(t, dir, FileName)
	write(t, dir, FileName, log[:len(log)-1])
	_, _, err := VerifyFile(dir, key, nil, none)
	wantBreak(t, err, 3, CheckEnd)
}

func TestHeadRefused(t *testing.T) {
	t.Parallel()
	dir := written(t, 2)
	good := bytes.TrimSpace(read(t, dir, HeadName))
	if _, err := ParseHead(good); err != nil {
		t.Fatal(err)
	}
	for member, value := range map[string]any{
		"sequence": 3, "digest": firstPrevious, "start": 0, "end": 9999, "nonce": "AAAA", "key": "AAAA", "signature": "AAAA", "more": 1,
	} {
		var m map[string]any
		check(t, json.Unmarshal(good, &m))
		m[member] = value
		b, err := json.Marshal(m)
		check(t, err)
		if _, err := ParseHead(b); !errors.Is(err, ErrHead) {
			t.Errorf("%s: got %v", member, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	check(f, err)
	full := Record{Sequence: 2, Previous: firstPrevious, Time: time.UnixMilli(1).UTC(), Kind: KindOperator, Outcome: Done,
		Evidence: &Evidence{Platform: "sgx"}, Operator: &Operator{Name: "a", Key: []byte{1}}, Start: &Start{Operators: []Operator{}}, Clauses: []string{"<"}}
	for _, r := range []Record{{}, full} {
		line, _, err := encode(&r, key)
		check(f, err)
		if _, _, _, err := parse(line[:len(line)-1]); err != nil {
			f.Error("a seed is refused")
		}
		f.Add(line[:len(line)-1])
	}
	f.Add([]byte(`{"record":null,"signature":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, d, _, err := parse(b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("got %v", err)
			}
			return
		}
		if _, same, err := encode(r, key); err != nil || same != d || bytes.Contains(b, []byte("\n")) {
			t.Errorf("%v, or read as another record than it is written", err)
		}
	})
}

func FuzzParseHead(f *testing.F) {
	f.Add(bytes.TrimSpace(read(f, written(f, 1), HeadName)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHead(b); err == nil && h.Verify() != nil {
			t.Error("a head that does not verify")
		}
	})
}
