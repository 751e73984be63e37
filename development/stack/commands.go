package stack

import (
	"context"
	"encoding/hex"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/passclave/passclave/development/postgres"
)

// Sockets and folders are relative to the state folder, in which every part runs: a
// unix socket's path may have no more than 108 bytes.
const (
	simteeSocket  = runFolder + "/simtee.sock"
	enclaveSocket = runFolder + "/enclave.sock"

	operatorSocket = runFolder + "/operator.sock" // of the host
)

// binary is the path of a part's binary.
func (s *Stack) binary(part Part) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path := s.binaries[part]; path != "" {
		return path
	}
	if slices.Contains(EndorserParts, part) {
		return filepath.Join(s.options.Bin, "passclave-endorser")
	}
	name := map[Part]string{SimTEE: "simtee", EndorserTEE: "simtee", Broker: "keybroker", Issuer: "devissuer", RP: "demorp", Enclave: "enclave", Host: "host"}[part]
	return filepath.Join(s.options.Bin, "passclave-"+name)
}

// command is what a part runs.
func (s *Stack) command(part Part) command {
	c := command{dir: s.Dir, path: s.binary(part)}
	if n := slices.Index(EndorserParts, part); n >= 0 {
		c.args = []string{"-listen", "tcp:" + s.facts.Endorsers[n], "-config", endorserConfig, "-simtee", "unix:" + endorserTEESocket}
	}
	switch part {
	case EndorserTEE:
		c.args = []string{"-state", string(SimTEE), "-socket", endorserTEESocket, "-host-data", endorserConfig, "-platform", string(s.facts.platform())}
	case SimTEE:
		c.args = []string{"-state", string(SimTEE), "-socket", simteeSocket, "-host-data", configurationFile, "-platform", string(s.facts.platform())}
	case Broker:
		c.args = []string{"-state", string(Broker), "-listen", s.facts.Broker, "-tls-cert", tlsFile, "-tls-key", tlsKeyFile,
			"-simulation-root", s.facts.rootFile(), "-policy", releaseFile, "-key", keyName, "-operators", operatorsFile}
		if s.token != nil {
			c.args, c.env = append(c.args, s.tokenFlags()...), s.token.env
		}
		if s.Founded {
			c.args = append(c.args, "-create")
		}
	case Issuer:
		c.args = []string{"-state", string(Issuer), "-listen", s.facts.Issuer, "-tls-cert", tlsFile, "-tls-key", tlsKeyFile, "-client-ids", clientID}
	case RP:
		c.args = []string{"-state", string(RP), "-listen", s.facts.RP}
	case Enclave:
		c.args = []string{"-listen", "unix:" + enclaveSocket, "-config", configurationFile, "-simtee", "unix:" + simteeSocket}
	case Host:
		dials := s.options.HostDials
		if dials == "" {
			dials = enclaveSocket
		}
		c.args = []string{"-store", string(Host), "-enclave", "unix:" + dials, "-listen", s.facts.Host, "-metrics", "unix:" + operatorSocket}
		if s.facts.endorsed() {
			c.args[1] = postgres.URL(s.path(databaseFolder), "")
			c.args = append(c.args, "-endorsers", endorsersFile)
		}
	}
	return c
}

// EnclaveSocket is the absolute path of the socket on which the enclave listens.
func (s *Stack) EnclaveSocket() string { return s.path(enclaveSocket) }

// OperatorSocket is where the host of a state folder listens for its operator.
func OperatorSocket(state string) string { return filepath.Join(state, operatorSocket) }

// Measurement returns what the simulated TEE measures of a binary, on the platform that
// was founded.
func (s *Stack) Measurement(ctx context.Context, path string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, s.binary(SimTEE), "measure", "-platform", string(s.facts.platform()), path).Output()
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", path, err)
	}
	return hex.DecodeString(strings.TrimSpace(string(out)))
}
