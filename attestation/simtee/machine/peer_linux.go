package machine

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peer measures the binary of the process at the other end of conn. The kernel says
// which one it is; the open file is the one that runs, also when its path was replaced.
func (m *Machine) peer(conn *net.UnixConn) (Measurement, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Measurement{}, err
	}
	var peer *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) { peer, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Measurement{}, err
	}
	if serr != nil {
		return Measurement{}, serr
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", peer.Pid))
	if err != nil {
		return Measurement{}, err
	}
	defer f.Close()
	return m.binaries.of(f)
}
