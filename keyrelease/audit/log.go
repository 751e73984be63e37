package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/statefile"
)

// Names of the files in a log's folder.
const (
	FileName = "audit.jsonl"
	HeadName = "audit-head.json"
	KeyName  = "audit-key.pem"
)

var (
	// ErrFull is returned where the disk has no space: nothing was recorded, and it may be
	// tried again when there is some.
	ErrFull = errors.New("the audit log cannot be written: the disk is full")
	// ErrChanged is returned where somebody else changed the log's file under the process
	// that writes it. It records nothing more.
	ErrChanged = errors.New("the audit log was changed, moved or replaced while the broker had it open")
	// ErrBroken is returned where the disk failed in a way after which it is not known what
	// stands there. The log records nothing more until it is opened again.
	ErrBroken = errors.New("the audit log cannot be written: the disk failed")
	// ErrInUse is returned by [Open] for a log that another process writes.
	ErrInUse = errors.New("the audit log is in use by another process")
	// ErrIncomplete is returned by [Open] where some of the log's files are there and others gone.
	ErrIncomplete = errors.New("a file of the audit log is gone")
)

// disk is what a log needs of a file; tests let it fail.
type disk interface {
	ReadAt(p []byte, offset int64) (int, error)
	WriteAt(p []byte, offset int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error
}

// Log writes records. Its methods may be called by several goroutines: records that wait
// while others are being synced are written together.
type Log struct {
	path    string
	key     ed25519.PrivateKey
	now     func() time.Time
	removed int64

	mu      sync.Mutex
	waiting []*pending // guarded by mu
	newest  Head       // guarded by mu; changed by who writes

	turn       chan struct{} // full while somebody writes; guards the rest
	file, head disk
	broken     error // why nothing is written any more
}

type pending struct {
	record Record
	done   chan error // has room for how it ended
}

// Open opens the log in a folder, or begins one, with a key of its own, where none of
// its files is there. Errors: a [*BreakError] where the log ends before its head or does not go
// on from it, [ErrHead], [ErrIncomplete], [ErrInUse].
//
// What a crash left behind the last whole record goes: nobody had an answer for it.
// Records before the head are not verified here; [Verify] does.
func Open(dir string) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l := &Log{path: filepath.Join(dir, FileName), now: time.Now, turn: make(chan struct{}, 1)}
	if err := begin(dir); err != nil {
		return nil, err
	}
	var err error
	if l.key, err = statefile.ReadKey(filepath.Join(dir, KeyName)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l.file = f
	h, err := os.OpenFile(filepath.Join(dir, HeadName), os.O_WRONLY, 0)
	if err != nil {
		f.Close()
		return nil, err
	}
	l.head = h
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", l.path, ErrInUse)
	}
	if err == nil {
		err = l.resume(dir)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// begin makes what a new log has. The head comes last: what a crash left before it is
// made again.
func begin(dir string) error {
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return !errors.Is(err, fs.ErrNotExist)
	}
	if there(HeadName) {
		for _, name := range []string{FileName, KeyName} {
			if !there(name) {
				return fmt.Errorf("%w: %s", ErrIncomplete, filepath.Join(dir, name))
			}
		}
		return nil
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err == nil && info.Size() > 0 {
		return fmt.Errorf("%w: %s", ErrIncomplete, filepath.Join(dir, HeadName))
	}
	key, err := statefile.Key(filepath.Join(dir, KeyName))
	if err != nil {
		return err
	}
	if err := statefile.Write(filepath.Join(dir, FileName), nil); err != nil {
		return err
	}
	head, err := encodeHead(Head{Digest: firstPrevious}.sign(key, nil))
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, HeadName), head)
}

// resume finds the end of the log: the head, and whole records that were written after it.
func (l *Log) resume(dir string) error {
	h, err := ReadHead(dir)
	if err != nil {
		return err
	}
	public := l.key.Public().(ed25519.PublicKey)
	if !public.Equal(ed25519.PublicKey(h.Key)) {
		return fmt.Errorf("%w: %s is of another key", ErrHead, HeadName)
	}
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < h.End {
		return &BreakError{h.Sequence, CheckEnd, fmt.Sprintf("the log was cut: its head is of record %d, which is not whole", h.Sequence)}
	}
	rest := make([]byte, info.Size()-h.Start)
	if _, err := l.file.ReadAt(rest, h.Start); err != nil {
		return err
	}
	named, rest := rest[:h.End-h.Start], rest[h.End-h.Start:]
	if h.Sequence > 0 {
		r, d, signature, err := parse(bytes.TrimSuffix(named, []byte("\n")))
		if err != nil || r.Sequence != h.Sequence || hexDigest(d) != h.Digest || !ed25519.Verify(public, d[:], signature) {
			return &BreakError{h.Sequence, CheckHead, "another record stands here than the head names"}
		}
	}
	l.newest = *h
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break
		}
		if _, err := follow(&l.newest, line, public); err != nil {
			break // a crash may leave anything where nothing was synced yet
		}
		rest = after
	}
	if l.removed = int64(len(rest)); l.removed > 0 {
		if err := l.file.Truncate(l.newest.End); err != nil {
			return err
		}
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	return l.writeHead(l.newest)
}

