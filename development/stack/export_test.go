package stack

import "time"

// RenewCertificate is what a start does at a time.
func RenewCertificate(dir string, now time.Time) error {
	s := &Stack{Dir: dir}
	return s.renewCertificate(now)
}
