// Package e2e tests Passclave as a whole, from the client's SDK through HTTP, host,
// frames and enclave to the database and back. It holds tests and nothing else.
//
// Two harnesses carry them. [service] runs enclave and host in this process, with a
// proxy between them that can do one bad thing to one frame. The kill tests run the
// real binaries under development/stack.
//
// What every test asks at its end is the same: fsck finds nothing, no PIN attempt was
// judged that was not counted, and what was acknowledged is there.
package e2e
