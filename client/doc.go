// Package client is the Go SDK of Passclave: one device of one account. The command
// line uses it as it is; it builds for js/wasm, imports neither enclave nor host,
// and reaches keys, user verification, login and storage through small interfaces.
//
// The package owns the device's profile: its keys, the vault secrets of all epochs
// it has seen, the newest place in the account's history that it remembers, and a
// cache of sealed records. [Storage] keeps these; the profile is secret.
//
// It trusts the device it runs on, and the enclave whose evidence the pinned trust
// policy accepts. It does not trust the host, the storage behind it or the network:
//
//   - Evidence is verified here, over a nonce of this device ([Service.Attest]).
//   - Only a sealed answer is believed. What the host says in the clear comes back
//     as [wire.CodeUnsealedAnswer] or [wire.CodeUnavailable] around a [HostError],
//     and at most makes the client attest again and repeat itself.
//   - Every answer must go on from the remembered head. If it does not, the call
//     ends with [wire.CodeFork] and an [Alarm] stays in the profile until a person
//     takes it away. The new head is stored before the caller gets a result.
//   - A newer vault secret is taken only if the chain of earlier ones leads back to
//     the one held ([wire.FollowPrevious]).
//   - The feed is checked against a manifest, which never goes back.
//   - A PIN attempt is sent once. No other request is lost or done twice: changing
//     requests are numbered, and the ledger entry that names an envelope's hash tells
//     which of them was done.
//
// What it cannot see: a history that branches off after what it remembers, a login
// by an identity provider that lies, and, at its first contact with an account, how
// old the state is that the enclave was given (freshness "local").
//
// A [Device] runs one call at a time; its methods are safe for concurrent use.
package client
