package stack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"slices"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/statefile"
	"github.com/passclave/passclave/wire"
)

// Founding says what the first start writes. The zero value is for development.
type Founding struct {
	// PIN limits and parameters; zero: the design's (10 and 100; 64 MiB, t=3).
	PIN wire.PINConfiguration
	// Strict pins the measurement of the enclave's binary in the trust policy and in
	// the broker's release policy. Otherwise it is waived by name ("development"), so
	// that a rebuild goes on with the same state.
	Strict bool
	// Platform is what the simulated TEE is; empty: SEV-SNP. Unlike the rest, it is not
	// ignored by later starts: they refuse another one.
	Platform attestation.Platform
	// Ledger is wire.BackendLocal (also where empty) or wire.BackendEndorsed. Like the
	// platform it is not ignored by later starts.
	Ledger string
	// Keys is KeysFile (also where empty) or KeysSoftHSM. Like the platform it is not
	// ignored by later starts.
	Keys string
	// AnyPorts takes free ports instead of the usual ones.
	AnyPorts bool
}

// PolicyFileName is the name of the clients' trust policy in the state folder.
const PolicyFileName = "policy.json"

// The state folder. What is not named here belongs to the part of that name.
const (
	factsFile         = "stack.json"
	foundingFile      = "founding" // there while a founding is under way
	lockFile          = "lock"
	runFolder         = "run"
	caFile            = "ca.pem"
	caKeyFile         = "ca-key.pem"
	tlsFile           = "tls.pem"
	tlsKeyFile        = "tls-key.pem"
	configurationFile = "configuration.json" // measured
	policyFile        = PolicyFileName
	releaseFile       = "release.json" // the broker's release policy
)

var ours = []string{factsFile, foundingFile, lockFile, runFolder, caFile, caKeyFile, tlsFile, tlsKeyFile, configurationFile,
	policyFile, releaseFile, operatorsFolder, endorserFolder, databaseFolder, string(SimTEE), string(Broker), string(Issuer), string(RP), string(Host)}

// keyName is the KEK's name at the broker, clientID the command line's at the issuer.
const (
	keyName  = "passclave-kek"
	clientID = "passclave"
)

// facts is stack.json: what was founded, and what must be found again.
type facts struct {
	Version       int         `json:"version"`
	Host          string      `json:"host"` // addresses
	Issuer        string      `json:"issuer"`
	Broker        string      `json:"broker"`
	RP            string      `json:"rp"`
	Configuration wire.Base64 `json:"configuration"` // SHA-256 of the measured configuration
	Root          wire.Base64 `json:"root"`          // SHA-256 of the simulation root certificate (DER)
	Keys          []string    `json:"keys"`          // versions of the KEK that the database may need

	// Platform is what the simulated TEE is; empty, as in folders of earlier versions:
	// SEV-SNP.
	Platform attestation.Platform `json:"platform,omitempty"`

	// KeyStore is where the broker keeps the KEK; empty, as in folders of earlier versions:
	// in a file.
	KeyStore string `json:"key_store,omitempty"`

	// Endorsers are the addresses of the endorsers; none: the ledger is local.
	Endorsers []string `json:"endorsers,omitempty"`

	// NextConfiguration is SHA-256 of the measured configuration that is about to replace
	// the one above, while a next genesis is founded.
	NextConfiguration wire.Base64 `json:"next_configuration,omitempty"`
}

func (f *facts) endorsed() bool { return len(f.Endorsers) > 0 }

// backend is the ledger's.
func (f *facts) backend() string {
	if f.endorsed() {
		return wire.BackendEndorsed
	}
	return wire.BackendLocal
}

func (f *facts) keyStore() string { return cmp.Or(f.KeyStore, KeysFile) }

// endorserAddresses are the endorsers' as hosts and operators dial them.
func (f *facts) endorserAddresses() (out []string) {
	for _, a := range f.Endorsers {
		out = append(out, "tcp:"+a)
	}
	return out
}

// platforms are those that can be founded.
var platforms = []attestation.Platform{attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX}

func (f *facts) platform() attestation.Platform {
	return cmp.Or(f.Platform, attestation.PlatformSEVSNP)
}

// rootFile is where the simulated TEE writes the root that it signs under.
func (f *facts) rootFile() string {
	if f.platform() == attestation.PlatformSEVSNP {
		return string(SimTEE) + "/simulation-root.pem"
	}
	return string(SimTEE) + "/simulation-intel-root.pem"
}

