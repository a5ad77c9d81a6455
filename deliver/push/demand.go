package push

import (
	"context"
	"slices"

	"github.com/chappe/chappe/event"
)

// demand is how many readers follow a topic that somebody asked about.
type demand struct {
	topic    event.Topic
	readers  int
	counting int           // shards that have not counted theirs yet
	changed  chan struct{} // closed when the first came, the last left or all have counted
}

// Await implements source.Demand: it returns when some session follows t or, if
// followed is false, when none does.
func (h *Hub) Await(ctx context.Context, t event.Topic, followed bool) error {
	d := h.demandFor(t)
	for {
		h.mu.Lock()
		now, counted, changed := d.readers > 0, d.counting == 0, d.changed
		h.mu.Unlock()
		if counted && now == followed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// demandFor has the shards begin to count the readers of t, once. There are as
// many as there are watches on demand.
func (h *Hub) demandFor(t event.Topic) *demand {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.demands[t]
	if d == nil {
		d = &demand{topic: t, counting: len(h.shards), changed: make(chan struct{})}
		h.demands[t] = d
		for _, sh := range h.shards {
			sh.loop.Post(func() { sh.count(d) })
		}
	}
	return d
}

// count adds the shard's readers to d, which it keeps up to date from then on.
func (sh *shard) count(d *demand) {
	there := map[uint32]bool{} // some follow it by several patterns
	sh.topics.Each(string(d.topic), func(p uint32) {
		for m := sh.topics.At(p).first; m != 0; m = sh.members.At(m).next {
			there[sh.members.At(m).reader] = true
		}
	})
	sh.demands[d.topic] = d
	sh.hub.mu.Lock()
	defer sh.hub.mu.Unlock()
	d.counting--
	d.add(len(there))
	if d.counting == 0 {
		d.tell()
	}
}

// demand counts a reader more, or less, for each topic that it follows.
func (sh *shard) demand(rd *reader, change int) {
	if len(sh.demands) == 0 {
		return
	}
	patterns := sh.patterns(rd)
	wild := slices.ContainsFunc(patterns, func(p event.Pattern) bool { return !p.Literal() })
	sh.hub.mu.Lock()
	defer sh.hub.mu.Unlock()
	if !wild { // the usual case, whatever the number of watches
		for _, p := range patterns {
			if d := sh.demands[event.Topic(p)]; d != nil {
				d.add(change)
			}
		}
		return
	}
	for t, d := range sh.demands {
		if event.AnyMatches(patterns, t) {
			d.add(change)
		}
	}
}

func (d *demand) add(change int) {
	before := d.readers
	d.readers += change
	if (before == 0) != (d.readers == 0) {
		d.tell()
	}
}

func (d *demand) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}
