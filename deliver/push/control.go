package push

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/ws"
)

// control is a message that is no event.
type control struct {
	Control   string    `json:"control"`             // hello, heartbeat, reset, drain, error
	Heartbeat float64   `json:"heartbeat,omitempty"` // seconds between heartbeats
	Retry     *[2]int64 `json:"retry,omitempty"`     // milliseconds: spread reconnects over them
	Cursor    string    `json:"cursor,omitempty"`
	RetryIn   int64     `json:"retry_in,omitempty"` // milliseconds
	Code      string    `json:"code,omitempty"`
}

func (c control) json() []byte {
	b, _ := json.Marshal(c) // plain values always marshal
	return b
}

var (
	errExpired = errors.New("token-expired")
	errTooSlow = errors.New("too-slow") // its queue overflowed with ephemeral events
)

// say writes a control; at is where the client would resume from then on, zero
// if that is what it knows already.
func (sh *shard) say(s *session, c control, at event.Cursor) {
	sh.sayJSON(s, c.json(), at)
}

func (sh *shard) sayJSON(s *session, message []byte, at event.Cursor) {
	b := sh.scratch[:0]
	if s.kind.plainSocket() {
		b = ws.AppendFrame(b, ws.OpText, message)
	} else {
		b = appendMessage(b, at, "control", message)
	}
	sh.scratch = b[:0]
	sh.loop.Write(s.conn, b)
}

// hello is the first message. It differs in the cursor alone, and is made
// without allocation for the sake of storms of reconnects.
func (sh *shard) hello(s *session, at event.Cursor) {
	var scratch [192]byte
	b := append(scratch[:0], sh.hub.helloHead...)
	least, most := sh.hub.spread.Bounds()
	b = strconv.AppendInt(append(b, `"retry":[`...), least.Milliseconds(), 10)
	b = strconv.AppendInt(append(b, ','), most.Milliseconds(), 10)
	b = append(b, `],"cursor":"`...)
	if at.IsZero() {
		b = append(b, start...)
	} else {
		b = at.Append(b)
	}
	sh.sayJSON(s, append(b, `"}`...), at)
}

// helloHead is what all hellos begin with.
func helloHead(l Limits) []byte {
	seconds, _ := json.Marshal(l.Heartbeat.Seconds()) // a number always marshals
	return append(append([]byte(`{"control":"hello","heartbeat":`), seconds...), ',')
}

// reset tells the client to start over: its cursor is gone.
func (sh *shard) reset(id uint32, s *session, gone *event.GoneError) {
	if s.kind == kindPoll {
		sh.failPoll(id, s, gone)
		return
	}
	sh.say(s, control{Control: "reset", Cursor: gone.Head.String()}, gone.Head)
}

// end ends a session and tells its client why, if it can be told.
func (sh *shard) end(id uint32, s *session, why error) {
	if s.kind == kindPoll {
		sh.failPoll(id, s, why)
		return
	}
	if s.kind.client() {
		sh.extras.At(s.extra).client.conversation.End(why)
		return
	}
	c := control{Control: "error", Code: "internal"}
	switch {
	case errors.Is(why, event.ErrClosed):
		c = control{Control: "drain", RetryIn: sh.hub.retryIn().Milliseconds()}
	case errors.Is(why, errExpired), errors.Is(why, errTooSlow):
		c.Code = why.Error()
	default:
		sh.hub.options.Logger.Error("session failed", "err", why)
	}
	sh.hub.metrics.ended.WithLabelValues(c.Control + ":" + c.Code).Inc()
	sh.say(s, c, sh.position(sh.readers.At(s.reader)))
	if s.kind.plainSocket() {
		code, reason := closing(c)
		sh.endSocket(id, s, code, reason)
		return
	}
	sh.loop.End(s.conn)
	sh.forget(id, s)
}
