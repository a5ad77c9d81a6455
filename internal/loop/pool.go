package loop

import "sync"

// Pool runs what may block, on a bounded number of goroutines that end when
// there is nothing to do. More than Queue functions that wait are refused.
type Pool struct {
	Goroutines int
	Queue      int

	mu      sync.Mutex
	running int
	waiting []func()
}

// Go runs f some time, or returns false if there is too much to do already.
func (p *Pool) Go(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running < p.Goroutines {
		p.running++
		go p.work(f) // ends when nothing waits
		return true
	}
	if len(p.waiting) >= p.Queue {
		return false
	}
	p.waiting = append(p.waiting, f)
	return true
}

// Waiting is how many functions wait for a goroutine.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

func (p *Pool) work(f func()) {
	for f != nil {
		f()
		f = p.next()
	}
}

func (p *Pool) next() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.running--
		p.waiting = nil
		return nil
	}
	f := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	return f
}
