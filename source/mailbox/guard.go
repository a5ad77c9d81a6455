package mailbox

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Bounds of what a server may send. The library under this has none, and the
// server is not to be trusted.
const (
	maxLine     = 64 << 10 // bytes
	maxLiteral  = 1 << 20
	maxResponse = 4 << 20 // bytes in answer to one command
	maxLines    = 20_000  // in answer to one command
)

// guard is a connection that ends when the server sends more than is
// reasonable, or is silent for longer than is expected of it.
type guard struct {
	net.Conn
	greeting []byte // read first, where the server's own was read already

	mu      sync.Mutex
	bytes   int // of this response
	lines   int
	line    []byte // the last bytes of the line, at most keep
	length  int    // of the line
	literal int    // bytes of a literal that are to come
	bye     string // what the server said at its end
	fault   error  // why the connection was ended by us
}

// keep is how much of a line's end is remembered: a literal's size, a farewell.
const keep = 256

// allow begins a new response: it has this long, and the whole bounds.
func (g *guard) allow(d time.Duration) {
	g.mu.Lock()
	g.bytes, g.lines = 0, 0
	g.mu.Unlock()
	_ = g.Conn.SetReadDeadline(time.Now().Add(d)) // a closed connection says so when it is read
}

// SetReadDeadline does nothing: the library would set none while it idles.
func (g *guard) SetReadDeadline(time.Time) error { return nil }

func (g *guard) Read(p []byte) (int, error) {
	if len(g.greeting) > 0 {
		n := copy(p, g.greeting)
		g.greeting = g.greeting[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p)
	expected := g.expected()
	if fault := g.count(p[:n]); fault != nil {
		n, err = 0, fault
	}
	if err != nil && n == 0 {
		return g.fill(p, expected, err)
	}
	return n, err
}

// fill completes a literal that is cut, before it fails. The library hands a
// literal to another goroutine than the one that reads on after an error, and
// both would read at once; what they get is dropped, since no OK follows.
func (g *guard) fill(p []byte, expected int, err error) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(p), expected)
	if n == 0 {
		return 0, err
	}
	clear(p[:n])
	g.literal = expected - n
	return n, nil
}

// expected is how much of a literal is to come.
func (g *guard) expected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.literal
}

// count follows lines and literals (RFC 9051 §4.3) as they pass.
func (g *guard) count(p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fault != nil {
		return g.fault
	}
	if g.bytes += len(p); g.bytes > maxResponse {
		return g.end("%d bytes for one command", g.bytes)
	}
	for len(p) > 0 && g.fault == nil {
		if g.literal > 0 {
			n := min(g.literal, len(p))
			g.literal -= n
			p = p[n:]
			continue
		}
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			g.extend(p)
			break
		}
		g.extend(p[:n])
		g.endLine()
		p = p[n:]
	}
	return g.fault
}

// extend adds to the current line.
func (g *guard) extend(p []byte) {
	if g.length += len(p); g.length > maxLine {
		_ = g.end("a line of %d bytes", g.length)
		return
	}
	if g.length <= keep {
		g.line = append(g.line, p...)
		return
	}
	g.line = append(g.line, p[max(0, len(p)-keep):]...)
	g.line = append(g.line[:0], g.line[max(0, len(g.line)-keep):]...)
}

func (g *guard) endLine() {
	line := bytes.TrimRight(g.line, "\r\n")
	if g.length <= keep && len(line) >= 5 && bytes.EqualFold(line[:5], []byte("* BYE")) {
		g.bye = clean(string(line[5:]), keep)
	}
	if g.lines++; g.lines > maxLines {
		_ = g.end("%d lines for one command", g.lines)
	}
	if size := literalSize(line); size > maxLiteral {
		_ = g.end("a literal of %d bytes", size)
	} else {
		g.literal = int(size)
	}
	g.line, g.length = g.line[:0], 0
}

// literalSize reads the {123} that ends a line; 0 if none does.
func literalSize(line []byte) uint64 {
	i := bytes.LastIndexByte(line, '{')
	if i < 0 || len(line) < i+3 || line[len(line)-1] != '}' {
		return 0
	}
	digits := bytes.TrimSuffix(line[i+1:len(line)-1], []byte("+"))
	size, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil && len(digits) > 0 && digits[0] >= '0' && digits[0] <= '9' {
		return maxLiteral + 1 // a number too large to read is too large
	}
	return size
}

func (g *guard) end(format string, args ...any) error {
	g.fault = fmt.Errorf("the server sent "+format+", which is more than is taken", args...)
	return g.fault
}

// why is what ended the connection, where it is known.
func (g *guard) why() (bye string, fault error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bye, g.fault
}
