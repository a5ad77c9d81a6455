package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/slab"
)

// clocked is a wheel whose time is the test's.
type clocked struct {
	wheel
	entries slab.Slab[entry]
	now     time.Time
	fired   []uint32
}

func newClocked() *clocked {
	c := &clocked{now: time.Unix(1_000_000, 0)}
	c.start(c.now)
	return c
}

func (c *clocked) wake(i uint32, d time.Duration) {
	c.add(&c.entries, i, c.entries.At(i), c.after(d))
}

// pass lets time go by in turns of the given length.
func (c *clocked) pass(d, turn time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); {
		c.now = c.now.Add(min(turn, end.Sub(c.now)))
		c.advance(c.now)
		c.expire(&c.entries, func(i uint32, _ *entry) { c.fired = append(c.fired, i) })
	}
}

// Deadlines fire once, in their order, no tick too early and none late.
func TestWheelOrder(t *testing.T) {
	c := newClocked()
	r := rand.New(rand.NewPCG(1, 2))
	due := map[uint32]time.Duration{}
	for range 2000 {
		i := c.entries.Add()
		c.wake(i, time.Duration(r.IntN(120_000))*time.Millisecond)
		due[i] = time.Duration(r.IntN(120_000)) * time.Millisecond
		c.wake(i, due[i]) // in place of the first
		if i%5 == 0 {
			c.remove(&c.entries, i, c.entries.At(i))
			delete(due, i)
		}
	}
	for at := time.Duration(0); at <= 121*time.Second; at += tick {
		c.fired = c.fired[:0]
		c.pass(tick, tick)
		for _, i := range c.fired {
			if d, ok := due[i]; !ok || at+tick < d || at-2*tick > d {
				t.Fatalf("%d fired at %v, due at %v", i, at+tick, due[i])
			}
			delete(due, i)
		}
	}
	if len(due) > 0 || c.count != 0 {
		t.Errorf("%d never fired; %d are left", len(due), c.count)
	}
}

// After a minute in which nothing ran, what was due is due a little later:
// nobody is closed for a silence that was ours.
func TestWheelStandsStill(t *testing.T) {
	c := newClocked()
	var all []uint32
	for n := range 100 {
		i := c.entries.Add()
		all = append(all, i)
		c.wake(i, 10*time.Second+time.Duration(n)*100*time.Millisecond)
	}
	c.pass(5*time.Second, tick)
	before := c.wheel.now
	c.now = c.now.Add(time.Minute)
	if late := c.advance(c.now); late < 50*time.Second {
		t.Errorf("advance says it is %v late", late)
	}
	c.expire(&c.entries, func(i uint32, _ *entry) { c.fired = append(c.fired, i) })
	c.pass(stall-2*tick, tick)
	if len(c.fired) > 0 {
		t.Errorf("%d fired at once after the stall", len(c.fired))
	}
	if went := time.Duration(c.wheel.now-before) * tick; went > 5*time.Second {
		t.Errorf("the clock went on by %v", went)
	}
	c.pass(15*time.Second, tick)
	if slices.Sort(c.fired); !slices.Equal(c.fired, all) {
		t.Errorf("%d fired in the end, want %d, each once", len(c.fired), len(all))
	}
}

// A late deadline sets others, or its own, anew.
func TestWheelReentrant(t *testing.T) {
	c := newClocked()
	a, b := c.entries.Add(), c.entries.Add()
	c.wake(a, tick)
	c.wake(b, tick)
	fired := 0
	for range 10 {
		c.now = c.now.Add(tick)
		c.advance(c.now)
		c.expire(&c.entries, func(i uint32, _ *entry) {
			fired++
			c.wake(i, tick)
			if i == a {
				c.remove(&c.entries, b, c.entries.At(b))
			}
		})
	}
	if fired < 8 || c.count != 1 {
		t.Errorf("%d fired, %d are left; a is to go on and b to stop", fired, c.count)
	}
}
