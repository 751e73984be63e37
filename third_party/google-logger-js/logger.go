// Package logger stands in for github.com/google/logger in builds for js/wasm, where
// that module does not compile. It has the two functions that go-sev-guest's verifier
// calls, no state and no flags; what they are given goes to the standard logger.
//
// It was written for this project and contains nothing of the original. js.mod names
// it by a replace; no other build uses it.
package logger

import "log"

// Warning logs v as a warning.
func Warning(v ...any) { log.Println(append([]any{"WARNING:"}, v...)...) }

// Warningf logs a formatted warning.
func Warningf(format string, v ...any) { log.Printf("WARNING: "+format, v...) }

// Errorf logs a formatted error.
func Errorf(format string, v ...any) { log.Printf("ERROR: "+format, v...) }
