package front_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/chappe/chappe/front"
)

// Whatever a client that leaves interrupts: who was given its connection is
// told of its end.
func TestHostedAbandoned(t *testing.T) {
	f := start(t, front.Options{Loops: 1}, http.NotFoundHandler(), nil)
	var opened atomic.Int64
	stream := func(x *front.Exchange) {
		if x.Stream("text/plain", f.waiter.id(x), 1) != 0 {
			opened.Add(1)
		}
	}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		cancel()
		front.Host(f.Loops()[0], stream, httptest.NewRecorder(), r)
	}
	done := make(chan struct{})
	f.Loops()[0].Post(func() { close(done) })
	<-done
	await(t, "the end of all that was opened", func() bool { return int64(len(f.waiter.closed)) == opened.Load() && f.open() == 0 })
	if opened.Load() == 0 {
		t.Error("nothing was opened")
	}
}

// A stream has no HEAD: it would be a session that says nothing.
func TestHostedHead(t *testing.T) {
	f := start(t, front.Options{}, http.NotFoundHandler(), nil)
	w := httptest.NewRecorder()
	front.Host(f.Loops()[0], func(*front.Exchange) { t.Error("it is handled") }, w, httptest.NewRequest(http.MethodHead, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET" {
		t.Errorf("HEAD is answered %d, Allow: %s", w.Code, w.Header().Get("Allow"))
	}
}
