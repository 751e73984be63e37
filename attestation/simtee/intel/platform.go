package intel

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
)

// sgxExtension is the extension of PCK certificates.
var sgxExtension = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// Platform is what a PCK certificate says about its platform ("Intel SGX PCK
// Certificate and Certificate Revocation List Profile Specification", section 1.3.5).
type Platform struct {
	PPID       [16]byte
	Components [16]byte // SVNs of the TCB's components
	PCESVN     uint16
	CPUSVN     [16]byte
	PCEID      [2]byte
	FMSPC      [6]byte
	Type       asn1.Enumerated // 0 standard, 1 scalable
	InstanceID [16]byte
	Dynamic    bool // packages can be added
	CachedKeys bool // platform root keys are cached by Intel
	SMT        bool
}

// components is what a machine of 2025 had: the first TCB level of [Hardware.TCBInfo].
var components = [16]byte{7, 7, 2, 2, 3, 1, 0, 3}

const pceSVN = 13

// newPlatform is a server of the Sapphire Rapids family.
func newPlatform() Platform {
	p := Platform{
		Components: components, PCESVN: pceSVN, CPUSVN: components,
		FMSPC: [6]byte{0x00, 0x80, 0x6f, 0x05, 0x00, 0x00},
		Type:  1, Dynamic: true, SMT: true,
	}
	rand.Read(p.PPID[:])
	rand.Read(p.InstanceID[:])
	return p
}

// member is one element of the extension: an identifier under the extension's own.
type member struct {
	ID    asn1.ObjectIdentifier
	Value any
}

func newMember(value any, id ...int) member {
	return member{append(sgxExtension[:len(sgxExtension):len(sgxExtension)], id...), value}
}

// extension encodes a platform as Intel's certificates do.
func (p Platform) extension() ([]byte, error) {
	var tcb []member
	for i, svn := range p.Components {
		tcb = append(tcb, newMember(int(svn), 2, i+1))
	}
	tcb = append(tcb, newMember(int(p.PCESVN), 2, 17), newMember(p.CPUSVN[:], 2, 18))
	return asn1.Marshal([]member{
		newMember(p.PPID[:], 1),
		newMember(tcb, 2),
		newMember(p.PCEID[:], 3),
		newMember(p.FMSPC[:], 4),
		newMember(p.Type, 5),
		newMember(p.InstanceID[:], 6),
		newMember([]member{newMember(p.Dynamic, 7, 1), newMember(p.CachedKeys, 7, 2), newMember(p.SMT, 7, 3)}, 7),
	})
}

var errExtension = errors.New("not the extension of a simulated PCK certificate")

// platformOf reads back what [Platform.extension] wrote. It is for certificates that
// this package has made: anything unusual is refused without a reason.
func platformOf(c *x509.Certificate) (p Platform, err error) {
	for _, e := range c.Extensions {
		if e.Id.Equal(sgxExtension) {
			return p, p.decode(e.Value)
		}
	}
	return p, errExtension
}

func (p *Platform) decode(value []byte) error {
	octets := func(b []byte) func(asn1.RawValue) bool {
		return func(v asn1.RawValue) bool {
			return v.Tag == asn1.TagOctetString && copy(b, v.Bytes) == len(v.Bytes) && len(b) == len(v.Bytes)
		}
	}
	number := func(max int, set func(int)) func(asn1.RawValue) bool {
		return func(v asn1.RawValue) bool {
			var n int
			rest, err := asn1.Unmarshal(v.FullBytes, &n)
			set(n)
			return err == nil && len(rest) == 0 && n >= 0 && n <= max
		}
	}
	into := func(target any) func(asn1.RawValue) bool {
		return func(v asn1.RawValue) bool {
			rest, err := asn1.Unmarshal(v.FullBytes, target)
			return err == nil && len(rest) == 0
		}
	}
	var tcb []func(asn1.RawValue) bool
	for i := range p.Components {
		tcb = append(tcb, number(255, func(n int) { p.Components[i] = byte(n) }))
	}
	tcb = append(tcb, number(1<<16-1, func(n int) { p.PCESVN = uint16(n) }), octets(p.CPUSVN[:]))
	ok := members(value, sgxExtension, []func(asn1.RawValue) bool{
		octets(p.PPID[:]),
		func(v asn1.RawValue) bool { return members(v.FullBytes, append(sgxExtension[:7:7], 2), tcb) },
		octets(p.PCEID[:]),
		octets(p.FMSPC[:]),
		into(&p.Type),
		octets(p.InstanceID[:]),
		func(v asn1.RawValue) bool {
			return members(v.FullBytes, append(sgxExtension[:7:7], 7),
				[]func(asn1.RawValue) bool{into(&p.Dynamic), into(&p.CachedKeys), into(&p.SMT)})
		},
	})
	if !ok {
		return errExtension
	}
	return nil
}

// members reads a sequence whose elements are numbered 1, 2, … under id.
func members(der []byte, id asn1.ObjectIdentifier, read []func(asn1.RawValue) bool) bool {
	var list []struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 || len(list) != len(read) {
		return false
	}
	for i, m := range list {
		if !m.ID.Equal(append(id[:len(id):len(id)], i+1)) || !read[i](m.Value) {
			return false
		}
	}
	return true
}
