package push

import (
	"context"
	"time"

	"github.com/chappe/chappe/event"
)

const (
	drainStep = 50 * time.Millisecond
	drainRate = 900 // sessions a second that are told to come back
)

// Drain tells every session to come back elsewhere, or later, at a pace that
// whoever takes them in can keep up with, and waits for them to end.
func (h *Hub) Drain(ctx context.Context) {
	h.draining.Store(true)
	emptied := h.places.close()
	share := max(1, drainRate*int(drainStep/time.Millisecond)/1000/len(h.shards))
	ticker := time.NewTicker(drainStep)
	defer ticker.Stop()
	for {
		for _, sh := range h.shards {
			sh.loop.Post(func() { sh.drain(share) })
		}
		select {
		case <-emptied:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// DrainTime is how long Drain takes for the sessions that there are.
func (h *Hub) DrainTime() time.Duration {
	return time.Duration(h.places.open()) * time.Second / drainRate
}

// retryIn is how long one client is to stay away: its share of the spread, and
// while the server drains, until that is over.
func (h *Hub) retryIn() time.Duration {
	d := h.spread.Pick()
	if h.draining.Load() {
		d += h.DrainTime()
	}
	return d
}

// drain ends up to n sessions.
func (sh *shard) drain(n int) {
	sh.sessions.All(func(id uint32, s *session) bool {
		if s.conn != 0 {
			sh.end(id, s, event.ErrClosed)
			n--
		}
		return n > 0
	})
}
