package stack

import (
	"io"
	"time"
)

// RenewCertificate is what a start does at a time.
func RenewCertificate(dir string, now time.Time) error {
	s := &Stack{Dir: dir}
	return s.renewCertificate(now)
}

// ForDatabase is a stack that runs nothing yet.
func ForDatabase(dir string, log io.Writer) *Stack {
	return &Stack{Dir: dir, log: newLogger(log, false)}
}
