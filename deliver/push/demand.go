package push

import (
	"context"
	"slices"

	"github.com/chappe/chappe/event"
)

// demand is how many sessions follow a topic that somebody asked about.
type demand struct {
	sessions int
	changed  chan struct{} // closed when the first came or the last left
}

// Await implements source.Demand: it returns when some session follows t or, if
// followed is false, when none does.
func (h *Hub) Await(ctx context.Context, t event.Topic, followed bool) error {
	for {
		h.mu.Lock()
		d := h.demandFor(t)
		now, changed := d.sessions > 0, d.changed
		h.mu.Unlock()
		if now == followed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// demandFor begins to count the sessions of t, once. There are as many as
// there are watches on demand.
func (h *Hub) demandFor(t event.Topic) *demand {
	d := h.demands[t]
	if d == nil {
		d = &demand{changed: make(chan struct{})}
		there := map[*session]bool{} // some follow it by several patterns
		h.trie.each(t, func(s *session) { there[s] = true })
		d.sessions = len(there)
		h.demands[t] = d
	}
	return d
}

// follow counts one session more, or less, for each topic that its patterns match.
func (h *Hub) follow(patterns []event.Pattern, change int) {
	wild := slices.ContainsFunc(patterns, func(p event.Pattern) bool { return !p.Literal() })
	if !wild { // the usual case, whatever the number of watches
		for _, p := range patterns {
			if d := h.demands[event.Topic(p)]; d != nil {
				d.add(change)
			}
		}
		return
	}
	for t, d := range h.demands {
		if event.AnyMatches(patterns, t) {
			d.add(change)
		}
	}
}

func (d *demand) add(change int) {
	before := d.sessions
	d.sessions += change
	if (before == 0) != (d.sessions == 0) {
		close(d.changed)
		d.changed = make(chan struct{})
	}
}
