package upstream

import (
	"bytes"
	"net"
	"strings"
	"sync"
)

// framed is a connection whose answers net/http can frame. It refuses each
// Transfer-Encoding that it does not know, of which some old servers send
// "identity"; but an answer whose last coding is not chunked ends with its
// connection, whatever its Content-Length (RFC 9112 §6.3). Here its head is
// made to say so.
type framed struct {
	net.Conn

	mu       sync.Mutex
	awaiting bool   // an answer's head is to come
	head     []byte // what has come of it
	ready    []byte // for the reader
}

// begin says that a request is about to be sent: what comes next is a head.
func (c *framed) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaiting, c.head = true, nil
}

// Read implements net.Conn.
func (c *framed) Read(p []byte) (int, error) {
	for {
		if n := c.take(p); n > 0 {
			return n, nil
		}
		n, err := c.Conn.Read(p) // begin may be called meanwhile
		if c.pass(p[:n], err != nil) {
			return n, err
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

// pass reports whether the reader may have b as it is; otherwise it is kept,
// and made ready when the head is whole, or when no more comes.
func (c *framed) pass(b []byte, ended bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.awaiting || ended && len(b)+len(c.head) == 0 {
		return true
	}
	c.head = append(c.head, b...)
	for c.awaiting {
		end := headEnd(c.head)
		if end < 0 {
			break
		}
		head := c.head[:end]
		c.awaiting = isInterim(head)
		c.ready = append(c.ready, framable(head)...)
		c.head = c.head[end:]
	}
	if !c.awaiting || ended || len(c.head) > maxHeadBytes { // which net/http refuses
		c.awaiting, c.ready, c.head = false, append(c.ready, c.head...), nil
	}
	return false
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
