package swarm_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

// gets asks a server with this handler.
func gets(t *testing.T, target string, g swarm.Gets) swarm.Answers {
	t.Helper()
	g.URL = "http://" + target + "/a?b"
	for _, line := range []string{"Host: app.example", "x-a: 1", "X-A: 2"} {
		if err := g.AddHeader(line); err != nil {
			t.Fatal(err)
		}
	}
	if g.Wait == 0 {
		g.Wait = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	answers, err := swarm.Get(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

func TestGet(t *testing.T) {
	var asked, connections atomic.Uint64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "app.example" || r.RequestURI != "/a?b" || len(r.Header["X-A"]) != 2 {
			t.Errorf("asked %s for %s with %v", r.Host, r.RequestURI, r.Header)
		}
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusNotFound)
		case 2:
			w.Header().Set("Connection", "close")
		case 3:
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Add("Cache-Status", `other; detail="a,b"`)
		w.Header().Add("Cache-Status", "chappe; hit; ttl=1")
		fmt.Fprint(w, "12345")
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	watched := false
	a := gets(t, server.Listener.Addr().String(), swarm.Gets{Count: 3, Duration: 300 * time.Millisecond, Watch: func(uint64, time.Duration) { watched = true }})
	all := asked.Load()
	if a.Failed != 0 || len(a.Reasons) != 0 || a.Latency.Count() != all || a.Bytes != 5*all {
		t.Errorf("%d answers, %d bytes, %d failures %v; the server answered %d", a.Latency.Count(), a.Bytes, a.Failed, a.Reasons, all)
	}
	if a.Statuses[404] != 1 || a.Statuses[200] != all-1 || len(a.Statuses) != 2 || a.Hits != all-1 {
		t.Errorf("statuses %v, %d hits of %d", a.Statuses, a.Hits, all)
	}
	if n := connections.Load(); n != 4 {
		t.Errorf("%d connections, want 3 that are kept and one for the one that was closed", n)
	}
	if !watched || a.Elapsed < 300*time.Millisecond || a.CPU == 0 || a.Latency.Max() == 0 {
		t.Errorf("watched %v, %v elapsed, %v CPU, at most %v", watched, a.Elapsed, a.CPU, a.Latency.Max())
	}
}

// What fails is counted by its reason, and tried anew.
func TestGetFailures(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	replies := make(chan string, 1000)
	go func() { // until the listener is closed
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			select {
			case reply := <-replies:
				_, _ = conn.Write([]byte(reply))
				_ = conn.Close()
			default: // it says nothing
				defer conn.Close()
			}
		}
	}()
	for range 1000 {
		replies <- "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"
	}
	a := gets(t, target, swarm.Gets{Count: 1, Duration: time.Millisecond})
	if a.Failed != 1 || a.Reasons["request: closed before the answer's end"] != 1 || a.Latency.Count() != 0 {
		t.Errorf("an answer that is cut: %d failures %v", a.Failed, a.Reasons)
	}
	for len(replies) > 0 {
		<-replies
	}
	a = gets(t, target, swarm.Gets{Count: 1, Duration: time.Millisecond, Wait: 50 * time.Millisecond})
	if a.Failed != 1 || a.Reasons["request: no answer within 50ms"] != 1 {
		t.Errorf("an answer that does not come: %d failures %v", a.Failed, a.Reasons)
	}
	listener.Close()
	a = gets(t, target, swarm.Gets{Count: 2, Duration: 250 * time.Millisecond})
	if a.Reasons["connect: connect: connection refused"] < 4 || a.Failed != uint64(a.Reasons["connect: connect: connection refused"]) {
		t.Errorf("nobody there: %d failures %v", a.Failed, a.Reasons)
	}
}

func TestGetHeader(t *testing.T) {
	for _, line := range []string{"", "nonsense", "a b: c", " a: b", ": c"} {
		if err := new(swarm.Gets).AddHeader(line); err == nil {
			t.Errorf("the header %q is taken", line)
		}
	}
}

// The context's end ends what is under way, and is no failure.
func TestGetEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	a, err := swarm.Get(ctx, swarm.Gets{URL: server.URL, Count: 2, Duration: time.Hour, Wait: time.Hour})
	if err != nil || a.Failed != 0 || a.Latency.Count() != 0 {
		t.Errorf("Get = %d answers, %d failures %v, %v", a.Latency.Count(), a.Failed, a.Reasons, err)
	}
}

func TestGetCacheStatus(t *testing.T) {
	for status, want := range map[string]uint64{
		"chappe; hit":                             1,
		"chappe;ttl=3 ;hit=?1":                    1,
		`near; detail="x, chappe; hit", chappe`:   0,
		`near; detail="\", chappe", chappe; hit`:  1,
		"chappe; fwd=uri-miss; stored, near; hit": 0,
		"near; hit":      0,
		"chappe; hit=?0": 0,
		"":               0,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Status", status) }))
		a := gets(t, server.Listener.Addr().String(), swarm.Gets{Count: 1, Duration: 10 * time.Millisecond})
		if min(a.Hits, 1) != want || a.Latency.Count() == 0 && want == 1 {
			t.Errorf("%s: %d hits of %d", status, a.Hits, a.Latency.Count())
		}
		server.Close()
	}
}

func TestLocal(t *testing.T) {
	for server, want := range map[string]string{
		"http://127.0.0.1:8080":  "127.0.0.1:8080",
		"http://localhost/a":     "127.0.0.1:80",
		"http://0.0.0.0:1":       "127.0.0.1:1",
		"http://[::1]:2":         "[::1]:2",
		"http://192.0.2.1:8080":  "not on this machine",
		"http://push.example":    "not on this machine",
		"https://127.0.0.1":      "speaks http:// alone",
		"unix:/run/chappe.sock":  "not an address",
		"http://127.0.0.1:http:": "not an address",
	} {
		got, err := swarm.Local(server)
		if err == nil && got.String() != want || err != nil && (!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), server)) {
			t.Errorf("Local(%q) = %v, %v, want %s", server, got, err, want)
		}
	}
}
