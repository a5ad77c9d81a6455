package backoff_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/internal/backoff"
)

// The hint for reconnecting follows how many there are and how quickly they
// were seen to be let in.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, waiting := 0, 0
		s := backoff.NewSpread(func() int { return open }, func() int { return waiting })
		opened := func(n int) {
			for range n {
				s.Opened()
			}
		}
		want := func(what string, most time.Duration) {
			t.Helper()
			if least, got := s.Bounds(); least != time.Second || got != most {
				t.Errorf("%s: spread over %v to %v, want 1s to %v", what, least, got, most)
			}
			for range 100 {
				if d := s.Pick(); d < time.Second || d >= most {
					t.Errorf("%s: a pick of %v", what, d)
				}
			}
		}
		want("nobody", 10*time.Second)
		open = 100_000
		want("at the likely rate", 24*time.Second)

		time.Sleep(time.Second)
		opened(20_000)
		want("after a quick second", 10*time.Second)

		time.Sleep(time.Second)
		opened(1000)
		want("a quiet second says nothing", 10*time.Second)

		time.Sleep(time.Second)
		waiting = 1
		opened(1000)
		want("with others waiting it does", 2*time.Minute)

		time.Sleep(time.Second)
		want("nobody let in at all", 5*time.Minute)

		time.Sleep(time.Second)
		waiting = 0
		opened(10_000)
		want("it is over", 12*time.Second)
	})
}
