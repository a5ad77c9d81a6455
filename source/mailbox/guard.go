package mailbox

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Bounds of what a server may send. The library under this has none, and the
// server is not to be trusted.
const (
	maxLine     = 64 << 10 // bytes
	maxLiteral  = 1 << 20
	maxLists    = 200     // begun in one answer; the library calls itself for a list within another
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
	line    line
	lists   int    // begun in the answer that the line belongs to
	goesOn  bool   // the line follows a literal
	literal int    // bytes of a literal that are to come
	bye     string // what the server said at its end
	fault   error  // why the connection was ended by us
}

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
	if _, fault := g.why(); fault != nil {
		return g.fill(p, fault) // the library reads once more, and would wait
	}
	if len(g.greeting) > 0 {
		n := copy(p, g.greeting)
		g.greeting = g.greeting[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p)
	if fault := g.count(p[:n]); fault != nil {
		return g.fill(p, fault)
	}
	if n == 0 && err != nil {
		return g.fill(p, err)
	}
	return n, err
}

// fill completes a literal that is cut, before it fails. The library hands a
// literal to another goroutine than the one that reads on after an error, and
// both would read at once; what they get is dropped, since no OK follows.
func (g *guard) fill(p []byte, err error) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(p), g.literal)
	if n == 0 {
		return 0, err
	}
	clear(p[:n])
	g.literal -= n
	return n, nil
}

// count follows lines and literals (RFC 9051 §4.3) as they pass.
func (g *guard) count(p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.literal
	defer func() {
		if g.fault != nil {
			g.literal = before // p does not reach the library
		}
	}()
	if g.bytes += len(p); g.bytes > maxResponse {
		g.end("%d bytes for one command", g.bytes)
	}
	for len(p) > 0 && g.fault == nil {
		n := min(g.literal, len(p))
		g.literal -= n
		p = p[n:]
		if n = bytes.IndexByte(p, '\n') + 1; n == 0 {
			n = len(p)
		}
		g.extend(p[:n])
		p = p[n:]
	}
	return g.fault
}

// extend adds to the current line, and ends it where p does.
func (g *guard) extend(p []byte) {
	g.lists += g.line.add(p)
	if g.lists > maxLists {
		g.end("%d lists in one answer", g.lists)
	}
	if !g.goesOn && g.line.endless() {
		g.end("a list among its capabilities")
	}
	if g.line.length > maxLine {
		g.end("a line of %d bytes", g.line.length)
	}
	if bytes.HasSuffix(p, []byte("\n")) {
		g.endLine()
	}
}

func (g *guard) endLine() {
	if g.lines++; g.lines > maxLines {
		g.end("%d lines for one command", g.lines)
	}
	if kind, text, isStatus := g.line.kind(); isStatus && !g.goesOn {
		if kind == "BYE" {
			g.bye = clean(text, keep)
		}
		if strings.HasPrefix(text, "[") && !g.line.bracket {
			g.end("a code without end") // the library would look for it further on
		}
	} else {
		g.literal, g.goesOn = g.line.announced()
		if g.literal > maxLiteral {
			g.end("a literal of more than %d bytes", maxLiteral)
		}
		if g.line.quoted {
			g.end("a quoted string without end")
		}
		if kind == "SEARCH" && g.line.length > keep {
			g.end("a list of mails nobody asked for") // the library keeps it, in quadratic time
		}
	}
	if !g.goesOn {
		g.lists = 0
	}
	g.line = line{start: g.line.start[:0]}
}

func (g *guard) end(format string, args ...any) {
	if g.fault == nil {
		g.fault = fmt.Errorf("the server sent "+format+", and is not listened to any more", args...)
	}
}

// why is what ended the connection, where it is known.
func (g *guard) why() (bye string, fault error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bye, g.fault
}
