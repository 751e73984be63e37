package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/wire"
)

// boots is how often the enclave is started.
const boots = 20

// bootRows measure the time on the clock from the enclave's start to the KEK in its
// hands: process, evidence, attestation service, vault. boot-rsa is the RSA key that
// every start makes anew, alone; it is the floor of boot, although a start does
// other things meanwhile. boot-without-rsa is a start until the enclave listens, and
// a release with a key that is ready.
func bootRows(ctx context.Context, s *service, binary, suffix string) ([]*result, error) {
	var boot, listening, keys, release []float64
	for range boots {
		began := time.Now()
		if _, err := rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return nil, err
		}
		keys = append(keys, microseconds(time.Since(began)))
		up, ready, err := s.boot(ctx, binary)
		if err != nil {
			return nil, fmt.Errorf("boot: %w", err)
		}
		listening, boot = append(listening, microseconds(up)), append(boot, microseconds(ready))
		took, err := s.release(ctx)
		if err != nil {
			return nil, fmt.Errorf("release: %w", err)
		}
		release = append(release, microseconds(took))
	}
	return []*result{
		newResult("boot"+suffix, median(boot)).floor(median(keys)),
		newResult("boot-p90"+suffix, quantile(boot, 0.9)).floor(quantile(keys, 0.9)),
		newResult("boot-without-rsa"+suffix, median(listening)+median(release)),
		newResult("boot-rsa"+suffix, median(keys)),
	}, nil
}

// socket is where a second enclave listens, relative to the service's folder, in
// which it runs; the simulated TEE's is the stack's.
const (
	bootSocket   = "run/boot.sock"
	simteeSocket = "run/simtee.sock"
)

// boot starts a second enclave beside the service's own, and returns the times until
// it listened and until it had the KEK.
func (s *service) boot(ctx context.Context, binary string) (listening, ready time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "-listen", "unix:"+bootSocket, "-config", configurationFile, "-simtee", "unix:"+simteeSocket)
	c.Dir, c.Cancel = s.Dir, func() error { return c.Process.Signal(os.Interrupt) }
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		cancel()
		if ended := c.Wait(); err != nil {
			err = errors.Join(err, ended)
		}
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // its line "ready …"
		return 0, 0, err
	}
	listening = time.Since(began)
	conn, err := net.Dial("unix", filepath.Join(s.Dir, bootSocket))
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	for call := uint64(1); ; call++ {
		status, err := askStatus(conn, call)
		if err != nil {
			return 0, 0, err
		}
		if status.Ready {
			return listening, time.Since(began), nil
		}
		time.Sleep(time.Millisecond)
	}
}

// askStatus asks as a host does whose store keeps nothing yet: so it answers what the
// enclave asks meanwhile.
func askStatus(conn net.Conn, call uint64) (*wire.Status, error) {
	if _, err := conn.Write(wire.Frame{Call: call, Kind: wire.FrameStatus, Body: wire.Marshal(wire.None{})}.Append(nil)); err != nil {
		return nil, err
	}
	f, err := wire.ReadFrame(conn)
	for ; err == nil && f.Kind == wire.FrameLineage; f, err = wire.ReadFrame(conn) {
		nothing := wire.Marshal(wire.Result{Value: wire.Marshal(wire.Lineage{})})
		if _, err := conn.Write(wire.Frame{Call: f.Call, Kind: wire.FrameAnswer, Body: nothing}.Append(nil)); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	var r wire.Result
	if err := wire.Unmarshal(f.Body, &r); err != nil {
		return nil, err
	}
	if r.Error != nil {
		return nil, r.Error
	}
	status := new(wire.Status)
	return status, wire.Unmarshal(r.Value, status)
}

// release gets the KEK as an enclave does, with an RSA key that was made before. The
// development policy releases to this program, too: it waives the measurement.
func (s *service) release(ctx context.Context) (time.Duration, error) {
	file, err := os.ReadFile(filepath.Join(s.Dir, configurationFile))
	if err != nil {
		return 0, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return 0, err
	}
	hardware := simtee.NewClient("unix:" + filepath.Join(s.Dir, simteeSocket))
	client := &keyrelease.Client{
		Service: s.config.KeyService, Config: wire.ConfigurationHash(file),
		Evidence: func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return hardware.Evidence(ctx, runtimeData, file)
		},
		RSA: func() (*rsa.PrivateKey, error) { return key, nil },
	}
	began := time.Now()
	_, err = client.Release(ctx)
	return time.Since(began), err
}
