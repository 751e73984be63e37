//go:build race

package enclave

const raceDetector = true
