package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// TestMain lets many tests run at once: most of their time is waiting, for the least
// time of a PIN attempt and for pauses between tries.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		flag.Set("test.parallel", "12")
	}
	status := m.Run()
	os.RemoveAll(binaries.dir)
	os.Exit(status)
}
