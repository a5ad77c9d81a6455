package upstream

import (
	"bufio"
	"io"
	"net/http"

	"bytes"
	"net"
	"strings"
	"sync"

	"github.com/chappe/chappe/internal/head"
)

// framed is a connection whose answers net/http can frame. It refuses each
// Transfer-Encoding that it does not know, of which some old servers send
// "identity"; but an answer whose last coding is not chunked ends with its
// connection, whatever its Content-Length (RFC 9112 §6.3). Here its head is
// made to say so.
type framed struct {
	net.Conn

	mu       sync.Mutex
	method   string // of the request
	awaiting bool   // an answer's head is to come
	endless  bool   // it ends with the connection
	left     int64  // bytes of its body to come; of a chunked one they are not known
	chunked  *head.Chunked
	surplus  bool   // there was more than the answer: the connection is of no use
	head     []byte // what has come of it
	ready    []byte // for the reader
}

// begin says that a request is about to be sent on the connection.
func begin(conn net.Conn, method string) {
	if c, ok := conn.(*framed); ok {
		c.begin(method)
	}
}

// begin says that what comes next is a head.
func (c *framed) begin(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaiting, c.head, c.method = true, nil, method
}

// frame finds out where the answer ends whose head it is (RFC 9112 §6.3).
func (c *framed) frame(h []byte) {
	c.endless, c.left, c.chunked = false, 0, nil
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(h)), &http.Request{Method: c.method})
	if err != nil {
		c.endless = true // net/http's to refuse
		return
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		c.endless = true
	case len(res.TransferEncoding) > 0:
		c.chunked = &head.Chunked{}
	case res.ContentLength >= 0 && c.method != http.MethodHead:
		c.left = res.ContentLength
	case c.method != http.MethodHead:
		c.endless = true
	}
}

// own is how much of b is the answer's. What an origin sends beyond is never
// handed on: it could be taken for the answer to the next request.
func (c *framed) own(b []byte) int {
	n := len(b)
	switch {
	case c.endless:
	case c.chunked != nil:
		end, done, err := c.chunked.Scan(b)
		if err != nil {
			c.endless, c.chunked = true, nil // net/http's to refuse
			return n
		}
		if n = end; done {
			c.chunked, c.left = nil, 0
		}
	default:
		n = int(min(int64(n), c.left))
		c.left -= int64(n)
	}
	c.surplus = c.surplus || n < len(b)
	return n
}

// Read implements net.Conn.
func (c *framed) Read(p []byte) (int, error) {
	for {
		if n := c.take(p); n > 0 {
			return n, nil
		}
		if c.isSpent() {
			return 0, io.EOF
		}
		n, err := c.Conn.Read(p) // begin may be called meanwhile
		if own, ok := c.pass(p[:n], err != nil); ok && (own > 0 || err != nil) {
			return own, err
		}
	}
}

func (c *framed) take(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n
}

func (c *framed) isSpent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.surplus
}

// pass reports how much of b the reader may have as it is; otherwise it is kept,
// and made ready when the head is whole, or when no more comes.
func (c *framed) pass(b []byte, ended bool) (own int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.awaiting {
		return c.own(b), true
	}
	if ended && len(b)+len(c.head) == 0 {
		return 0, true
	}
	c.head = append(c.head, b...)
	for c.awaiting {
		end := headEnd(c.head)
		if end < 0 {
			break
		}
		h := c.head[:end]
		c.awaiting = isInterim(h)
		h = framable(h)
		if c.ready = append(c.ready, h...); !c.awaiting {
			c.frame(h)
		}
		c.head = c.head[end:]
	}
	if c.awaiting && (ended || len(c.head) > maxHeadBytes) { // which net/http refuses
		c.awaiting, c.endless = false, true
	}
	if !c.awaiting {
		c.ready, c.head = append(c.ready, c.head[:c.own(c.head)]...), nil
	}
	return 0, false
}

// headEnd is where the head ends that b begins with, by net/http's rules, which
// bear lines that end without a carriage return; -1 if more is to come.
func headEnd(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
		switch rest := b[at:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return at + 1
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return at + 2
		}
	}
}

// isInterim reports whether another head follows (RFC 9110 §15.2).
func isInterim(head []byte) bool {
	_, status, _ := bytes.Cut(head, []byte(" "))
	return len(status) >= 3 && status[0] == '1' && string(status[:3]) != "101"
}

// framable is the head as net/http can read it.
func framable(head []byte) []byte {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) || !bytes.Contains(bytes.ToLower(head), []byte("\ntransfer-encoding:")) {
		return head
	}
	lines := strings.SplitAfter(string(head), "\n")
	var kept []string
	codings := 0
	for _, line := range lines[:len(lines)-2] { // without the empty one
		name, value, _ := strings.Cut(line, ":")
		switch {
		case line[0] == ' ' || line[0] == '\t':
			return head // folded: net/http's to judge
		case strings.EqualFold(name, "Transfer-Encoding"):
			if codings++; codings > 1 || strings.HasSuffix(strings.ToLower(strings.TrimSpace(value)), "chunked") {
				return head
			}
		case strings.EqualFold(name, "Content-Length"), strings.EqualFold(name, "Connection"):
		default:
			kept = append(kept, line)
		}
	}
	return []byte(strings.Join(kept, "") + "Connection: close\r\n\r\n")
}
