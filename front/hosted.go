package front

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/chappe/chappe/internal/loop"
)

const (
	progressTime = 30 * time.Second // to take what is written to it
	writeChunk   = 64 << 10         // bytes that have progressTime each
	maxBody      = 64 << 10         // of a request whose connection waits
)

// Host serves an exchange on net/http: with a goroutine, or two for a
// WebSocket. So are those of HTTP/2, and all where there is no loop with sockets.
func Host(l *loop.Loop, serve Waiting, w http.ResponseWriter, r *http.Request) {
	x := &Exchange{loop: l, request: r, outcome: make(chan outcome, 1)}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.peer = peer.Addr().Unmap()
	}
	h := &hosted{w: w, r: r, conn: http.NewResponseController(w)}
	if r.Method == http.MethodHead { // a pattern of GET brings it
		h.answer(http.StatusMethodNotAllowed, http.Header{"Allow": {"GET"}}, nil)
		return
	}
	if r.Method == http.MethodPost {
		var err error
		if x.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
			h.answer(http.StatusRequestEntityTooLarge, nil, []byte("The body has more than 64 KiB.\n"))
			return
		}
	}
	l.Post(func() { x.serve(serve) })
	select {
	case act := <-x.outcome:
		act(h)
	case <-r.Context().Done():
		l.Post(x.abandon)
	}
}

// serve has the exchange answered whatever comes of it.
func (x *Exchange) serve(w Waiting) {
	whole := false
	defer func() {
		if whole {
			return
		}
		if x.pipe != nil { // it panicked, which is the loop's to tell of
			x.pipe.Gone(http.ErrAbortHandler)
		}
		x.settle(func(h *hosted) { h.answer(http.StatusInternalServerError, nil, nil) })
	}()
	w(x)
	whole = true
}

// outcome is how an exchange is to be answered, by the goroutine of its handler.
type outcome = func(*hosted)

// abandon ends what waits for an outcome that nobody will take. Whatever the
// loop still does with the request stays harmless: it owns x, and net/http
// does not use the request again.
func (x *Exchange) abandon() {
	x.dead = true
	if x.pipe != nil {
		x.pipe.Gone(context.Canceled)
	}
}

// hosted is the net/http side of an exchange.
type hosted struct {
	w    http.ResponseWriter
	r    *http.Request
	conn *http.ResponseController
}

func (h *hosted) answer(status int, header http.Header, body []byte) {
	maps.Copy(h.w.Header(), header)
	_ = h.conn.SetWriteDeadline(time.Now().Add(progressTime)) // refused by recorders only
	h.w.WriteHeader(status)
	_, _ = h.w.Write(body) // the client may have gone
}

func (h *hosted) stream(contentType string, p *loop.Pipe) {
	header := h.w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx passes on at once
	pump(h.r.Context(), p, func(b []byte) error {
		if err := h.conn.SetWriteDeadline(time.Now().Add(progressTime)); err != nil {
			return err
		}
		if _, err := h.w.Write(b); err != nil {
			return err
		}
		return h.conn.Flush()
	})
}

// pump writes what the loop gives, in pieces, until either end is gone.
func pump(ctx context.Context, p *loop.Pipe, write func([]byte) error) {
	for {
		queue, err := p.Next(ctx)
		if errors.Is(err, io.EOF) {
			return
		}
		b := bytes.Join(queue, nil)
		for n := 0; len(b) > 0 && err == nil; b = b[n:] {
			n = min(len(b), writeChunk)
			if err = write(b[:n]); err == nil {
				p.Wrote(n)
			}
		}
		if err != nil {
			p.Gone(err)
			return
		}
	}
}

func (h *hosted) upgrade(accept, extension string, p *loop.Pipe) {
	conn, rw, err := h.conn.Hijack()
	if err != nil { // HTTP/2, which CheckUpgrade refuses
		p.Gone(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{}) // it fails if the next write does
	answer := append([]byte(nil), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+accept+"\r\n"...)
	if extension != "" {
		answer = append(answer, "Sec-WebSocket-Extensions: "+extension+"\r\n"...)
	}
	if err := write(conn, append(answer, "\r\n"...)); err != nil {
		p.Gone(err)
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.r.Context())) // net/http has let go of it
	var reader sync.WaitGroup
	reader.Go(func() { // ends when the connection is closed
		defer cancel()
		p.Gone(feed(ctx, rw.Reader, p))
	})
	pump(ctx, p, func(b []byte) error { return write(conn, b) })
	closeInOrder(conn, ctx)
	reader.Wait()
}

func write(conn net.Conn, b []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(progressTime)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}

// feed hands on what the client sends, until it ends.
func feed(ctx context.Context, r io.Reader, p *loop.Pipe) error {
	buffer := make([]byte, 4<<10)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			p.Input(ctx, buffer[:n])
		}
		if err != nil {
			return err
		}
	}
}

// closeInOrder lets the client see the end before the connection is closed:
// closing with input unread would take the last words from it.
func closeInOrder(conn net.Conn, read context.Context) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		_ = conn.Close() // it is over either way
	}
	<-read.Done()
	_ = conn.Close()
}

const lingerTime = 2 * time.Second
