// Package operator is what the operators of a key broker and the broker say to each other:
// who they are, how a request is signed, the shapes of its bodies, and a client. The
// broker's part of it is package broker; docs/keyrelease.md shows every message.
//
//	GET  /admin/challenge                            → a challenge, good for one request
//	GET  /admin/keys/{name}                          versions, policies, proposals
//	POST /admin/keys/{name}                          make a key
//	POST /admin/keys/{name}/rotate                   add a version
//	POST /admin/keys/{name}/policy                   propose another release policy
//	POST /admin/keys/{name}/{version}/enable         and /disable
//	GET  /admin/proposals/{id}                       what waits for another operator
//	POST /admin/proposals/{id}/approve               let it take effect
//	GET  /admin/audit?offset=N                       the audit log, in pages
//
// An operator is an Ed25519 key, known to the broker by its public half in the operators'
// file. What changes who may have a key takes two different ones: one proposes, another
// approves what he was shown, by its hash. Whoever may write the operators' file, or
// start the broker with another, decides who they are.
//
// The package holds no state. Nothing that a broker answers is believed beyond TLS.
package operator
