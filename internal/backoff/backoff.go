// Package backoff spaces attempts: exponentially, with full jitter, so that
// those who failed together do not come back together.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff gives the waits between attempts. The zero value is not ready: give
// it its bounds.
type Backoff struct {
	First time.Duration // the wait after the first failure is up to this
	Most  time.Duration // no wait is longer
	tries int
}

// Next is how long to wait now: evenly spread between a tenth of the step and
// the step, which doubles each time.
func (b *Backoff) Next() time.Duration {
	step := b.Most
	if b.tries < 32 && b.First < b.Most>>b.tries { // doubling cannot overflow
		step = b.First << b.tries
	}
	b.tries++
	return step/10 + rand.N(step-step/10+1)
}

// Reset says that an attempt succeeded.
func (b *Backoff) Reset() { b.tries = 0 }
