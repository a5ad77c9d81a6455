package backoff

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Spread is over how long clients that lose their connection at once are to
// come back: long enough for a server to take them all in.
type Spread struct {
	open    func() int   // connections
	waiting func() int   // that are about to be opened
	opened  atomic.Int64 // since the last count

	mu      sync.Mutex
	rate    float64 // connections a second that can be opened, as far as was seen
	counted time.Time
}

const (
	retryMin   = time.Second
	retryLow   = 10 * time.Second // of the upper end
	retryHigh  = 5 * time.Minute
	likelyRate = 5000 // until more or less was seen
	leastRate  = 50
)

// NewSpread makes one for a server that says how many connections are open,
// and how many wait to be.
func NewSpread(open, waiting func() int) *Spread {
	return &Spread{open: open, waiting: waiting, rate: likelyRate, counted: time.Now()}
}

// Opened notes that a connection was opened.
func (s *Spread) Opened() { s.opened.Add(1) }

// Bounds are between what clients are to wait: 1.2 times what it takes to let
// all in that are here.
func (s *Spread) Bounds() (least, most time.Duration) {
	all := time.Duration(float64(s.open()) / s.measured() * 1.2 * float64(time.Second))
	return retryMin, min(retryHigh, max(retryLow, all)).Round(time.Millisecond)
}

// measured is how many sessions a second can be opened. What was opened in a
// second in which others had to wait is all that could be; else it is the
// least that can.
func (s *Spread) measured() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if elapsed := time.Since(s.counted); elapsed >= time.Second {
		seen := float64(s.opened.Swap(0)) / elapsed.Seconds()
		s.counted = time.Now()
		if s.rate = max(s.rate, seen); s.waiting() > 0 {
			s.rate = max(leastRate, seen)
		}
	}
	return s.rate
}

// Pick is one client's share of it.
func (s *Spread) Pick() time.Duration {
	least, most := s.Bounds()
	return least + rand.N(most-least)
}
