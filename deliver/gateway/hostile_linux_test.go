//go:build linux && !nethttp

package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/internal/head/headtest"
)

// talk sends, and returns the statuses and bodies of at most two answers. Whole
// says that the text is: otherwise it ends its own side.
func talk(conn net.Conn, text string, whole bool) (statuses []int, bodies []string) {
	defer conn.Close()
	_, _ = io.WriteString(conn, text) // the other side may have ended it
	in := bufio.NewReader(conn)
	if !whole {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	for len(statuses) < 2 {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		statuses, bodies = append(statuses, res.StatusCode), append(bodies, string(body))
	}
	return statuses, bodies
}

// security.md 19: what parsers disagree on is refused, or comes to the origin as
// exactly one request.
func TestSmuggling(t *testing.T) {
	origin := newRawOrigin(t, func(r *http.Request, body string) string { return ownAnswer(r.Method + r.RequestURI + body) })
	s := newGateway(t, nil, route.Config{Upstream: []string{origin.url}})
	for _, c := range headtest.Smuggling {
		body := "hello"
		if strings.Contains(c.Head, "\r\nTransfer-Encoding:") {
			body = "5\r\nhello\r\n0\r\n\r\n"
		}
		if c.Status == 0 {
			body = ""
		}
		statuses, bodies := talk(s.dial(t), c.Head+body+"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", c.Status != 0)
		seen, lines := origin.take()
		var want []string
		if c.Status == http.StatusOK {
			want = []string{"POST /", "GET /smuggled"}
			if !slices.Equal(bodies, []string{"POST/hello", "GET/smuggled"}) {
				t.Errorf("%s: answered %q", c.Name, bodies)
			}
		} else if len(statuses) > 1 || c.Status > 0 && (len(statuses) != 1 || statuses[0] != c.Status) {
			t.Errorf("%s: answered %v, want %d", c.Name, statuses, c.Status)
		}
		if c.Status == 0 {
			want = seen[:0]
		}
		if !slices.Equal(seen, want) || lines != len(want) {
			t.Errorf("%s: the origin was asked %q, %d lines, want %q", c.Name, seen, lines, want)
		}
	}
}

// security.md 19: what a body holds is no request, of whatever kind the request
// is and however the body is framed; also where the answer is stored.
func TestSmugglingBodies(t *testing.T) {
	origin := newRawOrigin(t, func(r *http.Request, body string) string {
		text := fmt.Sprintf("%s %s %d", r.Method, r.RequestURI, len(body))
		if r.Method == http.MethodHead {
			return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
		}
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	})
	const inner, next = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	length, chunked := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(inner), inner), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;ext=\"a\"\r\n%s\r\n0\r\nA: b\r\n\r\n", len(inner), inner)
	for _, c := range []route.Config{{}, {TTL: 1e10}} {
		c.Upstream = []string{origin.url}
		s := newGateway(t, nil, c)
		s.get(t, "/stored")
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW"} {
			for _, target := range []string{"/stored", "/"} {
				for _, framed := range []string{length, chunked, "Expect: 100-continue\r\n" + length, "Upgrade: h2c\r\nConnection: Upgrade\r\n" + length} {
					origin.take()
					conn := s.dial(t)
					_, _ = io.WriteString(conn, method+" "+target+" HTTP/1.1\r\nHost: h\r\n"+framed+next)
					text, _ := io.ReadAll(conn)
					seen, _ := origin.take()
					for _, asked := range seen {
						if asked != method+" "+target && asked != "GET /next" {
							t.Errorf("%s %s %q: the origin was asked %q", method, target, framed, seen)
						}
					}
					if strings.Contains(string(text), "/smuggled") {
						t.Errorf("%s %s %q: answered %q", method, target, framed, text)
					}
				}
			}
		}
	}
}

// security.md 19: chunks that parsers disagree on end in no second request.
func TestSmugglingChunks(t *testing.T) {
	origin := newRawOrigin(t, func(r *http.Request, body string) string { return ownAnswer(r.Method + r.RequestURI + body) })
	s := newGateway(t, nil, route.Config{Upstream: []string{origin.url}})
	for _, body := range []string{
		"5\nhello\n0\n\n", "5\r\nhello\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "-0\r\n\r\n", "+0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "5;a=\n\r\nhello\r\n0\r\n\r\n",
		"ffffffffffffffff1\r\nhello\r\n0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n", "0\r\n a: b\r\n\r\n", "0\n\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		statuses, _ := talk(s.dial(t), "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", true)
		if seen, _ := origin.take(); slices.Contains(seen, "GET /smuggled") || len(statuses) > 1 {
			t.Errorf("%q: answered %v, the origin was asked %q", body, statuses, seen)
		}
	}
}
