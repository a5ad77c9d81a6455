//go:build !nethttp

package front_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/chappe/chappe/front"
)

// peers answer by the address of the other side: on the loop, held, and by
// net/http.
func peers() (http.Handler, func(*fixture)) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /nethttp", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, host)
	})
	return mux, func(f *fixture) {
		f.Handle("/loop", func(x *front.Exchange) { x.Answer(http.StatusOK, nil, []byte(x.Peer().String())) })
		f.Handle("/held", func(x *front.Exchange) {
			held, _ := x.Hold()
			x.Loop().Post(func() { held.Answer(http.StatusOK, nil, []byte(held.Peer().String())) })
		})
	}
}

func version2(src string) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
	a := netip.MustParseAddr(src).As4()
	b = append(append(b, a[:]...), 10, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, 4711)
	return string(binary.BigEndian.AppendUint16(b, 443))
}

func TestProxy(t *testing.T) {
	t.Parallel()
	h, setup := peers()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	f := start(t, front.Options{Proxy: true, TrustedProxies: loopback, HeadTime: 500 * time.Millisecond}, h, setup)
	const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for _, tt := range []struct{ header, want string }{
		{"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", "192.0.2.7"},
		{"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7"},
		{"PROXY UNKNOWN\r\n", "127.0.0.1"},
		{version2("192.0.2.8"), "192.0.2.8"},
		{local, "127.0.0.1"},
	} {
		for _, pieces := range []bool{false, true} {
			conn := f.dial(t)
			if pieces {
				conn = fragments{conn}
			}
			in := bufio.NewReader(conn)
			send(t, conn, tt.header)
			for _, path := range []string{"/loop", "/nethttp", "/held", "/loop", "/nethttp"} { // the address stays the connection's
				send(t, conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatalf("%q: %v", tt.header, err)
				}
				if b, _ := io.ReadAll(resp.Body); string(b) != tt.want {
					t.Errorf("%q: GET %s comes from %s, want %s", tt.header, path, b, tt.want)
				}
			}
		}
	}
	for _, bad := range []string{"GET /loop HTTP/1.1\r\nHost: h\r\n\r\n", "PROXY TCP4 x\r\nGET /loop HTTP/1.1\r\nHost: h\r\n\r\n", "PROXY TCP4 1.2.3.4", "\r\n\r\n\x00\r\nQUIT\n\x31"} {
		conn := f.dial(t)
		send(t, conn, bad)
		if b, _ := io.ReadAll(conn); len(b) > 0 {
			t.Errorf("%q is answered %q", bad, b)
		}
	}
	await(t, "the end of what says only who it is", func() bool { // and then nothing
		conn := f.dial(t)
		send(t, conn, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n")
		_, err := conn.Read(make([]byte, 1))
		return err == io.EOF
	})
}

// A peer that is not trusted may not say who it is: its header is no HTTP.
func TestProxyUntrusted(t *testing.T) {
	h, setup := peers()
	f := start(t, front.Options{Proxy: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, h, setup)
	conn := f.dial(t)
	send(t, conn, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\nGET /loop HTTP/1.1\r\nHost: h\r\n\r\n")
	if b, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 400 ")) {
		t.Errorf("answered %q, %v", b, err)
	}
	conn = f.dial(t)
	send(t, conn, "GET /loop HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(conn); err != nil || !bytes.HasSuffix(b, []byte("127.0.0.1")) {
		t.Errorf("without a header: %q, %v", b, err)
	}
}

// A Unix socket's peers have no address, or the one that they give.
func TestUnixSocket(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		h, setup := peers()
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		startOn(t, l, front.Options{Proxy: proxy}, h, setup)
		for _, request := range []string{"/loop", "/held", "/nethttp"} {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			header, want := "", "invalid IP"
			if request == "/nethttp" {
				want = ""
			}
			if proxy {
				header, want = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", "192.0.2.7"
			}
			send(t, conn, header+"GET "+request+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(conn)
			if _, body, _ := bytes.Cut(b, []byte("\r\n\r\n")); err != nil || string(body) != want {
				t.Errorf("proxy %v: GET %s comes from %q, want %q: %v", proxy, request, body, want, err)
			}
			conn.Close()
		}
	}
}

// The address in a PROXY header holds inside TLS too, and for HTTP/2.
func TestProxyTLS(t *testing.T) {
	f, config := startTLS(t, front.Options{Proxy: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	dial := func() net.Conn {
		conn := f.dial(t)
		send(t, conn, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n")
		return conn
	}
	for _, http2 := range []bool{false, true} {
		config := config.Clone()
		transport := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: config, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(), nil }}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + f.address + "/tls")
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); !bytes.Contains(b, []byte(" 192.0.2.7:")) || (resp.ProtoMajor == 2) != http2 {
			t.Errorf("by %s it comes from %q", resp.Proto, b)
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
	}
}
