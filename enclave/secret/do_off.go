//go:build !goexperiment.runtimesecret

package secret

// Erases says whether [Do] erases what its function leaves behind.
const Erases = false

// Do runs f. Built without GOEXPERIMENT=runtimesecret it erases nothing.
func Do(f func()) { f() }
