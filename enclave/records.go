package enclave

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/passclave/passclave/wire"
)

// records lists every record of an account, packed in rows of fixed size and
// ascending by handle, so that an assertion finds its row among two thousand
// without decoding them.
//
// A row: handle(16) ‖ version ID(16) ‖ H("record", encoded record)(32) ‖
// H("credential", credential ID)(32) ‖ H("rp", RP ID)(32) ‖ epoch uint64 ‖
// deletion time uint64 (0: not deleted), big-endian.
type records []byte

const rowSize = 16 + 16 + 32 + 32 + 32 + 8 + 8

// row is one record as the head lists it.
type row struct {
	Handle     wire.Handle
	Version    wire.VersionID
	Record     wire.Digest // of the whole record: metadata too, which devices could make
	Credential wire.Digest
	RP         wire.Digest
	Epoch      uint64
	Deleted    uint64 // by the host's clock, Unix seconds
}

func credentialHash(account wire.AccountID, id []byte) wire.Digest {
	return wire.Hash("credential", account, id)
}

func rpHash(account wire.AccountID, rpID string) wire.Digest { return wire.Hash("rp", account, rpID) }

func (r records) len() int { return len(r) / rowSize }

func (r records) at(i int) row {
	b := r[i*rowSize:]
	return row{
		Handle:     wire.Handle(b[0:16]),
		Version:    wire.VersionID(b[16:32]),
		Record:     wire.Digest(b[32:64]),
		Credential: wire.Digest(b[64:96]),
		RP:         wire.Digest(b[96:128]),
		Epoch:      binary.BigEndian.Uint64(b[128:]),
		Deleted:    binary.BigEndian.Uint64(b[136:]),
	}
}

func (w row) encode() []byte {
	b := make([]byte, 0, rowSize)
	b = append(b, w.Handle[:]...)
	b = append(b, w.Version[:]...)
	b = append(b, w.Record[:]...)
	b = append(b, w.Credential[:]...)
	b = append(b, w.RP[:]...)
	b = binary.BigEndian.AppendUint64(b, w.Epoch)
	return binary.BigEndian.AppendUint64(b, w.Deleted)
}

func (r records) search(h wire.Handle) (int, bool) {
	n := r.len()
	i := sort.Search(n, func(i int) bool { return bytes.Compare(r[i*rowSize:i*rowSize+16], h[:]) >= 0 })
	return i, i < n && bytes.Equal(r[i*rowSize:i*rowSize+16], h[:])
}

// find returns the row of a handle.
func (r records) find(h wire.Handle) (row, bool) {
	i, ok := r.search(h)
	if !ok {
		return row{}, false
	}
	return r.at(i), true
}

// put inserts a row or replaces the one of the same handle.
func (r *records) put(w row) {
	i, ok := r.search(w.Handle)
	end := i * rowSize
	if ok {
		end += rowSize
	}
	*r = slices.Concat((*r)[:i*rowSize], w.encode(), (*r)[end:])
}

// remove deletes the row of a handle.
func (r *records) remove(h wire.Handle) {
	if i, ok := r.search(h); ok {
		*r = slices.Concat((*r)[:i*rowSize], (*r)[(i+1)*rowSize:])
	}
}

// all calls f for every row until f returns false.
func (r records) all(f func(row) bool) {
	for i := range r.len() {
		if !f(r.at(i)) {
			return
		}
	}
}

// manifest lists all records for the devices.
func (r records) manifest(sequence uint64) wire.Manifest {
	m := wire.Manifest{Sequence: sequence}
	r.all(func(w row) bool {
		m.Records = append(m.Records, wire.Listed{Handle: w.Handle, Version: w.Version, Record: w.Record})
		return true
	})
	return m
}

// earlier returns up to max handles that stand under an epoch before the given one.
func (r records) earlier(epoch uint64, max int) []wire.Handle {
	var out []wire.Handle
	r.all(func(w row) bool {
		if w.Epoch < epoch {
			out = append(out, w.Handle)
		}
		return len(out) < max
	})
	return out
}
