package push

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/chappe/chappe/event"
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

// transport writes to one connection. A write fails when the connection took
// nothing for progressTime.
type transport interface {
	// events writes records, in order; kept says that their cursors are those
	// of a reader on its way from the start (event.Cursor).
	events(records []*event.Record, kept bool) error
	// control writes c; at is where the client would resume.
	control(c control, at event.Cursor) error
}

// serve runs a session until its connection, its token or the server ends. It
// returns the control that was the last word, for the transport to say it in
// its own way too, or nil if the connection is gone.
func (h *Hub) serve(ctx context.Context, sub *subscription, t transport) *control {
	s := h.open(sub)
	defer h.leave(s)
	at := s.position()
	hello := control{Control: "hello", Heartbeat: h.options.Limits.Heartbeat.Seconds(), Retry: &[2]int64{retryMin.Milliseconds(), retryMax.Milliseconds()}, Cursor: at.String()}
	if at.IsZero() {
		hello.Cursor = start
	}
	if t.control(hello, at) != nil {
		return nil
	}
	expired, stop := expiry(sub.identity)
	defer stop()
	heartbeat := time.NewTicker(h.options.Limits.Heartbeat)
	defer heartbeat.Stop()
	for {
		sent, err := h.sendNext(ctx, s, t)
		if err != nil {
			return h.lastWord(t, s, err)
		}
		if sent {
			select { // a session that is never without work must still live and end
			case <-heartbeat.C:
				if t.control(control{Control: "heartbeat"}, s.position()) != nil {
					return nil
				}
			case <-ctx.Done():
				return nil
			case <-h.draining:
				return h.lastWord(t, s, event.ErrClosed)
			case <-expired:
				return h.lastWord(t, s, errExpired)
			default:
			}
			continue
		}
		select {
		case <-s.wake:
		case <-heartbeat.C:
			if t.control(control{Control: "heartbeat"}, h.idlePosition(s)) != nil {
				return nil
			}
		case <-expired:
			return h.lastWord(t, s, errExpired)
		case <-h.draining:
			return h.lastWord(t, s, event.ErrClosed)
		case <-ctx.Done():
			return nil
		}
	}
}

var (
	errExpired = errors.New("token-expired")
	errGone    = errors.New("the connection is gone")
)

// sendNext sends what there is.
func (h *Hub) sendNext(ctx context.Context, s *session, t transport) (sent bool, err error) {
	before := s.position()
	records, err := s.next(ctx)
	if gone, ok := errors.AsType[*event.GoneError](err); ok {
		if t.control(control{Control: "reset", Cursor: gone.Head.String()}, gone.Head) != nil {
			return false, errGone
		}
		return true, nil
	}
	if err != nil {
		return false, err
	}
	at := s.position()
	if len(records) > 0 && t.events(records, before.Kept || at.Kept) != nil {
		return false, errGone
	}
	h.metrics.sent.Add(float64(len(records)))
	if before.Kept && !at.Kept {
		// The head is reached; from now on a purge is a hole.
		if t.control(control{Control: "heartbeat"}, at) != nil {
			return false, errGone
		}
		return true, nil
	}
	return len(records) > 0, nil
}

// lastWord tells the client why its session ends, if it can be told.
func (h *Hub) lastWord(t transport, s *session, why error) *control {
	c := control{Control: "error", Code: "internal"}
	switch {
	case errors.Is(why, errGone), errors.Is(why, context.Canceled):
		return nil
	case errors.Is(why, event.ErrClosed):
		c = control{Control: "drain", RetryIn: retrySpread().Milliseconds()}
	case errors.Is(why, errExpired), errors.Is(why, errTooSlow):
		c.Code = why.Error()
	default:
		h.options.Logger.Error("session failed", "err", why)
	}
	h.metrics.ended.WithLabelValues(c.Control + ":" + c.Code).Inc()
	_ = t.control(c, s.position()) // it may be gone already
	return &c
}
