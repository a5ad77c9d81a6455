package gateway_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
)

// TestNoTypeIsMadeUp has an origin that gives none.
func TestNoTypeIsMadeUp(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			if r.URL.Path == "/kept" {
				w.Header().Set("Cache-Control", "max-age=60")
			}
			_, _ = io.WriteString(w, "<html>")
		}), route.Config{}, nil)
		for _, path := range []string{"/kept", "/kept", "/other", "/other"} {
			if a := s.get(t, path); a.status != 200 || a.header["Content-Type"] != nil {
				t.Errorf("%s: %d, Content-Type %q", path, a.status, a.header["Content-Type"])
			}
		}
		if a := s.do(t, http.MethodPost, "/other", "x"); a.header["Content-Type"] != nil {
			t.Errorf("POST: Content-Type %q", a.header["Content-Type"])
		}
	})
}

// TestLoop has a route that leads back to the gateway itself.
func TestLoop(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		var s *site
		s = start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			again, err := http.NewRequestWithContext(r.Context(), r.Method, s.url+r.RequestURI, nil)
			if err != nil {
				t.Error(err)
				return
			}
			again.Header = r.Header
			res, err := s.client.RoundTrip(again)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			w.WriteHeader(res.StatusCode)
			_, _ = io.Copy(w, res.Body)
		}), route.Config{}, nil)
		for _, method := range []string{http.MethodGet, http.MethodPut} {
			if a := s.do(t, method, "/"+method, ""); a.status != http.StatusLoopDetected || !strings.Contains(a.body, "upstream-loop") {
				t.Errorf("%s: %d %s, want 508", method, a.status, a.body)
			}
		}
	})
}

// TestMarkedKeysAreStored has an attacker provoke answers that cannot be shared:
// that of the next client is stored nevertheless.
func TestMarkedKeysAreStored(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") == "nonsense/evil" {
				w.WriteHeader(http.StatusNotAcceptable)
				return
			}
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "well")
		}), route.Config{}, nil)
		s.get(t, "/", "Accept", "nonsense/evil").want(t, http.StatusNotAcceptable, "")
		s.get(t, "/").want(t, 200, "well")
		if a := s.get(t, "/"); !strings.Contains(a.header.Get("Cache-Status"), "; hit") {
			t.Errorf("Cache-Status: %s, want a hit", a.header.Get("Cache-Status"))
		}
	})
}

// TestStop has the gateway stop while an upstream does not answer: nobody waits
// for that any more.
func TestStop(t *testing.T) {
	asked, never := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-never
	}))
	defer upstream.Close()
	defer close(never)
	g, err := gateway.New(gateway.Options{
		Routes: []route.Config{{Path: "/", Upstream: []string{upstream.URL}, TTL: time.Hour}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { g.Run(ctx) })
	run.Go(func() { g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)) })
	<-asked
	began := time.Now()
	stop()
	run.Wait()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
}
