package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
)

// gate holds an origin's answers until it is opened.
type gate struct {
	entered chan struct{} // one for each request
	open    chan struct{}
	once    sync.Once
}

func newGate(t testing.TB) *gate {
	g := &gate{entered: make(chan struct{}, 10_000), open: make(chan struct{})}
	t.Cleanup(g.release)
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// pass waits for the gate, or the end of the request.
func (g *gate) pass(r *http.Request) {
	g.entered <- struct{}{}
	select {
	case <-g.open:
	case <-r.Context().Done():
	}
}

// wait waits until that many requests came.
func (g *gate) wait(t testing.TB, n int) {
	t.Helper()
	end := time.After(patience)
	for i := range n {
		select {
		case <-g.entered:
		case <-end:
			t.Fatalf("%d requests came to the origin, want %d", i, n)
		}
	}
}

// crowd makes n requests at once, and checks each answer when it has all.
func crowd(t *testing.T, s *site, n int, path string, check func(i int, a *answer), fields func(i int) []string) (wait func()) {
	t.Helper()
	answers, errs := make([]*answer, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		var f []string
		if fields != nil {
			f = fields(i)
		}
		all.Go(func() { answers[i], errs[i] = s.try(t.Context(), http.MethodGet, path, "", f...) })
	}
	return func() {
		t.Helper()
		all.Wait()
		for i := range n {
			if errs[i] != nil {
				t.Errorf("request %d: %v", i, errs[i])
				continue
			}
			check(i, answers[i])
		}
	}
}

// in waits until that many requests wait for fetches.
func (s *site) in(t *testing.T, n int) {
	t.Helper()
	await(t, fmt.Sprintf("the wait of %d requests for fetches", n), func() bool { return s.count(t, "chappe_gateway_queued", "") >= float64(n) })
}

// A thousand ask for the same: the origin is asked once, and all have its answer.
func TestOneFlight(t *testing.T) {
	const n = 1000
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.pass(r)
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "shared")
		}), route.Config{}, nil)
		var collapsed atomic.Int32
		wait := crowd(t, s, n, "/", func(_ int, a *answer) {
			a.want(t, 200, "shared")
			if strings.Contains(a.header.Get("Cache-Status"), "; collapsed") {
				collapsed.Add(1)
			}
		}, nil)
		g.wait(t, 1)
		s.in(t, n)
		g.release()
		wait()
		if s.asked() != 1 || collapsed.Load() != n-1 {
			t.Errorf("the origin was asked %d times for %d requests, of which %d shared another's", s.asked(), n, collapsed.Load())
		}
	})
}

// Whenever they come, the origin is asked once: also those who found nothing
// stored, just before the flight that they would have joined ended.
func TestOneFlightUnaligned(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, &actor{step: step{give: fresh}}, route.Config{}, nil)
		for round := range 50 {
			crowd(t, s, 50, fmt.Sprint("/", round), func(_ int, a *answer) { a.want(t, 200, "body 0") }, nil)()
			if s.asked() != round+1 {
				t.Fatalf("after %d rounds the origin was asked %d times", round+1, s.asked())
			}
		}
	})
}

// The client whose request it was leaves; the others have the answer, and so
// has the store.
func TestLeaderLeaves(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.pass(r)
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "shared")
		}), route.Config{}, nil)
		ctx, leave := context.WithCancel(t.Context())
		var led error
		var leader sync.WaitGroup
		leader.Go(func() { _, led = s.try(ctx, http.MethodGet, "/", "") })
		g.wait(t, 1)
		wait := crowd(t, s, 5, "/", func(_ int, a *answer) { a.want(t, 200, "shared") }, nil)
		s.in(t, 6)
		leave()
		leader.Wait()
		if led == nil {
			t.Error("the leader has an answer although it left")
		}
		g.release()
		wait()
		if s.asked() != 1 || !s.get(t, "/").isHit() {
			t.Errorf("the origin was asked %d times, want 1, and a hit after that", s.asked())
		}
	})
}

// All clients leave, and the flight goes on.
func TestAllLeave(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.pass(r)
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "kept")
		}), route.Config{}, nil)
		ctx, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { _, _ = s.try(ctx, http.MethodGet, "/", "") }) // it has no answer
		}
		g.wait(t, 1)
		s.in(t, 3)
		leave()
		all.Wait()
		g.release()
		await(t, "a hit", func() bool { return s.get(t, "/").isHit() })
		if s.asked() != 1 {
			t.Errorf("the origin was asked %d times, want 1", s.asked())
		}
	})
}

// After the first answer that cannot be shared, requests do not wait for each
// other: twenty are at the origin at once.
func TestHitForMiss(t *testing.T) {
	const n = 20
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		var first atomic.Bool
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if first.Swap(true) {
				g.pass(r)
			}
			w.Header().Set("Cache-Control", "private")
			_, _ = io.WriteString(w, "mine")
		}), route.Config{}, nil)
		s.get(t, "/").want(t, 200, "mine")
		wait := crowd(t, s, n, "/", func(_ int, a *answer) { a.want(t, 200, "mine") }, nil)
		g.wait(t, n)
		g.release()
		wait()
	})
}

// Those who waited for what turns out to be another's ask for themselves.
func TestNotShared(t *testing.T) {
	const n = 20
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		var number atomic.Int64
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i := number.Add(1)
			if i == 1 {
				g.pass(r)
			}
			w.Header().Set("Set-Cookie", "a=b")
			_, _ = fmt.Fprint(w, i)
		}), route.Config{}, nil)
		seen := map[string]bool{}
		wait := crowd(t, s, n, "/", func(_ int, a *answer) { seen[a.body] = true }, nil)
		g.wait(t, 1)
		s.in(t, n)
		g.release()
		wait()
		if len(seen) != n || s.asked() != n {
			t.Errorf("%d clients have %d answers, after %d fetches", n, len(seen), s.asked())
		}
	})
}

