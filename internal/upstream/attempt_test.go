package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/internal/upstream"
)

// times differ, to show which one it was.
var times = upstream.Times{Connect: 2 * time.Second, Head: 10 * time.Second, Body: 5 * time.Second, Total: 40 * time.Second}

// drip sends the head and then a byte in each pause.
func drip(pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		once("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", false)(conn)
		for {
			time.Sleep(pause)
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
		}
	}
}

// interims sends 1xx answers.
func interims(pause time.Duration, count int) func(net.Conn) {
	return func(conn net.Conn) {
		once("", false)(conn)
		for range count {
			time.Sleep(pause)
			if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
				return
			}
		}
		_, _ = io.WriteString(conn, fine)
	}
}

func TestFailingOrigins(t *testing.T) {
	tests := []struct {
		name   string
		script func(net.Conn)
		want   upstream.Kind
		after  time.Duration
		text   string
	}{
		{"no connection", nil, upstream.Timeout, 2 * time.Second, "no connection within 2s"},
		{"no head", once("", true), upstream.Timeout, 10 * time.Second, "no response head within 10s"},
		{"half a head", once("HTTP/1.1 200 OK\r\nA:", true), upstream.Timeout, 10 * time.Second, "no response head within 10s"},
		{"1xx and no head", interims(3*time.Second, 50), upstream.Timeout, 10 * time.Second, "no response head within 10s"},
		{"flood of 1xx", interims(0, 1000), upstream.Malformed, 0, "1xx"},
		{"no body", once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true), upstream.Timeout, 5 * time.Second, "no more of the body within 5s"},
		{"slow body", drip(time.Second), upstream.Timeout, 40 * time.Second, "not done within 40s"},
		{"short body", once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false), upstream.Reset, 0, "unexpected EOF"},
		{"short chunk", once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", false), upstream.Reset, 0, "unexpected EOF"},
		{"cut before the head", once("", false), upstream.Reset, 0, "EOF"},
		{"cut in the head", once("HTTP/1.1 200 OK\r\nA: b\r\n", false), upstream.Reset, 0, "unexpected EOF"},
		{"garbage", once("SSH-2.0-OpenSSH\r\n\r\n", false), upstream.Malformed, 0, "malformed"},
		{"bad field", once("HTTP/1.1 200 OK\r\nA b\r\n\r\n", false), upstream.Malformed, 0, "malformed"},
		{"endless head", endless, upstream.Malformed, 0, "exceeded 65536 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipes()
				n.on("a:80", tt.script)
				o, end := bubble(t, n)
				defer end()
				p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Times: times})
				start := time.Now()
				_, _, err := do(p, request(t, http.MethodPost, "/", strings.NewReader("x")))
				failed := wantKind(t, err, tt.want)
				if took := time.Since(start); took != tt.after || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("after %v: %v, want after %v and %q", took, err, tt.after, tt.text)
				}
				want := http.StatusBadGateway
				if tt.want == upstream.Timeout {
					want = http.StatusGatewayTimeout
				}
				if failed.Status() != want || failed.Origin != "http://a" {
					t.Errorf("status %d of %s, want %d of http://a", failed.Status(), failed.Origin, want)
				}
				if strings.HasPrefix(tt.name, "short") && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("error %v, want io.ErrUnexpectedEOF in it", err)
				}
				if got := o.States()[0]; got.InFlight != 0 {
					t.Errorf("%d in flight after the end", got.InFlight)
				}
			})
		})
	}
}

func TestInterimAnswersAreSeen(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{s.URL}})
	var seen []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			seen = append(seen, fmt.Sprint(code, h.Get("Link")))
			return nil
		},
	})
	status, _, err := do(p, request(t, http.MethodGet, "/", nil).WithContext(ctx))
	if err != nil || status != 200 || len(seen) != 1 || seen[0] != "103</style.css>" {
		t.Errorf("status %d, %v, 1xx %q, want 200 and one 103", status, err, seen)
	}
}

// slowly is a body whose client takes its time.
type slowly struct {
	chunks int
	pause  time.Duration
	end    error
}

func (s *slowly) Read(b []byte) (int, error) {
	time.Sleep(s.pause)
	if s.chunks--; s.chunks < 0 {
		return 0, s.end
	}
	return copy(b, "chunk"), nil
}

