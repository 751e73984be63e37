package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// progress is a line on a terminal that says what takes its time. It shows after
// half a second, and never where there is no terminal. Methods work on nil.
type progress struct {
	out  *os.File
	done chan struct{}
	end  sync.WaitGroup

	mu     sync.Mutex
	text   string // guarded by mu, as is all that follows, and what is written to out
	paused bool
	shown  bool
}

const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// working shows text until the command prints, ends or calls working again.
func (a *app) working(text string) {
	a.progress.stop()
	if !a.terminal || a.json || text == "" {
		return
	}
	p := &progress{text: text, out: a.stderr, done: make(chan struct{})}
	a.progress = p
	p.end.Go(p.run)
}

func (p *progress) run() {
	began := time.Now()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case now := <-tick.C:
			if took := now.Sub(began); took >= progressAfter {
				p.show(took)
			}
		}
	}
}

func (p *progress) show(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		fmt.Fprintf(p.out, "\r\x1b[K%s … %.1f s", p.text, took.Seconds())
		p.shown = true
	}
}

func (p *progress) label() string {
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

// say has the line say something else from now on.
func (p *progress) say(text string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

// pause takes the line away while something else is written to the terminal.
func (p *progress) pause() { p.set(true) }

func (p *progress) resume() { p.set(false) }

func (p *progress) set(paused bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = paused
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

// stop ends it. It may be called twice.
func (p *progress) stop() {
	if p == nil {
		return
	}
	p.pause()
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	p.end.Wait()
}
