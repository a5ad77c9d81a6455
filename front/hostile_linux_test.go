//go:build !nethttp

package front_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/head/headtest"
)

// What parsers disagree on is refused, or read as exactly one request.
func TestSmuggling(t *testing.T) {
	var requests, smuggled atomic.Int64
	count := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/smuggled" {
			smuggled.Add(1)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // what is malformed is refused
		requests.Add(1)
	})
	f := start(t, front.Options{}, count, nil)
	for _, c := range headtest.Smuggling {
		requests.Store(0)
		smuggled.Store(0)
		body := "hello"
		if strings.Contains(c.Head, "\r\nTransfer-Encoding:") {
			body = "5\r\nhello\r\n0\r\n\r\n"
		}
		if c.Status == 0 {
			body = ""
		}
		conn := f.dial(t)
		answers := talk(conn, c.Head+body+"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
		var want []int
		switch c.Status {
		case 0: // the rest became part of the head, or of the body
			if smuggled.Load() > 0 {
				t.Errorf("%s: what follows was handled", c.Name)
			}
			continue
		case 200:
			want = []int{200, 200}
		default:
			want = []int{c.Status}
		}
		if len(answers) != len(want) || answers[0] != want[0] || int(requests.Load()) != len(want)-1 {
			t.Errorf("%s: answered %v with %d requests, want %v", c.Name, answers, requests.Load(), want)
		}
	}
}

// Chunked bodies that parsers disagree on never end in a second request.
func TestSmugglingChunks(t *testing.T) {
	var smuggled atomic.Int64
	f := start(t, front.Options{Loops: 1}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/smuggled" {
			smuggled.Add(1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}), nil)
	const next = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, body := range []string{
		"5\nhello\n0\n\n", "5\r\nhello\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "-0\r\n\r\n", "+0\r\n\r\n",
		"5\r\nhelloX\r\n0\r\n\r\n", "5;a=\n\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n", "0\r\n a: b\r\n\r\n", "0\n\n",
		"0\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		for _, cut := range []int{0, 1, len(body) - 1} {
			conn := f.dial(t)
			send(t, conn, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+body[:cut])
			f.seen(t)
			answers := talk(conn, body[cut:]+next)
			if smuggled.Load() > 0 || len(answers) > 1 {
				t.Errorf("%q, cut at %d: answered %v; a second request was handled", body, cut, answers)
				smuggled.Store(0)
			}
		}
	}
}

// talk sends and returns the statuses of all answers up to the end, which it
// brings about by ending its own side.
func talk(conn net.Conn, text string) (answers []int) {
	_, _ = io.WriteString(conn, text) // the other side may have ended it
	in := bufio.NewReader(conn)
	_ = conn.(*net.TCPConn).CloseWrite()
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return answers
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		answers = append(answers, resp.StatusCode)
	}
}

// large is more than sockets of this machine hold.
const large = 8 << 20

