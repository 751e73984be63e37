//go:build cgo

package pkcs11

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/passclave/passclave/keyrelease/keystore"
)

// record is a version as it stands in the token.
type record struct {
	metadata
	object p11.ObjectHandle
	older  []p11.ObjectHandle // what a change that was cut short left
}

// errMissing is a loss: a list that lacks a version is not believed.
var errMissing = fmt.Errorf("a version that was there is not: %w", p11.Error(p11.CKR_TOKEN_NOT_RECOGNIZED))

// records returns the versions of a key, oldest first.
func (x *session) records(name string) ([]*record, error) {
	for tries := 5; ; tries-- {
		records, err := x.readRecords(name)
		if err == nil && !x.known.in(name, records) {
			err = errMissing
		}
		// A process without our lock may just be replacing an object.
		if tries > 1 && (err == errMissing || isCode(err, p11.CKR_OBJECT_HANDLE_INVALID)) {
			continue
		}
		return records, err
	}
}

// known is what a store saw of its token: as versions are never removed, a list without
// one of them is an accident, and would look to an enclave as if its data were corrupt.
type known struct {
	mu       sync.Mutex
	versions map[string]map[string]bool // by key and ID
}

// in reports whether all that is known of a key is in its records, which are known from now on.
func (k *known) in(name string, records []*record) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := map[string]bool{}
	for _, r := range records {
		now[r.ID] = true
	}
	for id := range k.versions[name] {
		if !now[id] {
			return false
		}
	}
	if len(now) > 0 {
		k.versions[name] = now
	}
	return true
}

func (k *known) any() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.versions) > 0
}

func (x *session) readRecords(name string) ([]*record, error) {
	objects, err := x.find(dataOf(name))
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, x.present()
	}
	var all []*record
	for _, o := range objects {
		value, err := x.GetAttributeValue(x.handle, o, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
		if err != nil {
			return nil, err
		}
		m, err := parseMetadata(value[0].Value)
		if err != nil || m.Name != name {
			return nil, fmt.Errorf("%w: a data object of key %q", ErrCorrupt, name)
		}
		all = append(all, &record{metadata: *m, object: o})
	}
	return newest(all), nil
}

// newest puts the objects of each version together.
func newest(all []*record) (versions []*record) {
	// Two processes that did not share a lock may have written one revision each: all
	// readers take the same.
	slices.SortFunc(all, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.Revision, a.Revision), bytes.Compare(a.encode(), b.encode()))
	})
	for _, r := range all {
		if n := len(versions); n > 0 && versions[n-1].ID == r.ID {
			versions[n-1].older = append(versions[n-1].older, r.object)
			continue
		}
		versions = append(versions, r)
	}
	slices.SortFunc(versions, func(a, b *record) int { return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID)) })
	return versions
}

func (x *session) record(name, id string) (*record, error) {
	records, err := x.records(name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(records, func(r *record) bool { return r.ID == id })
	if i < 0 {
		return nil, keystore.ErrNotFound
	}
	return records[i], nil
}

// replace writes a version's next revision and then destroys all before it.
func (x *session) replace(r *record, change func(*metadata) error) error {
	next := r.metadata
	if err := change(&next); err != nil {
		return err
	}
	outdated := r.older
	if !bytes.Equal(next.encode(), r.encode()) {
		next.Revision++
		if err := x.write(&next); err != nil {
			return err
		}
		outdated = append(outdated, r.object)
	}
	for _, o := range outdated {
		if err := x.DestroyObject(x.handle, o); err != nil {
			return err
		}
	}
	return nil
}

func (x *session) write(m *metadata) error {
	_, err := x.CreateObject(x.handle, append(dataOf(m.Name),
		p11.NewAttribute(p11.CKA_MODIFIABLE, false),
		p11.NewAttribute(p11.CKA_VALUE, m.encode()),
	))
	return err
}

const application = "passclave key version"

// ours is the template of all data objects of this package, dataOf that of a key's. They are
// private: what is not, a session without PIN could have made, and with SoftHSM whoever may
// write its files.
func ours() []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_DATA),
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_APPLICATION, application),
	}
}

func dataOf(name string) []*p11.Attribute {
	return append(ours(), p11.NewAttribute(p11.CKA_LABEL, name))
}
