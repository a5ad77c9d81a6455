package push_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

// As memory runs out, first nobody new is let in, then caches go, then those
// sessions for whom most is kept.
func TestMemorySteps(t *testing.T) {
	f := newFixture(t, push.Limits{Queue: 64 << 20})
	ask := request{topics: []string{"big/x"}}
	quick := f.connect(t, dialWS, ask)
	slow := f.connect(t, dialWS, ask)
	shed := 0
	f.hub.Relieve(0.85, func() { shed++ })
	wantTryAgain(t, f, ask, "short-of-memory")
	if _, resp, _ := f.poll(ask, ""); resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a poll while memory is short: %v, want 503 with Retry-After", resp)
	}
	f.hub.Relieve(0.5, func() { shed++ })
	f.connect(t, dialWS, ask).close() // all is well again
	if shed != 0 {
		t.Errorf("caches were dropped %d times below the second step", shed)
	}

	const events = 60 // of 200 KB: more than both sockets hold
	body := `"` + strings.Repeat("x", 200_000) + `"`
	received := make(chan int, 1)
	go func() { // ends with the events
		n := 0
		for n < events {
			frame, err := ws.ReadFrame(quick.(*wsClient).reader)
			if err != nil {
				t.Error(err)
				break
			}
			if frame.Header.OpCode == ws.OpText {
				n++
			}
		}
		received <- n
	}()
	for range events {
		if _, err := f.bus.Publish(f.ctx, event.Batch{Events: []event.Event{{Source: "/test", Type: "test", Topic: "big/x", Data: []byte(body)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-received; n != events {
		t.Fatalf("the quick session received %d events, want %d", n, events)
	}
	f.hub.Relieve(0.97, func() { shed++ })
	f.await(t, "the cut", func() bool { return f.sessions(t, "websocket") == 1 })
	if shed != 1 {
		t.Errorf("caches were dropped %d times at the last step, want once", shed)
	}
	f.hub.Relieve(0.1, func() {})
	f.publish(t, "big/x", 1, 1)
	numbers(t, quick, 1)
	_ = slow
}
