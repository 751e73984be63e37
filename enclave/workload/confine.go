//go:build !sgx

package workload

import (
	"log/slog"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// landlockVersion is that of the rules which confine asks for: Linux 6.10.
const landlockVersion = 5

// kernelsLandlock is the version that the kernel has, 0 for none.
func kernelsLandlock() int {
	version, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return version
}

// unconfined says what a kernel's version of Landlock leaves open that confine would
// close; nothing if it leaves nothing.
func unconfined(version int) string {
	switch {
	case version <= 0:
		return "everything: the kernel has no Landlock, or it is not enabled"
	case version < landlockVersion:
		return "some of it: the kernel's Landlock is old"
	}
	return ""
}

// warnUnconfined tells what confine could not do.
func warnUnconfined(log *slog.Logger) {
	if left := unconfined(kernelsLandlock()); left != "" {
		log.Warn("the file system is not taken away", "left", left, "landlock", kernelsLandlock(), "wanted", landlockVersion)
	}
}

// reporting is what configfs-tsm needs in its folder: to make and remove a folder for
// each report, and to open the files that the kernel puts into it. os.WriteFile
// truncates.
const reporting = ll.AccessFSMakeDir | ll.AccessFSRemoveDir | ll.AccessFSReadDir |
	ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate

// confine takes the file system away, for good: what was to be read is read, and
// what is to be reached is open or reached over sockets. Only the files that
// resolving a name reads stay readable, and folders keep what making reports in them
// needs. A kernel without Landlock, or with an older one, leaves more of it:
// [unconfined] says what.
func confine(folders ...string) error {
	rules := []landlock.Rule{landlock.ROFiles("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf").IgnoreIfMissing()}
	if len(folders) > 0 {
		rules = append(rules, landlock.PathAccess(reporting, folders...))
	}
	return landlock.V5.BestEffort().RestrictPaths(rules...)
}
