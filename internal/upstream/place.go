package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// place is one of an origin's; it is given back by leave.
type place struct {
	all    *Origins
	origin *origin
	left   sync.Once

	probe    bool // of a half-open breaker
	reported bool // how it went; guarded by Origins.mu, as probe is
}

// waiter waits for a place.
type waiter struct {
	ready   chan struct{} // closed when it is to wait no longer
	granted bool          // it has the place; if not, the breaker opened
}

var (
	errNoPlace = errors.New("no place in time")
	errCrowded = errors.New("too many wait for a place")
	errOpen    = errors.New("no origin is tried now")
)

// retryMin is what a client that is refused waits at least.
const retryMin = time.Second

// choice is what an origin is picked by.
type choice struct {
	tried *origin // is picked again only if there is no other, or
	never bool    // not at all
}

// enter gets a place at the best origin, in the order of arrival, by the end of the
// queue time or of end.
func (p *Pool) enter(ctx context.Context, c choice, end time.Time) (*place, *Error) {
	limit := min(p.queue, time.Until(end))
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		if ctx.Err() != nil {
			return nil, &Error{Kind: Canceled, Err: context.Cause(ctx)}
		}
		at, w, err := p.join(c)
		if w == nil {
			return at, err
		}
		if err := at.wait(ctx, w, deadline.C, limit); err != nil {
			return nil, err
		}
		if w.granted {
			return at, nil
		}
		// The breaker opened: there may be another origin.
	}
}

// join takes a place, or queues for it, or neither, at once.
func (p *Pool) join(c choice) (*place, *waiter, *Error) {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	now := time.Now()
	o := p.pickLocked(c, now)
	if o == nil {
		return nil, nil, &Error{Kind: Open, Err: errOpen, after: p.reopensLocked(now)}
	}
	at := &place{all: p.all, origin: o}
	if o.inFlight < o.concurrency && o.waiting.Len() == 0 {
		o.inFlight++
		at.probe = o.breaker.enter()
		return at, nil, nil
	}
	if o.waiting.Len() >= o.queueLength {
		return nil, nil, &Error{Kind: Queue, Origin: o.name, Err: errCrowded, after: retryMin}
	}
	w := &waiter{ready: make(chan struct{})}
	o.waiting.PushBack(w)
	return at, w, nil
}

// pickLocked is the origin that is up with the fewest requests, in flight or
// waiting; of equals, each in turn. An origin that is down by its health path is
// taken if there is no other: a wrong path must not take a site down.
func (p *Pool) pickLocked(c choice, now time.Time) *origin {
	var best *origin
	if c.tried == nil { // or a second try would keep the turns of two in step
		p.turn = (p.turn + 1) % len(p.origins)
	}
	for i := range p.origins {
		o := p.origins[(p.turn+i)%len(p.origins)]
		if !o.readyLocked(now) || o == c.tried && c.never {
			continue
		}
		if best == nil || o.betterLocked(best, c.tried) {
			best = o
		}
	}
	return best
}

// readyLocked says whether the breaker lets a request in. The probe does not
// queue: while old requests fill the origin there is none.
func (o *origin) readyLocked(now time.Time) bool {
	return o.breaker.ready(now) && (!o.breaker.open || o.inFlight < o.concurrency)
}

func (o *origin) betterLocked(than, tried *origin) bool {
	if o.health.down != than.health.down {
		return than.health.down
	}
	if tried != nil && (o == tried || than == tried) {
		return than == tried
	}
	return o.inFlight+o.waiting.Len() < than.inFlight+than.waiting.Len()
}

// reopensLocked is when the first of the breakers will be half-open.
func (p *Pool) reopensLocked(now time.Time) time.Duration {
	first := openMax
	for _, o := range p.origins {
		first = min(first, o.breaker.until.Sub(now))
	}
	return max(retryMin, first)
}

// wait ends when w is granted or told to look elsewhere, or with an error.
func (at *place) wait(ctx context.Context, w *waiter, late <-chan time.Time, limit time.Duration) *Error {
	var failed *Error
	select {
	case <-w.ready:
		return nil
	case <-late:
		failed = &Error{Kind: Queue, Origin: at.origin.name, Err: fmt.Errorf("%w, %v", errNoPlace, limit), after: retryMin}
	case <-ctx.Done():
		failed = &Error{Kind: Canceled, Origin: at.origin.name, Err: context.Cause(ctx)}
	}
	at.all.mu.Lock()
	for e := at.origin.waiting.Front(); e != nil; e = e.Next() {
		if e.Value == w {
			at.origin.waiting.Remove(e)
			break
		}
	}
	granted := w.granted
	at.all.mu.Unlock()
	if granted { // just as it gave up: the next one has it
		at.leave(neither, "")
	}
	return failed
}

// grantLocked gives free places to those who wait longest.
func (o *origin) grantLocked() {
	for o.inFlight < o.concurrency && o.waiting.Len() > 0 {
		o.inFlight++
		w := o.waiting.Remove(o.waiting.Front()).(*waiter)
		w.granted = true
		close(w.ready)
	}
}

// dismissLocked sends those who wait to look for another origin.
func (o *origin) dismissLocked() {
	for o.waiting.Len() > 0 {
		close(o.waiting.Remove(o.waiting.Front()).(*waiter).ready)
	}
}

// report says how the request went, if that was not said before.
func (at *place) report(how outcome, why string) {
	o := at.origin
	at.all.mu.Lock()
	changed := at.reportLocked(how, why)
	state := o.breaker.state(time.Now())
	at.all.mu.Unlock()
	switch {
	case changed && how == bad:
		at.all.logger.Warn("breaker opened", "origin", o.name, "err", why)
	case changed:
		at.all.logger.Info("breaker "+state, "origin", o.name)
	}
}

func (at *place) reportLocked(how outcome, why string) (changed bool) {
	if at.reported {
		return false
	}
	at.reported = true
	o, now := at.origin, time.Now()
	if how == bad {
		o.lastError = why
	}
	if changed = o.breaker.report(at.probe, how, now); changed {
		o.since = now
	}
	if changed && o.breaker.open {
		o.dismissLocked()
	}
	return changed
}

// leave gives the place back, once.
func (at *place) leave(how outcome, why string) {
	at.left.Do(func() {
		at.report(how, why)
		at.all.mu.Lock()
		defer at.all.mu.Unlock()
		at.origin.inFlight--
		at.origin.grantLocked()
	})
}
