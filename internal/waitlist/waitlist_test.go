package waitlist_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/waitlist"
)

// One too many has the oldest leave, once it has waited its least time; those
// that are done, or wait for something else, do not count.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := waitlist.List{Most: 2, Least: 5 * time.Second}
		type leaving struct {
			Name string
			At   time.Duration
		}
		var mu sync.Mutex
		var left []leaving
		began := time.Now()
		enter := func(key, name string) (done func()) {
			return l.Enter(key, func() {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, leaving{name, time.Since(began)})
			})
		}
		enter("a", "first")()
		enter("b", "other")
		enter("a", "second")
		time.Sleep(time.Second)
		enter("a", "third")
		time.Sleep(time.Second)
		enter("a", "fourth") // the second has waited 2 s
		time.Sleep(time.Minute)
		enter("a", "fifth") // the third a minute
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := []leaving{{"second", 5 * time.Second}, {"third", 62 * time.Second}}
		if diff := cmp.Diff(want, left); diff != "" {
			t.Errorf("who left (-want +got):\n%s", diff)
		}
	})
}
