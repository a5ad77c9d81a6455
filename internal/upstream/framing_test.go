package upstream_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/upstream"
)

// TestFraming has answers whose Transfer-Encoding net/http does not know (RFC
// 9112 §6.3): they end with their connection.
func TestFraming(t *testing.T) {
	tests := []struct{ name, answer, body, encoding string }{
		{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc", "abc", ""},
		{"with a length that lies", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: odd\r\nConnection: keep-alive\r\n\r\nabc", "abc", ""},
		{"after 1xx", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc", "abc", ""},
		{"bare line feeds", "HTTP/1.1 200 OK\nTransfer-Encoding: identity\n\nabc", "abc", ""},
		{"a body that looks like a head", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc", ""},
		{"chunked is left alone", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc", ""},
	}
	for _, tt := range tests {
		for _, step := range []int{1, 7, len(tt.answer)} {
			address := listen(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				for rest := tt.answer; rest != ""; rest = rest[min(step, len(rest)):] {
					_, _ = io.WriteString(conn, rest[:min(step, len(rest))])
				}
			})
			p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{"http://" + address}})
			status, body, err := do(p, request(t, http.MethodGet, "/", nil))
			if err != nil || body != tt.body || status != http.StatusOK {
				t.Errorf("%s, in pieces of %d: %v, body %q, want %q", tt.name, step, err, body, tt.body)
			}
		}
	}
}

// TestFramingRefuses has what stays net/http's to refuse.
func TestFramingRefuses(t *testing.T) {
	for _, fields := range []string{"Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: a\r\n b\r\n", strings.Repeat("X: y\r\n", 20000)} {
		address := listen(t, func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+fields+"\r\nabc")
		})
		p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{"http://" + address}})
		if _, body, err := do(p, request(t, http.MethodGet, "/", nil)); err == nil {
			t.Errorf("%.40q was taken, with the body %q", fields, body)
		}
	}
}

// TestSurplus has an origin send more than its answer: none of it is taken for
// the answer to the next request.
func TestSurplus(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		address := listen(t, func(conn net.Conn) {
			for from := bufio.NewReader(conn); ; {
				if _, err := http.ReadRequest(from); err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer+evil)
			}
		})
		p := newPool(t, newOrigins(t), upstream.Options{URLs: []string{"http://" + address}})
		for range 50 {
			if _, body, err := do(p, request(t, http.MethodGet, "/", nil)); err != nil || body != "ok" {
				t.Fatalf("body %q, %v", body, err)
			}
		}
	}
}
