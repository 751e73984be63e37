package machine

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peer measures the binary of the process at the other end of conn. The kernel says
// which one it is; the open file is the one that runs, also when its path was replaced.
func (m *Machine) peer(conn *net.UnixConn) ([48]byte, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return [48]byte{}, err
	}
	var peer *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) { peer, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return [48]byte{}, err
	}
	if serr != nil {
		return [48]byte{}, serr
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", peer.Pid))
	if err != nil {
		return [48]byte{}, err
	}
	defer f.Close()
	return m.binaries.of(f)
}
