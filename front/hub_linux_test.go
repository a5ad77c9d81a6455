//go:build !nethttp

package front_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/ws"
	"github.com/chappe/chappe/store"
)

// startHub is a front with the real hub behind it.
func startHub(t *testing.T, o front.Options, limits push.Limits) (*fixture, *bus.Bus) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	rules := event.Rules{{Match: "**", Public: true}}
	db, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	log, err := store.OpenLog(t.Context(), db, store.Options{Rules: rules, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	b, err := bus.New(t.Context(), log, bus.Options{Rules: rules, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	verifier, err := account.NewVerifier(account.JWTConfig{}, "a secret of the data folder, long enough", nil)
	if err != nil {
		t.Fatal(err)
	}
	var hub *push.Hub
	f := start(t, o, http.NotFoundHandler(), func(f *fixture) {
		hub = push.New(b, &account.Access{Tokens: db, Verifier: verifier, Rules: rules}, push.Options{
			Limits: limits, TrustedProxies: o.TrustedProxies, Loops: f.Loops(), Logger: quiet, Metrics: f.registry})
		b.Follow(hub)
		f.Handle("/v1/ws", hub.ServeWebSocket)
		f.Handle("/v1/stream", hub.ServeStream)
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		hub.Drain(ctx)
	})
	return f, b
}

// socket is a WebSocket that has said hello.
func (f *fixture) socket(t testing.TB, header string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := f.dial(t)
	in, err := upgrade(conn, header)
	if err != nil {
		t.Fatal(err)
	}
	return conn, in
}

func upgrade(conn net.Conn, header string) (*bufio.Reader, error) {
	_, err := io.WriteString(conn, "GET /v1/ws?topic=a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+header+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(conn, 512)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" {
			break
		}
	}
	payload, err := readFrame(in)
	if err == nil && !bytes.Contains(payload, []byte(`"hello"`)) {
		err = fmt.Errorf("%q in place of a hello", payload)
	}
	return in, err
}

// readFrame reads a frame of a server, with its close code for a closing one.
func readFrame(in *bufio.Reader) ([]byte, error) {
	first, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	second, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	n := int(second)
	if n == 126 {
		var b [2]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return nil, err
		}
		n = int(b[0])<<8 | int(b[1])
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, err
	}
	if ws.Op(first&0xf) == ws.OpClose {
		return nil, fmt.Errorf("closed with %d", int(payload[0])<<8|int(payload[1]))
	}
	return payload, nil
}

// masked is a frame of a client, under a mask of zeros.
func masked(first byte, payload string) string {
	return string([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
}

// residentSize is the process's memory, in bytes.
func residentSize(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Fragments of one byte cost no more than their bytes, and their number ends
// the connection.
func TestFragments(t *testing.T) {
	const n = 1000
	f, _ := startHub(t, front.Options{}, push.Limits{PerAddress: 2 * n})
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i], _ = f.socket(t, "")
	}
	before := residentSize(t)
	var g errgroup.Group
	g.SetLimit(16)
	for _, conn := range conns {
		g.Go(func() error {
			if _, err := io.WriteString(conn, masked(0x01, "a")); err != nil {
				return err
			}
			for range 62 {
				if _, err := io.WriteString(conn, masked(0x00, "a")); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	grown := residentSize(t) - before
	t.Logf("63 fragments on each of %d connections: %d bytes more", n, grown)
	if grown > 50<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	_, _ = io.WriteString(conns[0], strings.Repeat(masked(0x00, "a"), 10))
	in := bufio.NewReader(conns[0])
	if _, err := readFrame(in); err == nil || !strings.Contains(err.Error(), "closed with 1") {
		t.Errorf("the 65th fragment is answered %v", err)
	}
}

// One that floods is closed; others have their events as fast as ever.
func TestPingFlood(t *testing.T) {
	f, b := startHub(t, front.Options{Loops: 1}, push.Limits{})
	_, in := f.socket(t, "")
	once := func() time.Duration { // p99 of some
		var took []time.Duration
		for range 100 {
			began := time.Now()
			_, err := b.Publish(t.Context(), event.Batch{Events: []event.Event{{Source: "/t", Type: "t", Topic: "a", Data: []byte("1")}}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := readFrame(in); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	measure := func() time.Duration { // the best of several: the machine has other things to do
		best := once()
		for range 5 {
			best = min(best, once())
		}
		return best
	}
	calm := measure()
	ctx, cancel := context.WithCancel(t.Context())
	flood := strings.Repeat(masked(0x89, ""), 1000)
	var g errgroup.Group
	g.Go(func() error { // 100,000 a second; when it is closed, from another connection
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		closed := 0
		for ctx.Err() == nil {
			<-pace.C
			conn, err := net.Dial("tcp", f.address)
			if err != nil {
				return err
			}
			in, err := upgrade(conn, "")
			for err == nil && ctx.Err() == nil {
				if _, err = io.WriteString(conn, flood); err != nil {
					break
				}
				for err == nil {
					_, err = readFrame(in)
				}
			}
			if err != nil && err.Error() == "closed with 1008" {
				closed++
			}
			conn.Close()
		}
		if closed == 0 {
			return fmt.Errorf("no flood was closed with 1008")
		}
		return nil
	})
	flooded := measure()
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("p99 from publish to receipt: %v, under the flood %v", calm, flooded)
	if flooded > 2*calm+10*time.Millisecond {
		t.Errorf("p99 is %v under the flood, %v without", flooded, calm)
	}
}

// One that never reads is ended; what waits for it is bounded, and others go on.
func TestNeverReads(t *testing.T) {
	f, b := startHub(t, front.Options{}, push.Limits{Queue: 64 << 10})
	deaf, _ := f.socket(t, "")
	_ = deaf.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, in := f.socket(t, "")
	data := []byte(`"` + strings.Repeat("x", 20_000) + `"`)
	for range 500 {
		if _, err := b.Publish(t.Context(), event.Batch{Events: []event.Event{{Source: "/t", Type: "t", Topic: "a", Data: data}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := readFrame(in); err != nil {
			t.Fatal(err)
		}
	}
	queued := 0
	for _, l := range f.Loops() {
		queued += l.Queued()
	}
	if queued > 300<<10 {
		t.Errorf("%d bytes wait for one that does not read", queued)
	}
}

// Limits by address count the client's: by PROXY header, or by X-Forwarded-For
// behind a trusted peer only.
func TestLimitsByAddress(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for name, tt := range map[string]struct {
		o      front.Options
		before func(n int) string // a PROXY header
		header func(n int) string
		want   int // of 6 that connect
	}{
		"one address":                   {front.Options{}, nil, nil, 2},
		"forwarded, by nobody trusted":  {front.Options{}, nil, func(n int) string { return fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", n) }, 2},
		"forwarded, by a trusted proxy": {front.Options{TrustedProxies: loopback}, nil, func(n int) string { return fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", n) }, 6},
		"by PROXY header":               {front.Options{TrustedProxies: loopback, Proxy: true}, func(n int) string { return fmt.Sprintf("PROXY TCP4 192.0.2.%d 10.0.0.1 1 2\r\n", n) }, nil, 6},
		"forwarded, by a client that a PROXY header names": {front.Options{TrustedProxies: loopback, Proxy: true}, func(int) string { return "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n" },
			func(n int) string { return fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", n) }, 2},
	} {
		f, _ := startHub(t, tt.o, push.Limits{PerAddress: 2})
		got := 0
		for n := range 6 {
			conn := f.dial(t)
			header := ""
			if tt.before != nil {
				send(t, conn, tt.before(n))
			}
			if tt.header != nil {
				header = tt.header(n)
			}
			if _, err := upgrade(conn, header); err == nil {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%s: %d of 6 were let in, want %d", name, got, tt.want)
		}
	}
}
