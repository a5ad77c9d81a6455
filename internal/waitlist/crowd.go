package waitlist

import "sync"

// Crowd counts those who wait, by what they wait for.
type Crowd[K comparable] struct {
	Most int // that wait, for whatever

	mu    sync.Mutex
	byKey map[K]int
	total int
}

// Enter counts one more for k, unless there are most already. Leave is to be
// called when it no longer waits.
func (c *Crowd[K]) Enter(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= c.Most {
		return false
	}
	if c.byKey == nil {
		c.byKey = map[K]int{}
	}
	c.byKey[k]++
	c.total++
	return true
}

// Leave counts one less.
func (c *Crowd[K]) Leave(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.byKey[k]--; c.byKey[k] == 0 {
		delete(c.byKey, k)
	}
}

// Has reports whether somebody waits for k.
func (c *Crowd[K]) Has(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[k] > 0
}

// Len is how many wait.
func (c *Crowd[K]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}