const factsVersion = 1

// load reads and checks what earlier starts left. Without any, s.facts stays nil.
func (s *Stack) load() error {
	data, err := os.ReadFile(s.path(factsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s.checkEmpty()
	}
	if err != nil {
		return err
	}
	var f facts
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil || f.Version != factsVersion || len(f.Keys) == 0 || !slices.Contains(platforms, f.platform()) {
		return &RefusedError{s.path(factsFile) + " cannot be read by this version", "Run the version that wrote it, or use another --state folder"}
	}
	if p := s.options.Founding.Platform; p != "" && p != f.platform() {
		return &RefusedError{fmt.Sprintf("%s was founded on %s, not on %s: neither clients nor the broker would accept other evidence", s.Dir, f.platform(), p),
			"Leave the platform out, or use another --state folder"}
	}
	if l := s.options.Founding.Ledger; l != "" && l != f.backend() {
		return &RefusedError{fmt.Sprintf("%s was founded with the ledger %q, not %q: its accounts stand in no other", s.Dir, f.backend(), l),
			"Leave the ledger out, or use another --state folder"}
	}
	if k := s.options.Founding.Keys; k != "" && k != f.keyStore() {
		return &RefusedError{fmt.Sprintf("%s was founded with its KEK in %q, not in %q: it is in no other place", s.Dir, f.keyStore(), k),
			"Leave the keys out, or use another --state folder"}
	}
	if err := s.checkFacts(&f); err != nil {
		return err
	}
	s.facts = &f
	return nil
}

// checkEmpty allows a founding, or the repetition of one that was cut short: then
// the host never ran, so there is no database. What a part has without the mark of a
// founding under way, its KEK or its root, somebody brought back before the rest: it stays.
func (s *Stack) checkEmpty() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(ours, e.Name()) {
			return &RefusedError{fmt.Sprintf("%s holds %q, which is not Passclave's", s.Dir, e.Name()), "Use an empty --state folder"}
		}
	}
	if !missing(s.path(string(Host))) {
		return &RefusedError{"There is a database in " + s.path(string(Host)) + ", but " + factsFile + " is gone, which says which KEK it needs",
			"Bring " + factsFile + " back from a backup, or use another --state folder"}
	}
	cutShort := !missing(s.path(foundingFile))
	for _, part := range Parts {
		if !cutShort && !missing(s.path(string(part))) {
			return &RefusedError{fmt.Sprintf("%s holds %q, but nothing says that a founding left it there", s.Dir, part),
				"Bring the rest of the folder back from a backup, or use an empty --state folder"}
		}
		if err := os.RemoveAll(s.path(string(part))); err != nil {
			return err
		}
	}
	return nil
}

// missing reports whether nothing is there; what cannot be looked at is.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// checkFacts refuses a folder in which something is gone that the database, or the
// people's trust policies, cannot do without.
func (s *Stack) checkFacts(f *facts) error {
	configuration, err := os.ReadFile(s.path(configurationFile))
	if err != nil || !f.fitsConfiguration(configuration) {
		return &RefusedError{"The measured configuration " + s.path(configurationFile) + " is gone or was changed: the KEK is not released to it, and its ledger is not the database's",
			"Bring it back from a backup"}
	}
	root, err := readPEM(s.path(f.rootFile()), "CERTIFICATE")
	if sum := sha256.Sum256(root); err != nil || !bytes.Equal(sum[:], f.Root) {
		return &RefusedError{"The simulation root in " + s.path(string(SimTEE)) + " is gone or is another: neither clients nor the broker would accept its evidence",
			"Bring the folder back from a backup"}
	}
	return s.checkKeys(f)
}

