package push

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

// Bounds of what a client may send. It has nothing to say but pongs.
const (
	maxMessage   = 64 << 10
	messageRate  = 20 // a second, after a burst
	messageBurst = 50
)

// WebSocket serves RFC 6455: one JSON object a text message, a CloudEvent or
// a control.
func (h *Hub) WebSocket(w http.ResponseWriter, r *http.Request) {
	sub, err := h.admit(r, h.access.Origins.CheckWebSocket)
	if refusedForNow(err) {
		h.refuseWebSocket(w, r, problem.From(err).Code)
		return
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	defer sub.done()
	conn, rw, _, err := ws.UpgradeHTTP(r, w) // answers what is no upgrade itself
	if err != nil {
		h.metrics.refused.WithLabelValues("bad-upgrade").Inc()
		return
	}
	defer conn.Close()
	defer h.metrics.session("websocket")()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context())) // net/http has let go of it
	defer cancel()
	t := &wsTransport{conn: conn}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		t.finish(readFrames(conn, rw.Reader, t, 2*h.options.Limits.Heartbeat))
	})
	if last := h.serve(ctx, sub, t); last != nil {
		t.finish(closing(last))
	}
	_ = conn.Close() // ends the reader
	reader.Wait()
}

// refuseWebSocket lets the client in to tell it when to come back: a browser
// does not show a script the status of a failed upgrade.
func (h *Hub) refuseWebSocket(w http.ResponseWriter, r *http.Request, code string) {
	h.metrics.refused.WithLabelValues(code).Inc()
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	defer conn.Close()
	t := &wsTransport{conn: conn}
	_ = t.control(control{Control: "error", Code: code}, event.Cursor{}) // it may be gone already
	t.finish(closeFrame{statusTryAgainLater, retryReason(retrySpread().Milliseconds())})
}

// closing is how a session's last word reads as a close frame (RFC 6455 §7.4).
func closing(last *control) closeFrame {
	switch {
	case last.Control == "drain":
		return closeFrame{ws.StatusGoingAway, retryReason(last.RetryIn)}
	case last.Code == "internal":
		return closeFrame{ws.StatusInternalServerError, last.Code}
	}
	return closeFrame{ws.StatusPolicyViolation, last.Code}
}

// statusTryAgainLater is in the IANA WebSocket registry.
const statusTryAgainLater = ws.StatusCode(1013)

func retryReason(milliseconds int64) string { return "retry=" + strconv.FormatInt(milliseconds, 10) }

type closeFrame struct {
	code   ws.StatusCode
	reason string
}

// wsTransport writes frames. Events come from the session's goroutine, pongs
// and closes also from the reader's.
type wsTransport struct {
	conn net.Conn

	mu     sync.Mutex
	buffer []byte
	closed bool
}

func (t *wsTransport) events(records []*event.Record, _ bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		t.frame(ws.OpText, r.JSON)
		if len(t.buffer) >= writeChunk {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

// control writes a text message; a heartbeat is a ping too, since only its
// pong proves that the client is there.
func (t *wsTransport) control(c control, _ event.Cursor) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame(ws.OpText, c.json())
	if c.Control == "heartbeat" {
		t.frame(ws.OpPing, nil)
	}
	return t.flush()
}

func (t *wsTransport) pong(payload []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame(ws.OpPong, payload)
	return t.flush()
}

// finish sends the close frame, once.
func (t *wsTransport) finish(c closeFrame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || c.code == 0 {
		return
	}
	t.frame(ws.OpClose, ws.NewCloseFrameBody(c.code, c.reason))
	_ = t.flush() // the connection may be gone
	t.closed = true
}

func (t *wsTransport) frame(op ws.OpCode, payload []byte) {
	var head [ws.MaxHeaderSize]byte
	w := sliceWriter{head[:0]}
	_ = ws.WriteHeader(&w, ws.Header{Fin: true, OpCode: op, Length: int64(len(payload))}) // a slice takes all
	t.buffer = append(append(t.buffer, w.b...), payload...)
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// flush writes the buffer in pieces that have progressTime each.
func (t *wsTransport) flush() error {
	left := t.buffer
	t.buffer = t.buffer[:0]
	if cap(t.buffer) > writeChunk {
		t.buffer = nil // one large event is no reason to keep its buffer
	}
	if t.closed {
		return net.ErrClosed
	}
	for len(left) > 0 {
		n := min(len(left), writeChunk)
		if err := t.conn.SetWriteDeadline(time.Now().Add(progressTime)); err != nil {
			return err
		}
		if _, err := t.conn.Write(left[:n]); err != nil {
			return err
		}
		left = left[n:]
	}
	return nil
}

// readFrames answers pings and drops the rest, until the client closes, breaks
// the protocol or is silent: a living one sends a pong each heartbeat.
func readFrames(conn net.Conn, r *bufio.Reader, t *wsTransport, silence time.Duration) closeFrame {
	bucket := newBucket(messageRate, messageBurst)
	state := ws.StateServerSide
	message := int64(0) // bytes of it so far
	for {
		if conn.SetReadDeadline(time.Now().Add(silence)) != nil {
			return closeFrame{}
		}
		head, err := ws.ReadHeader(r)
		if err != nil {
			return closeFrame{}
		}
		// RFC 6455 §5: masked, no reserved bits or opcodes, control frames
		// whole and at most 125 bytes. Fragments are dropped as they come.
		if ws.CheckHeader(head, state) != nil {
			return closeFrame{ws.StatusProtocolError, "the frame breaks RFC 6455 section 5"}
		}
		if !head.OpCode.IsControl() && head.Length > maxMessage-message {
			return closeFrame{ws.StatusMessageTooBig, "a message has at most 65536 bytes"}
		}
		if !bucket.take(time.Now()) {
			return closeFrame{ws.StatusPolicyViolation, "too many messages"}
		}
		if done, c := readPayload(r, head, t); done {
			return c
		}
		switch {
		case head.OpCode.IsControl(): // may stand within a message
		case head.Fin:
			state, message = ws.StateServerSide, 0
		default:
			state, message = state.Set(ws.StateFragmented), message+head.Length
		}
	}
}

func readPayload(r io.Reader, head ws.Header, t *wsTransport) (done bool, c closeFrame) {
	if !head.OpCode.IsControl() {
		_, err := io.CopyN(io.Discard, r, head.Length)
		return err != nil, closeFrame{}
	}
	payload := make([]byte, head.Length) // at most 125
	if _, err := io.ReadFull(r, payload); err != nil {
		return true, closeFrame{}
	}
	ws.Cipher(payload, head.Mask, 0)
	switch head.OpCode {
	case ws.OpClose:
		return true, closeFrame{ws.StatusNormalClosure, ""}
	case ws.OpPing:
		return t.pong(payload) != nil, closeFrame{}
	}
	return false, closeFrame{}
}

// bucket is a token bucket.
type bucket struct {
	rate, burst, level float64
	last               time.Time
}

func newBucket(rate, burst float64) *bucket {
	return &bucket{rate: rate, burst: burst, level: burst, last: time.Now()}
}

func (b *bucket) take(now time.Time) bool {
	b.level = min(b.burst, b.level+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	b.level--
	return b.level >= 0
}