// Removed is how many bytes [Open] removed that a crash had left.
func (l *Log) Removed() int64 { return l.removed }

// PublicKey verifies the log.
func (l *Log) PublicKey() ed25519.PublicKey { return l.key.Public().(ed25519.PublicKey) }

// Append makes a record durable. After an error it is not in the log, and what it is about
// must not happen: [ErrFull], [ErrChanged], [ErrBroken], [os.ErrClosed].
func (l *Log) Append(r Record) error {
	r.clean()
	p := &pending{record: r, done: make(chan error, 1)}
	l.mu.Lock()
	l.waiting = append(l.waiting, p)
	l.mu.Unlock()

	select {
	case err := <-p.done: // another wrote it
		return err
	case l.turn <- struct{}{}:
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	batch := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(batch) > 0 { // else another wrote it just now
		err := l.write(batch)
		for _, p := range batch {
			p.done <- err
		}
	}
	return <-p.done
}

// write is called by who has the turn.
func (l *Log) write(batch []*pending) error {
	if l.broken != nil {
		return l.broken
	}
	if !l.untouched() {
		l.broken = ErrChanged
		return l.broken
	}
	var buf []byte
	head := l.newest
	for _, p := range batch {
		p.record.Sequence, p.record.Previous, p.record.Time = head.Sequence+1, head.Digest, l.now().UTC().Truncate(time.Millisecond)
		line, d, err := encode(&p.record, l.key)
		if err != nil {
			return err
		}
		head.Sequence, head.Digest, head.Start = head.Sequence+1, hexDigest(d), head.End
		head.End += int64(len(line))
		buf = append(buf, line...)
	}
	if _, err := l.file.WriteAt(buf, l.newest.End); err != nil {
		return l.undo(err)
	}
	if err := l.file.Sync(); err != nil {
		// What the kernel holds is no longer sure to reach the disk.
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		return l.broken
	}
	if err := l.writeHead(head); err != nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		return l.broken
	}
	return nil
}

// undo takes back a write that failed.
func (l *Log) undo(err error) error {
	if e := l.file.Truncate(l.newest.End); e != nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, errors.Join(err, e))
		return l.broken
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return ErrFull
	}
	return fmt.Errorf("the audit log cannot be written: %w", err)
}

// untouched reports whether the file under the log's path is the open one, as it was left.
func (l *Log) untouched() bool {
	open, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.path)
	return err == nil && os.SameFile(open, there) && there.Size() == l.newest.End
}

func (l *Log) writeHead(h Head) error {
	h = h.sign(l.key, nil)
	b, err := encodeHead(h)
	if err != nil {
		return err
	}
	if _, err := l.head.WriteAt(b, 0); err != nil {
		return err
	}
	if err := l.head.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	l.newest = h
	l.mu.Unlock()
	return nil
}

// maxPage is about how many bytes of the log [Log.Page] returns.
const maxPage = maxLine

// Page returns whole lines of the log from an offset on, and the head, signed over the
// caller's nonce: as long as lines come, it is to be called with the offset behind them.
func (l *Log) Page(offset int64, nonce []byte) ([]byte, *Head, error) {
	l.mu.Lock()
	h := l.newest
	l.mu.Unlock()
	head := h.sign(l.key, nonce)
	if offset < 0 || offset >= h.End {
		return nil, &head, nil
	}
	b := make([]byte, min(h.End-offset, maxPage))
	if _, err := l.file.ReadAt(b, offset); err != nil {
		return nil, nil, err
	}
	return b[:bytes.LastIndexByte(b, '\n')+1], &head, nil
}

// Close ends the log: [Log.Append] fails afterwards.
func (l *Log) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.broken == nil {
		l.broken = fmt.Errorf("the audit log: %w", os.ErrClosed)
	}
	if f, ok := l.file.(*os.File); ok {
		// Closing alone would leave the lock to a child that was forked, and not yet executed.
		unix.Flock(int(f.Fd()), unix.LOCK_UN)
	}
	return errors.Join(l.file.Close(), l.head.Close())
}
