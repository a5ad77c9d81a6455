package upstream_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/chappe/chappe/internal/upstream"
)

// listen runs a script for each connection, one after the other, over TCP.
func listen(t *testing.T, script func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			unhook := context.AfterFunc(ctx, func() { conn.Close() }) // our side may not think it idle
			script(conn)
			unhook()
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); stop(); <-served })
	return l.Addr().String()
}

// TestNeverTwiceHTTP2 has an origin that resets each stream once it has the
// request. net/http repeats what has no body after PROTOCOL_ERROR.
func TestNeverTwiceHTTP2(t *testing.T) {
	var seen atomic.Int32
	address := listen(t, func(conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if headers, ok := frame.(*http2.HeadersFrame); ok {
				seen.Add(1)
				_ = framer.WriteRSTStream(headers.StreamID, http2.ErrCodeProtocol)
			}
		}
	})
	o := newOrigins(t)
	p := newPool(t, o, upstream.Options{URLs: []string{"h2c://" + address}})
	wantKind(t, post(t, p), upstream.Reset)
	if got := seen.Load(); got != 1 {
		t.Errorf("a POST was sent %d times", got)
	}
}

// TestReset is of a real RST.
func TestReset(t *testing.T) {
	address := listen(t, func(conn net.Conn) {
		once("", false)(conn)
		_ = conn.(*net.TCPConn).SetLinger(0)
	})
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{"http://" + address}})
	for range 5 {
		wantKind(t, post(t, p), upstream.Reset)
	}
}

// TestSlowHandshake has an origin that takes the connection and says nothing.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:443", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"https://a"}, Times: times})
		start := time.Now()
		failed := wantKind(t, post(t, p), upstream.Timeout)
		if took := time.Since(start); took != times.Connect || failed.Status() != http.StatusGatewayTimeout {
			t.Errorf("status %d after %v, want 504 after %v", failed.Status(), took, times.Connect)
		}
	})
}

// TestUnreadOrigin has an origin that stops to read the request.
func TestUnreadOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := make(chan struct{})
		n := newPipes()
		n.on("a:80", func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			<-hung
		})
		o, end := bubble(t, n)
		defer end()
		defer close(hung)
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Times: times})
		start := time.Now()
		_, _, err := do(p, request(t, http.MethodPost, "/", &slowly{chunks: 1e6, end: io.EOF}))
		wantKind(t, err, upstream.Timeout)
		if took := time.Since(start); took != times.Head || o.States()[0].LastError == "" {
			t.Errorf("after %v the origin is blamed for %q, want its fault after %v", took, o.States()[0].LastError, times.Head)
		}
	})
}

// TestClosedEarly gives the place back, and says nothing of the origin.
func TestClosedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", drip(time.Second))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Concurrency: 1})
		for range 10 {
			answer, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			answer.Body.Close() // gives back no second place
		}
		if got := o.States()[0]; got.InFlight != 0 || got.LastError != "" || got.Breaker != "closed" {
			t.Errorf("state %+v", got)
		}
	})
}

// TestSlowReader may take all the total time between two reads.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Times: times})
		answer, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		time.Sleep(times.Total - time.Second)
		if text, err := io.ReadAll(answer.Body); string(text) != "ok" || err != nil {
			t.Errorf("body %q, %v", text, err)
		}
	})
}

// TestUpgradeOutlivesTotal: what is spoken after a 101 has no deadline.
func TestUpgradeOutlivesTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", func(conn net.Conn) {
			once("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", false)(conn)
			_, _ = io.Copy(conn, conn)
		})
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Times: times})
		ctx, cancel := context.WithCancel(t.Context())
		r := request(t, http.MethodGet, "/", nil).WithContext(ctx)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
		answer, err := p.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		time.Sleep(2 * times.Total)
		conn := answer.Body.(io.ReadWriteCloser)
		echo := make([]byte, 5)
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(conn, echo); err != nil || string(echo) != "hello" {
			t.Errorf("echo %q, %v", echo, err)
		}
		conn.Close()
	})
}

// TestSharedOrigin has one bound for the pools of an address.
func TestSharedOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, p, free, end := busy(t, upstream.Options{Queue: time.Second})
		defer end()
		other := newPool(t, o, upstream.Options{URLs: []string{"http://a:80"}, Concurrency: 1, Queue: time.Second})
		wantKind(t, post(t, other), upstream.Queue)
		wantKind(t, post(t, p), upstream.Queue)
		if got := len(o.States()); got != 1 {
			t.Errorf("%d origins of one address", got)
		}
		free()
		if err := post(t, other); err != nil {
			t.Error(err)
		}
	})
}
