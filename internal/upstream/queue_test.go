package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/upstream"
)

var urlError = url.Error{Op: "Get", URL: "http://a/?token=secret", Err: errors.New("nothing there")}

func TestConcurrencyIsBounded(t *testing.T) {
	const bound, all = 3, 40
	var inFlight, most atomic.Int32
	full, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(http.ResponseWriter, *http.Request) {
		now := inFlight.Add(1)
		defer inFlight.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		if now == bound {
			select {
			case full <- struct{}{}:
			case <-release:
			}
		}
		<-release
	})
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{s.URL}, Concurrency: bound})
	var clients sync.WaitGroup
	for range all {
		clients.Go(func() {
			if _, _, err := do(p, request(t, http.MethodGet, "/", nil)); err != nil {
				t.Error(err)
			}
		})
	}
	<-full
	close(release)
	clients.Wait()
	if got := most.Load(); got != bound {
		t.Errorf("%d requests were at the origin at once, want %d", got, bound)
	}
}

// busy makes a pool whose only place is taken until free is called.
func busy(t *testing.T, opt upstream.Options) (o *upstream.Origins, p *upstream.Pool, free, end func()) {
	n := newPipes()
	n.on("a:80", says(fine))
	o, end = bubble(t, n)
	opt.URLs, opt.Concurrency = []string{"http://a"}, 1
	p = newPool(t, o, opt)
	held, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	return o, p, func() { _, _ = io.Copy(io.Discard, held.Body); held.Body.Close() }, end
}

func TestQueueIsFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, p, free, end := busy(t, upstream.Options{})
		defer end()
		const waiting = 10
		var mu sync.Mutex
		var order []int
		var clients sync.WaitGroup
		for i := range waiting {
			clients.Go(func() {
				answer, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			})
			synctest.Wait()
		}
		if got := o.States()[0]; got.Waiting != waiting || got.InFlight != 1 {
			t.Errorf("state %+v, want %d waiting and 1 in flight", got, waiting)
		}
		free()
		clients.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(order, want) {
			t.Errorf("served %v, want %v", order, want)
		}
	})
}

func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, p, free, end := busy(t, upstream.Options{Queue: 3 * time.Second})
		defer end()
		defer free()
		body := &closable{}
		start := time.Now()
		_, err := p.RoundTrip(request(t, http.MethodPost, "/", body))
		failed := wantKind(t, err, upstream.Queue)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it waited %v, want 3s", took)
		}
		if failed.Status() != http.StatusServiceUnavailable || failed.RetryAfter() < time.Second {
			t.Errorf("status %d, retry after %v, want 503 and at least 1s", failed.Status(), failed.RetryAfter())
		}
		if !body.closed {
			t.Error("the body was not closed")
		}
		if got := o.States()[0].Waiting; got != 0 {
			t.Errorf("%d still wait", got)
		}
	})
}

type closable struct{ closed bool }

func (c *closable) Read([]byte) (int, error) { return 0, io.EOF }
func (c *closable) Close() error             { c.closed = true; return nil }

func TestQueueLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p, free, end := busy(t, upstream.Options{QueueLength: 2})
		defer end()
		var clients sync.WaitGroup
		for range 2 {
			clients.Go(func() {
				if _, _, err := get(t, p); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		_, _, err := get(t, p)
		wantKind(t, err, upstream.Queue)
		if took := time.Since(start); took != 0 {
			t.Errorf("it was refused after %v, want at once", took)
		}
		free()
		clients.Wait()
	})
}

func TestCanceledInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, p, free, end := busy(t, upstream.Options{})
		defer end()
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		clients.Go(func() {
			_, err := p.RoundTrip(request(t, http.MethodGet, "/", nil).WithContext(ctx))
			wantKind(t, err, upstream.Canceled)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want it to wrap context.Canceled", err)
			}
		})
		synctest.Wait()
		clients.Go(func() {
			if _, _, err := get(t, p); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		free() // perhaps to the one that is going
		clients.Wait()
		want := upstream.State{URL: "http://a", Up: true, Breaker: "closed", Since: o.States()[0].Since}
		if diff := cmp.Diff(want, o.States()[0]); diff != "" {
			t.Errorf("state (-want +got):\n%s", diff)
		}
	})
}

func TestQueueLeavesWhenBreakerOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		release := make(chan struct{})
		n.on("a:80", once("", false))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Concurrency: 1})
		_ = post(t, p) // the first of five failures
		time.Sleep(time.Second)
		n.on("a:80", func(c net.Conn) { <-release; once("", false)(c) })
		var clients sync.WaitGroup
		kinds := make(chan upstream.Kind, 7)
		for range 7 {
			clients.Go(func() {
				_, _, err := do(p, request(t, http.MethodPost, "/", nil))
				if failed, ok := errors.AsType[*upstream.Error](err); ok {
					kinds <- failed.Kind
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		close(release)
		clients.Wait()
		close(kinds)
		count := map[upstream.Kind]int{}
		for k := range kinds {
			count[k]++
		}
		want := map[upstream.Kind]int{upstream.Reset: 4, upstream.Open: 3}
		if diff := cmp.Diff(want, count); diff != "" || time.Since(start) != 0 {
			t.Errorf("after %v, kinds (-want +got):\n%s", time.Since(start), diff)
		}
	})
}
