package upstream_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chappe/chappe/internal/upstream"
)

func TestPoolRefuses(t *testing.T) {
	tests := []struct {
		opt  upstream.Options
		want string
	}{
		{upstream.Options{}, "name at least one"},
		{upstream.Options{URLs: []string{"http://a/b"}}, "path and query go upstream unchanged"},
		{upstream.Options{URLs: []string{"http://a?b"}}, "path and query go upstream unchanged"},
		{upstream.Options{URLs: []string{"http://a/#b"}}, "remove it"},
		{upstream.Options{URLs: []string{"http://me:secret@a"}}, "user info"},
		{upstream.Options{URLs: []string{"ftp://a"}}, "write http://host:port"},
		{upstream.Options{URLs: []string{"localhost:80"}}, "write http://host:port"},
		{upstream.Options{URLs: []string{"http://me:secret@a\x00"}}, "not a URL"},
		{upstream.Options{URLs: []string{"https://:443"}}, "names no host"},
		{upstream.Options{URLs: []string{"unix:app.sock"}}, "absolute path"},
		{upstream.Options{URLs: []string{"unix://run/app.sock"}}, "absolute path"},
		{upstream.Options{URLs: []string{"http://a", "http://A:80/"}}, "twice"},
		{upstream.Options{URLs: []string{"http://a"}, Health: "health"}, "does not begin with /"},
		{upstream.Options{URLs: []string{"http://a"}, Queue: -1}, "negative"},
		{upstream.Options{URLs: []string{"http://a"}, Concurrency: -1}, "negative"},
	}
	for _, tt := range tests {
		_, err := newOrigins(t).Pool(tt.opt)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Pool(%q) = %v, want an error with %q", tt.opt.URLs, err, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	for url, want := range map[string]string{
		"http://Example.org:80/":   "http://example.org",
		"https://example.org:8443": "https://example.org:8443",
		"h2c://[::1]:80":           "h2c://[::1]",
		"unix:/run/app.sock":       "unix:/run/app.sock",
	} {
		p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{url}})
		if got := p.States()[0].URL; got != want {
			t.Errorf("%s is shown as %q, want %q", url, got, want)
		}
	}
}

func TestRotation(t *testing.T) {
	var counts [3]atomic.Int32
	var urls []string
	for i := range counts {
		urls = append(urls, newServer(t, func(http.ResponseWriter, *http.Request) { counts[i].Add(1) }).URL)
	}
	p := newPool(t, newOrigins(t), upstream.Options{URLs: urls})
	for range 30 {
		if _, _, err := get(t, p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range counts {
		if got := counts[i].Load(); got != 10 {
			t.Errorf("origin %d had %d of 30 requests, want 10", i, got)
		}
	}
}

func TestLeastInFlight(t *testing.T) {
	var urls []string
	for i := range 2 {
		urls = append(urls, newServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) }).URL)
	}
	p := newPool(t, newOrigins(t), upstream.Options{URLs: urls})
	held, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Body.Close() // until then its origin has one in flight
	seen := map[string]int{}
	for range 10 {
		_, body, err := get(t, p)
		if err != nil {
			t.Fatal(err)
		}
		seen[body]++
	}
	if len(seen) != 1 {
		t.Errorf("answers came from %v, want all from the free origin", seen)
	}
}

func TestRequestIsKept(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %q", r.Host, r.URL, r.Header.Get("Accept-Encoding"))
	})
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{s.URL}})
	r := request(t, http.MethodGet, "/a%2Fb?c=d", nil)
	_, body, err := do(p, r)
	if want := `example.org /a%2Fb?c=d ""`; err != nil || body != want {
		t.Errorf("the origin saw %q, %v, want %q", body, err, want)
	}
	if got := r.URL.String(); got != "http://example.org/a%2Fb?c=d" {
		t.Errorf("the caller's URL became %s", got)
	}
	r.Host = ""
	_, body, err = do(p, r)
	if want := strings.TrimPrefix(s.URL, "http://") + ` /a%2Fb?c=d ""`; err != nil || body != want {
		t.Errorf("without Host the origin saw %q, %v, want %q", body, err, want)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "socket") }))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{"unix:" + path}})
	if _, body, err := get(t, p); err != nil || body != "socket" {
		t.Errorf("get = %q, %v, want the socket's answer", body, err)
	}
}

