package push

import (
	"errors"
	"strconv"

	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/ws"
)

// Close codes (RFC 6455 §7.4.1; the last is in the IANA registry).
const (
	statusNormal          = 1000
	statusGoingAway       = 1001
	statusPolicyViolation = 1008
	statusInternalError   = 1011
	statusTryAgainLater   = 1013
)

var pingFrame = ws.AppendFrame(nil, ws.OpPing, nil)

// ServeWebSocket serves RFC 6455: one JSON object a text message, a CloudEvent
// or a control.
func (h *Hub) ServeWebSocket(x *front.Exchange) {
	sh := h.shardOf(x.Loop())
	if status, reason := x.CheckUpgrade(); status != 0 {
		sh.refuseUpgrade(x, status, reason)
		return
	}
	sh.admit(x, &sh.doors.webSocket)
}

func (sh *shard) refuseUpgrade(x *front.Exchange, status int, reason string) {
	sh.hub.metrics.refused.WithLabelValues("bad-upgrade").Inc()
	p := problem.New("bad-upgrade", reason)
	p.Status = status
	header, body := p.Answer()
	header.Set("Sec-WebSocket-Version", "13")
	header.Set("Upgrade", "websocket")
	x.Answer(status, header, body)
}

func (sh *shard) openWebSocket(x *front.Exchange, sub *subscription) {
	k, extension := kindWebSocket, ""
	if sh.hub.options.Compression && sub.identity.Known() { // not for strangers: it costs memory
		if extension = ws.Extensions(x.Header("sec-websocket-extensions")); extension != "" {
			k = kindDeflated
		}
	}
	id, s := sh.open(k, sub, func(id uint32) loop.Conn { return x.Upgrade(extension, sh.owner, id) })
	if s != nil {
		sh.begin(id, s, sub)
	}
}

// refuseWebSocket lets the client in to tell it when to come back: a browser
// does not show a script the status of a failed upgrade.
func (sh *shard) refuseWebSocket(x *front.Exchange, err error) {
	if !refusedForNow(err) {
		sh.answerProblem(x, err)
		return
	}
	code := problem.From(err).Code
	sh.hub.metrics.refused.WithLabelValues(code).Inc()
	if c := x.Upgrade("", loop.Nobody, 0); c != 0 {
		b := ws.AppendFrame(nil, ws.OpText, control{Control: "error", Code: code}.json())
		sh.loop.Write(c, ws.AppendClose(b, statusTryAgainLater, retryReason(sh.hub.retryIn().Milliseconds())))
		sh.loop.End(c)
	}
}

// closing is how a session's last word reads as a close frame (RFC 6455 §7.4).
func closing(last control) (code uint16, reason string) {
	switch {
	case last.Control == "drain":
		return statusGoingAway, retryReason(last.RetryIn)
	case last.Code == "internal":
		return statusInternalError, last.Code
	}
	return statusPolicyViolation, last.Code
}

func retryReason(milliseconds int64) string { return "retry=" + strconv.FormatInt(milliseconds, 10) }

// endSocket sends the close frame and ends the session.
func (sh *shard) endSocket(id uint32, s *session, code uint16, reason string) {
	sh.loop.Write(s.conn, ws.AppendClose(nil, code, reason))
	sh.loop.End(s.conn)
	sh.forget(id, s)
}

// readFrames takes what a client sends. A session has a reader of frames only
// within one.
func (sh *shard) readFrames(id uint32, s *session, b []byte) {
	s.flags &^= pinged
	c, since := s.conn, sh.loop.Now()
	var frames *ws.Reader
	if s.extra != 0 {
		x := sh.extras.At(s.extra)
		if frames = x.frames; frames != nil {
			since, x.frames = x.since, nil
		}
	}
	if frames == nil {
		frames = sh.takeFrames(s.kind)
	}
	err := frames.Feed(b, incoming{sh, id, s})
	ended := s.conn != c
	if broken, ok := errors.AsType[*ws.CloseError](err); ok && !ended {
		sh.endSocket(id, s, broken.Code, broken.Reason)
		ended = true
	}
	switch {
	case ended:
		sh.recycle(frames)
	case frames.Idle():
		sh.recycle(frames)
		sh.dropExtra(s)
	default: // it is held until what has begun is whole
		x := sh.extraOf(s)
		x.frames, x.since = frames, since
		if s.kind.client() {
			sh.loop.Wake(s.conn, messageTime)
			return
		}
		sh.wakeNext(s)
	}
}

func (sh *shard) takeFrames(k kind) *ws.Reader {
	o := ws.Options{Deflate: k == kindDeflated}
	n := len(sh.spare)
	if n == 0 {
		return ws.NewReader(o)
	}
	r := sh.spare[n-1]
	sh.spare = sh.spare[:n-1]
	r.Reset(o)
	return r
}

// recycle keeps a reader for another session.
func (sh *shard) recycle(r *ws.Reader) {
	if r != nil && len(sh.spare) < 64 {
		sh.spare = append(sh.spare, r)
	}
}

// incoming handles what one session is sent.
type incoming struct {
	sh *shard
	id uint32
	s  *session
}

// Message implements ws.Handler. Clients of no protocol have nothing to say.
func (in incoming) Message(_ ws.Op, payload []byte) bool {
	if !in.count() {
		return false
	}
	if in.s.kind.client() {
		in.sh.extras.At(in.s.extra).client.conversation.Receive(payload)
	}
	return in.s.conn != 0
}

// Control implements ws.Handler.
func (in incoming) Control(op ws.Op, payload []byte) bool {
	sh, s := in.sh, in.s
	if !in.count() {
		return false
	}
	switch op {
	case ws.OpClose:
		sh.endSocket(in.id, s, statusNormal, "")
		return false
	case ws.OpPing:
		sh.pong(s, payload)
	}
	return true
}

// pongRoom is how much may wait to be taken where a pong is added to it.
const pongRoom = 4 << 10

// pong answers a ping; of a client that does not take what it is sent only the
// newest (RFC 6455 §5.5.3), when it does again.
func (sh *shard) pong(s *session, payload []byte) {
	if sh.loop.Pending(s.conn) > pongRoom {
		sh.extraOf(s).pong = append([]byte{}, payload...)
		return
	}
	var scratch [2 + 125]byte
	sh.loop.Write(s.conn, ws.AppendFrame(scratch[:0], ws.OpPong, payload))
}

// pongWaiting writes the pong that waited.
func (sh *shard) pongWaiting(s *session) {
	if s.extra == 0 || sh.extras.At(s.extra).pong == nil {
		return
	}
	x := sh.extras.At(s.extra)
	payload := x.pong
	x.pong = nil
	sh.dropExtra(s)
	sh.pong(s, payload)
}

// count takes a token for a message from the session's bucket.
func (in incoming) count() bool {
	sh, s := in.sh, in.s
	now := milliseconds(sh.loop.Now())
	if fresh := (now - s.refilled) * messageRate / 1000; fresh > 0 {
		most := uint32(s.kind.burst())
		s.tokens = uint8(min(most, uint32(s.tokens)+min(fresh, most)))
		s.refilled = now
	}
	if s.tokens == 0 {
		sh.endSocket(in.id, s, statusPolicyViolation, "too many messages")
		return false
	}
	s.tokens--
	return true
}
