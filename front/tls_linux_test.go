//go:build !nethttp

package front_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
)

// certificate is one for 127.0.0.1, made at once.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	return server, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// secure says what it sees of TLS, and what cookie it would set.
func secureHandler() *http.ServeMux {
	mux := plain().(*http.ServeMux)
	mux.HandleFunc("GET /tls", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || !r.TLS.HandshakeComplete {
			http.Error(w, "no TLS", http.StatusTeapot)
			return
		}
		_, _ = io.WriteString(w, r.Proto+" "+r.RemoteAddr)
	})
	return mux
}

func startTLS(t *testing.T, o front.Options) (*fixture, *tls.Config) {
	server, client := certificate(t)
	o.TLS = server
	var f *fixture
	mux := secureHandler()
	quiet := func(x *front.Exchange) { x.Stream("text/plain", f.waiter.id(x), 1) }
	mux.HandleFunc("GET /quiet", func(w http.ResponseWriter, r *http.Request) { front.Host(f.Loops()[0], quiet, w, r) })
	f = start(t, o, mux, func(g *fixture) {
		f = g
		mixed(g)
		g.Handle("/quiet", quiet)
		g.Handle("/secure", func(x *front.Exchange) {
			r, err := x.Request()
			if err != nil || r.TLS == nil {
				x.Answer(http.StatusTeapot, nil, nil)
				return
			}
			x.Answer(http.StatusOK, nil, nil)
		})
	})
	return f, client
}

