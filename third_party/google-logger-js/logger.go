// Package logger stands in for github.com/google/logger in builds for js/wasm, where
// that module does not compile. It has the functions that the verifiers of go-sev-guest
// and go-tdx-guest call, no state and no flags; warnings and errors go to the standard
// logger, details nowhere.
//
// It was written for this project and contains nothing of the original. js.mod names
// it by a replace; no other build uses it.
package logger

import (
	"io"
	"log"
)

// Warning logs v as a warning.
func Warning(v ...any) { log.Println(append([]any{"WARNING:"}, v...)...) }

// Warningf logs a formatted warning.
func Warningf(format string, v ...any) { log.Printf("WARNING: "+format, v...) }

// Errorf logs a formatted error.
func Errorf(format string, v ...any) { log.Printf("ERROR: "+format, v...) }

// Level is how much detail somebody wants; nobody does.
type Level int

// Verbose is where details go: nowhere.
type Verbose struct{}

// V returns where details of a level go.
func V(Level) Verbose { return Verbose{} }

// Info forgets v.
func (Verbose) Info(...any) {}

// Infof forgets v.
func (Verbose) Infof(string, ...any) {}

// Init does nothing. go-tdx-guest calls it with the standard output, which is not a log's.
func Init(string, bool, bool, io.Writer) struct{} { return struct{}{} }
