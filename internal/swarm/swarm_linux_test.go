package swarm_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/chappe/chappe/internal/swarm"
)

const hello = `{"control":"hello","heartbeat":45,"retry":[1000,2000],"cursor":"e.0"}`

// dial has a swarm connect to a server with this handler.
func dial(t *testing.T, o swarm.Options, handler http.HandlerFunc) (context.Context, *swarm.Swarm) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	o.Target = netip.MustParseAddrPort(server.Listener.Addr().String())
	if o.Request == nil {
		o.Request = func(int) swarm.Request { return swarm.Request{Path: "/v1/ws?topic=a"} }
	}
	s, err := swarm.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return ctx, s
}

func wait(ctx context.Context, t *testing.T, s *swarm.Swarm, what string, done func(swarm.Counts) bool) {
	t.Helper()
	if err := s.Wait(ctx, done); err != nil {
		t.Fatalf("%s: %v; %v", what, err, s.Stats().Reasons)
	}
}

func upgrade(w http.ResponseWriter, r *http.Request) net.Conn {
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		panic(err) // net/http takes it and closes
	}
	return conn
}

func text(conn net.Conn, messages ...string) {
	for _, m := range messages {
		_ = ws.WriteFrame(conn, ws.NewTextFrame([]byte(m)))
	}
}

// hold keeps conn until the client closes.
func hold(conn net.Conn) {
	defer conn.Close()
	for {
		if _, err := ws.ReadFrame(conn); err != nil {
			return
		}
	}
}

func TestReceives(t *testing.T) {
	var mu sync.Mutex
	sources := map[string]int{}
	ctx, s := dial(t, swarm.Options{Count: 50, Loops: 2, Sources: netip.MustParsePrefix("127.0.0.0/16"), PerSource: 10},
		func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			mu.Lock()
			sources[host]++
			mu.Unlock()
			conn := upgrade(w, r)
			for n := range 4 {
				text(conn, string(swarm.Payload(uint64(n+1), time.Now(), 128)))
			}
			text(conn, strings.Repeat("x", 40_000)) // in many reads
			hold(conn)
		})
	wait(ctx, t, s, "messages", func(c swarm.Counts) bool { return c.Received == 250 })
	stats := s.Stats()
	if stats.Live != 50 || stats.Connected != 50 || stats.Failed != 0 || stats.Missed != 0 || stats.Doubled != 0 {
		t.Errorf("counts = %+v", stats.Counts)
	}
	if stats.Latency.Count() != 200 || stats.Latency.Max() > time.Minute || stats.ConnectTime <= 0 || stats.CPU <= 0 {
		t.Errorf("latencies: %d, at most %v; connected in %v; CPU %v", stats.Latency.Count(), stats.Latency.Max(), stats.ConnectTime, stats.CPU)
	}
	for i, c := range s.Clients() {
		if !c.Live || c.Received != 5 || c.Last != 4 || c.Attempts != 1 {
			t.Errorf("client %d = %+v", i, c)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(sources) != 5 || sources["127.0.0.1"] != 10 || sources["127.0.0.5"] != 10 {
		t.Errorf("sources = %v, want 5 with 10 each", sources)
	}
	if bytes, n, err := s.Wire(); n != 50 || bytes < 50*40_000 || err != nil {
		t.Errorf("Wire = %d, %d, %v", bytes, n, err)
	}
	s.Close()
	if got := s.Stats().Received; got != 250 {
		t.Errorf("after Close there are %d messages", got)
	}
}

func TestPongsAndFragments(t *testing.T) {
	pongs := make(chan string, 3)
	ctx, s := dial(t, swarm.Options{Count: 3}, func(w http.ResponseWriter, r *http.Request) {
		conn := upgrade(w, r)
		defer conn.Close()
		message := swarm.Payload(7, time.Now(), 100)
		_ = ws.WriteFrame(conn, ws.NewFrame(ws.OpText, false, message[:20]))
		_ = ws.WriteFrame(conn, ws.NewPingFrame([]byte("there?")))
		_ = ws.WriteFrame(conn, ws.NewFrame(ws.OpContinuation, false, message[20:50]))
		_ = ws.WriteFrame(conn, ws.NewFrame(ws.OpContinuation, true, message[50:]))
		f, err := ws.ReadFrame(conn)
		if err == nil && f.Header.OpCode == ws.OpPong && f.Header.Masked {
			pongs <- string(ws.UnmaskFrame(f).Payload)
		}
		hold(conn)
	})
	for range 3 {
		select {
		case got := <-pongs:
			if got != "there?" {
				t.Errorf("pong %q", got)
			}
		case <-ctx.Done():
			t.Fatal("no pong came")
		}
	}
	wait(ctx, t, s, "messages", func(c swarm.Counts) bool { return c.Received == 3 })
	if c := s.Clients()[1]; c.Last != 7 || s.Counts().Pings != 3 {
		t.Errorf("client = %+v, %d pings", c, s.Counts().Pings)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		transport swarm.Transport
		reason    string
		handler   http.HandlerFunc
	}{
		"refused": {swarm.WebSocket, "refused: 503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }},
		"wrong accept": {swarm.WebSocket, "wrong Sec-WebSocket-Accept", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
			hold(upgrade(w, r))
		}},
		"no stream": {swarm.SSE, "not an event stream", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }},
		"no answer": {swarm.WebSocket, "no answer in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"hung up":   {swarm.WebSocket, "closed without a word", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		"masked": {swarm.WebSocket, "broken frame", func(w http.ResponseWriter, r *http.Request) {
			conn := upgrade(w, r)
			_ = ws.WriteFrame(conn, ws.MaskFrame(ws.NewTextFrame([]byte(hello))))
			hold(conn)
		}},
		"too large": {swarm.WebSocket, "message too large", func(w http.ResponseWriter, r *http.Request) {
			conn := upgrade(w, r)
			text(conn, strings.Repeat("x", 2000))
			hold(conn)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := swarm.Options{Count: 5, Greeted: true, Transport: c.transport, MessageBytes: 1000}
			if name == "no answer" {
				o.AttemptTime = time.Second
			}
			ctx, s := dial(t, o, c.handler)
			wait(ctx, t, s, "failures", func(c swarm.Counts) bool { return c.Failed == 5 })
			if stats := s.Stats(); stats.Reasons[c.reason] != 5 || stats.Connecting != 0 || stats.Live != 0 {
				t.Errorf("reasons %v, counts %+v", stats.Reasons, stats.Counts)
			}
		})
	}
}

