package azuretest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// transaction is one place in the ledger: an entry, or the nodes' signature over all
// before it, which is what commits them.
type transaction struct {
	view, sequence uint64
	entry          *entry
	writeSet       [32]byte
	evidence       string
	leaf           [32]byte
	polls          int // status requests that still see it pending
	asks           int // receipt requests that still see it loading
}

type entry struct {
	collection, contents string
	key                  []byte // of the claim's HMAC
}

func (t *transaction) id() string { return fmt.Sprintf("%d.%d", t.view, t.sequence) }

// append puts a transaction behind the last one. Call with the lock held.
func (s *Server) append(e *entry) *transaction {
	s.last++
	t := &transaction{view: s.view, sequence: s.last, entry: e, polls: s.Pending, asks: s.Loading}
	t.writeSet = sha256.Sum256(random(32)) // what the key-value store changed: opaque here as for every client
	t.evidence = fmt.Sprintf("ce:%s:%s", t.id(), hex.EncodeToString(random(32)))
	evidence, claims := sha256.Sum256([]byte(t.evidence)), [32]byte{}
	if e != nil {
		claims = e.claimsDigest()
		if e.collection != defaultCollection {
			s.known[e.collection] = true
		}
	}
	h := sha256.New()
	h.Write(t.writeSet[:])
	h.Write(evidence[:])
	h.Write(claims[:])
	t.leaf = [32]byte(h.Sum(nil))
	s.transactions = append(s.transactions, t)
	return t
}

// claimsDigest is what the application inside the ledger attaches to an entry.
func (e *entry) claimsDigest() [32]byte {
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, e.key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	d := sha256.Sum256(append(mac(e.collection), mac(e.contents)...))
	claim := sha256.Sum256(append([]byte("LedgerEntryV1"), d[:]...))
	return sha256.Sum256(append(binary.LittleEndian.AppendUint32(nil, 1), claim[:]...))
}

// commit has the nodes sign, which commits everything before.
func (s *Server) commit() {
	s.append(nil)
	s.committed = s.last
}

// receipt is the JSON of a committed entry's receipt under the tree of now.
func (s *Server) receipt(t *transaction, claims bool) map[string]any {
	leaves, index := make([][32]byte, 0, len(s.transactions)), -1
	for _, o := range s.transactions {
		if o.sequence == s.committed {
			break // the signature itself stands behind the root that it signs
		}
		if o == t {
			index = len(leaves)
		}
		leaves = append(leaves, o.leaf)
	}
	root, way := prove(leaves, index)
	signature, err := s.node.key.Sign(rand.Reader, root[:], nil)
	if err != nil {
		panic(err)
	}
	out := map[string]any{
		"state": "Ready", "transactionId": t.id(),
		"receipt": map[string]any{
			"cert": s.node.pem(), "nodeId": s.node.nodeID(), "proof": way,
			"signature": base64.StdEncoding.EncodeToString(signature), "serviceEndorsements": []string{},
			"leafComponents": map[string]any{
				"claimsDigest": hexOf(t.entry.claimsDigest()), "commitEvidence": t.evidence, "writeSetDigest": hexOf(t.writeSet),
			},
		},
	}
	if claims {
		out["applicationClaims"] = []any{map[string]any{"kind": "LedgerEntry", "ledgerEntry": map[string]any{
			"collectionId": t.entry.collection, "contents": t.entry.contents,
			"protocol": "LedgerEntryV1", "secretKey": base64.StdEncoding.EncodeToString(t.entry.key),
		}}}
	}
	return out
}
