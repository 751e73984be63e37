package aci

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/passclave/passclave/attestation"
)

// Context is the security context of a container group, decoded. Each part may be
// empty: not all hosts give all of them.
type Context struct {
	SecurityPolicy []byte // CCE policy, Rego; its SHA-256 is HOST_DATA
	ReferenceInfo  []byte // COSE_Sign1 over the UVM's launch measurement
	HostAMD        []byte // THIM's JSON: certificates and tcbm
}

// Errors say which file is at fault; these say how.
var (
	ErrNone      = errors.New("no security context") // none is there
	ErrAmbiguous = errors.New("two files for one thing")
	ErrTooLarge  = errors.New("too large")
	ErrEncoding  = errors.New("not in the encoding that its name promises")
)

// maxFile bounds every file, as it stands on disk. A policy has some 100 kB at most.
const maxFile = attestation.MaxBundle

// Environment of a group.
const (
	EnvFolder        = "UVM_SECURITY_CONTEXT_DIR" // folder with the three files below
	EnvPolicy        = "UVM_SECURITY_POLICY"      // older groups have the contents in variables, in base64
	EnvReferenceInfo = "UVM_REFERENCE_INFO"
	EnvHostAMD       = "UVM_HOST_AMD_CERTIFICATE"
)

// KataFolder is where AKS puts the context, without a variable that says so.
const KataFolder = "/opt/confidential-containers/share/kata-containers"

// contextPattern is the folder's name on ACI where the variable is absent.
const contextPattern = "security-context-*"

// Running returns the security context of the container that this process runs in:
// the folder that UVM_SECURITY_CONTEXT_DIR names; else the one /security-context-*;
// else the older variables; else kata's folder. root is the file system's root
// (os.DirFS("/")), getenv is os.Getenv. [ErrNone] means that this is no such
// container.
func Running(root fs.FS, getenv func(string) string) (*Context, error) {
	if folder := getenv(EnvFolder); folder != "" {
		return readAt(root, folder)
	}
	found, err := fs.Glob(root, contextPattern)
	if err != nil {
		return nil, err
	}
	switch len(found) {
	case 0:
	case 1:
		return readAt(root, found[0])
	default:
		return nil, fmt.Errorf("/%s: %w", contextPattern, ErrAmbiguous)
	}
	c := &Context{}
	for name, to := range map[string]*[]byte{EnvPolicy: &c.SecurityPolicy, EnvReferenceInfo: &c.ReferenceInfo, EnvHostAMD: &c.HostAMD} {
		value := getenv(name)
		if len(value) > maxFile {
			return nil, fmt.Errorf("%s: %w", name, ErrTooLarge)
		}
		if *to, err = decodeBase64([]byte(value)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if !c.empty() {
		return c, nil
	}
	return readAt(root, KataFolder)
}

func readAt(root fs.FS, folder string) (*Context, error) {
	name := strings.TrimPrefix(path.Clean("/"+folder), "/")
	if name == "" {
		name = "."
	}
	sub, err := fs.Sub(root, name)
	if err != nil {
		return nil, err
	}
	c, err := readContext(sub)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	return c, nil
}

// readContext reads the context's files in a folder; [ErrNone] where there is none.
func readContext(folder fs.FS) (*Context, error) {
	c := &Context{}
	var err error
	if c.SecurityPolicy, err = oneOf(folder, policyFiles); err != nil {
		return nil, err
	}
	if c.ReferenceInfo, err = oneOf(folder, referenceFiles); err != nil {
		return nil, err
	}
	if c.HostAMD, err = oneOf(folder, hostAMDFiles); err != nil {
		return nil, err
	}
	if c.empty() {
		return nil, ErrNone
	}
	return c, nil
}

func (c *Context) empty() bool {
	return len(c.SecurityPolicy)+len(c.ReferenceInfo)+len(c.HostAMD) == 0
}

// Complete puts the context into a bundle of a report that the group's hardware made.
func (c *Context) Complete(b *attestation.Bundle) {
	b.SecurityPolicy, b.HostAMD = c.SecurityPolicy, c.HostAMD
	if len(c.ReferenceInfo) > 0 {
		b.Endorsements = [][]byte{c.ReferenceInfo}
	}
}

// file is a name that a thing may have in a folder, and how to read it.
type file struct {
	name   string
	decode func([]byte) ([]byte, error)
}

// Names as ACI has them, and as people keep them.
var (
	policyFiles = []file{
		{"security-policy-base64", decodeBase64}, {"security-policy.rego", plain}, {"security-policy", plain},
	}
	referenceFiles = []file{
		{"reference-info-base64", decodeBase64}, {"uvm-reference-info-base64", decodeBase64},
		{"reference-info.cose", plain}, {"uvm-reference-info.cose", plain},
	}
	hostAMDFiles = []file{
		{"host-amd-cert-base64", decodeBase64}, {"host-amd-cert.json", plain},
	}
	reportFiles = []file{
		{"report.bin", plain}, {"report-base64", decodeBase64}, {"report.base64", decodeBase64}, {"report.hex", decodeHex}, {"report-hex", decodeHex},
	}
)

// oneOf reads the one of the files that is there; nothing where none is. An empty file
// counts as none: the host may not know.
func oneOf(folder fs.FS, list []file) ([]byte, error) {
	var out []byte
	var found []string
	for _, f := range list {
		data, err := read(folder, f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if out, err = f.decode(data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		found = append(found, f.name)
	}
	if len(found) > 1 {
		slices.Sort(found)
		return nil, fmt.Errorf("%s: %w", strings.Join(found, ", "), ErrAmbiguous)
	}
	return out, nil
}

// read reads a regular file of at most maxFile bytes: no more memory than that, whatever
// stands there, and no pipe that never ends.
func read(folder fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(folder, name) // before opening, which would wait for a pipe's writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a file: %w", fs.ErrInvalid)
	}
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, ErrTooLarge
	}
	return data, nil
}

func plain(data []byte) ([]byte, error) { return data, nil }

// decodeBase64 reads standard base64 (RFC 4648, section 4), perhaps in lines, perhaps
// with white space around.
func decodeBase64(data []byte) ([]byte, error) {
	out, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	return out, nil
}
