package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// phase of an attempt: what is waited for.
type phase int

const (
	starting   phase = iota // nothing was tried
	connecting              // for a connection
	sent                    // for the response head
	answered                // for the response body
	over
)

// lateError is why an attempt was cancelled: time is over.
type lateError struct {
	text  string
	fault bool // the origin's, not the client's
}

func (e *lateError) Error() string { return e.text }

// clock cancels an attempt that takes too long. It runs only while the origin
// is waited for: the client may be slow until the total time is over.
type clock struct {
	times  Times
	end    time.Time // the total
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	phase phase
	timer *time.Timer
	until time.Time
	late  *lateError // what it will be at until
}

func newClock(times Times, end time.Time, cancel context.CancelCauseFunc) *clock {
	c := &clock{times: times, end: end, cancel: cancel}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(time.Until(end), c.fire)
	c.pauseLocked()
	return c
}

// enter begins a phase.
func (c *clock) enter(p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == over {
		return
	}
	c.phase = p
	switch p {
	case answered:
		c.pauseLocked() // the body is waited for only while it is read
	case over:
		c.timer.Stop()
	default:
		c.runLocked()
	}
}

// run and pause are called by the body that is read in the phase: the request's,
// which waits for the client, while sent, or the response's, while answered.
func (c *clock) run(during phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == during {
		c.runLocked()
	}
}

func (c *clock) pause(during phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == during {
		c.pauseLocked()
	}
}

func (c *clock) current() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase
}

func (c *clock) runLocked() {
	switch c.phase {
	case connecting:
		c.withinLocked(c.times.Connect, "no connection", true)
	case sent:
		c.withinLocked(c.times.Head, "no response head", true)
	case answered: // no fault: a stream may have nothing to say
		c.withinLocked(c.times.Body, "no more of the body", false)
	}
}

func (c *clock) pauseLocked() { c.withinLocked(c.times.Total, "", false) }

func (c *clock) withinLocked(limit time.Duration, what string, fault bool) {
	c.until = time.Now().Add(limit)
	c.late = &lateError{what + fmt.Sprintf(" within %v", limit), fault}
	if !c.end.After(c.until) {
		c.until, c.late = c.end, &lateError{fmt.Sprintf("not done within %v", c.times.Total), fault}
	}
	c.timer.Reset(time.Until(c.until))
}

// fire may come just as the time was prolonged.
func (c *clock) fire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == over {
		return
	}
	if left := time.Until(c.until); left > 0 {
		c.timer.Reset(left)
		return
	}
	c.cancel(c.late)
}
