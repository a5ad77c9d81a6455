package push

import (
	"runtime/debug"
	"slices"

	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/problem"
)

// Steps of memory, as shares of what the process may use.
const (
	refuseAbove = 0.80 // nobody new is let in
	shedAbove   = 0.90 // caches are dropped
	cutAbove    = 0.95 // those are cut for whom most is kept
)

// errMemory refuses a session when memory runs out.
var errMemory = problem.New("short-of-memory", "The server is short of memory (GOMEMLIMIT); come back later.")

// Relieve takes the step that a share of used memory asks for. Shed drops
// what can be had again.
func (h *Hub) Relieve(share float64, shed func()) {
	h.places.refuse(share >= refuseAbove)
	if share >= shedAbove {
		shed()
		debug.FreeOSMemory()
	}
	if share < cutAbove {
		return
	}
	for _, sh := range h.shards {
		sh.loop.Post(sh.cutLargest)
	}
}

// cutLargest ends the tenth of the sessions with the most to be written, which
// can catch up from the log when they come back.
func (sh *shard) cutLargest() {
	type waiting struct {
		id    uint32
		conn  loop.Conn
		bytes int
	}
	var all []waiting
	sh.sessions.All(func(id uint32, s *session) bool {
		if n := sh.loop.Pending(s.conn); n > 0 {
			all = append(all, waiting{id, s.conn, n})
		}
		return true
	})
	slices.SortFunc(all, func(a, b waiting) int { return b.bytes - a.bytes })
	for _, w := range all[:(len(all)+9)/10] {
		if s := sh.sessions.At(w.id); s.conn == w.conn {
			sh.hub.metrics.ended.WithLabelValues("memory").Inc()
			sh.cut(w.id, s)
		}
	}
}
