package loop

import (
	"time"

	"github.com/chappe/chappe/internal/slab"
)

const (
	tick  = 25 * time.Millisecond
	slots = 2048 // of the wheel: 51 s; what is due later goes round
	stall = time.Second
	lazy  = 8 // ticks
)

// wheel holds the deadlines of connections in slots of a tick, as lists
// through their entries: nothing to allocate, to sort or to collect.
//
// Its clock stands still while the loop does: after more than a second in which
// the loop (or the whole machine) did not run, what was due is due in a second,
// when what came meanwhile has been read. So nobody is closed for a silence
// that was ours.
type wheel struct {
	heads [slots]uint32
	count int
	base  time.Time // of tick 0
	now   uint64    // tick of this turn
	fired uint64    // tick up to which deadlines have fired
	due   []uint32  // scratch of expire
}

func (w *wheel) start(now time.Time) { w.base = now }

// after is the tick that d from now falls into, at least one ahead, as an
// entry holds it: cut to 32 bits, and never 0.
func (w *wheel) after(d time.Duration) uint32 {
	return held(w.now + uint64(max(1, min((d+tick-1)/tick, 1<<30))))
}

// lazily is after, or up to lazy-1 ticks more, so that what is not pressing
// comes in few turns.
func (w *wheel) lazily(d time.Duration) uint32 {
	return held((w.now + uint64(max(1, min((d+tick-1)/tick, 1<<30))) + lazy - 1) / lazy * lazy)
}

func held(t uint64) uint32 { return max(1, uint32(t)) }

func (w *wheel) add(entries *slab.Slab[entry], i uint32, e *entry, due uint32) {
	if e.due == due {
		return
	}
	w.remove(entries, i, e)
	head := &w.heads[due%slots]
	e.due, e.prev, e.next = due, 0, *head
	if *head != 0 {
		entries.At(*head).prev = i
	}
	*head = i
	w.count++
}

func (w *wheel) remove(entries *slab.Slab[entry], i uint32, e *entry) {
	if e.due == 0 {
		return
	}
	if e.prev != 0 {
		entries.At(e.prev).next = e.next
	} else {
		w.heads[e.due%slots] = e.next
	}
	if e.next != 0 {
		entries.At(e.next).prev = e.prev
	}
	e.due, e.prev, e.next = 0, 0, 0
	w.count--
}

// wait is how long it is until the next slot that holds something.
func (w *wheel) wait(now time.Time) (d time.Duration, ok bool) {
	if w.count == 0 {
		return 0, false
	}
	return max(0, w.time(w.next()).Sub(now)), true
}

// next is the next tick whose slot holds something, which some slot does.
func (w *wheel) next() uint64 {
	next := w.fired + 1
	for w.heads[next%slots] == 0 {
		next++
	}
	return next
}

func (w *wheel) time(t uint64) time.Time { return w.base.Add(time.Duration(t) * tick) }

// advance sets the clock and returns how late the earliest deadline is. After a
// stall the clock stands a second before it.
func (w *wheel) advance(now time.Time) (late time.Duration) {
	if w.count > 0 {
		late = max(0, now.Sub(w.time(w.next())))
	}
	if late > stall {
		w.base = w.base.Add(late + stall)
	}
	w.now = max(w.now, uint64(max(0, now.Sub(w.base))/tick))
	return late
}

// expire calls fire for what is due by now, which the call may set anew.
func (w *wheel) expire(entries *slab.Slab[entry], fire func(i uint32, e *entry)) {
	for w.count > 0 && w.fired < w.now {
		w.fired++
		w.due = w.due[:0] // the list changes while they fire
		for i := w.heads[w.fired%slots]; i != 0; i = entries.At(i).next {
			if entries.At(i).due == held(w.fired) {
				w.due = append(w.due, i)
			}
		}
		for _, i := range w.due {
			if e := entries.At(i); e.due == held(w.fired) {
				w.remove(entries, i, e)
				fire(i, e)
			}
		}
	}
	w.fired = w.now
}
