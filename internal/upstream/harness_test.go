package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/chappe/chappe/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newOrigins(t *testing.T) *upstream.Origins {
	t.Helper()
	o := upstream.NewOrigins(slog.New(slog.DiscardHandler))
	t.Cleanup(o.Close)
	return o
}

func newPool(t *testing.T, o *upstream.Origins, opt upstream.Options) *upstream.Pool {
	t.Helper()
	p, err := o.Pool(opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func request(t *testing.T, method, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://example.org"+target, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// get is a whole exchange.
func get(t *testing.T, p *upstream.Pool) (status int, body string, err error) {
	t.Helper()
	return do(p, request(t, http.MethodGet, "/", nil))
}

func do(p *upstream.Pool, r *http.Request) (status int, body string, err error) {
	answer, err := p.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func wantKind(t *testing.T, err error, want upstream.Kind) *upstream.Error {
	t.Helper()
	failed, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("error = %v, want kind %v", err, want)
	}
	if failed.Kind != want {
		t.Fatalf("error = %v of kind %v, want kind %v", failed, failed.Kind, want)
	}
	return failed
}

// pipes is a network in memory, for synctest bubbles. Who dials an address meets
// the script there, once for each connection.
type pipes struct {
	mu      sync.Mutex
	scripts map[string]func(net.Conn)
	dials   map[string]int
	running sync.WaitGroup
}

func newPipes() *pipes {
	return &pipes{scripts: map[string]func(net.Conn){}, dials: map[string]int{}}
}

func (p *pipes) on(address string, script func(net.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scripts[address] = script
}

func (p *pipes) dialed(address string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials[address]
}

func (p *pipes) dial(ctx context.Context, _, address string) (net.Conn, error) {
	p.mu.Lock()
	script := p.scripts[address]
	p.dials[address]++
	p.mu.Unlock()
	if script == nil { // as an address that does not answer
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	p.running.Go(func() {
		defer theirs.Close()
		script(theirs)
	})
	return ours, nil
}

// bubble makes origins over pipes that are gone when it returns.
func bubble(t *testing.T, p *pipes) (o *upstream.Origins, end func()) {
	o = upstream.NewOrigins(slog.New(slog.DiscardHandler))
	o.SetDial(p.dial)
	return o, func() {
		o.Close()
		p.running.Wait()
	}
}

// says reads one request and writes the text, again and again.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		from := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
}

// once says the text, and then hangs until the other side closes, or closes.
func once(text string, hang bool) func(net.Conn) {
	return func(conn net.Conn) {
		from := bufio.NewReader(conn)
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if _, err = io.WriteString(conn, text); err == nil && hang {
			_, _ = io.Copy(io.Discard, from)
		}
	}
}

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func status(code string) string { return "HTTP/1.1 " + code + " x\r\nContent-Length: 0\r\n\r\n" }

func endless(conn net.Conn) {
	once("HTTP/1.1 200 OK\r\n", false)(conn)
	for err := error(nil); err == nil; {
		_, err = io.WriteString(conn, "X: "+strings.Repeat("x", 1000)+"\r\n")
	}
}
