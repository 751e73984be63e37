//go:build sgx

package workload

import "log/slog"

// confine does nothing: an enclave of EGo sees only the files that enclave.json embeds.
func confine(...string) error { return nil }

func warnUnconfined(*slog.Logger) {}
