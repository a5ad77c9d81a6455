package push_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

// Whoever follows a topic, by whatever pattern, is counted while the session
// lasts, and not longer; whether the question or the session was there first.
func TestAwaitFollowers(t *testing.T) {
	f := newFixture(t, push.Limits{})
	for _, patterns := range []string{"T/alice", "T/*", "T/** T/alice T/alice", "T/* other"} {
		for _, transport := range []string{"sse", "websocket"} {
			for _, asked := range []string{"before", "after"} {
				name := strings.Join([]string{patterns, transport, asked}, " ")
				t.Run(name, func(t *testing.T) {
					base := strings.NewReplacer(" ", "-", "*", "x", "/", "-").Replace(name)
					topic, deep := event.Topic(base+"/alice"), event.Topic(base+"/alice/deep")
					topics := strings.Fields(strings.ReplaceAll(patterns, "T", base))
					if asked == "before" {
						await(t, f.hub, topic, false)
					}
					first := f.connect(t, transports[transport], request{topics: topics})
					await(t, f.hub, topic, true)
					second := f.connect(t, transports[transport], request{topics: topics})
					wouldWait(t, f.hub, topic, false)
					wouldWait(t, f.hub, deep, !strings.Contains(patterns, "**"))
					first.close()
					await(t, f.hub, topic, true)
					second.close()
					await(t, f.hub, topic, false)
					wouldWait(t, f.hub, topic, true)
				})
			}
		}
	}
}

// A long-poll is a session while it waits.
func TestAwaitPoller(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialPoll, request{topics: []string{"mail/bob"}})
	got := make(chan message)
	go func() { // ends with the answer
		m, err := c.next()
		if err != nil {
			t.Error(err)
		}
		got <- m
	}()
	await(t, f.hub, "mail/bob", true)
	f.publish(t, "mail/bob", 7, 7)
	if m := <-got; m.Data != 7 {
		t.Errorf("the poll answered %+v", m)
	}
	await(t, f.hub, "mail/bob", false)
}

func await(t *testing.T, h *push.Hub, topic event.Topic, followed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := h.Await(ctx, topic, followed); err != nil {
		t.Fatalf("Await(%s, %v) = %v", topic, followed, err)
	}
}

func wouldWait(t *testing.T, h *push.Hub, topic event.Topic, followed bool) {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Await(ended, topic, followed); err == nil {
		t.Fatalf("Await(%s, %v) returned at once", topic, followed)
	}
}
