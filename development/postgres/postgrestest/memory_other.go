//go:build unix && !linux

package postgrestest

// memory: the shared server lies where temporary files do.
func memory() string { return "" }
