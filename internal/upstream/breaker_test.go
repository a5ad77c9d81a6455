package upstream_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/internal/upstream"
)

// wantBreaker also looks whether a request is refused at once when it is open.
func wantBreaker(t *testing.T, o *upstream.Origins, want string) {
	t.Helper()
	if got := o.States()[0].Breaker; got != want {
		t.Fatalf("breaker %s, want %s (%+v)", got, want, o.States()[0])
	}
}

func post(t *testing.T, p *upstream.Pool) error {
	t.Helper()
	_, _, err := do(p, request(t, http.MethodPost, "/", nil))
	return err
}

func TestBreakerCounts(t *testing.T) {
	tests := []struct {
		name   string
		script func(net.Conn)
		opens  bool
	}{
		{"no connection", nil, true},
		{"no head", once("", true), true},
		{"cut", once("", false), true},
		{"cut body", once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false), true},
		{"garbage", once("SSH-2.0\r\n\r\n", false), true},
		{"502", says(status("502")), true},
		{"503", says(status("503")), true},
		{"504", says(status("504")), true},
		{"500", says(status("500")), false},
		{"404", says(status("404")), false},
		{"quiet stream", once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true), false},
		{"long stream", drip(time.Second), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipes()
				n.on("a:80", tt.script)
				o, end := bubble(t, n)
				defer end()
				p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Times: times})
				for range 4 {
					_ = post(t, p)
					time.Sleep(time.Second / 4)
				}
				wantBreaker(t, o, "closed")
				_ = post(t, p)
				want := "closed"
				if tt.opens {
					want = "open"
				}
				wantBreaker(t, o, want)
			})
		})
	}
}

// failFor has five requests fail, the first and the last so far apart.
func failFor(t *testing.T, p *upstream.Pool, d time.Duration) {
	t.Helper()
	for i := range 5 {
		if i > 0 {
			time.Sleep(d / 4)
		}
		_ = post(t, p)
	}
}

// TestBreakerBearsOneFault has an origin cut many requests at once, as when one
// of its processes dies.
func TestBreakerBearsOneFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", once("", false))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}})
		failFor(t, p, time.Second/2)
		wantBreaker(t, o, "closed")
		time.Sleep(time.Second / 2)
		_ = post(t, p)
		wantBreaker(t, o, "open")
	})
}

func TestBreakerCountsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}})
		for range 3 {
			n.on("a:80", once("", false))
			for range 4 {
				_ = post(t, p)
			}
			n.on("a:80", once(fine, false))
			if err := post(t, p); err != nil {
				t.Fatal(err)
			}
		}
		wantBreaker(t, o, "closed")
	})
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", once("", false))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}})
		failFor(t, p, time.Second)
		for _, step := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			step *= time.Second
			wantBreaker(t, o, "open")
			failed := wantKind(t, post(t, p), upstream.Open)
			if after := failed.RetryAfter(); after < step || after > step*6/5 || failed.Status() != http.StatusServiceUnavailable {
				t.Errorf("status %d, retry after %v, want 503 and %v or a little more", failed.Status(), after, step)
			}
			time.Sleep(step - 1)
			wantBreaker(t, o, "open")
			time.Sleep(step/5 + 1)
			wantBreaker(t, o, "half-open")
			wantKind(t, post(t, p), upstream.Reset) // the probe
		}

		// It recovers; while the probe is on its way, all others are refused.
		time.Sleep(36 * time.Second)
		answer := make(chan struct{})
		n.on("a:80", func(conn net.Conn) { <-answer; says(fine)(conn) })
		before := n.dialed("a:80")
		var clients sync.WaitGroup
		clients.Go(func() {
			if err := post(t, p); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 3 {
			wantKind(t, post(t, p), upstream.Open)
		}
		close(answer)
		clients.Wait()
		wantBreaker(t, o, "closed")
		if got := n.dialed("a:80") - before; got != 1 {
			t.Errorf("%d connections while half-open, want 1", got)
		}
		if err := post(t, p); err != nil {
			t.Error(err)
		}
	})
}

func TestProbeWhoseClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", once("", false))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}})
		failFor(t, p, time.Second)
		time.Sleep(2 * time.Second)
		body := &slowly{end: http.ErrAbortHandler}
		_, _, err := do(p, request(t, http.MethodPost, "/", body))
		wantKind(t, err, upstream.Canceled)
		wantBreaker(t, o, "half-open")
		n.on("a:80", says(fine))
		if err := post(t, p); err != nil {
			t.Errorf("the next probe: %v", err)
		}
		wantBreaker(t, o, "closed")
	})
}

func TestOpenOriginIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", once("", false))
		n.on("b:80", says(fine))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a", "http://b"}})
		for range 10 {
			_ = post(t, p)
			time.Sleep(time.Second / 5)
		}
		wantBreaker(t, o, "open")
		for range 10 {
			if err := post(t, p); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		answers := map[string]string{"a": status("200"), "b": status("302")}
		n := newPipes()
		for _, name := range []string{"a", "b"} {
			n.on(name+":80", func(conn net.Conn) { // each is asked over a new one
				mu.Lock()
				text := answers[name]
				mu.Unlock()
				once(strings.Replace(text, "\r\n", "\r\nConnection: close\r\nOrigin: "+name+"\r\n", 1), false)(conn)
			})
		}
		set := func(name, text string) {
			mu.Lock()
			answers[name] = text
			mu.Unlock()
		}
		o, end := bubble(t, n)
		defer end()
		var running sync.WaitGroup
		defer running.Wait()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		running.Go(func() { o.Run(ctx) })
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a", "http://b"}, Health: "/health?full", HealthEvery: time.Second})
		seen := func() map[string]int {
			count := map[string]int{}
			for range 10 {
				answer, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				count[answer.Header.Get("Origin")]++
			}
			return count
		}
		expect := func(when string, a, b bool) {
			t.Helper()
			synctest.Wait()
			if states := o.States(); states[0].Up != a || states[1].Up != b {
				t.Errorf("%s: up %v and %v, want %v and %v", when, states[0].Up, states[1].Up, a, b)
			}
			if count := seen(); a != b && ((count["a"] == 0) == a || (count["b"] == 0) == b) || a == b && count["a"] != 5 {
				t.Errorf("%s: requests went to %v", when, count)
			}
		}
		expect("at first", true, true)
		set("a", status("500"))
		time.Sleep(time.Second)
		expect("after one failure", true, true)
		time.Sleep(time.Second)
		expect("after two", false, true)
		if got := o.States()[0]; got.Since != time.Now() || got.LastError != "health: /health answered 500" {
			t.Errorf("state %+v", got)
		}
		set("b", status("404"))
		time.Sleep(2 * time.Second)
		expect("all down", false, false)
		set("a", status("204"))
		time.Sleep(time.Second)
		expect("one is back", true, false)
	})
}