func TestSlowClientIsNoFault(t *testing.T) {
	for name, body := range map[string]*slowly{
		"uploads all": {chunks: 9, pause: 12 * time.Second, end: io.EOF},
		"goes away":   {chunks: 1, pause: 12 * time.Second, end: errors.New("client gone")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipes()
				n.on("a:80", says(fine))
				o, end := bubble(t, n)
				defer end()
				p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}, Times: times})
				start := time.Now()
				_, _, err := do(p, request(t, http.MethodPost, "/", body))
				if took := time.Since(start); name == "uploads all" {
					wantKind(t, err, upstream.Timeout)
					if took != 48*time.Second { // net/http waits for the read that is under way
						t.Errorf("it took %v, want the total time and the rest of a read", took)
					}
				} else if wantKind(t, err, upstream.Canceled); !errors.Is(err, body.end) {
					t.Errorf("error %v, want the client's", err)
				}
				if got := o.States()[0].LastError; got != "" {
					t.Errorf("the origin is blamed: %s", got)
				}
				time.Sleep(times.Total) // until the body is read no more
			})
		})
	}
}

func TestCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		n.on("a:80", once("", true))
		o, end := bubble(t, n)
		defer end()
		p := newPool(t, o, upstream.Options{URLs: []string{"http://a"}})
		for range 10 { // more than open the breaker
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err := do(p, request(t, http.MethodGet, "/", nil).WithContext(ctx))
			cancel()
			wantKind(t, err, upstream.Canceled)
		}
		if got := o.States()[0].Breaker; got != "closed" {
			t.Errorf("breaker %s after clients went away", got)
		}
	})
}

// TestNeverTwice has origins that read a request and close: on a new connection,
// and on one that was kept.
func TestNeverTwice(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		for _, text := range []string{"", "body"} {
			t.Run(method+" "+text, func(t *testing.T) {
				var seen atomic.Int32
				script := func(conn net.Conn) {
					from := bufio.NewReader(conn)
					for i := range 2 {
						r, err := http.ReadRequest(from)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, r.Body)
						if r.Header.Get("Idempotency-Key") != "" {
							seen.Add(1)
							return
						}
						if i == 0 {
							_, _ = io.WriteString(conn, fine)
						}
					}
				}
				n := newPipes()
				n.on("a:80", script)
				n.on("b:80", script)
				o, end := bubble(t, n)
				defer end()
				p := newPool(t, o, upstream.Options{URLs: []string{"http://a", "http://b"}})
				for round := range int32(2) {
					r := request(t, method, "/", strings.NewReader(text))
					r.Header["Idempotency-Key"] = []string{"x"}
					_, _, err := do(p, r)
					wantKind(t, err, upstream.Reset)
					if got := seen.Load(); got != round+1 {
						t.Fatalf("after %d requests %d were seen", round+1, got)
					}
					if r.Header.Get("Idempotency-Key") != "x" {
						t.Error("the caller's header was changed")
					}
					for range 2 { // for each a connection that is kept
						if _, _, err := get(t, p); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func TestRetry(t *testing.T) {
	tests := []struct {
		name    string
		broken  func(net.Conn)
		method  string
		body    io.Reader
		retried bool
	}{
		{"GET after a cut", once("", false), http.MethodGet, nil, true},
		{"GET after no connection", nil, http.MethodGet, nil, true},
		{"HEAD after a cut", once("", false), http.MethodHead, nil, true},
		{"GET with a body", once("", false), http.MethodGet, strings.NewReader("x"), false},
		{"POST after no connection", nil, http.MethodPost, nil, false},
		{"OPTIONS", once("", false), http.MethodOptions, nil, false},
		{"GET that takes too long", once("", true), http.MethodGet, nil, false},
		{"GET after a byte", once("H", false), http.MethodGet, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipes()
				for _, address := range []string{"a:80", "b:80"} {
					n.on(address, tt.broken)
				}
				n.on("c:80", says("HTTP/1.1 200 OK\r\n\r\n"))
				o, end := bubble(t, n)
				defer end()
				// The turn begins with the second.
				p := newPool(t, o, upstream.Options{URLs: []string{"http://c", "http://a"}})
				failing := newPool(t, o, upstream.Options{URLs: []string{"http://a", "http://b"}})
				answer, err := p.RoundTrip(request(t, tt.method, "/", tt.body))
				if (err == nil) != tt.retried {
					t.Errorf("error %v, want it retried: %v", err, tt.retried)
				}
				if err == nil {
					answer.Body.Close()
				}
				if !tt.retried {
					return
				}
				if _, err := failing.RoundTrip(request(t, tt.method, "/", nil)); err == nil {
					t.Error("an answer of origins that give none")
				}
				if got := n.dialed("a:80") + n.dialed("b:80"); got != 3 {
					t.Errorf("%d tries at the broken ones, want 1 and 2", got)
				}
			})
		})
	}
}
