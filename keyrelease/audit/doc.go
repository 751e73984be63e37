// Package audit is the key broker's audit log: what it released, what it refused and
// what operators did, one record a line, each signed and naming the hash of the one
// before.
//
//	audit.jsonl      {"record":{…},"signature":"…"}, one a line
//	audit-head.json  the newest record's place and hash, signed: shows that the log was cut
//	audit-key.pem    the key that signs both (Ed25519)
//
// [Log] writes; one process at a time. What [Log.Append] has returned nil for survives a
// crash. [Verify] and [Folder] read, and trust nothing but the public key they are given.
//
// What a reader with the right public key sees: a record that was changed, put in, left
// out or moved, and a log that ends before a head that it knows. What nobody can see: all
// that whoever has the key rewrote since the newest head that somebody else kept; nor,
// where the broker is not running, that log and head file together were put back from an
// older copy. Times are by the broker's clock.
//
// A record never holds a key, a token or anything else that has to be secret.
package audit
