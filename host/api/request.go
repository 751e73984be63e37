package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/passclave/passclave/wire"
)

// request takes a sealed request. It has its place among the calls under way only
// when its body is read: whoever sends slowly takes none away.
func (s *Server) request(w http.ResponseWriter, r *http.Request, from caller) ([]byte, error) {
	size, err := bodySize(r)
	if err != nil {
		return nil, err
	}
	if !s.bodies.take(from, size) {
		w.Header().Set("Connection", "close") // nobody reads it
		return nil, errTooMany
	}
	defer s.bodies.give(from, size)
	raw, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if !s.calls.take(from, 1) {
		return nil, errTooMany
	}
	defer s.calls.give(from, 1)
	return s.forward(r.Context(), from, raw)
}

// forward forwards a sealed request with the account's state. Once it was sent it
// is never sent again: only the client knows whether it may be.
func (s *Server) forward(ctx context.Context, from caller, raw []byte) ([]byte, error) {
	envelope, err := wire.ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	h := &envelope.Header
	if !s.requests.allow(asked{h.Account, from.address}) {
		return nil, errRate
	}
	// Nobody has authenticated the request yet: what is loaded for it counts as its body does.
	records := int64(len(h.Handles)) * wire.MaxRecordSize
	if !s.bodies.take(from, records) {
		return nil, errTooMany
	}
	defer s.bodies.give(from, records)
	need := wire.Need{Account: h.Account, State: true, Records: h.Handles}
	if h.Known != nil {
		need.After = &h.Known.Sequence
	}
	state, err := s.o.Store.Load(ctx, need)
	if err != nil {
		return nil, err
	}
	connection := s.o.Enclave.Connection()
	reply, err := s.o.Enclave.Forward(ctx, &wire.Forward{Envelope: raw, State: state, Now: uint64(s.o.Now().Unix())})
	if err != nil {
		if wire.CodeOf(err) == wire.CodeUnknownKey {
			s.evidence.forget(connection) // what is cached may name that key
		}
		return nil, err
	}
	if reply.Refusal != "" {
		s.metrics.dataRefused(reply.Refusal)
		s.o.Log.Error("the enclave refused the store's data", "code", reply.Refusal, "account", h.Account)
	}
	return reply.Response, nil
}

// bodySize is how many bytes a body has, or at most has.
func bodySize(r *http.Request) (int64, error) {
	switch {
	case r.Header.Get("Content-Type") != "application/cbor":
		return 0, wire.Errorf(wire.CodeMalformed, "content type")
	case r.ContentLength > wire.MaxEnvelope:
		return 0, wire.Errorf(wire.CodeTooLarge, "body of %d bytes", r.ContentLength)
	case r.ContentLength < 0:
		return wire.MaxEnvelope, nil
	}
	return r.ContentLength, nil
}

// readBody reads a body within [bodySize]; the server's timeouts cut slow ones.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength >= 0 {
		b := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return nil, wire.NewError(wire.CodeMalformed, err)
		}
		return b, nil
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxEnvelope))
	if isTooLong(err) {
		return nil, wire.NewError(wire.CodeTooLarge, err)
	}
	if err != nil {
		return nil, wire.NewError(wire.CodeMalformed, err)
	}
	return b, nil
}

// feedRecords is how many records a page of the feed has, about.
const feedRecords = 256

// feed gives a page of the feed to the holder of a feed token. A wrong token and an
// unknown account look alike.
func (s *Server) feed(_ http.ResponseWriter, r *http.Request, _ caller) ([]byte, error) {
	q := r.URL.Query()
	var account wire.AccountID
	if text := q.Get("account"); len(text) != hex.EncodedLen(len(account)) {
		return nil, wire.Errorf(wire.CodeArgument, "account")
	} else if _, err := hex.Decode(account[:], []byte(text)); err != nil {
		return nil, wire.NewError(wire.CodeArgument, err)
	}
	var after uint64
	if text := q.Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, wire.NewError(wire.CodeArgument, err)
		}
	}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(token) == 0 {
		return nil, wire.Errorf(wire.CodeUnknownDevice, "no feed token")
	}
	page, err := s.o.Store.Feed(r.Context(), account, wire.FeedTokenHash(token), after, feedRecords)
	if err != nil {
		return nil, err
	}
	if !s.feeds.allow(account) { // of those who hold a token alone
		return nil, errRate
	}
	return wire.Marshal(page), nil
}
