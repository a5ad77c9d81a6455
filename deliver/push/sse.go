package push

import (
	"strconv"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/ws"
)

const eventStream = "text/event-stream"

// ServeStream serves Server-Sent Events (WHATWG HTML §9.2): each event's id is
// its cursor, its data the CloudEvent on one line; controls are events named
// "control".
func (h *Hub) ServeStream(x *front.Exchange) {
	sh := h.shardOf(x.Loop())
	sh.admit(x, &sh.doors.stream)
}

func (sh *shard) openStream(x *front.Exchange, sub *subscription) {
	id, s := sh.open(kindSSE, sub, func(id uint32) loop.Conn { return x.Stream(eventStream, sh.owner, id) })
	if s == nil {
		return
	}
	sh.retryLine(s.conn)
	sh.begin(id, s, sub)
}

// begin starts a session that waits.
func (sh *shard) begin(id uint32, s *session, sub *subscription) {
	sh.follow(id, s, sub)
	sh.hello(s, sub.after)
	sh.wakeNext(s)
	if rd := sh.readers.At(s.reader); rd.flags&live == 0 {
		sh.read(s.reader, rd, sub.after)
	}
}

// refuseStream asks an EventSource to come back later. It gives up for good
// on any status but 200, so that is what it gets.
func (sh *shard) refuseStream(x *front.Exchange, err error) {
	if !refusedForNow(err) {
		sh.answerProblem(x, err)
		return
	}
	code := problem.From(err).Code
	sh.hub.metrics.refused.WithLabelValues(code).Inc()
	if c := x.Stream(eventStream, loop.Nobody, 0); c != 0 {
		sh.retryLine(c)
		sh.loop.Write(c, appendMessage(nil, event.Cursor{}, "control", control{Control: "error", Code: code}.json()))
		sh.loop.End(c)
	}
}

func (sh *shard) retryLine(c loop.Conn) {
	var scratch [32]byte
	b := strconv.AppendInt(append(scratch[:0], "retry: "...), sh.hub.retryIn().Milliseconds(), 10)
	sh.loop.Write(c, append(b, '\n'))
}

// appendEvent appends one event as a kind of session is sent it.
func appendEvent(b []byte, k kind, r *event.Record, id event.Cursor) []byte {
	switch k {
	case kindWebSocket:
		return ws.AppendFrame(b, ws.OpText, r.JSON)
	case kindDeflated:
		return ws.AppendDeflated(b, ws.OpText, r.JSON)
	}
	return appendMessage(b, id, "", r.JSON)
}

// appendMessage appends one message. Neither cursors nor JSON have line ends.
func appendMessage(b []byte, id event.Cursor, name string, data []byte) []byte {
	if !id.IsZero() {
		b = append(id.Append(append(b, "id: "...)), '\n')
	}
	if name != "" {
		b = append(append(append(b, "event: "...), name...), '\n')
	}
	return append(append(append(b, "data: "...), data...), '\n', '\n')
}

// Input implements loop.Owner.
func (sh *shard) Input(_ loop.Conn, id uint32, b []byte) {
	if s := sh.sessions.At(id); s.kind.socket() {
		sh.readFrames(id, s, b)
	}
}
