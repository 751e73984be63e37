package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/passclave/passclave/wire"
)

// Check is what a log fails.
type Check string

const (
	CheckForm      Check = "form"      // a line that this package does not write
	CheckSequence  Check = "sequence"  // records are missing, twice there, or moved
	CheckPrevious  Check = "previous"  // a record does not follow the one before
	CheckSignature Check = "signature" // a record is not signed by the log's key
	CheckHead      Check = "head"      // another record stands where a known head names one
	CheckEnd       Check = "end"       // the log ends before a known head
	CheckKey       Check = "key"       // the head that came with the log is of another key
)

// BreakError says where a log breaks.
type BreakError struct {
	Record uint64 // as it should be numbered
	Check  Check
	Detail string
}

func (e *BreakError) Error() string {
	return fmt.Sprintf("the audit log breaks at record %d (%s): %s", e.Record, e.Check, e.Detail)
}

// Verified is what a log holds.
type Verified struct {
	Head       Head // the newest record; not signed
	Unfinished int  // bytes behind it: being written just now, or left by a crash
}

// Verify reads a log from its beginning, calls each with every record that holds, and
// returns the newest, or a [*BreakError]. The log must contain the known heads, which the
// caller has verified and believes.
//
// It does not look at whether records make sense, nor whether anything newer exists.
func Verify(r io.Reader, key ed25519.PublicKey, known []Head, each func(*Record) error) (*Verified, error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	v := &Verified{Head: Head{Key: wire.Base64(key), Digest: firstPrevious}}
	for {
		b, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			v.Unfinished = len(b)
			return v, ends(v, known)
		}
		next := v.Head.Sequence + 1
		if errors.Is(err, ErrRecord) {
			return v, &BreakError{next, CheckForm, err.Error()}
		}
		if err != nil {
			return v, err
		}
		record, err := follow(&v.Head, b, key)
		if err != nil {
			return v, err
		}
		for _, h := range known {
			if h.Sequence == next && h.Digest != v.Head.Digest {
				return v, &BreakError{next, CheckHead, "another record stood here when a head was kept"}
			}
		}
		if err := each(record); err != nil {
			return v, err
		}
	}
}

func ends(v *Verified, known []Head) error {
	for _, h := range known {
		if h.Sequence > v.Head.Sequence {
			return &BreakError{v.Head.Sequence + 1, CheckEnd, fmt.Sprintf("the log ends here; a head that was kept is of record %d", h.Sequence)}
		}
	}
	return nil
}

// follow checks that a line, without its line feed, follows head, and moves head on to it.
func follow(head *Head, b []byte, key ed25519.PublicKey) (*Record, error) {
	next := head.Sequence + 1
	r, d, signature, err := parse(b)
	switch {
	case err != nil:
		return nil, &BreakError{next, CheckForm, err.Error()}
	case r.Sequence != next:
		return nil, &BreakError{next, CheckSequence, fmt.Sprintf("record %d stands here", r.Sequence)}
	case r.Previous != head.Digest:
		return nil, &BreakError{next, CheckPrevious, "it does not follow the record before"}
	case !ed25519.Verify(key, d[:], signature):
		return nil, &BreakError{next, CheckSignature, "it is not signed by the log's key"}
	}
	*head = Head{Key: head.Key, Sequence: next, Digest: hexDigest(d), Start: head.End, End: head.End + int64(len(b)) + 1}
	return r, nil
}

// readLine returns a line without its line feed. io.EOF: there is no whole one; what is
// left comes along.
func readLine(r *bufio.Reader) ([]byte, error) {
	var b []byte
	for {
		part, err := r.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(b, []byte("\n")), nil
		case len(b) > maxLine:
			return nil, fmt.Errorf("%w: over %d bytes", ErrRecord, maxLine)
		case !errors.Is(err, bufio.ErrBufferFull):
			return b, err
		}
	}
}

// ErrNoKey is returned by [VerifyFile] where nobody says whose log it is.
var ErrNoKey = errors.New("nothing says which key signs this audit log: its head is not beside it")

// VerifyFile verifies the log in a file, or in a folder, against the head beside it and one
// that the caller kept (nil: none). key is the log's; nil: the kept head's, or else the one that the
// head beside the log names, which whoever may write there may have chosen.
//
// Errors are those of [Verify], [ErrHead] and [ErrNoKey]. It may be called while the broker
// writes. beside is the head beside the log; nil: there is none, and nothing shows whether the
// log was cut.
func VerifyFile(path string, key ed25519.PublicKey, kept *Head, each func(*Record) error) (v *Verified, beside *Head, err error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, FileName)
	}
	// The head first: a log that is being written only grows behind it.
	beside, err = ReadHead(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, beside, err
	}
	defer f.Close()
	v, err = verifyAgainst(f, beside, key, kept, each)
	if err == nil && beside == nil && v.Unfinished > 0 {
		err = &BreakError{v.Head.Sequence + 1, CheckEnd, "the last record is not whole"}
	}
	return v, beside, err
}

// VerifyAnswer is [VerifyFile] for lines and head that a running broker answered with.
func VerifyAnswer(lines []byte, head *Head, key ed25519.PublicKey, kept *Head, each func(*Record) error) (*Verified, error) {
	return verifyAgainst(bytes.NewReader(lines), head, key, kept, each)
}

// verifyAgainst verifies a log against the head that came with it and the kept one, of which
// either may be nil, as may key.
func verifyAgainst(log io.Reader, beside *Head, key ed25519.PublicKey, kept *Head, each func(*Record) error) (*Verified, error) {
	var known []Head
	for _, h := range []*Head{kept, beside} {
		if h != nil {
			known = append(known, *h)
		}
	}
	if key == nil && len(known) == 0 {
		return nil, ErrNoKey
	}
	if key == nil {
		key = ed25519.PublicKey(known[0].Key)
	}
	if kept != nil && !key.Equal(ed25519.PublicKey(kept.Key)) {
		return nil, fmt.Errorf("%w: the kept one is of another key than the one given", ErrHead)
	}
	if beside != nil && !key.Equal(ed25519.PublicKey(beside.Key)) {
		return &Verified{Head: Head{Key: wire.Base64(key), Digest: firstPrevious}},
			&BreakError{1, CheckKey, "the head that came with the log is of another key: the log is another, or was begun anew"}
	}
	v, err := Verify(log, key, known, each)
	if err == nil && kept != nil && beside != nil && beside.Sequence < kept.Sequence {
		// Kept in its place, it would let the log be cut down to it the next time.
		err = &BreakError{beside.Sequence + 1, CheckHead, "the head that came with the log is an older one than the one that was kept: it was put back"}
	}
	return v, err
}

// ReadHead reads the head file of a folder.
func ReadHead(dir string) (*Head, error) {
	data, err := os.ReadFile(filepath.Join(dir, HeadName))
	if err != nil {
		return nil, err
	}
	h, err := ParseHead(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, HeadName), err)
	}
	return h, nil
}
