package push

import (
	"net/http"
	"strconv"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

// Stream serves Server-Sent Events (WHATWG HTML §9.2): each event's id is its
// cursor, its data the CloudEvent on one line; controls are events named
// "control".
func (h *Hub) Stream(w http.ResponseWriter, r *http.Request) {
	sub, err := h.admit(r, h.access.Origins.CheckStream)
	if refusedForNow(err) {
		h.refuseStream(w, err)
		return
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	defer sub.done()
	defer h.metrics.session("sse")()
	streamHeader(w.Header())
	t := &sseTransport{w: w, conn: http.NewResponseController(w)}
	t.buffer = strconv.AppendInt(append(t.buffer, "retry: "...), retrySpread().Milliseconds(), 10)
	t.buffer = append(t.buffer, '\n')
	h.serve(r.Context(), sub, t)
}

func streamHeader(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx passes on at once
}

// refuseStream asks an EventSource to come back later. It gives up for good
// on any status but 200, so that is what it gets.
func (h *Hub) refuseStream(w http.ResponseWriter, err error) {
	code := problem.From(err).Code
	h.metrics.refused.WithLabelValues(code).Inc()
	streamHeader(w.Header())
	t := &sseTransport{w: w, conn: http.NewResponseController(w)}
	t.buffer = strconv.AppendInt(append(t.buffer, "retry: "...), retrySpread().Milliseconds(), 10)
	t.buffer = append(t.buffer, '\n')
	_ = t.control(control{Control: "error", Code: code}, event.Cursor{}) // it may be gone already
}

type sseTransport struct {
	w      http.ResponseWriter
	conn   *http.ResponseController
	buffer []byte
}

func (t *sseTransport) events(records []*event.Record, kept bool) error {
	for _, r := range records {
		id := r.Cursor
		id.Kept = kept && !id.IsZero()
		t.message(id, "", r.JSON)
		if len(t.buffer) >= writeChunk {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

func (t *sseTransport) control(c control, at event.Cursor) error {
	t.message(at, "control", c.json())
	return t.flush()
}

// message appends one message. Neither cursors nor JSON have line ends.
func (t *sseTransport) message(id event.Cursor, name string, data []byte) {
	if !id.IsZero() {
		t.buffer = append(append(append(t.buffer, "id: "...), id.String()...), '\n')
	}
	if name != "" {
		t.buffer = append(append(append(t.buffer, "event: "...), name...), '\n')
	}
	t.buffer = append(append(append(t.buffer, "data: "...), data...), '\n', '\n')
}

// flush writes the buffer in pieces that have progressTime each.
func (t *sseTransport) flush() error {
	left := t.buffer
	t.buffer = t.buffer[:0]
	if cap(t.buffer) > writeChunk {
		t.buffer = nil // one large event is no reason to keep its buffer
	}
	for len(left) > 0 {
		n := min(len(left), writeChunk)
		if err := t.conn.SetWriteDeadline(time.Now().Add(progressTime)); err != nil {
			return err
		}
		if _, err := t.w.Write(left[:n]); err != nil {
			return err
		}
		left = left[n:]
	}
	return t.conn.Flush()
}
