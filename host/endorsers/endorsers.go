// Package endorsers is the host's and the operator's way to endorsers: it carries
// frames for the enclave, keeps the file that says where endorsers are and which views
// followed one another, founds a first view and changes to the next.
//
// It owns connections and that file, and is believed by nobody: enclave and endorsers
// verify every word of each other. What is lost here can be had again from the
// endorsers, except the chain of views: without it no enclave finds the newest one.
package endorsers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/statefile"
	"github.com/passclave/passclave/wire"
)

// File is what a host knows of endorsers.
type File struct {
	Version   int         `json:"version"`
	Addresses []string    `json:"addresses"` // unix:PATH or tcp:ADDRESS, of all that may be members
	Chain     wire.Base64 `json:"chain"`     // encoded endorsement.Chain
	// Evidence of the members of all views, as it was when they became members: for whoever
	// wants to check them again.
	Evidence []wire.Base64 `json:"evidence"`
}

const fileVersion = 1

// ReadFile reads the file.
func ReadFile(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f File
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("%s has version %d, this release knows %d", path, f.Version, fileVersion)
	}
	return &f, nil
}

// Write replaces the file as a whole.
func (f *File) Write(path string) error {
	f.Version = fileVersion
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return statefile.Write(path, append(data, '\n'))
}

// Views decodes the chain. Nothing of it is verified.
func (f *File) Views() (*endorsement.Chain, error) {
	var c endorsement.Chain
	if err := wire.Unmarshal(f.Chain, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// Dial connects to an endorser's address.
func Dial(ctx context.Context, address string) (*endorser.Client, error) {
	network, where, ok := strings.Cut(address, ":")
	if !ok || network != "unix" && network != "tcp" {
		return nil, fmt.Errorf("%q is neither unix:PATH nor tcp:ADDRESS", address)
	}
	conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, network, where)
	if err != nil {
		return nil, err
	}
	return endorser.NewClient(conn), nil
}

// Pool carries frames to the endorsers of a file, which it reads again when it changed.
type Pool struct {
	path string

	mu      sync.Mutex
	file    *File
	stat    os.FileInfo
	peers   map[string]*peer // by address
	looking sync.Mutex
}

// peer is one address.
type peer struct {
	client *endorser.Client
	key    string
	tried  time.Time
}

const (
	dialTime = 2 * time.Second
	tryAgain = 250 * time.Millisecond // at most so often one address is dialled
)

// Open reads the file.
func Open(path string) (*Pool, error) {
	p := &Pool{path: path, peers: map[string]*peer{}}
	return p, p.read()
}

// Close ends all connections.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, peer := range p.peers {
		if peer.client != nil {
			peer.client.Close()
		}
	}
}

// read takes the file anew if it is another than before.
func (p *Pool) read() error {
	stat, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	p.mu.Lock()
	same := p.stat != nil && os.SameFile(stat, p.stat) && stat.ModTime().Equal(p.stat.ModTime()) && stat.Size() == p.stat.Size()
	p.mu.Unlock()
	if same {
		return nil
	}
	file, err := ReadFile(p.path)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file, p.stat = file, stat
	for _, a := range file.Addresses {
		if p.peers[a] == nil {
			p.peers[a] = &peer{}
		}
	}
	return nil
}

// Views returns the chain of views, encoded.
func (p *Pool) Views(context.Context) ([]byte, error) {
	if err := p.read(); err != nil {
		return nil, wire.NewError(wire.CodeUnavailable, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.Chain, nil
}

// Relay brings a frame of an enclave to the endorser with this key. Errors are
// [*wire.Error].
func (p *Pool) Relay(ctx context.Context, key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	if kind != wire.FrameAsk && kind != wire.FrameIntroduce {
		return nil, wire.Errorf(wire.CodeMalformed, "no enclave sends frame kind %d", kind)
	}
	client, err := p.client(ctx, string(key))
	if err != nil {
		return nil, err
	}
	return client.Call(ctx, kind, body)
}

func (p *Pool) client(ctx context.Context, key string) (*endorser.Client, error) {
	if c := p.connected(key); c != nil {
		return c, nil
	}
	p.looking.Lock()
	defer p.looking.Unlock()
	if c := p.connected(key); c != nil {
		return c, nil
	}
	if err := p.read(); err != nil {
		return nil, wire.NewError(wire.CodeUnavailable, err)
	}
	p.dialAll(ctx)
	if c := p.connected(key); c != nil {
		return c, nil
	}
	return nil, wire.Errorf(wire.CodeUnavailable, "no endorser with key %x answers", key)
}

func (p *Pool) connected(key string) *endorser.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, peer := range p.peers {
		if peer.key == key && peer.client != nil && peer.client.Broken() == nil {
			return peer.client
		}
	}
	return nil
}

// dialAll connects to every address that has no connection and was not tried just now,
// and asks who is there: endorsers change their keys when they start.
func (p *Pool) dialAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	p.mu.Lock()
	var missing []string
	for _, a := range p.file.Addresses {
		peer := p.peers[a]
		if (peer.client == nil || peer.client.Broken() != nil) && time.Since(peer.tried) > tryAgain {
			peer.tried = time.Now()
			missing = append(missing, a)
		}
	}
	p.mu.Unlock()
	var dials sync.WaitGroup
	for _, a := range missing {
		dials.Go(func() {
			client, err := Dial(ctx, a)
			if err != nil {
				return
			}
			who, err := client.Identify(ctx)
			if err != nil {
				client.Close()
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.peers[a].client, p.peers[a].key = client, string(who.Key)
		})
	}
	dials.Wait()
}
