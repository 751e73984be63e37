package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// printMemory says how much an endorser needs for a million streams (aim: under 150 MB).
func printMemory(w io.Writer) error {
	bytes, err := endorserMemory()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "endorser-memory: %.0f MB of heap for a million streams\n", float64(bytes)/1e6)
	return err
}

// endorserMemory returns how many bytes of heap an endorser takes for a million streams.
func endorserMemory() (uint64, error) {
	k, err := newBenchKeys()
	if err != nil {
		return 0, err
	}
	public, operator, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	e := endorser.New(&endorser.Configuration{Ledger: k.LedgerID, Number: 1, Operator: wire.Base64(public)}, admitAll{k.Signers})
	v := &endorsement.View{Version: wire.Version, Ledger: k.LedgerID, Genesis: 1, Number: 1, Groups: []endorsement.Group{{{Key: e.Key()}, {Key: make([]byte, 32)}, {Key: public}}}}
	for i := range v.Groups[0] {
		v.Groups[0][i].Evidence = endorsement.EvidenceHash(nil)
	}
	s := endorsement.NewSuccession(v, operator)
	s.Evidence = [][]byte{{}}
	if err := errors.Join(e.Found(s), e.Introduce(nil)); err != nil {
		return 0, err
	}
	before := heap()
	const streams = 1_000_000
	for n := uint64(0); n < streams; {
		ask := endorsement.Ask{View: v.Hash()}
		io.ReadFull(rand.Reader, ask.Nonce[:])
		for ; len(ask.Appends) < endorsement.MaxStreams && n < streams; n++ {
			h := wire.Hash("bench stream", n)
			ask.Appends = append(ask.Appends, endorsement.Append{Stream: wire.StreamID(h), Next: wire.Head{Sequence: 1, Hash: h}})
		}
		ask.Sign(k.Signers[0].Public, func(m []byte) []byte { return ed25519.Sign(k.Private, m) })
		if _, err := e.Ask(wire.Marshal(&ask)); err != nil {
			return 0, err
		}
	}
	used := heap() - before
	runtime.KeepAlive(e)
	return used, nil
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