// recordKeys writes the facts down: from now on the database may need every version
// that the broker has. At a founding this is its last step; the mark goes after it.
func (s *Stack) recordKeys(ctx context.Context) error {
	ids, err := s.keyVersions(ctx)
	if err != nil {
		return err
	}
	s.facts.Keys = ids
	if err := s.writeFacts(); err != nil {
		return err
	}
	if err := os.Remove(s.path(foundingFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Stack) writeFacts() error {
	data, err := json.MarshalIndent(s.facts, "", "  ")
	if err != nil {
		return err
	}
	return statefile.Write(s.path(factsFile), append(data, '\n'))
}

// foundBefore founds all that does not need a running part.
func (s *Stack) foundBefore(ctx context.Context) error {
	p := s.options.Founding.Platform
	if p != "" && !slices.Contains(platforms, p) {
		return &RefusedError{fmt.Sprintf("%q is no platform that can be simulated", p), "Use sev-snp, tdx or sgx"}
	}
	if l := s.options.Founding.Ledger; l != "" && l != wire.BackendLocal && l != wire.BackendEndorsed {
		return &RefusedError{fmt.Sprintf("%q is no ledger", l), "Use local or endorsed"}
	}
	k := s.options.Founding.Keys
	if k != "" && k != KeysFile && k != KeysSoftHSM {
		return &RefusedError{fmt.Sprintf("%q is no place for the KEK", k), "Use file or softhsm"}
	}
	s.Founded = true
	if err := statefile.Write(s.path(foundingFile), nil); err != nil {
		return err
	}
	s.facts = &facts{Version: factsVersion, Platform: p}
	if k == KeysSoftHSM {
		s.facts.KeyStore = k
		if err := s.foundToken(ctx); err != nil {
			return err
		}
	}
	for n, address := range []*string{&s.facts.Host, &s.facts.Issuer, &s.facts.Broker, &s.facts.RP} {
		var err error
		if *address, err = freeAddress(firstPort+n, s.options.Founding.AnyPorts); err != nil {
			return err
		}
	}
	if err := s.foundCA(time.Now()); err != nil {
		return err
	}
	id := make([]byte, 32)
	rand.Read(id)
	if s.options.Founding.Ledger == wire.BackendEndorsed {
		return s.foundEndorsers(ctx, id, 1)
	}
	return s.foundConfiguration(wire.LedgerIdentity{ID: id, Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1})
}

// firstPort and the three after it are the usual ports.
const firstPort = 8780

// freeAddress returns the loopback address with this port, or with another where the
// port is taken or any will do.
func freeAddress(port int, anyPort bool) (string, error) {
	if !anyPort {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	// Below the ports that the kernel hands out by itself (Linux: from 32768): one of
	// those may be another's before the part listens, or while it restarts.
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+mathrand.N(20000))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port on loopback")
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// foundConfiguration writes the measured configuration for a ledger.
func (s *Stack) foundConfiguration(l wire.LedgerIdentity) error {
	ca, err := os.ReadFile(s.path(caFile))
	if err != nil {
		return err
	}
	pin := s.options.Founding.PIN
	if pin == (wire.PINConfiguration{}) {
		pin = wire.PINConfiguration{ConsecutiveLimit: 10, LifetimeLimit: 100, Argon2id: wire.Argon2id{MemoryKiB: 64 << 10, Time: 3, Parallelism: 4}}
	}
	c := wire.Configuration{
		Version: wire.ConfigurationVersion,
		Ledger:  l,
		Issuers: []wire.Issuer{{
			Issuer: "https://" + s.facts.Issuer, ClientIDs: []string{clientID}, Algorithms: []string{"ES256"}, Roots: string(ca),
		}},
		PIN:              pin,
		UserVerification: wire.PlatformUserVerification{Origins: []string{}},
		KeyService: wire.KeyService{
			Attestation: "https://" + s.facts.Broker, Vault: "https://" + s.facts.Broker, Key: keyName, Roots: string(ca),
		},
	}
	file, err := c.Encode()
	if err != nil {
		return err
	}
	sum := wire.ConfigurationHash(file)
	s.facts.Configuration = sum[:]
	return statefile.Write(s.path(configurationFile), file)
}

// foundWithRoot founds what names the simulation root, which the simulated TEE has
// just made: the trust policy and the release policy.
func (s *Stack) foundWithRoot() error {
	der, err := readPEM(s.path(s.facts.rootFile()), "CERTIFICATE")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	s.facts.Root = sum[:]
	var measurement []byte
	if s.options.Founding.Strict {
		if measurement, err = s.Measurement(context.Background(), s.binary(Enclave)); err != nil {
			return err
		}
	}
	trust, err := s.trustPolicy(measurement)
	if err != nil {
		return err
	}
	if err := statefile.Write(s.path(policyFile), trust); err != nil {
		return err
	}
	return statefile.Write(s.path(releaseFile), s.releasePolicy(measurement))
}
