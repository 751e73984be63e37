// Package endorsed is the ledger of a service with more than one enclave: entries
// become durable in the host's database, and 3 or 5 attested endorsers remember which
// of them is the newest.
//
// It owns the enclave's side: the newest view that it has verified, and what is under
// way. The database's row is written first, and it alone is then endorsed; whoever
// comes next finishes an entry that was endorsed by too few. A head counts by the word
// of a majority of distinct members of the view in force over a nonce drawn after the
// question came.
//
// It trusts nobody on the way. The host carries every frame and holds database and
// chain of views: it can delay and deny, and what it changes, repeats or invents is
// refused. Fewer than half of a group's endorsers may be gone. None may lie: two majorities
// may have one member alone in common, and if that one goes back on its word, a stream of
// its group can be rolled back. That they run the attested code is what speaks for them.
package endorsed
