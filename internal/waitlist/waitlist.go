// Package waitlist bounds how many wait for the same thing: when there is one
// too many, the one that has waited longest is told to go.
package waitlist

import (
	"sync"
	"time"
)

// List is of those who wait, by what they wait for.
type List struct {
	Most  int           // that wait for the same
	Least time.Duration // that each may wait at least

	mu    sync.Mutex
	byKey map[string][]*waiter
}

type waiter struct {
	leave func()
	since time.Time
}

// Enter adds one, whose leave is called, by a goroutine of its own, when it is
// to make room. Done is to be called when it no longer waits.
func (l *List) Enter(key string, leave func()) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[string][]*waiter{}
	}
	own := &waiter{leave, time.Now()}
	list := append(l.byKey[key], own)
	if len(list) > l.Most {
		time.AfterFunc(l.Least-time.Since(list[0].since), list[0].leave)
		list = list[1:]
	}
	l.byKey[key] = list
	return func() { l.remove(key, own) }
}

func (l *List) remove(key string, own *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.byKey[key]
	for i, w := range list {
		if w == own {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if l.byKey[key] = list; len(list) == 0 {
		delete(l.byKey, key)
	}
}
