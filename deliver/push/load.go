package push

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// spread is over how long clients that lose their connection at once are to
// come back: long enough for the server to take them all in.
type spread struct {
	places *places
	cost   atomic.Int64 // of a handshake, in nanoseconds of one loop; a moving average
	loops  int
}

const (
	retryMin  = time.Second
	retryLow  = 10 * time.Second // of the upper end
	retryHigh = 5 * time.Minute
)

// took notes what one handshake cost.
func (s *spread) took(d time.Duration) {
	old := s.cost.Load()
	s.cost.Store(old + (int64(d)-old)/16) // a note that is lost to another loop does not matter
}

// bounds are between what clients are to wait: 1.2 times what it takes to let
// all in that are here.
func (s *spread) bounds() (least, most time.Duration) {
	all := time.Duration(s.places.open()) * time.Duration(s.cost.Load()) / time.Duration(s.loops)
	return retryMin, min(retryHigh, max(retryLow, all*6/5)).Round(time.Millisecond)
}

// pick is one client's share of it.
func (s *spread) pick() time.Duration {
	least, most := s.bounds()
	return least + rand.N(most-least)
}