func TestDialRefuses(t *testing.T) {
	request := func(int) swarm.Request { return swarm.Request{Path: "/"} }
	target := netip.MustParseAddrPort("127.0.0.1:9")
	for _, o := range []swarm.Options{
		{Count: 1, Request: request},
		{Target: target, Request: request},
		{Target: target, Count: 1},
		{Target: target, Count: 10_000_000, Request: request},
		{Target: target, Count: 100, PerSource: 10, Sources: netip.MustParsePrefix("127.0.0.0/30"), Request: request},
	} {
		if s, err := swarm.Dial(t.Context(), o); err == nil {
			s.Close()
			t.Errorf("Dial(%+v) took it", o)
		}
	}
}

// TestNaive cuts connections that come back at once, from now.
func TestNaive(t *testing.T) {
	var mu sync.Mutex
	seen := 0
	ctx, s := dial(t, swarm.Options{Count: 20, Policy: swarm.Naive, Jitter: 20 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		conn := upgrade(w, r)
		mu.Lock()
		seen++
		number := seen
		mu.Unlock()
		text(conn, string(swarm.Payload(uint64(number), time.Now(), 0)))
		if number <= 20 {
			conn.Close()
			return
		}
		hold(conn)
	})
	wait(ctx, t, s, "return", func(c swarm.Counts) bool { return c.Live == 20 && c.Attempts == 40 })
	stats := s.Stats()
	if stats.Ended != 20 || stats.Connected != 20 || stats.EndsPerSecond > 20 || stats.EndsPerSecond == 0 || stats.Back.Count() != 40 {
		t.Errorf("counts %+v, %d ends a second, %d back", stats.Counts, stats.EndsPerSecond, stats.Back.Count())
	}
	s.Mark()
	if c := s.Counts(); c.Attempts != 0 || c.Live != 20 || s.Clients()[0].Back >= 0 {
		t.Errorf("after Mark: %+v", c)
	}
}