func TestProtocols(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Digest")
		fmt.Fprint(w, r.Proto)
		w.Header().Set("Digest", "x")
	})
	for scheme, want := range map[string]string{"http": "HTTP/1.1", "h2c": "HTTP/2.0", "https": "HTTP/2.0"} {
		t.Run(scheme, func(t *testing.T) {
			s := httptest.NewUnstartedServer(handler)
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetHTTP2(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			o := newOrigins(t)
			if scheme == "https" {
				s.EnableHTTP2 = true
				s.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(s.Certificate())
				o.SetRootCAs(roots)
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			p := newPool(t, o, upstream.Options{URLs: []string{scheme + "://" + s.Listener.Addr().String()}})
			answer, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || string(body) != want || answer.Trailer.Get("Digest") != "x" {
				t.Errorf("answer = %q, %v, with trailers %v, want %q and Digest", body, err, answer.Trailer, want)
			}
			_, _, err = do(p, request(t, http.MethodPost, "/", strings.NewReader("x")))
			if err != nil {
				t.Error(err)
			}
			if got := o.States()[0].InFlight; got != 0 {
				t.Errorf("%d in flight after all ended", got)
			}
		})
	}
}

func TestUnknownCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{s.URL}})
	_, _, err := get(t, p)
	wantKind(t, err, upstream.Connect)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("error = %v, want the certificate's", err)
	}
}

func TestUpgrade(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	})
	o := newOrigins(t)
	p := newPool(t, o, upstream.Options{URLs: []string{s.URL}})
	r := request(t, http.MethodGet, "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	answer, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := answer.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body of a 101 is %T, want it to be writable", answer.Body)
	}
	fmt.Fprint(conn, "hello")
	echo := make([]byte, 5)
	if _, err := io.ReadFull(conn, echo); err != nil || string(echo) != "hello" {
		t.Errorf("echo = %q, %v", echo, err)
	}
	if got := o.States()[0].InFlight; got != 0 {
		t.Errorf("%d in flight while upgraded, want 0: it may last for days", got)
	}
	conn.Close()
	if got := o.States()[0].InFlight; got != 0 {
		t.Errorf("%d in flight after the upgrade, want 0", got)
	}
}

// TestStreams has as many streams as one likes, whatever the bound of requests.
func TestStreams(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: a\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{s.URL}, Concurrency: 1, Queue: time.Millisecond})
	for range 3 {
		answer, err := p.RoundTrip(request(t, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
	}
}

func TestStates(t *testing.T) {
	s := newServer(t, func(http.ResponseWriter, *http.Request) {})
	gone := newServer(t, func(http.ResponseWriter, *http.Request) {})
	gone.Close()
	o := newOrigins(t)
	p := newPool(t, o, upstream.Options{URLs: []string{gone.URL}})
	shared := newPool(t, o, upstream.Options{URLs: []string{s.URL, gone.URL}}) // no third origin
	_, _, err := get(t, p)
	failed := wantKind(t, err, upstream.Connect)
	if failed.Status() != http.StatusBadGateway || failed.RetryAfter() != 0 {
		t.Errorf("status %d, retry after %v, want 502 and none", failed.Status(), failed.RetryAfter())
	}
	for range 4 {
		if _, _, err := get(t, shared); err != nil { // of the one that is gone again at the other
			t.Error(err)
		}
	}
	want := []upstream.State{{URL: s.URL, Up: true, Breaker: "closed"}, {URL: gone.URL, Up: true, Breaker: "closed", LastError: "connect"}}
	if gone.URL < s.URL {
		want[0], want[1] = want[1], want[0]
	}
	got := o.States()
	for i := range got {
		got[i].LastError, _, _ = strings.Cut(got[i].LastError, ":")
		if age := time.Since(got[i].Since); age < 0 || age > time.Minute {
			t.Errorf("%s is so since %v", got[i].URL, got[i].Since)
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(upstream.State{}, "Since")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestErrorHidesQuery(t *testing.T) {
	o := newOrigins(t)
	o.SetDial(func(context.Context, string, string) (net.Conn, error) {
		return nil, &urlError
	})
	p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}})
	_, _, err := do(p, request(t, http.MethodGet, "/?token=secret", nil))
	if got, want := err.Error(), "upstream http://a: no connection: nothing there"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if got := o.States()[0].LastError; strings.Contains(got, "secret") {
		t.Errorf("last error %q tells the query", got)
	}
}
