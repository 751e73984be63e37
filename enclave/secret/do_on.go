//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Erases says whether [Do] erases what its function leaves behind.
const Erases = true

// Do runs f and erases the registers, the stack and, at the next collection, the
// heap that it used (runtime/secret). Globals and other goroutines are not covered.
func Do(f func()) { secret.Do(f) }