// TestChappe tells the clients to come back, which they do after a second with
// the cursor of the last event.
func TestChappe(t *testing.T) {
	for name, c := range map[string]struct {
		transport swarm.Transport
		serve     func(w http.ResponseWriter, r *http.Request, after string)
	}{
		"websocket": {swarm.WebSocket, func(w http.ResponseWriter, r *http.Request, after string) {
			conn := upgrade(w, r)
			if after == "" {
				text(conn, hello, `{"specversion":"1.0","cursor":"e.5","data":`+string(swarm.Payload(5, time.Now(), 0))+"}", `{"control":"drain","retry_in":60000}`)
				_ = ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "retry=1000")))
			} else {
				text(conn, hello, string(swarm.Payload(8, time.Now(), 0)), string(swarm.Payload(8, time.Now(), 0)))
			}
			hold(conn)
		}},
		"sse": {swarm.SSE, func(w http.ResponseWriter, r *http.Request, after string) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "retry: 1000\nevent: control\ndata: %s\n\n", hello)
			if after == "" {
				fmt.Fprintf(w, "id: e.5\ndata: {\"specversion\":\"1.0\",\"data\":%s}\n\n", swarm.Payload(5, time.Now(), 0))
				fmt.Fprint(w, "event: control\ndata: {\"control\":\"error\",\"code\":\"too-slow\"}\n\n")
				return
			}
			fmt.Fprintf(w, "id: e.8\ndata: %s\n\nid: e.8\ndata: %[1]s\n\n", swarm.Payload(8, time.Now(), 0))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var cursors []string
			ctx, s := dial(t, swarm.Options{Count: 4, Policy: swarm.Chappe, Transport: c.transport}, func(w http.ResponseWriter, r *http.Request) {
				after := r.URL.Query().Get("after")
				mu.Lock()
				cursors = append(cursors, after)
				mu.Unlock()
				c.serve(w, r, after)
			})
			began := time.Now()
			wait(ctx, t, s, "return", func(c swarm.Counts) bool { return c.Live == 4 && c.Received == 12 })
			if took := time.Since(began); took < time.Second {
				t.Errorf("they were back after %v, told to wait a second", took)
			}
			if counts := s.Counts(); counts.Missed != 8 || counts.Doubled != 4 || counts.Attempts != 8 || counts.Ended != 4 {
				t.Errorf("counts = %+v, want two holes and one double each", counts)
			}
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(cursors, ","); got != ",,,,e.5,e.5,e.5,e.5" {
				t.Errorf("cursors %q", got)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	var mu sync.Mutex
	var times []time.Time
	ctx, s := dial(t, swarm.Options{Count: 1, Policy: swarm.Chappe, Transport: swarm.SSE}, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if times = append(times, time.Now()); len(times) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
			return
		}
		w.WriteHeader(403)
	})
	wait(ctx, t, s, "refusal", func(c swarm.Counts) bool { return c.Failed == 1 })
	mu.Lock()
	defer mu.Unlock()
	if got := times[1].Sub(times[0]); got < time.Second {
		t.Errorf("it came again after %v, told to wait 1s", got)
	}
}

func TestSend(t *testing.T) {
	ctx, s := dial(t, swarm.Options{Count: 10}, func(w http.ResponseWriter, r *http.Request) {
		conn := upgrade(w, r)
		defer conn.Close()
		for {
			m, err := wsutil.ReadClientText(conn)
			if err != nil {
				return
			}
			text(conn, string(m))
		}
	})
	wait(ctx, t, s, "connections", func(c swarm.Counts) bool { return c.Live == 10 })
	if got := s.Send(swarm.Payload(1, time.Now(), 128)); got != 10 {
		t.Errorf("Send = %d", got)
	}
	wait(ctx, t, s, "echoes", func(c swarm.Counts) bool { return c.Received == 10 })
}

func TestRate(t *testing.T) {
	ctx, s := dial(t, swarm.Options{Count: 30, Rate: 100, InFlight: 5}, func(w http.ResponseWriter, r *http.Request) { hold(upgrade(w, r)) })
	wait(ctx, t, s, "connections", func(c swarm.Counts) bool { return c.Live == 30 })
	if got := s.Stats().ConnectTime; got < 280*time.Millisecond {
		t.Errorf("30 at 100/s were connected after %v", got)
	}
}

// TestSilence has a server that promises to be heard each 0 s, so that two
// seconds without a word are too long; the clients come back at once.
func TestSilence(t *testing.T) {
	t.Parallel()
	ctx, s := dial(t, swarm.Options{Count: 2, Policy: swarm.Chappe}, func(w http.ResponseWriter, r *http.Request) {
		conn := upgrade(w, r)
		text(conn, strings.Replace(hello, "45", "0", 1))
		hold(conn)
	})
	wait(ctx, t, s, "return", func(c swarm.Counts) bool { return c.Attempts >= 4 && c.Live == 2 })
	if reasons := s.Stats().Reasons; reasons["silent for too long"] < 2 {
		t.Errorf("reasons = %v", reasons)
	}
}
