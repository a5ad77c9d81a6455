package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
)

// warmSite is a gateway without a listener, which runs until stop.
type warmSite struct {
	*gateway.Gateway
	stop func()
}

// startWarm returns when the file is read.
func startWarm(t *testing.T, o gateway.Options) *warmSite {
	t.Helper()
	warmed := make(chan struct{}, 1)
	o.Logger = slog.New(slog.NewTextHandler(toldOf{"the cache was warmed", warmed}, nil))
	g, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { g.Run(ctx) })
	<-warmed
	return &warmSite{g, func() { cancel(); run.Wait() }}
}

// toldOf is a log that tells when it holds a text.
type toldOf struct {
	text string
	told chan struct{}
}

func (l toldOf) Write(b []byte) (int, error) {
	if strings.Contains(string(b), l.text) {
		l.told <- struct{}{}
	}
	return len(b), nil
}

func (s *warmSite) get(path string) string {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("A", "1")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Body.String()
}

// TestWarm has a gateway start with what another has left: answers are used,
// but where events were missed, or the route is another one, they are not.
func TestWarm(t *testing.T) {
	tests := []struct {
		name    string
		head    event.Cursor // at the second start
		change  func(*route.Config)
		damage  func(file string) error
		fetches map[string]bool // whether each path is fetched anew
	}{
		{name: "nothing happened", head: event.Cursor{Epoch: "e", Seq: 1}, fetches: map[string]bool{"/plain": false, "/events": false}},
		{name: "events were missed", head: event.Cursor{Epoch: "e", Seq: 2}, fetches: map[string]bool{"/plain": false, "/events": true}},
		{name: "the route changed", head: event.Cursor{Epoch: "e", Seq: 1}, change: func(c *route.Config) { c.Headers = []string{"X-A"} },
			fetches: map[string]bool{"/plain": true, "/events": false}},
		{name: "the file is cut", head: event.Cursor{Epoch: "e", Seq: 1}, damage: func(file string) error { return os.Truncate(file, 20) },
			fetches: map[string]bool{"/plain": true, "/events": true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cache")
			var asked atomic.Int32
			origin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Vary", "A")
				fmt.Fprintf(w, "%s %s for %s", r.URL.Path, r.Header.Get("A"), fmt.Sprint(asked.Add(1)))
			})
			upstream := httptest.NewServer(origin)
			defer upstream.Close()
			plain := route.Config{Path: "/plain", Upstream: []string{upstream.URL}, TTL: time.Hour}
			boot := func(head event.Cursor, plain route.Config) *warmSite {
				return startWarm(t, gateway.Options{
					Routes: []route.Config{plain, {Path: "/events", Upstream: plain.Upstream, TTL: time.Hour, Headers: []string{"A"}, RefreshOn: []event.Pattern{"a/**"}}},
					Cache:  gateway.CacheConfig{Warm: true}, File: file, Head: func() event.Cursor { return head },
				})
			}
			first := boot(event.Cursor{Epoch: "e", Seq: 1}, plain)
			bodies := map[string]string{}
			for path := range tt.fetches {
				bodies[path] = first.get(path)
			}
			first.stop()
			if tt.damage != nil {
				if err := tt.damage(file); err != nil {
					t.Fatal(err)
				}
			}
			if tt.change != nil {
				tt.change(&plain)
			}
			second := boot(tt.head, plain)
			for path, anew := range tt.fetches {
				if got := second.get(path); (got != bodies[path]) != anew {
					t.Errorf("%s: %q, before %q; fetched anew: want %v", path, got, bodies[path], anew)
				}
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("the file is still there: another start would take old answers from it")
			}
			second.stop()
		})
	}
}

// TestWarmNowhere has a place for the file that cannot be written, as on a full
// disk: the stop is orderly all the same.
func TestWarmNowhere(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "text") }))
	defer upstream.Close()
	file := filepath.Join(t.TempDir(), "missing", "cache")
	s := startWarm(t, gateway.Options{
		Routes: []route.Config{{Path: "/", Upstream: []string{upstream.URL}, TTL: time.Hour}},
		Cache:  gateway.CacheConfig{Warm: true}, File: file, Head: func() event.Cursor { return event.Cursor{} },
	})
	if got := s.get("/"); got != "text" {
		t.Errorf("answer %q", got)
	}
	s.stop()
	if _, err := os.Stat(file); err == nil {
		t.Error("the file is there")
	}
}