// A fetch that failed is over: the next request is another.
func TestFailureEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		var failed atomic.Bool
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !failed.Load() {
				g.pass(r)
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "well again")
		}), route.Config{}, nil)
		wait := crowd(t, s, 10, "/", func(_ int, a *answer) {
			if a.status != http.StatusBadGateway || a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, "upstream-failed") {
				t.Errorf("answer %d %q, want 502", a.status, a.body)
			}
		}, nil)
		g.wait(t, 1)
		s.in(t, 10)
		g.release()
		wait()
		asked := s.asked()
		failed.Store(true)
		s.get(t, "/").want(t, 200, "well again")
		if asked > 2 { // one flight of two tries
			t.Errorf("ten GETs were tried %d times, want 2 at the most", asked)
		}
	})
}

// Two that differ in what Vary names have each their own, from one flight or two.
func TestVariantsInFlight(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.pass(r)
			w.Header().Set("Vary", "Accept-Language")
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, r.Header.Get("Accept-Language"))
		}), route.Config{}, nil)
		languages := []string{"de", "en", "fr"}
		wait := crowd(t, s, 30, "/", func(i int, a *answer) { a.want(t, 200, languages[i%3]) },
			func(i int) []string { return []string{"Accept-Language", languages[i%3]} })
		g.wait(t, 1)
		s.in(t, 30)
		g.release()
		wait()
		for _, l := range languages {
			if a := s.get(t, "/", "Accept-Language", l); !a.isHit() || a.body != l {
				t.Errorf("%s is answered %q %v, want a hit", l, a.body, a.header)
			}
		}
		if s.asked() != 3 {
			t.Errorf("the origin was asked %d times for 3 variants", s.asked())
		}
	})
}

// What is larger than may be stored passes through whole, in pieces.
func TestLargeObject(t *testing.T) {
	sizes := map[string]int{"/told": 100 << 20, "/chunked": 20 << 20}
	piece := make([]byte, 64<<10)
	for i := range piece {
		piece[i] = byte(i * 7)
	}
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			size := sizes[r.URL.Path]
			if r.URL.Path == "/told" {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			for range size / len(piece) {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		}), route.Config{}, func(o *gateway.Options) { o.Cache.Size, o.Cache.Object = 16<<20, 1<<20 })
		for path, size := range sizes {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			res, err := s.client.RoundTrip(request(t, s.url+path))
			if err != nil {
				t.Fatal(err)
			}
			check := &checker{piece: piece}
			n, err := io.Copy(check, res.Body)
			res.Body.Close()
			if n != int64(size) || err != nil || check.wrong {
				t.Errorf("%s: %d bytes, %v, wrong: %v; want %d", path, n, err, check.wrong, size)
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > int64(size)/4+4<<20 {
				t.Errorf("%s: %d bytes were allocated for %d that passed through", path, grown, size)
			}
			if stored := s.count(t, "chappe_gateway_stored_bytes", ""); stored > 1<<20 {
				t.Errorf("%s: %v bytes are stored", path, stored)
			}
		}
		if a := s.get(t, "/told"); a.isHit() {
			t.Error("a large object is stored")
		}
	})
}

func request(t testing.TB, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checker reads what repeats the piece.
type checker struct {
	piece []byte
	at    int
	wrong bool
}

func (c *checker) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0 && !c.wrong; {
		at := c.at % len(c.piece)
		n := min(len(rest), len(c.piece)-at)
		c.wrong = !bytes.Equal(rest[:n], c.piece[at:at+n])
		rest, c.at = rest[n:], c.at+n
	}
	return len(b), nil
}

// lines is an origin that gives the same bytes to each connection, and hangs up.
func lines(t testing.TB, text string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				if _, err := conn.Read(make([]byte, 16<<10)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, text) // it may be cut
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return "http://" + l.Addr().String()
}

// An answer that is not whole is given to nobody as if it were, and not stored.
func TestBrokenAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"cut before the length":   "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nhalf",
		"cut between chunks":      "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"cut in a private one":    "HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 100\r\n\r\nhalf",
		"cut in the head":         "HTTP/1.1 200 OK\r\nCache-Con",
		"two lengths":             "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhalf",
		"no HTTP":                 "hello\r\n\r\n",
		"a large one that is cut": "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat("half", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, start starter) {
				s := start(t, nil, route.Config{Upstream: []string{lines(t, text)}}, nil)
				for range 2 {
					a, err := s.try(t.Context(), http.MethodGet, "/", "")
					if err == nil && a.err == nil && a.status < 500 {
						t.Errorf("answer %d %.20q as if it were whole; %v", a.status, a.body, a.header)
					}
				}
				if n := s.count(t, "chappe_gateway_stored_bytes", ""); n > 2000 {
					t.Errorf("%v bytes are stored", n)
				}
			})
		})
	}
}

// What comes after the stated length is nobody's, above all not the next
// client's.
func TestLongerThanStated(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		const one = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\ntrue"
		s := start(t, nil, route.Config{Upstream: []string{lines(t, one+"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse")}}, nil)
		for _, path := range []string{"/a", "/b", "/a", "/b"} {
			if a, err := s.try(t.Context(), http.MethodGet, path, ""); err == nil && a.body == "false" {
				t.Errorf("%s is answered by what came after another answer", path)
			}
		}
	})
}
