//go:build linux && !nethttp

package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
)

// handed is a connection in net/http's hands: it ends with one request. When
// net/http has answered that, the socket goes back to its loop.
type handed struct {
	net.Conn // the socket, or TLS on it
	lent     *loop.Lent
	side     *side
	conn     loop.Conn
	proxied  netip.Addr // by a PROXY header

	ahead   []byte        // of the request, that came before
	left    int64         // bytes of the body to come; those of a chunked one are not known
	chunked *head.Chunked // nil: the body has a length
	whole   bool          // the request is read

	mu       sync.Mutex
	after    []byte      // came after the request
	idle     atomic.Bool // net/http has answered, and wants the next request
	ended    atomic.Bool // and was told that there is none
	hijacked atomic.Bool // a handler has it for good
}

// hand gives the request at the beginning of b to net/http.
func (sd *side) hand(c loop.Conn, data uint32, r *head.Request, b []byte) {
	if !sd.loop.Flushed(c) { // answers to what came before it
		sd.choke(c, data, b)
		return
	}
	sd.server.metrics.requests[byNetHTTP].Inc()
	h := &handed{side: sd, conn: c}
	if err := h.take(r, b); err != nil {
		sd.refuse(c, err)
		sd.free(data)
		return
	}
	if st := sd.state(data); st != nil {
		h.proxied = st.peer
	}
	sd.free(data)
	sd.loop.Give(c, sd.owner, 0)
	sd.loop.Wake(c, 0)
	inside := sd.loop.TLS(c)
	if h.lent = sd.loop.Lend(c); h.lent == nil {
		return
	}
	if h.proxied.IsValid() {
		h.lent.Remote = addressOf(h.proxied, h.lent.RemoteAddr())
	}
	h.Conn = h.lent
	if inside != nil {
		h.Conn = inside
	}
	sd.server.queue.put(h)
}

// addressOf is the client's address, with the port of the proxy for want of
// one that says more.
func addressOf(client netip.Addr, proxy net.Addr) net.Addr {
	port := uint16(0)
	if tcp, ok := proxy.(*net.TCPAddr); ok {
		port = uint16(tcp.Port)
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, port))
}

// take keeps what of the request has come.
func (h *handed) take(r *head.Request, b []byte) error {
	if b[0] == '\r' {
		b = b[2:] // an empty line before the request, which net/http does not bear
		r.Size -= 2
	}
	end, body := r.Size, b[r.Size:]
	if r.Length < 0 {
		h.chunked = &head.Chunked{}
		n, done, err := h.chunked.Scan(body)
		if err != nil {
			return err
		}
		end, h.whole = end+n, done
	} else {
		n := min(int64(len(body)), r.Length)
		end, h.left = end+int(n), r.Length-n
		h.whole = h.left == 0
	}
	h.ahead, h.after = bytes.Clone(b[:end]), bytes.Clone(b[end:])
	return nil
}

// Read implements net.Conn. At the request's end it waits, as for a client
// that says nothing, until net/http has answered: an end would look like a
// client that went away.
func (h *handed) Read(p []byte) (int, error) {
	switch {
	case len(h.ahead) > 0 && !h.idle.Load():
		n := copy(p, h.ahead)
		h.ahead = h.ahead[n:]
		return n, nil
	case h.hijacked.Load():
		return h.readHijacked(p)
	case !h.whole && !h.idle.Load():
		return h.readBody(p)
	}
	return 0, h.readOn()
}

// readHijacked gives a handler all that comes.
func (h *handed) readHijacked(p []byte) (int, error) {
	h.mu.Lock()
	n := copy(p, h.after)
	h.after = h.after[n:]
	h.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	return h.Conn.Read(p)
}

