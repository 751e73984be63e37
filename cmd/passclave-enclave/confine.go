package main

import (
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// reporting is what configfs-tsm needs in its folder: to make and remove a folder for
// each report, and to open the files that the kernel puts into it. os.WriteFile
// truncates.
const reporting = ll.AccessFSMakeDir | ll.AccessFSRemoveDir | ll.AccessFSReadDir |
	ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate

// confine takes the file system away, for good: what was to be read is read, and
// what is to be reached is open or reached over sockets. Only the files that
// resolving a name reads stay readable, and folders keep what making reports in them
// needs. A kernel without Landlock leaves the process as it is.
func confine(folders ...string) error {
	rules := []landlock.Rule{landlock.ROFiles("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf").IgnoreIfMissing()}
	if len(folders) > 0 {
		rules = append(rules, landlock.PathAccess(reporting, folders...))
	}
	return landlock.V5.BestEffort().RestrictPaths(rules...)
}
