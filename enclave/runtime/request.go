package runtime

import (
	"context"
	"time"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// requestTime bounds one request, waiting for its stream and the host included.
const requestTime = 30 * time.Second

// request takes one request from its envelope to its reply.
func (r *Runtime) request(ctx context.Context, l *link, body []byte) wire.Result {
	now := r.now()
	var forward wire.Forward
	if err := wire.Unmarshal(body, &forward); err != nil {
		return failed(err)
	}
	envelope, err := wire.ParseEnvelope(forward.Envelope)
	if err != nil {
		return failed(err)
	}
	opened, err := r.ring.open(envelope)
	if err != nil {
		return failed(err) // nobody to seal an answer to
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	unlock, err := r.locks.lock(ctx, envelope.Header.Account)
	if err != nil {
		return failed(err)
	}
	received := enclave.Received{
		Envelope: envelope, Raw: forward.Envelope, Opened: opened,
		State: forward.State, Now: forward.Now, Time: r.now(), // challenges age while the stream is busy
	}
	core := r.core.Load()
	reply, wrote := r.drive(ctx, l, core, received)
	if !wrote && newer[reply.Refusal] {
		if found, _ := r.look(ctx, core, lookTime); found {
			reply, wrote = r.drive(ctx, l, r.core.Load(), received)
		}
	}
	unlock()
	if reply.Login != nil {
		r.issuers.signed.saw(reply.Login.Issued)
	}
	if reply.Least > 0 {
		r.pace.wait(ctx, r.now()-now, reply.Least, wrote)
	}
	sealed, err := opened.SealResponse(wire.Marshal(reply.Response))
	if err != nil {
		return failed(err) // the core bounds answers: see TestAnswersFit
	}
	return wire.Result{Value: wire.Marshal(wire.Reply{Response: sealed, Refusal: reply.Refusal})}
}

// newer are refusals of what an enclave may have sealed or signed that holds a newer
// version of the KEK than this one does yet.
var newer = map[wire.Code]bool{wire.CodeWrap: true, wire.CodeEntry: true}

// drive carries out effects until the core replies. The stream's lock is held.
func (r *Runtime) drive(ctx context.Context, l *link, core *enclave.Core, first enclave.Received) (reply enclave.Reply, wrote bool) {
	entries := r.ledger.over(l)
	var state enclave.State
	var event enclave.Event = first
	for {
		var effects []enclave.Effect
		state, effects = core.Step(state, event)
		for _, e := range effects {
			switch e := e.(type) {
			case enclave.Reply:
				return e, wrote
			case enclave.Commit:
				wrote = true
			}
			event = r.do(ctx, l, entries, e)
		}
	}
}

// do carries out one effect.
func (r *Runtime) do(ctx context.Context, l *link, entries ledger.Ledger, e enclave.Effect) enclave.Event {
	switch e := e.(type) {
	case enclave.ReadHead:
		head, err := entries.ReadHead(ctx, e.Account, e.Stream, e.Nonce, e.Hint)
		return enclave.HeadRead{Head: head, Err: err}
	case enclave.Load:
		var state wire.State
		err := l.call(ctx, wire.FrameNeed, e.Need, &state)
		return enclave.Loaded{State: state, Err: err}
	case enclave.FetchKeys:
		keys, err := r.issuers.keys(ctx, e.Issuer, e.Refresh)
		return enclave.KeysFetched{Keys: keys, Err: err}
	case enclave.Keep:
		var kept wire.Kept
		err := l.call(ctx, wire.FrameKeep, e.Keep, &kept)
		return enclave.Kept{Approvals: kept.Approvals, Err: err}
	case enclave.Commit:
		receipt, err := entries.CompareAndAppend(ctx, &e.Commit)
		return enclave.Committed{Receipt: receipt, Err: err}
	}
	panic("runtime: an effect that is not carried out")
}
