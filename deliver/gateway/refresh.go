package gateway

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
)

// Bounds of what events ask for.
const (
	maxPending = 1 << 14 // events that are not looked at yet; beyond that whole routes become stale
	maxRenew   = 1 << 16 // entries to be fetched anew; others are at their next request
	renewers   = 32      // that are fetched at once; the upstream has bounds of its own
	publishFor = 10 * time.Second

	maxChanges   = 1 << 14 // new answers that wait to be published
	maxPublished = 32      // that are at once
)

// pending is what events that were committed make stale.
type pending struct {
	mu     sync.Mutex
	events []staling
	whole  map[*route.Route]struct{}
}

type staling struct {
	route  *route.Route
	record *event.Record
}

// Committed implements bus.Follower.
func (g *Gateway) Committed(records []*event.Record) {
	some := false
	for _, r := range records {
		for i := range g.places {
			rt := g.places[i].route
			if event.AnyMatches(rt.RefreshOn, r.Topic) {
				g.pending.add(rt, r)
				some = true
			}
		}
	}
	if !some {
		return
	}
	select {
	case g.news <- struct{}{}:
	default:
	}
}

func (p *pending) add(rt *route.Route, r *event.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(rt.RefreshTag) > 0 && len(p.events) < maxPending {
		p.events = append(p.events, staling{rt, r})
		return
	}
	if p.whole == nil {
		p.whole = map[*route.Route]struct{}{}
	}
	p.whole[rt] = struct{}{}
}

// take is what has come, as tags.
func (p *pending) take() []tag {
	p.mu.Lock()
	events, whole := p.events, p.whole
	p.events, p.whole = nil, nil
	p.mu.Unlock()
	tags := map[tag]struct{}{}
	for rt := range whole {
		tags[tag{rt, tagRoute, ""}] = struct{}{}
	}
	for _, s := range events {
		for _, name := range s.route.StaleTags(&s.record.Event) {
			tags[tag{s.route, tagName, name}] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(tags))
}

// follow makes stale what events say has changed, until ctx ends.
func (g *Gateway) follow(ctx context.Context) {
	for {
		select {
		case <-g.news:
			if tags := g.pending.take(); len(tags) > 0 {
				g.invalidate(tags, renewed)
			}
		case <-ctx.Done():
			return
		}
	}
}

// staleness is how entries are made stale.
type staleness uint8

const (
	soft    staleness = iota // asked about at the next request
	removed                  // forgotten
	renewed                  // those in use are fetched at once
)

// invalidate has nobody given an answer with one of the tags that was fetched
// until now. It returns how many there were. What somebody waits for is fetched
// at once.
func (g *Gateway) invalidate(tags []tag, how staleness) int {
	g.outdate(tags)
	purged := g.store.purge(tags, how == removed)
	g.metrics.purged.Add(float64(len(purged)))
	now, awaited := time.Now(), g.waiters.Len() > 0
	for _, e := range purged {
		if awaited && g.waiters.Has(e.key) || how == renewed && e.inUse(now) {
			g.renewSoon(e)
		}
	}
	if how == removed {
		g.spawn(func() { g.store.sweep(purged) }) // soon ends
	}
	return len(purged)
}

// renewSoon has an entry fetched anew, once.
func (g *Gateway) renewSoon(e *entry) {
	if e.renewing.Swap(true) {
		return
	}
	select {
	case g.renew <- e:
	default:
		e.renewing.Store(false) // its next request does it
	}
}

func (g *Gateway) renewAll(ctx context.Context) {
	for {
		select {
		case e := <-g.renew:
			g.renewOne(ctx, e)
		case <-ctx.Done():
			return
		}
	}
}

// renewOne fetches an entry anew, unless somebody has.
func (g *Gateway) renewOne(ctx context.Context, e *entry) {
	e.renewing.Store(false) // a purge from now on is another
	out, seen := e.askAgain(), g.store.get(e.key)
	if now := seen.choose(route.Sent(out)); now != nil && now != e && !now.purged.Load() && now.freshness.Fresh(time.Now()) {
		return
	}
	f, leader := g.join(e.key, out, seen)
	if f == nil { // something was stored just now, perhaps another variant
		g.renewSoon(e)
		return
	}
	g.discard(f, leader)
	select {
	case <-f.done:
	case <-ctx.Done():
		return
	}
	switch {
	case f.entry != nil:
	case f.err == nil && f.status.ForwardStatus < http.StatusInternalServerError: // it cannot be kept any more
		g.tell(e.key)
	default:
		g.each(e.key, (*desk).retry)
	}
}

// askAgain is what the entry was asked with.
func (e *entry) askAgain() map[string][]string {
	if e.request == nil {
		return map[string][]string{}
	}
	return maps.Clone(e.request)
}

// changed tells who wants to know that an answer has taken another's place.
func (g *Gateway) changed(old, e *entry) {
	g.tell(e.key)
	if old == nil || old == e || e.key.Route.Topic == "" || old.status == e.status && bytes.Equal(old.plain.Body, e.plain.Body) {
		return
	}
	select {
	case g.changes <- e:
	default:
		g.options.Logger.Warn("a new answer was not published: too many wait for the log", "route", e.key.Route.Name)
	}
}

// publish publishes new answers in the order in which they came, until ctx ends.
func (g *Gateway) publish(ctx context.Context) {
	for {
		select {
		case e := <-g.changes:
			g.publishSome([]*entry{e})
		case <-ctx.Done():
			return
		}
	}
}

// publishSome publishes the entries, and what more waits.
func (g *Gateway) publishSome(entries []*entry) {
	for more := true; more && len(entries) < maxPublished; {
		select {
		case e := <-g.changes:
			entries = append(entries, e)
		default:
			more = false
		}
	}
	events := make([]event.Event, len(entries))
	for i, e := range entries {
		contentType := e.plain.Header().Get("Content-Type")
		events[i] = e.key.Route.Changed(e.key.Target, e.status, e.plain.ETag, contentType, e.plain.Body, g.options.EventBytes)
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishFor)
	defer cancel()
	if _, err := g.options.Publisher.Publish(ctx, event.Batch{Events: events}); err != nil {
		g.options.Logger.Warn("new answers were not published", "answers", len(events), "err", err)
	}
}
