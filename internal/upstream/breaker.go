package upstream

import (
	"math/rand/v2"
	"time"
)

// outcome of a request, as far as it says something of its origin.
type outcome int

const (
	neither outcome = iota // the client went away, or was slow
	good
	bad
)

// A breaker opens after so many failures in a row that last so long, at first for openMin, for
// twice as long after each probe that fails, and up to openMax.
const (
	failuresToOpen = 5
	failingToOpen  = time.Second // since the first of them: one fault that cuts several requests is no outage
	openMin        = time.Second
	openMax        = 30 * time.Second
)

// breaker keeps requests from an origin that fails. When the time it is open is
// over it is half-open: one request is let through as the probe, and decides.
// The zero value is closed. It is guarded by Origins.mu.
type breaker struct {
	failures int       // in a row, while closed
	since    time.Time // the first of them
	open     bool
	until    time.Time // half-open from then on
	step     time.Duration
	probing  bool // the probe is on its way
}

func (b *breaker) ready(now time.Time) bool {
	return !b.open || !b.probing && !now.Before(b.until)
}

// enter is called for a request that is let through; it may be the probe.
func (b *breaker) enter() (probe bool) {
	if b.open {
		b.probing = true
	}
	return b.open
}

// report says how a request ended, and whether that opened or closed the breaker.
func (b *breaker) report(probe bool, how outcome, now time.Time) (changed bool) {
	if probe {
		return b.probed(how, now)
	}
	if b.open || how == neither {
		return false // what was sent before it opened does not decide
	}
	if how == good {
		b.failures = 0
		return false
	}
	if b.failures++; b.failures == 1 {
		b.since = now
	}
	if b.failures < failuresToOpen || now.Sub(b.since) < failingToOpen {
		return false
	}
	b.openFor(openMin, now)
	return true
}

func (b *breaker) probed(how outcome, now time.Time) (changed bool) {
	b.probing = false
	switch how {
	case good:
		*b = breaker{}
	case bad:
		b.openFor(min(2*b.step, openMax), now)
	}
	return how != neither
}

// openFor adds jitter, so that several proxies do not probe at once.
func (b *breaker) openFor(step time.Duration, now time.Time) {
	b.open, b.step, b.failures = true, step, 0
	b.until = now.Add(step + rand.N(step/5))
}

func (b *breaker) state(now time.Time) string {
	switch {
	case !b.open:
		return "closed"
	case now.Before(b.until):
		return "open"
	}
	return "half-open"
}