// stages are connections in every state that one can be in.
var stages = []struct {
	name, text string
	whole      int64 // bytes that a client gets that ends its side then; 0: unknown
}{
	{"before the request", "", 0},
	{"between requests", "GET /prepared1 HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"within a head", "GET /now HTTP/1.1\r\nHo", 0},
	{"within a body on the loop", "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc", 0},
	{"within a body of net/http", "POST /digest HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc", 0},
	{"within a chunk of net/http", "POST /digest HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 0},
	{"held", "GET /held HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"held, another behind it", "GET /held HTTP/1.1\r\nHost: h\r\n\r\nGET /held HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"lent to net/http", "GET /block HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"streaming", "GET /quiet HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"streaming with output that waits", "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n", large},
	{"ended with output that waits", "GET /ended HTTP/1.1\r\nHost: h\r\n\r\n", large},
	{"answers that wait", strings.Repeat("GET /large300 HTTP/1.1\r\nHost: h\r\n\r\n", 40), 40 * 320_000},
	{"answers that wait, then net/http", strings.Repeat("GET /large300 HTTP/1.1\r\nHost: h\r\n\r\n", 40) + "GET /nethttp HTTP/1.1\r\nHost: h\r\n\r\n", 40*(320_000+43) + 80},
	{"answers that wait, net/http between", strings.Repeat("GET /large180 HTTP/1.1\r\nHost: h\r\n\r\nGET /nethttp HTTP/1.1\r\nHost: h\r\n\r\n", 40), 40 * (200_000 + 43 + 80)},
	{"refused", "nonsense\r\n\r\n", 0},
}

func startStages(t *testing.T) *fixture {
	mux := plain().(*http.ServeMux)
	mux.HandleFunc("GET /block", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return start(t, front.Options{HeadTime: time.Minute}, mux, func(f *fixture) {
		mixed(f)
		f.Handle("/held", func(x *front.Exchange) {
			if held, err := x.Hold(); err == nil {
				held.Wait(f.waiter.id(x), 1)
			}
		})
		f.Handle("/quiet", func(x *front.Exchange) { x.Stream("text/plain", f.waiter.id(x), 1) })
		stream := func(x *front.Exchange, end bool) {
			c := x.Stream("text/plain", f.waiter.id(x), 1)
			x.Loop().Write(c, bytes.Repeat([]byte("."), large))
			if end {
				x.Loop().End(c)
			}
		}
		f.Handle("/stream", func(x *front.Exchange) { stream(x, false) })
		f.Handle("/ended", func(x *front.Exchange) { stream(x, true) })
	})
}

// However a client leaves, in whatever state: nothing of its connection stays.
func TestLeaving(t *testing.T) {
	f := startStages(t)
	ways := map[string]func(conn *net.TCPConn) int64{
		"reset":  func(conn *net.TCPConn) int64 { _ = conn.SetLinger(0); conn.Close(); return -1 },
		"closed": func(conn *net.TCPConn) int64 { conn.Close(); return -1 },
		"half closed": func(conn *net.TCPConn) int64 {
			_ = conn.CloseWrite()
			n, err := io.Copy(io.Discard, conn)
			if err != nil {
				t.Errorf("reading on: %v", err)
			}
			return n
		},
	}
	for _, s := range stages {
		for way, leave := range ways {
			conn := f.dial(t).(*net.TCPConn)
			_ = conn.SetReadBuffer(16 << 10)
			handled := f.count(t, "chappe_requests_total", "")
			send(t, conn, s.text)
			await(t, "the connection", func() bool { return f.open() > 0 || s.text == "" })
			if strings.HasPrefix(s.text, "GET") && strings.HasSuffix(s.text, "\r\n\r\n") {
				await(t, s.name+", "+way+": the request", func() bool { return f.count(t, "chappe_requests_total", "") > handled })
			}
			if n := leave(conn); n >= 0 && n < s.whole {
				t.Errorf("%s, %s: %d bytes came, want %d", s.name, way, n, s.whole)
			}
			name := s.name + ", " + way
			await(t, name+": the end of the connection", func() bool { return f.open() == 0 })
		}
	}
	for _, l := range f.Loops() {
		if n := l.Queued(); n != 0 {
			t.Errorf("%d bytes wait for nobody", n)
		}
	}
}

// Half requests do not keep others out, and end.
func TestSlowLoris(t *testing.T) {
	const half = 5000
	f := start(t, front.Options{HeadTime: 2 * time.Second}, plain(), mixed)
	var g errgroup.Group
	g.SetLimit(64)
	conns := make([]net.Conn, half)
	for i := range half {
		g.Go(func() (err error) {
			if conns[i], err = net.Dial("tcp", f.address); err == nil {
				_, err = io.WriteString(conns[i], "GET /now HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", i%100))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 50 {
		began := time.Now()
		conn := f.dial(t)
		send(t, conn, "GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(conn); err != nil || !bytes.HasSuffix(b, answerOf("/now")) {
			t.Fatalf("an honest client got %q, %v", b, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("an honest client took %v", took)
		}
	}
	// One that keeps sending byte by byte has no more time.
	slow := f.dial(t)
	send(t, slow, "GET /now HTTP/1.1\r\nX: ")
	began, ended := time.Now(), make(chan time.Duration)
	go func() {
		_, _ = slow.Read(make([]byte, 1))
		ended <- time.Since(began)
	}()
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(slow, "X"); err != nil {
				return
			}
		}
	}()
	if took := <-ended; took > 3*time.Second {
		t.Errorf("one that sends a byte at a time had %v for its head, of 2 s", took)
	}
	await(t, "the end of half heads", func() bool { return f.open() == 0 })
	if n := f.count(t, "chappe_connections_refused_total", "head-timeout"); n < half {
		t.Errorf("%v heads were given up, want %d", n, half)
	}
}

// A panic costs one connection.
func TestPanics(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("of net/http") })
	mux.HandleFunc("GET /abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	var f *fixture
	hosted := func(x *front.Exchange) { panic("on the loop") }
	mux.HandleFunc("GET /hosted", func(w http.ResponseWriter, r *http.Request) { front.Host(f.Loops()[0], hosted, w, r) })
	f = start(t, front.Options{Loops: 1}, mux, func(f *fixture) {
		mixed(f)
		f.Handle("/bad", func(x *front.Exchange) {
			c := x.Stream("text/plain", f.waiter.id(x), 1)
			x.Loop().Write(c, []byte("half of it"))
			panic("after half")
		})
		f.Handle("/badheld", func(x *front.Exchange) {
			held, _ := x.Hold()
			held.Wait(f.waiter.id(x), 1)
			panic("held")
		})
	})
	quiet := f.dial(t)
	for i, path := range []string{"/panic", "/bad", "/badheld", "/hosted"} {
		conn := f.dial(t)
		send(t, conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(conn); err != nil || bytes.Contains(b, []byte("200 OK")) {
			t.Errorf("GET %s: %q, %v", path, b, err)
		}
		await(t, "the count of panics", func() bool { return f.count(t, "chappe_panics_total", "") == float64(i+1) })
	}
	conn := f.dial(t)
	send(t, conn, "GET /abort HTTP/1.1\r\nHost: h\r\n\r\n")
	_, _ = io.ReadAll(conn)
	if n := f.count(t, "chappe_panics_total", ""); n != 4 {
		t.Errorf("%v panics are counted, want 4: an abort is none", n)
	}
	send(t, quiet, "GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(quiet); err != nil || !bytes.HasSuffix(b, answerOf("/now")) {
		t.Errorf("another connection got %q, %v", b, err)
	}
	await(t, "the end of all", func() bool { return f.open() == 0 })
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Connections that come and go, in all ways, leave nothing behind.
func TestChurn(t *testing.T) {
	const total = 100_000
	f := startStages(t)
	texts := []string{"", "GET /now HTTP/1.1\r\nHost: h\r\n\r\n", "GET /nethttp HTTP/1.1\r\nHost: h\r\n\r\n", "GET /held HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /quiet HTTP/1.1\r\nHost: h\r\n\r\n", "GET /now HT", "nonsense\r\n\r\n", "GET /block HTTP/1.1\r\nHost: h\r\n\r\n"}
	drained := func() {
		for len(f.waiter.closed) > 0 {
			<-f.waiter.closed
		}
	}
	run := func(n int) {
		var g errgroup.Group
		g.SetLimit(32)
		for i := range n {
			g.Go(func() error {
				conn, err := net.Dial("tcp", f.address)
				if err != nil {
					return err
				}
				_, _ = io.WriteString(conn, texts[i%len(texts)])
				if i%3 > 0 {
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				if i%7 == 0 && i%len(texts) == 1 {
					_, _ = conn.Read(make([]byte, 100))
				}
				return conn.Close()
			})
			if i%1000 == 0 {
				drained()
			}
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		drained()
		await(t, "the end of all", func() bool { return f.open() == 0 })
	}
	run(1000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	run(total)
	await(t, "descriptors and goroutines as before", func() bool {
		return descriptors(t) <= fds+2 && runtime.NumGoroutine() <= goroutines+2
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("the heap grew by %d bytes over %d connections", grown, total)
	}
	t.Logf("%d connections: heap %d to %d bytes", total, before.HeapAlloc, after.HeapAlloc)
}

// Requests behind each other are not answered into memory without bound.
func TestPipelineBound(t *testing.T) {
	t.Parallel()
	f := startStages(t)
	conn := f.dial(t).(*net.TCPConn)
	_ = conn.SetReadBuffer(16 << 10)
	request := []byte("GET /large0 HTTP/1.1\r\nHost: h\r\n\r\n")
	_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	sent := 0
	for range 200 {
		n, err := conn.Write(bytes.Repeat(request, 1000))
		if sent += n; err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
	}
	queued := 0
	for _, l := range f.Loops() {
		queued += l.Queued()
	}
	if queued > 1<<20 {
		t.Errorf("%d bytes wait for one client", queued)
	}
	t.Logf("sent %d bytes of requests; %d of answers wait", sent, queued)
}

// Handlers of net/http may take a connection for good.
func TestHijack(t *testing.T) {
	var mu sync.Mutex
	taken := 0
	f := start(t, front.Options{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		mu.Lock()
		taken++
		mu.Unlock()
		_, _ = io.Copy(conn, rw) // it echoes
	}), nil)
	for _, early := range []string{"", "said before the answer"} {
		conn := f.dial(t)
		send(t, conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+early)
		in := bufio.NewReader(conn)
		for range 2 {
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		send(t, conn, "GET /now HTTP/1.1\r\n\r\n")
		_ = conn.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(in); err != nil || string(b) != early+"GET /now HTTP/1.1\r\n\r\n" {
			t.Errorf("the echo is %q, %v", b, err)
		}
	}
	await(t, "the end of all", func() bool { return f.open() == 0 })
}

// Shutdown ends what is idle and waits for what is not.
func TestShutdown(t *testing.T) {
	release := make(chan struct{})
	f := start(t, front.Options{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "done")
	}), mixed)
	busy, idle := f.dial(t), f.dial(t)
	send(t, busy, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	send(t, idle, "GET /now HTTP/1.1\r\nHost: h\r\n\r\n")
	await(t, "both requests", func() bool { return f.count(t, "chappe_requests_total", "") == 2 })
	f.StopAccepting()
	f.http.SetKeepAlivesEnabled(false)
	if conn, err := net.Dial("tcp", f.address); err == nil {
		conn.Close()
		t.Error("a connection is taken after StopAccepting")
	}
	send(t, idle, "GET /now HTTP/1.1\r\nHost: h\r\n\r\n")
	if b, err := io.ReadAll(idle); err != nil || !bytes.Contains(b, []byte("Connection: close")) {
		t.Errorf("the last answer is %q, %v; it is to say so", b, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.http.Shutdown(t.Context()) }()
	close(release)
	if b, err := io.ReadAll(busy); err != nil || !bytes.HasSuffix(b, []byte("done")) {
		t.Errorf("the request under way got %q, %v", b, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	busy.Close()
	idle.Close()
	f.Settle()
	if n := f.open(); n != 0 {
		t.Errorf("%d connections stay", n)
	}
}
