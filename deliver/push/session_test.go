package push_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

func TestEventsArriveOnceInOrder(t *testing.T) {
	f := newFixture(t, push.Limits{})
	for name, d := range transports {
		t.Run(name, func(t *testing.T) {
			topic := event.Topic("order/" + name)
			f.publish(t, topic, -3, -1) // from now on, these are over
			c := f.connect(t, d, request{topics: []string{"order/" + name, "order/other"}})
			f.publish(t, "elsewhere", 100, 102)
			f.publish(t, topic, 1, 10)
			f.publishBatch(t, topic, 11, 40)
			if diff := cmp.Diff(sequence(1, 40), numbers(t, c, 40)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// The cursor of one transport is good on each.
func TestResumeAcrossTransports(t *testing.T) {
	f := newFixture(t, push.Limits{})
	f.publishBatch(t, "resume/a", 1, 300) // more than a page
	for from, first := range transports {
		for to, second := range transports {
			t.Run(from+" to "+to, func(t *testing.T) {
				c := f.connect(t, first, request{topics: []string{"resume/*"}, after: "start"})
				var at string
				for _, want := range sequence(1, 5) {
					m, err := c.next()
					if err != nil || m.Data != want {
						t.Fatalf("next() = %+v, %v, want %d", m, err, want)
					}
					if at = m.Cursor; m.id != "" && m.id != at {
						t.Errorf("id: %s, want the cursor %s", m.id, at)
					}
				}
				c = f.connect(t, second, request{topics: []string{"resume/**"}, after: at})
				if diff := cmp.Diff(sequence(6, 300), numbers(t, c, 295)); diff != "" {
					t.Errorf("events after resume (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestLastEventIDWins(t *testing.T) {
	f := newFixture(t, push.Limits{})
	cursors := f.publish(t, "a", 1, 3)
	for _, name := range []string{"sse", "poll"} {
		c := f.connect(t, transports[name], request{topics: []string{"a"}, after: cursors[0], lastEventID: cursors[1]})
		if got := numbers(t, c, 1); got[0] != 3 {
			t.Errorf("%s: the first event is %d, want 3", name, got[0])
		}
	}
}

func TestHello(t *testing.T) {
	f := newFixture(t, push.Limits{Heartbeat: 7 * time.Second})
	head := f.publish(t, "a", 1, 3)[2]
	want := message{Control: "hello", Heartbeat: 7, Retry: []int64{1000, 10_000}, Cursor: head}
	wantSSE := want
	wantSSE.id, wantSSE.name = head, "control"

	s, err := openSSE(f, request{topics: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	got, err := s.next()
	if diff := cmp.Diff(wantSSE, got, cmp.AllowUnexported(message{})); err != nil || diff != "" {
		t.Errorf("hello of SSE: %v (-want +got):\n%s", err, diff)
	}
	if s.retry == "" {
		t.Error("the stream has no retry: line")
	}
	w, err := openWS(f, request{topics: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	got, err = w.next()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(message{})); err != nil || diff != "" {
		t.Errorf("hello of WebSocket: %v (-want +got):\n%s", err, diff)
	}
}

// A heartbeat says how far an idle session has come, so that it resumes from
// there and not from its last event.
func TestHeartbeat(t *testing.T) {
	f := newFixture(t, push.Limits{Heartbeat: 20 * time.Millisecond})
	for _, name := range []string{"sse", "websocket"} {
		t.Run(name, func(t *testing.T) {
			c := f.connect(t, transports[name], request{topics: []string{"a"}})
			head := f.publish(t, "elsewhere", 1, 2)[1]
			for {
				m, err := c.next()
				if err != nil || m.Control != "heartbeat" {
					t.Fatalf("next() = %+v, %v, want heartbeats alone", m, err)
				}
				if name == "websocket" || m.id == head {
					return
				}
			}
		})
	}
}

func TestReset(t *testing.T) {
	f := newFixture(t, push.Limits{})
	purged := f.gone(t)
	head := f.publish(t, "short/a", 10, 10)[0]
	cases := map[string]string{"other epoch": "zzzz.1", "beyond the head": head + "00", "purged": purged}
	for why, cursor := range cases {
		for _, name := range []string{"sse", "websocket"} {
			t.Run(why+" on "+name, func(t *testing.T) {
				c := f.connect(t, transports[name], request{topics: []string{"short/*"}, after: cursor})
				m, err := c.next()
				if err != nil || m.Control != "reset" || m.Cursor != f.bus.Head().String() {
					t.Fatalf("next() = %+v, %v, want a reset to the head %s", m, err, f.bus.Head())
				}
				if name == "sse" && m.id != m.Cursor {
					t.Errorf("the reset has id %q, want %q", m.id, m.Cursor)
				}
				f.publish(t, "short/a", 11, 11)
				if got := numbers(t, c, 1); got[0] != 11 {
					t.Errorf("after the reset came %d, want 11", got[0])
				}
			})
		}
	}
}

// A queue of one byte takes one event: nearly every batch overflows it.
func TestFullQueueCatchesUp(t *testing.T) {
	f := newFixture(t, push.Limits{Queue: 1})
	for name, d := range transports {
		t.Run(name, func(t *testing.T) {
			topic := event.Topic("slow/" + name)
			c := f.connect(t, d, request{topics: []string{string(topic)}})
			for from := 1; from < 800; from += 200 {
				f.publishBatch(t, topic, from, from+199)
			}
			if diff := cmp.Diff(sequence(1, 800), numbers(t, c, 800)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEphemeralEventsHaveNoCursor(t *testing.T) {
	f := newFixture(t, push.Limits{})
	for _, name := range []string{"sse", "websocket"} {
		t.Run(name, func(t *testing.T) {
			c := f.connect(t, transports[name], request{topics: []string{"pointer/**", "pointer/*", "pointer/x"}})
			f.publish(t, "pointer/x", 1, 3)
			for _, want := range sequence(1, 3) {
				m, err := c.next()
				if err != nil || m.Data != want || m.Cursor != "" || m.id != "" {
					t.Errorf("next() = %+v, %v, want event %d without cursor and id", m, err, want)
				}
			}
		})
	}
}

func TestEphemeralEventsReachAPoll(t *testing.T) {
	f := newFixture(t, push.Limits{})
	got := make(chan pollAnswer, 1)
	go func() { // ends with its answer
		a, _, err := f.poll(request{topics: []string{"pointer/x"}, after: f.bus.Head().String()}, "")
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	f.await(t, "an answer", func() bool {
		f.publish(t, "pointer/x", 7, 7) // nobody may be there yet
		return len(got) > 0
	})
	a := <-got
	if len(a.Events) == 0 || a.Events[0].Data != 7 || a.Events[0].Cursor != "" || a.Cursor != f.bus.Head().String() {
		t.Errorf("poll = %+v, want event 7 without cursor, and the head %s", a, f.bus.Head())
	}
}

func TestTooSlowForEphemeralEvents(t *testing.T) {
	f := newFixture(t, push.Limits{Queue: 1})
	for _, name := range []string{"sse", "websocket"} {
		t.Run(name, func(t *testing.T) {
			c := f.connect(t, transports[name], request{topics: []string{"pointer/x"}})
			f.publishBatch(t, "pointer/x", 1, 1000)
			m, err := c.next()
			for err == nil && m.Control == "" {
				m, err = c.next()
			}
			if err != nil || m.Control != "error" || m.Code != "too-slow" {
				t.Fatalf("next() = %+v, %v, want the error too-slow", m, err)
			}
			wantEnd(t, c, ws.StatusPolicyViolation, "too-slow")
		})
	}
}

func wantEnd(t *testing.T, c client, code ws.StatusCode, reason string) {
	t.Helper()
	_, err := c.next()
	switch c.(type) {
	case *sseClient:
		if err != io.EOF {
			t.Errorf("next() = %v, want the end of the stream", err)
		}
	case *wsClient:
		if want := (closed{code, reason}); err != want {
			t.Errorf("next() = %v, want %v", err, want)
		}
	}
}

func TestOverlappingPatternsDeliverOnce(t *testing.T) {
	f := newFixture(t, push.Limits{})
	for name, d := range transports {
		t.Run(name, func(t *testing.T) {
			c := f.connect(t, d, request{topics: []string{"over/**", "over/*", "over/lap", "over/lap"}})
			f.publish(t, "over/lap", 1, 5)
			if diff := cmp.Diff(sequence(1, 5), numbers(t, c, 5)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTokenExpiryEndsASession(t *testing.T) {
	f := newFixture(t, push.Limits{})
	ask := request{topics: []string{"secret/a"}, token: f.token(t, "alice", 2*time.Second)}
	for name, c := range map[string]client{"sse": f.connect(t, dialSSE, ask), "websocket": f.connect(t, dialWS, ask)} {
		t.Run(name, func(t *testing.T) {
			m, err := c.next()
			if err != nil || m.Control != "error" || m.Code != "token-expired" {
				t.Fatalf("next() = %+v, %v, want the error token-expired", m, err)
			}
			wantEnd(t, c, ws.StatusPolicyViolation, "token-expired")
		})
	}
}

func TestATicketOpensASession(t *testing.T) {
	f := newFixture(t, push.Limits{})
	id, err := f.access.Verifier.Verify(f.ctx, f.token(t, "alice", time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := f.access.Tickets.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range transports {
		c := f.connect(t, d, request{topics: []string{"secret/" + name}, ticket: ticket})
		f.publish(t, event.Topic("secret/"+name), 1, 1)
		numbers(t, c, 1)
		if _, err := d(f, request{topics: []string{"secret/a"}, ticket: ticket + "x"}); err == nil {
			t.Errorf("%s: a wrong ticket opened a session", name)
		}
		if _, err := d(f, request{topics: []string{"secret/a"}}); err == nil {
			t.Errorf("%s: nobody opened a session on a topic that is not public", name)
		}
	}
}

func TestDrain(t *testing.T) {
	f := newFixture(t, push.Limits{})
	sse := f.connect(t, dialSSE, request{topics: []string{"a"}})
	socket := f.connect(t, dialWS, request{topics: []string{"a"}})
	polled := make(chan pollAnswer, 1)
	head := f.publish(t, "elsewhere", 1, 1)[0]
	go func() { // ends with its answer
		a, _, err := f.poll(request{topics: []string{"a"}, after: head}, "")
		if err != nil {
			t.Error(err)
		}
		polled <- a
	}()
	f.await(t, "the poll", func() bool { return f.sessions(t, "poll") == 1 })

	f.hub.Drain(f.ctx)
	if f.ctx.Err() != nil {
		t.Fatal("the sessions did not end")
	}
	for _, c := range []client{sse, socket} {
		m, err := c.next()
		if err != nil || m.Control != "drain" || m.RetryIn < 1000 || m.RetryIn > 10_000 {
			t.Errorf("%T: next() = %+v, %v, want a drain with retry_in of 1 to 10 s", c, m, err)
		}
	}
	if _, err := sse.next(); err != io.EOF {
		t.Errorf("the stream went on: %v", err)
	}
	if _, err := socket.next(); !isClose(err, ws.StatusGoingAway) {
		t.Errorf("the WebSocket ended with %v, want 1001", err)
	}
	if a := <-polled; len(a.Events) != 0 || a.Cursor != head {
		t.Errorf("the poll was answered %+v, want no event and %s", a, head)
	}
}

func isClose(err error, code ws.StatusCode) bool {
	c, ok := errors.AsType[closed](err)
	return ok && c.code == code
}

// What the clock does, to the second.
func TestSessionTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{access: newAccess(t, nil)}
		hub := push.New(idleLog{}, f.access, push.Options{})
		token := f.token(t, "alice", 100*time.Second)
		began := time.Now()
		w := newPipe(t)
		go func() { // ends with the token
			hub.Stream(w, newRequest(t, "/v1/stream?topic=secret/a", token))
			w.end()
		}()
		type at struct {
			Control string
			Seconds float64
		}
		var got []at
		c := &sseClient{body: w.reader, lines: w.lines}
		for {
			m, err := c.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, at{m.Control + m.Code, time.Since(began).Seconds()})
		}
		want := []at{{"hello", 0}, {"heartbeat", 45}, {"heartbeat", 90}, {"errortoken-expired", 100}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("controls (-want +got):\n%s", diff)
		}
	})
}

// longLog is a log whose end is never reached: each page takes a second.
type longLog struct{ idleLog }

func (l longLog) Read(_ context.Context, q event.Query) (event.Page, error) {
	time.Sleep(time.Second)
	at := event.Cursor{Epoch: "aaaa", Seq: q.After.Seq + 1}
	r := event.NewRecord(event.Event{ID: "1", Source: "s", Type: "t", Topic: "secret/a"}, at)
	return event.Page{Records: []*event.Record{r}, Cursor: at, More: true}, nil
}

// A session that is never without work says that it lives, too: a WebSocket
// client's pongs are all that keeps its connection.
func TestHeartbeatWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{access: newAccess(t, nil)}
		hub := push.New(longLog{}, f.access, push.Options{})
		token := f.token(t, "alice", 100*time.Second)
		w := newPipe(t)
		go func() { // ends with the token
			hub.Stream(w, newRequest(t, "/v1/stream?after=start&topic=secret/a", token))
			w.end()
		}()
		counts := map[string]int{}
		c := &sseClient{body: w.reader, lines: w.lines}
		for {
			m, err := c.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			counts[m.Control+m.Code]++
		}
		if counts["heartbeat"] != 2 || counts["errortoken-expired"] != 1 || counts[""] < 90 {
			t.Errorf("in 100 s came %v, want 2 heartbeats among the events, then the end", counts)
		}
	})
}