func (f *fixture) dialTLS(t testing.TB, config *tls.Config) *tls.Conn {
	t.Helper()
	conn := tls.Client(f.dial(t), config)
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// The scripts of TestLikeNetHTTP over TLS, on one connection each.
func TestTLS(t *testing.T) {
	f, config := startTLS(t, front.Options{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := config.Clone()
		config.MaxVersion = version
		conn := f.dialTLS(t, config)
		in := bufio.NewReader(conn)
		for _, path := range []string{"/now", "/nethttp", "/later", "/large300", "/nethttp", "/prepared1", "/secure", "/tls", "/now"} {
			send(t, conn, "GET "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("GET %s: %v", path, err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("GET %s: %s, %v", path, resp.Status, err)
			}
			if path != "/secure" && path != "/tls" && !bytes.Equal(b, answerOf(path)) {
				t.Errorf("GET %s was answered %.40q", path, b)
			}
		}
		send(t, conn, "POST /digest HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n"+strings.Repeat("x", 50000)+"GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(in) // io.EOF only after a close notification
		if err != nil || !bytes.Contains(b, []byte("50000 ")) || !bytes.HasSuffix(b, answerOf("/now")) {
			t.Errorf("two behind each other: %.60q, %v", b, err)
		}
	}
	conn := f.dialTLS(t, config)
	send(t, conn, "GET /nethttp HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(conn); err != nil || !bytes.HasSuffix(b, answerOf("/nethttp")) {
		t.Errorf("the last one, by net/http: %q, %v", b, err)
	}
	config12 := config.Clone()
	config12.MaxVersion = tls.VersionTLS12
	wire := &recorded{Conn: f.dial(t)}
	conn = tls.Client(wire, config12)
	send(t, conn, "POST /limited HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 4000))
	if b, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 413 ")) {
		t.Errorf("a body above the limit: %q, %v", b, err)
	}
	// Crypto/tls does not tell a connection that was cut from one that ended.
	const alert, alertSize = 21, 5 + 8 + 2 + 16 // RFC 5246 §6.2.3.3
	if last := wire.all[len(wire.all)-alertSize]; last != alert {
		t.Errorf("the last record is of type %d, want the close notification", last)
	}
	closing := f.dialTLS(t, config)
	_ = closing.CloseWrite()
	if _, err := closing.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, net.ErrClosed) {
		t.Errorf("a client that ends is answered %v", err)
	}
	await(t, "the end of all", func() bool { return f.open() <= 2 }) // those whose ends the client did not close
}

// HTTP/2 is net/http's, streams included.
func TestHTTP2(t *testing.T) {
	f, config := startTLS(t, front.Options{})
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	resp, err := client.Get("https://" + f.address + "/tls")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || !strings.HasPrefix(string(b), "HTTP/2.0 127.0.0.1:") {
		t.Errorf("answered by %s: %q", resp.Proto, b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+f.address+"/quiet", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		await(t, "the stream", func() bool { return f.open() == 2 }) // the connection, and a pipe
		cancel()
	}()
	if stream, err := client.Do(req); err == nil {
		_, _ = io.ReadAll(stream.Body)
		stream.Body.Close()
	}
	if err := <-f.waiter.closed; err == nil {
		t.Error("the stream's owner is told of no error")
	}
}

// What is no TLS, or stalls within it, costs no place and ends.
func TestTLSRefused(t *testing.T) {
	t.Parallel()
	f, config := startTLS(t, front.Options{HeadTime: 2 * time.Second})
	plain := f.dial(t)
	send(t, plain, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if b, err := io.ReadAll(plain); err != nil || !bytes.Contains(b, []byte("https://")) {
		t.Errorf("HTTP on this port is answered %q, %v", b, err)
	}
	garbage := f.dial(t)
	send(t, garbage, "\x16\x03\x01\x00\x05hello")
	_, _ = io.ReadAll(garbage)

	// Ten that stall after the server's answer; there is one place to compute in.
	hello := helloOf(t, config)
	var stalled []net.Conn
	for range 10 {
		conn := f.dial(t)
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, conn)
	}
	half := f.dial(t)
	send(t, half, string(hello[:len(hello)-1]))
	began := time.Now()
	honest := f.dialTLS(t, config)
	if took := time.Since(began); took > time.Second {
		t.Errorf("an honest handshake took %v", took)
	}
	honest.Close()
	for _, conn := range append(stalled, half) {
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("one that stalls is still there")
		}
	}
	await(t, "the count of failures", func() bool { return f.count(t, "chappe_tls_handshakes_total", "failed") == 11 })
	// A hello that comes byte by byte is a hello.
	conn := f.dial(t)
	slow := tls.Client(fragments{conn}, config)
	if err := slow.Handshake(); err != nil {
		t.Error(err)
	}
	slow.Close()
}

// recorded keeps all that comes.
type recorded struct {
	net.Conn
	all []byte
}

func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.all = append(r.all, b[:n]...)
	return n, err
}

// fragments writes byte by byte.
type fragments struct{ net.Conn }

func (f fragments) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := f.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// helloOf is what a client says first.
func helloOf(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _ = tls.Client(theirs, config).Handshake(); theirs.Close() }()
	b := make([]byte, 16<<10)
	n, err := io.ReadAtLeast(ours, b, 5)
	if err != nil {
		t.Fatal(err)
	}
	if rest := 5 + int(b[3])<<8 + int(b[4]); n < rest {
		if _, err := io.ReadFull(ours, b[n:rest]); err != nil {
			t.Fatal(err)
		}
		n = rest
	}
	return b[:n]
}

// Sessions that wait over TLS have no goroutine, and little memory.
func TestTLSCost(t *testing.T) {
	const n = 1000
	f, config := startTLS(t, front.Options{})
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	open := func(n int) (conns []net.Conn) {
		conns = make([]net.Conn, n)
		var g errgroup.Group
		g.SetLimit(8)
		for i := range n {
			g.Go(func() error {
				raw, err := net.Dial("tcp", f.address)
				if err != nil {
					return err
				}
				conn := tls.Client(raw, config)
				if _, err := io.WriteString(conn, "GET /quiet HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
					return err
				}
				if _, err := conn.Read(make([]byte, 1000)); err != nil {
					return err
				}
				conns[i] = raw // what the client's side of TLS takes is not to be counted
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		return conns
	}
	first := open(50) // warms up what is shared
	memory := func() (bytes uint64) {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	await(t, "handshakes to end", func() bool { return f.count(t, "chappe_requests_total", "loop") == 50 })
	goroutines, before := runtime.NumGoroutine(), memory()
	rest := open(n)
	await(t, "the goroutines of handshakes to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	per := (int64(memory()) - int64(before)) / n
	t.Logf("%d bytes a session", per)
	if limit := int64(9 << 10); !raceEnabled && per > limit {
		t.Errorf("a session takes %d bytes, want at most %d", per, limit)
	}
	// They still speak.
	w := f.waiter
	for _, conn := range append(first, rest...) {
		conn.Close()
	}
	for range n + 50 {
		<-w.closed
	}
	await(t, "the end of all", func() bool { return f.open() == 0 })
}

// A certificate that has to be fetched keeps nobody else waiting.
func TestTLSFetch(t *testing.T) {
	server, config := certificate(t)
	fetched := make(chan struct{})
	pair := &server.Certificates[0]
	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == "slow.example" {
			<-fetched
		}
		return pair, nil
	}
	server.Certificates = nil
	f := start(t, front.Options{TLS: server}, plain(), mixed)
	slow := config.Clone()
	slow.ServerName, slow.InsecureSkipVerify = "slow.example", true
	var g errgroup.Group
	for range 5 {
		conn := f.dial(t)
		g.Go(func() error { return tls.Client(conn, slow).Handshake() })
	}
	config.InsecureSkipVerify = true
	f.dialTLS(t, config).Close()
	close(fetched)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// Output that the client does not take stays in order, encrypted once.
func TestTLSBackpressure(t *testing.T) {
	f, config := startTLS(t, front.Options{})
	var c loop.Conn
	var l *loop.Loop
	begun := make(chan struct{})
	f2 := start(t, front.Options{TLS: mustServer(t, &config)}, plain(), func(f *fixture) {
		f.Handle("/stream", func(x *front.Exchange) {
			l, c = x.Loop(), x.Stream("text/plain", f.waiter.id(x), 1)
			close(begun)
		})
	})
	_ = f
	conn := f2.dialTLS(t, config)
	send(t, conn, "GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	<-begun
	var want bytes.Buffer
	for i := range 400 {
		piece := bytes.Repeat([]byte{byte('a' + i%26)}, 10_000)
		want.Write(piece)
		l.Post(func() { l.WriteShared(c, piece) })
	}
	l.Post(func() { l.End(c) })
	b, err := io.ReadAll(conn)
	if _, body, ok := bytes.Cut(b, []byte("\r\n\r\n")); !ok || err != nil || !bytes.Equal(body, want.Bytes()) {
		t.Errorf("%d bytes came, want %d in their order: %v", len(body), want.Len(), err)
	}
}

func mustServer(t *testing.T, client **tls.Config) *tls.Config {
	server, c := certificate(t)
	*client = c
	return server
}
