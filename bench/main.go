// Command bench measures what Passclave costs, and how much of it is cryptography
// that no implementation could do without.
//
// It founds two services in simulation, one with a thousand accounts and one with a
// million, and asks them over HTTP as clients do. The cost of an operation is the CPU
// time of host and enclave together, by the kernel's account of the two processes; this
// program's own is not in it. Both builds of the enclave are measured: rows with
// "+secret" are the shipped one (GOEXPERIMENT=runtimesecret), those without it do not
// erase what handled a secret, as the floors do not. docs/performance.md says what each
// row is.
//
//	make bench
//	go run ./bench -postgres
//	go run ./bench -ledger
//	go run ./bench -softhsm
//	go run ./bench -reseal
//	go run ./bench -release
//	go run ./bench -plot results.json > results.svg
//
// Environment:
//
//	BENCH_JSON      file to write the results to
//	BENCH_ACCOUNTS  accounts of the large store; a million if not set
//	BENCH_STATE     folder that keeps the services between runs; passclave-bench in
//	                the user's cache folder if not set. A million accounts take some GB.
//	BENCH_BIN       folder of the binaries; ./bin if not set
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func main() {
	plotted := flag.String("plot", "", "write the SVG of this `file` of results to stdout, and measure nothing")
	only := flag.Bool("postgres", false, "measure the commits to PostgreSQL alone, which needs no service")
	ledgers := flag.Bool("ledger", false, "measure the ledger's backends alone, PIN attempts over each too, in this process")
	reseals := flag.Bool("reseal", false, "measure the rewrapping of accounts after a rotation of the KEK alone, in this process")
	released := flag.Bool("release", false, "measure the broker's releases alone, in this process")
	hsm := flag.Bool("softhsm", false, "measure the enclave's starts against a broker on SoftHSM alone; `make bench` builds what it needs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case *plotted != "":
		err = plotFile(*plotted)
	case *only:
		err = alone(postgresRows(ctx))
	case *reseals:
		err = alone(resealRows(ctx))
	case *released:
		err = alone(releaseRows(ctx))
	case *hsm:
		var o *settings
		if o, err = fromEnvironment(); err == nil {
			err = alone(softhsmRows(ctx, o))
		}
	case *ledgers:
		if err = alone(ledgerRows(ctx)); err == nil {
			err = printMemory(os.Stdout)
		}
	default:
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// alone prints rows that were measured without the others.
func alone(rows []*result, err error) error {
	if err == nil {
		printTable(os.Stdout, rows)
	}
	return err
}

func plotFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	svg, err := plot(data)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(svg)
	return err
}

// fewAccounts is the size of the small store.
const fewAccounts = 1000

// settings are the environment.
type settings struct {
	json, state, bin string
	accounts         int
}

func fromEnvironment() (*settings, error) {
	s := &settings{json: os.Getenv("BENCH_JSON"), state: os.Getenv("BENCH_STATE"), bin: os.Getenv("BENCH_BIN"), accounts: 1_000_000}
	if text := os.Getenv("BENCH_ACCOUNTS"); text != "" {
		var err error
		if s.accounts, err = strconv.Atoi(text); err != nil || s.accounts < fewAccounts {
			return nil, fmt.Errorf("BENCH_ACCOUNTS %q is not a number from %d on", text, fewAccounts)
		}
	}
	if s.state == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		s.state = filepath.Join(cache, "passclave-bench")
	}
	if s.bin == "" {
		s.bin = "bin"
	}
	var err error
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return nil, err
	}
	for _, binary := range []string{s.shipped(), s.plain()} {
		if _, err := os.Stat(binary); err != nil {
			return nil, fmt.Errorf("%w: `make bench` builds it", err)
		}
	}
	return s, os.MkdirAll(s.state, 0o700)
}

// shipped is the enclave as it is shipped, plain the one built without runtime/secret.
func (s *settings) shipped() string { return filepath.Join(s.bin, "passclave-enclave") }
func (s *settings) plain() string   { return filepath.Join(s.bin, "bench", "passclave-enclave") }

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func run(ctx context.Context) error {
	o, err := fromEnvironment()
	if err != nil {
		return err
	}
	var services []*service
	defer func() {
		for _, s := range services {
			s.Stop()
		}
	}()
	for _, size := range []int{fewAccounts, o.accounts} {
		name := strconv.Itoa(size)
		if len(services) == 1 {
			name = "large-" + name // also where both are of one size
		}
		folder := filepath.Join(o.state, name)
		people, err := found(ctx, folder, o.bin, size, say)
		if err != nil {
			return err
		}
		s, err := start(ctx, folder, o.bin, people)
		if err != nil {
			return fmt.Errorf("%w (if an older build made %s, remove it)", err, folder)
		}
		services = append(services, s)
	}
	results, err := measure(ctx, o, services[0], services[1])
	if err != nil {
		return err
	}
	printTable(os.Stdout, results)
	if err := printMemory(os.Stdout); err != nil || o.json == "" {
		return err
	}
	data, err := encode(results)
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, data, 0o644)
}

// ballast is what host and enclave hold: without it the floor would be collected
// more often than they are, and flatter them.
const ballast = 32 << 20

// measure runs everything, first on the build without runtime/secret.
func measure(ctx context.Context, o *settings, small, large *service) (results []*result, err error) {
	defer runtime.KeepAlive(make([]byte, ballast))
	f, err := newFloors()
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(o.state, "scratch-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	say("allocations")
	assertion, create, err := allocations(ctx, filepath.Join(scratch, "allocations"))
	if err != nil {
		return nil, err
	}
	appended, err := bareAppend(ctx, filepath.Join(scratch, "appends"))
	if err != nil {
		return nil, err
	}
	for _, build := range []struct{ binary, suffix string }{{o.plain(), ""}, {o.shipped(), "+secret"}} {
		for _, s := range []*service{small, large} {
			if err := s.runs(ctx, build.binary); err != nil {
				return nil, err
			}
		}
		say("assertions%s", build.suffix)
		rows, err := assertionRows(ctx, small, large, build.suffix, f, assertion)
		if err != nil {
			return nil, err
		}
		results = append(results, rows...)
		say("create and PIN attempts%s", build.suffix)
		if rows, err = changeRows(ctx, small, build.suffix, f, 2*appended, create); err != nil {
			return nil, err
		}
		results = append(results, rows...)
		say("boot%s", build.suffix)
		if rows, err = bootRows(ctx, small, build.binary, build.suffix); err != nil {
			return nil, err
		}
		results = append(results, rows...)
	}
	say("evidence")
	row, err := evidenceRow(ctx, small)
	if err != nil {
		return nil, err
	}
	results = append(results, row)
	for _, more := range []func() ([]*result, error){func() ([]*result, error) { return softhsmRows(ctx, o) }, verifyRows, tdxRows, sgxRows,
		func() ([]*result, error) { return postgresRows(ctx) },
		func() ([]*result, error) { say("release"); return releaseRows(ctx) },
		func() ([]*result, error) { say("reseal"); return resealRows(ctx) },
		func() ([]*result, error) { say("ledgers"); return ledgerRows(ctx) },
	} {
		rows, err := more()
		if err != nil {
			return nil, err
		}
		results = append(results, rows...)
	}
	return results, nil
}