func (h *handed) readBody(p []byte) (n int, err error) {
	if h.chunked == nil {
		n, err = h.Conn.Read(p[:min(int64(len(p)), h.left)])
		h.left -= int64(n)
		h.whole = h.left == 0
		return n, err
	}
	read, err := h.Conn.Read(p)
	var malformed error
	if n, h.whole, malformed = h.chunked.Scan(p[:read]); malformed != nil {
		// Net/http might bear it, and read another request behind it.
		return n, &net.OpError{Op: "read", Err: malformed}
	}
	h.keep(p[n:read])
	return n, err
}

func (h *handed) keep(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.after = append(h.after, b...)
}

// readOn waits for the client to go away, or for net/http to want the next
// request, which it is told there is not.
func (h *handed) readOn() error {
	var b [512]byte
	for {
		if h.idle.Load() {
			// If net/http did not read the request to what is its end for
			// us, nobody can say where the next one begins.
			h.ended.Store(h.whole && len(h.ahead) == 0)
			return io.EOF
		}
		h.mu.Lock()
		full := len(h.after) >= maxAfter
		h.mu.Unlock()
		if full {
			if err := h.lent.Sleep(); err != nil {
				return err
			}
			continue
		}
		n, err := h.Conn.Read(b[:])
		h.keep(b[:n])
		if err != nil {
			return err
		}
	}
}

// maxAfter is how much of following requests is read while one is answered.
const maxAfter = 64 << 10

// Close implements net.Conn. After an answer in order the loop goes on with
// the socket.
func (h *handed) Close() error {
	if !h.ended.Load() {
		return h.Conn.Close()
	}
	sd := h.side
	h.lent.Return(func() {
		data := uint32(0)
		if h.proxied.IsValid() {
			var st *state
			data, st = sd.ensure(h.conn, 0)
			st.peer = h.proxied
		}
		sd.loop.Wake(h.conn, sd.server.options.IdleTime)
		if len(h.after) > 0 {
			sd.consume(h.conn, data, h.after)
		}
	})
	return nil
}

// RemoteAddr implements net.Conn.
func (h *handed) RemoteAddr() net.Addr { return h.lent.RemoteAddr() }

// CloseWrite ends our side, which net/http does before it closes.
func (h *handed) CloseWrite() error {
	if c, ok := h.Conn.(*tls.Conn); ok {
		return c.CloseWrite()
	}
	return h.lent.CloseWrite()
}

// stateChanged is http.Server's ConnState.
func stateChanged(c net.Conn, to http.ConnState) {
	h, ok := c.(*handed)
	switch {
	case ok && to == http.StateIdle:
		h.idle.Store(true)
	case ok && to == http.StateHijacked:
		h.hijacked.Store(true)
	}
}

// inside gives requests the TLS state that net/http cannot see on our
// connections.
func inside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(*tls.Conn); ok && r.TLS == nil {
			state := conn.ConnectionState()
			r.TLS = &state
		}
		next.ServeHTTP(w, r)
	})
}

type connKey struct{}

// connContext is http.Server's.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if h, ok := c.(*handed); ok {
		return context.WithValue(ctx, connKey{}, h.Conn)
	}
	return ctx
}

// queue is the listener of net/http: what the loops hand over.
type queue struct {
	net.Listener // that the loops accept from
	conns        chan net.Conn
	closed       chan struct{}
	once         sync.Once
}

func newQueue(l net.Listener) *queue {
	return &queue{Listener: l, conns: make(chan net.Conn, 1024), closed: make(chan struct{})}
}

// put never blocks a loop: what net/http does not take now waits elsewhere.
func (q *queue) put(c net.Conn) {
	select {
	case <-q.closed:
		_ = c.Close() // too late
		return
	default:
	}
	select {
	case q.conns <- c:
	default:
		go func() { // ends when net/http takes it, or stops
			select {
			case q.conns <- c:
			case <-q.closed:
				_ = c.Close()
			}
		}()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	for {
		select {
		case c := <-q.conns:
			_ = c.Close() // too late
		default:
			if err := q.Listener.Close(); !errors.Is(err, net.ErrClosed) { // by StopAccepting
				return err
			}
			return nil
		}
	}
}
