package endorser

import (
	"crypto/ed25519"
	"crypto/rand"
	"sync"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// Endorser is one member. It is safe for concurrent use.
type Endorser struct {
	configuration *Configuration
	admit         Admit
	key           ed25519.PrivateKey

	mu        sync.Mutex
	view      *endorsement.View      // nil: not a member of any yet
	hash      wire.Digest            // of view
	streams   *heads                 // nil: not a member of any view yet
	broken    map[wire.StreamID]bool // discontinued
	signers   []ledger.Signer
	verifier  *ledger.Verifier       // of signers; nil: no enclave was introduced yet
	finalised *endorsement.Finalised // its last word in view
	former    *endorsement.Finalised // its last word in the view before, of which it was a member too
	sorted    []wire.StreamID        // of streams, once finalised
	adoption  *adoption              // tails that are coming in
}

// Admit decides about evidence, so that tests need none. Both return an error that
// names what is wrong.
type Admit interface {
	// Enclave verifies evidence of purpose "client" from an enclave that was configured for
	// a genesis, and returns the ledger keys in it.
	Enclave(evidence []byte, genesis wire.Digest) ([]ledger.Signer, error)
	// Successor verifies that evidence of purpose "endorser" for a key shows a release.
	Successor(evidence, release, key []byte) error
}

// New returns an endorser with a fresh key and no memory.
func New(c *Configuration, admit Admit) *Endorser {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &Endorser{configuration: c, admit: admit, key: key}
}

// Key returns the public key that names this endorser.
func (e *Endorser) Key() ed25519.PublicKey { return e.key.Public().(ed25519.PublicKey) }

// Status is what an endorser says about itself; nobody has to believe it.
type Status struct {
	View      uint64      `cbor:"1,keyasint"` // number of its view; 0: none
	Hash      wire.Digest `cbor:"2,keyasint"` // of its view
	Streams   uint64      `cbor:"3,keyasint"`
	Finalised bool        `cbor:"4,keyasint"`
	Signers   uint64      `cbor:"5,keyasint"` // ledger keys that it knows
}

// Status returns where the endorser stands.
func (e *Endorser) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Hash: e.hash, Streams: e.streams.len(), Finalised: e.finalised != nil, Signers: uint64(len(e.signers))}
	if e.view != nil {
		s.View = e.view.Number
	}
	return s
}

// Introduce makes the endorser know an enclave's ledger keys by its evidence. The first
// that come are kept; later ones must be those and their successors.
func (e *Endorser) Introduce(evidence []byte) error {
	e.mu.Lock()
	view := e.view
	e.mu.Unlock()
	if view == nil {
		return wire.Errorf(wire.CodeView, "not a member of any view yet")
	}
	signers, err := e.admit.Enclave(evidence, view.Root())
	if err != nil {
		return err
	}
	verifier, err := ledger.NewVerifier(e.configuration.Ledger, signers)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range min(len(e.signers), len(signers)) {
		if string(e.signers[i].Public) != string(signers[i].Public) {
			return wire.Errorf(wire.CodeEvidence, "ledger key %d is not the one known", i)
		}
	}
	if len(signers) > len(e.signers) {
		e.signers, e.verifier = signers, verifier
	}
	return nil
}

// Ask answers one round trip of an enclave. Appends are carried out in order, each or
// none by its own conditions; the answer tells by the heads. Errors: [wire.CodeView]
// where the asker holds another view than this endorser serves, [wire.CodeSignature]
// where a ledger key is not known, or did not sign, and then nothing is appended.
func (e *Endorser) Ask(encoded []byte) (*endorsement.Answer, error) {
	ask, err := endorsement.ParseAsk(encoded)
	if err != nil {
		return nil, err
	}
	if len(ask.Appends) > 0 {
		if err := e.signed(ask); err != nil {
			return nil, err
		}
	}
	answer, err := e.carryOut(ask)
	if err != nil {
		return nil, err
	}
	answer.Sign(e.key, ask.View, encoded)
	return answer, nil
}

func (e *Endorser) signed(ask *endorsement.Ask) error {
	e.mu.Lock()
	verifier := e.verifier
	e.mu.Unlock()
	if verifier == nil {
		return wire.Errorf(wire.CodeSignature, "no enclave was introduced yet")
	}
	public, ok := verifier.Signers[ask.Signer]
	if !ok || !ask.SignedBy(public) {
		return wire.Errorf(wire.CodeSignature, "the appends are not signed by a ledger key")
	}
	return nil
}

func (e *Endorser) carryOut(ask *endorsement.Ask) (*endorsement.Answer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.view == nil:
		return nil, wire.Errorf(wire.CodeView, "not a member of any view yet")
	case e.hash != ask.View:
		return nil, wire.Errorf(wire.CodeView, "another view than number %d", e.view.Number)
	case e.finalised != nil:
		return nil, wire.Errorf(wire.CodeView, "view %d is finalised", e.view.Number)
	}
	group := e.view.Find(e.Key())
	for _, s := range ask.Streams() {
		if e.view.GroupOf(s) != group {
			return nil, wire.Errorf(wire.CodeView, "a stream of another group")
		}
	}
	answer := &endorsement.Answer{}
	say := func(s wire.StreamID) {
		if e.broken[s] {
			answer.Discontinued = append(answer.Discontinued, uint64(len(answer.Heads)))
		}
		answer.Heads = append(answer.Heads, e.streams.of(s))
	}
	for _, s := range ask.Reads {
		say(s)
	}
	for _, a := range ask.Appends {
		e.append(a)
		say(a.Stream)
	}
	return answer, nil
}

// append takes an append, or leaves the head as it is. A head's sequence only rises, so
// a member never vouches for two entries at one place. It may rise by more than one: a
// member that was not reached for a while believes the enclave that a majority held
// the expected head, as the enclave's own next reader would have found out. Only a
// restart of a discontinued stream, which devices confirmed, may lower it.
func (e *Endorser) append(a endorsement.Append) {
	at := e.streams.of(a.Stream)
	switch {
	case e.broken[a.Stream] && a.Restart:
		delete(e.broken, a.Stream)
		e.streams.set(a.Stream, a.Next)
	case e.broken[a.Stream]:
	case at.Sequence > a.Expected.Sequence:
	case at.Sequence == a.Expected.Sequence && at.Hash != a.Expected.Hash:
	default:
		e.streams.set(a.Stream, a.Next)
	}
}
