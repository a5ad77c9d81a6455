package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
)

// board is an origin whose answers change when they are told to.
type board struct {
	version atomic.Int64
	control string        // Cache-Control; "max-age=3600" if not given
	before  func(v int64) // is called with what is about to be answered; may be nil
}

func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := b.version.Load()
	if b.before != nil {
		b.before(v)
	}
	control := b.control
	if control == "" {
		control = "max-age=3600"
	}
	w.Header().Set("Cache-Control", control)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"version":%d}`, v)
}

func version(n int64) string { return fmt.Sprintf(`{"version":%d}`, n) }

// comments is a route that events of comments/** refresh, by the page they name.
func comments() route.Config {
	return route.Config{
		Tag: []string{"page:{query.page}"}, RefreshOn: []event.Pattern{"comments/**"}, RefreshTag: []string{"page:{data.page}"}, Topic: "pages/changed",
	}
}

// purged waits until events made that many entries stale.
func (s *site) purged(t testing.TB, n int) {
	t.Helper()
	await(t, fmt.Sprintf("the end of %d entries", n), func() bool { return s.count(t, "chappe_gateway_purged_total", "") >= float64(n) })
}

// After an event an entry that is in use is fetched at once, once, and what is
// not of the event stays.
func TestEventRefreshes(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, comments(), nil)
		s.get(t, "/?page=a").want(t, 200, version(0))
		s.get(t, "/?page=b").want(t, 200, version(0))
		b.version.Store(1)
		s.commit("comments/a", `{"page":"a"}`)
		s.commit("other", `{"page":"b"}`)
		s.commit("comments/a", `{"no":"page"}`)
		s.purged(t, 1)
		await(t, "the fetch after the event", func() bool { return len(s.events.all()) == 1 })
		if a := s.get(t, "/?page=a"); !a.isHit() || a.body != version(1) || s.asked() != 3 {
			t.Errorf("after the event: %q %v, %d fetches", a.body, a.header, s.asked())
		}
		if a := s.get(t, "/?page=b"); !a.isHit() || a.body != version(0) {
			t.Errorf("what the event is not about: %q %v", a.body, a.header)
		}
	})
}

// Without refresh_tag an event is about all of the route, of any host and query,
// and of no other route.
func TestEventWholeRoute(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, route.Config{Path: "/a/", RefreshOn: []event.Pattern{"changed"}}, func(o *gateway.Options) {
			o.Routes = append(o.Routes, route.Config{Path: "/b/", Upstream: o.Routes[0].Upstream})
		})
		for _, path := range []string{"/a/1", "/a/2?q", "/b/1"} {
			s.get(t, path)
		}
		b.version.Store(1)
		s.commit("changed", `{}`)
		s.purged(t, 2)
		s.get(t, "/a/1").want(t, 200, version(1))
		s.get(t, "/a/2?q").want(t, 200, version(1))
		s.get(t, "/b/1").want(t, 200, version(0))
	})
}

// Who asks after an event is not given what was asked for before it, also if
// that arrives later; and it is not stored as if it were new.
func TestEventDuringFetch(t *testing.T) {
	for _, known := range []bool{false, true} { // whether the page was stored before
		t.Run(fmt.Sprintf("known=%v", known), func(t *testing.T) {
			onBoth(t, func(t *testing.T, start starter) {
				g := newGate(t)
				b := &board{before: func(v int64) {
					if v == 1 {
						g.entered <- struct{}{}
						<-g.open
					}
				}}
				c := comments()
				c.Topic = ""
				s := start(t, b, c, nil)
				s.get(t, "/?page=a&witness")
				if known {
					s.get(t, "/?page=a")
				}
				b.version.Store(1)
				early := crowd(t, s, 1, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(1)) },
					func(int) []string { return []string{"Cache-Control", "no-cache"} })
				g.wait(t, 1)
				b.version.Store(2)
				s.commit("comments/a", `{"page":"a"}`)
				s.purged(t, 1)
				late := crowd(t, s, 10, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(2)) }, nil)
				s.in(t, 11)
				g.release()
				early()
				late()
				for range 3 {
					s.get(t, "/?page=a").want(t, 200, version(2))
				}
			})
		})
	}
}

// What was asked for before an event and arrives after it is stored as what has
// changed since: who comes then is not given it.
func TestEventBeforeArrival(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		g := newGate(t)
		b := &board{before: func(v int64) {
			if v == 1 {
				g.entered <- struct{}{}
				<-g.open
			}
		}}
		c := comments()
		c.Topic = ""
		s := start(t, b, c, nil)
		s.get(t, "/?page=a&witness")
		b.version.Store(1)
		early := crowd(t, s, 1, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(1)) }, nil)
		g.wait(t, 1)
		b.version.Store(2)
		s.commit("comments/a", `{"page":"a"}`)
		s.purged(t, 1)
		g.release()
		early()
		s.get(t, "/?page=a").want(t, 200, version(2))
	})
}

// What is published is the new answer, once for each change, and nothing when
// there is none.
func TestEventPublished(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, comments(), nil)
		s.get(t, "/?page=a")
		if n := len(s.events.all()); n != 0 {
			t.Errorf("%d events before anything changed", n)
		}
		for i := range 3 { // nothing changes
			s.commit("comments/a", `{"page":"a"}`)
			await(t, "a fetch", func() bool { return s.asked() == i+2 && s.get(t, "/?page=a").isHit() })
		}
		b.version.Store(7)
		s.commit("comments/a", `{"page":"a"}`)
		await(t, "the event", func() bool { return len(s.events.all()) > 0 })
		s.get(t, "/?page=a", "Cache-Control", "no-cache") // the same again
		all := s.events.all()
		if len(all) != 1 {
			t.Fatalf("%d events, want 1: %v", len(all), all)
		}
		e := all[0]
		var data struct {
			URL, ETag   string
			Status      int
			ContentType string `json:"content_type"`
			Body        json.RawMessage
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		if e.Topic != "pages/changed" || e.Type != "route.changed" || e.Subject != "/?page=a" || e.Source != "/routes/" || data.URL != "/?page=a" ||
			data.Status != 200 || data.ContentType != "application/json" || string(data.Body) != version(7) || data.ETag != s.get(t, "/?page=a").header.Get("Etag") {
			t.Errorf("event %+v with %s", e, e.Data)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, e.Data); err != nil || compact.String() != string(e.Data) {
			t.Errorf("the data is not compact: %s", e.Data)
		}
	})
}

// A body that is too large for an event, or no text, is left out of it.
func TestEventWithoutBody(t *testing.T) {
	for _, c := range []struct{ kind, body, want string }{
		{"text/plain", "short", `"short"`},
		{"text/plain", strings.Repeat("long", 1000), ""},
		{"image/png", "png", ""},
		{"application/json", "{no", ""},
		{"", "unknown", ""},
	} {
		var changed atomic.Bool
		s := startHosted(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{c.kind}
			w.Header().Set("Cache-Control", "max-age=60")
			if changed.Load() {
				_, _ = io.WriteString(w, c.body)
			}
		}), comments(), func(o *gateway.Options) { o.EventBytes = 1000 })
		s.get(t, "/?page=a")
		changed.Store(true)
		s.commit("comments/a", `{"page":"a"}`)
		await(t, "the event", func() bool { return len(s.events.all()) == 1 })
		var data struct{ Body json.RawMessage }
		if err := json.Unmarshal(s.events.all()[0].Data, &data); err != nil || string(data.Body) != c.want {
			t.Errorf("%s %.20q is published as %.30s (%v), want %s", c.kind, c.body, data.Body, err, c.want)
		}
	}
}

// patientFields ask for a change of what has the etag.
func patientFields(etag string, seconds int) []string {
	return []string{"If-None-Match", etag, "Prefer", fmt.Sprint("wait=", seconds)}
}

// A client that waits is answered when the answer changes.
func TestWait(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, comments(), nil)
		etag := s.get(t, "/?page=a").header.Get("Etag")
		wait := crowd(t, s, 3, "/?page=a", func(_ int, a *answer) {
			a.want(t, 200, version(1))
			if a.header.Get("Preference-Applied") != "wait" || a.header.Get("Etag") == etag || len(a.header["Date"]) != 1 || len(a.header["Content-Length"]) != 1 {
				t.Errorf("fields of the answer: %v", a.header)
			}
		}, func(int) []string { return patientFields(etag, 30) })
		s.waiting(t, 3)
		s.commit("comments/a", `{"page":"a"}`) // nothing changed: they go on waiting
		await(t, "a fetch", func() bool { return s.asked() == 2 && s.get(t, "/?page=a").isHit() })
		s.waiting(t, 3)
		b.version.Store(1)
		s.commit("comments/a", `{"page":"a"}`)
		wait()
		if s.asked() != 3 {
			t.Errorf("the origin was asked %d times, want 3", s.asked())
		}
		s.waiting(t, 0)
		etag1 := s.get(t, "/?page=a").header.Get("Etag")
		begin := time.Now()
		if a := s.get(t, "/?page=a", patientFields(etag1, 1)...); a.status != http.StatusNotModified || a.header.Get("Etag") != etag1 {
			t.Errorf("after the wait: %d %v", a.status, a.header)
		}
		if took := time.Since(begin); took < 900*time.Millisecond || took > 5*time.Second {
			t.Errorf("a wait of 1 s took %v", took)
		}
		s.get(t, "/?page=a", patientFields(etag, 30)...).want(t, 200, version(1)) // it does not match
		s.get(t, "/?page=a", "Prefer", "wait=30").want(t, 200, version(1))        // nothing to compare
		if a := s.get(t, "/?page=a", patientFields(etag1, 0)...); a.status != http.StatusNotModified {
			t.Errorf("a wait of nothing: %d", a.status)
		}
		s.waiting(t, 0)
	})
}

// A connection whose request waited carries the next one.
func TestWaitKeepsConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, comments(), nil)
		s.client.MaxConnsPerHost = 1
		etag := s.get(t, "/?page=a").header.Get("Etag")
		for i := range int64(5) {
			wait := crowd(t, s, 1, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(i+1)); etag = a.header.Get("Etag") },
				func(int) []string { return patientFields(etag, 30) })
			s.waiting(t, 1)
			b.version.Store(i + 1)
			s.commit("comments/a", `{"page":"a"}`)
			wait()
		}
	})
}

// A waiting client that leaves is forgotten.
func TestWaitLeft(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, &board{}, comments(), nil)
		etag := s.get(t, "/?page=a").header.Get("Etag")
		ctx, leave := context.WithCancel(t.Context())
		var all errgroup.Group
		for range 10 {
			all.Go(func() error {
				_, err := s.try(ctx, http.MethodGet, "/?page=a", "", patientFields(etag, 30)...)
				return err
			})
		}
		s.waiting(t, 10)
		leave()
		if all.Wait() == nil {
			t.Error("they were answered")
		}
		s.waiting(t, 0)
	})
}

// What somebody waits for is asked for when its time ends, without an event.
func TestWaitPolls(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{control: "max-age=1"}
		s := start(t, b, route.Config{}, nil)
		etag := s.get(t, "/").header.Get("Etag")
		wait := crowd(t, s, 2, "/", func(_ int, a *answer) { a.want(t, 200, version(1)) }, func(int) []string { return patientFields(etag, 30) })
		s.waiting(t, 2)
		b.version.Store(1)
		begin := time.Now()
		wait()
		if took := time.Since(begin); took > 4*time.Second || s.asked() > 3 {
			t.Errorf("after %v and %d fetches, want about 1 s and 2", took, s.asked())
		}
	})
}

// An origin that fails leaves them waiting; what it says then ends the wait.
// TestWaitRetries has an upstream that fails after an event: it is asked again
// after a while, not at once, and what it then says is given; one that does not
// recover is an error, since the old answer is known to be wrong.
func TestWaitRetries(t *testing.T) {
	for name, failure := range map[string]func(http.ResponseWriter){
		"it is cut": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"it says 500": func(w http.ResponseWriter) {
			w.Header().Del("Cache-Control")
			w.WriteHeader(http.StatusInternalServerError)
		},
	} {
		for _, recovers := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, recovers %v", name, recovers), func(t *testing.T) {
				onBoth(t, func(t *testing.T, start starter) {
					t.Parallel()
					var down atomic.Bool
					var failures atomic.Int32
					s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Cache-Control", "max-age=60")
						switch {
						case !down.Load():
							_, _ = io.WriteString(w, "old")
						case recovers && failures.Add(1) > 2: // a cut GET is tried twice
							_, _ = io.WriteString(w, "new")
						default:
							failure(w)
						}
					}), comments(), nil)
					etag := s.get(t, "/?page=a").header.Get("Etag")
					want, body := http.StatusOK, "new"
					if !recovers {
						want, body = http.StatusGatewayTimeout, ""
					}
					wait := crowd(t, s, 3, "/?page=a", func(_ int, a *answer) {
						if a.status != want || body != "" && a.body != body {
							t.Errorf("answer %d %q, want %d %q", a.status, a.body, want, body)
						}
					}, func(int) []string { return patientFields(etag, 5) })
					s.waiting(t, 3)
					down.Store(true)
					asked := s.asked()
					s.commit("comments/a", `{"page":"a"}`)
					wait()
					if n := s.asked() - asked; n > 8 {
						t.Errorf("in five seconds the upstream was asked %d times", n)
					}
				})
			})
		}
	}
}

func TestWaitFailure(t *testing.T) {
	b := &board{}
	var down atomic.Bool
	b.before = func(int64) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
	}
	onBoth(t, func(t *testing.T, start starter) {
		b.version.Store(0)
		s := start(t, b, comments(), nil)
		etag := s.get(t, "/?page=a").header.Get("Etag")
		wait := crowd(t, s, 1, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(1)) }, func(int) []string { return patientFields(etag, 30) })
		s.waiting(t, 1)
		down.Store(true)
		asked := s.asked()
		s.commit("comments/a", `{"page":"a"}`)
		await(t, "a fetch that fails", func() bool { return s.asked() > asked })
		s.waiting(t, 1)
		down.Store(false)
		b.version.Store(1)
		s.commit("comments/a", `{"page":"a"}`)
		wait()
	})
}

// Drain answers all that wait, and nobody is left.
func TestDrain(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, &board{}, comments(), nil)
		etag := s.get(t, "/?page=a").header.Get("Etag")
		s.get(t, "/?page=b")
		paths := []string{"/?page=a", "/?page=b"}
		var waits []func()
		for _, path := range paths {
			waits = append(waits, crowd(t, s, 5, path, func(_ int, a *answer) {
				if a.status != http.StatusNotModified || a.header.Get("Etag") != etag {
					t.Errorf("answer %d %v, want 304", a.status, a.header)
				}
			}, func(int) []string { return patientFields(etag, 30) }))
		}
		s.waiting(t, 10)
		s.Drain()
		for _, wait := range waits {
			wait()
		}
		s.waiting(t, 0)
	})
}

// A thousand wait, and cost the origin one request.
func TestWaitThousand(t *testing.T) {
	const n = 1000
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, comments(), nil)
		etag := s.get(t, "/?page=a").header.Get("Etag")
		wait := crowd(t, s, n, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(1)) }, func(int) []string { return patientFields(etag, 30) })
		s.waiting(t, n)
		b.version.Store(1)
		s.commit("comments/a", `{"page":"a"}`)
		wait()
		if s.asked() != 2 {
			t.Errorf("the origin was asked %d times, want 2", s.asked())
		}
	})
}

// One more than may wait is told at once that nothing changed.
func TestWaitBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		s := start(t, b, comments(), func(o *gateway.Options) { o.Waiting = 2 })
		etag := s.get(t, "/?page=a").header.Get("Etag")
		wait := crowd(t, s, 2, "/?page=a", func(_ int, a *answer) { a.want(t, 200, version(1)) }, func(int) []string { return patientFields(etag, 30) })
		s.waiting(t, 2)
		begin := time.Now()
		if a := s.get(t, "/?page=a", patientFields(etag, 30)...); a.status != http.StatusNotModified || time.Since(begin) > patience/2 {
			t.Errorf("one too many is answered %d after %v", a.status, time.Since(begin))
		}
		b.version.Store(1)
		s.commit("comments/a", `{"page":"a"}`)
		wait()
	})
}

// What cannot be shared any more ends the wait: the client is to ask for itself.
func TestWaitUnshared(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		var private atomic.Bool
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			if private.Load() {
				w.Header().Set("Cache-Control", "private")
			}
			_, _ = io.WriteString(w, "text")
		}), comments(), nil)
		etag := s.get(t, "/?page=a").header.Get("Etag")
		wait := crowd(t, s, 1, "/?page=a", func(_ int, a *answer) {
			if a.status != http.StatusNotModified {
				t.Errorf("answer %d, want 304", a.status)
			}
		}, func(int) []string { return patientFields(etag, 30) })
		s.waiting(t, 1)
		private.Store(true)
		begin := time.Now()
		s.commit("comments/a", `{"page":"a"}`)
		wait()
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("the wait ended after %v", took)
		}
	})
}

// A burst of events costs the origin few requests, and the newest state is what
// remains, is published last, and is what those who wait get in the end.
func TestBurst(t *testing.T) {
	const events = 1000
	onBoth(t, func(t *testing.T, start starter) {
		pace := time.NewTicker(5 * time.Millisecond) // how quick the origin is
		b := &board{before: func(int64) { <-pace.C }}
		s := start(t, b, comments(), nil)
		s.get(t, "/?page=a")
		for i := range int64(events) {
			b.version.Store(i + 1)
			s.commit("comments/a", `{"page":"a"}`)
		}
		await(t, "the newest state", func() bool {
			all := s.events.all()
			return len(all) > 0 && bytes.Contains(all[len(all)-1].Data, []byte(version(events)))
		})
		s.get(t, "/?page=a").want(t, 200, version(events))
		if s.asked() > 100 {
			t.Errorf("the origin was asked %d times for a burst of %d events", s.asked(), events)
		}
		last := int64(0)
		for _, e := range s.events.all() {
			var data struct{ Body struct{ Version int64 } }
			if err := json.Unmarshal(e.Data, &data); err != nil || data.Body.Version <= last {
				t.Errorf("after version %d came %s (%v)", last, e.Data, err)
			}
			last = data.Body.Version
		}
	})
}

// While events come and clients ask, nobody is given a state that is older than
// one that somebody had before asking, or that an event before told of.
func TestNeverBack(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		b := &board{}
		c := comments()
		c.Topic = ""
		s := start(t, b, c, nil)
		var newest atomic.Int64 // that a client had
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					floor := newest.Load()
					a, err := s.try(t.Context(), http.MethodGet, "/?page=a", "")
					if err != nil {
						t.Error(err)
						return
					}
					var got struct{ Version int64 }
					if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Version < floor {
						t.Errorf("%q after version %d", a.body, floor)
						return
					}
					for old := newest.Load(); got.Version > old && !newest.CompareAndSwap(old, got.Version); old = newest.Load() {
					}
				}
			})
		}
		for i := range int64(200) {
			b.version.Store(i + 1)
			s.commit("comments/a", `{"page":"a"}`)
			await(t, "the new state", func() bool { return newest.Load() == i+1 })
		}
		close(stop)
		clients.Wait()
	})
}
