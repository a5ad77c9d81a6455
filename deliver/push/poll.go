package push

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

// Bounds of a long-poll.
const (
	defaultWait = 25 * time.Second
	maxWait     = 55 * time.Second // proxies give up after 60
	maxWaiters  = 8                // of one identity on the same topics
	leastWait   = 5 * time.Second  // before a waiter makes room for another
)

// Poll serves long-polls: it answers with what came after the cursor, as soon
// as something does or when the wait is over. The next cursor is the ETag; a
// client that sends it back in If-None-Match gets 304 when nothing came.
func (h *Hub) Poll(w http.ResponseWriter, r *http.Request) {
	sub, err := h.admit(r, h.access.Origins.CheckStream)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	defer sub.done()
	defer h.metrics.session("poll")()
	known, err := validator(r, sub)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	wait, err := waitOf(r.URL.Query().Get("wait"))
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	if end := sub.identity.Expires; !end.IsZero() {
		wait = min(wait, time.Until(end))
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	defer h.waiters.enter(waiterKey(sub), cancel)()
	records, at, err := h.await(ctx, sub)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.answerPoll(w, records, at, known)
}

// validator is the cursor in If-None-Match; it is where to continue if the
// query does not say.
func validator(r *http.Request, sub *subscription) (event.Cursor, error) {
	tag := strings.TrimPrefix(strings.TrimSpace(r.Header.Get("If-None-Match")), "W/")
	if tag == "" || tag == "*" {
		return event.Cursor{}, nil
	}
	c, err := event.ParseCursor(strings.Trim(tag, `"`))
	if err != nil {
		return event.Cursor{}, nil // a tag of someone else's, which does not match
	}
	if sub.now {
		sub.after, sub.now = c, false
	}
	return c, nil
}

func waitOf(s string) (time.Duration, error) {
	if s == "" {
		return defaultWait, nil
	}
	if seconds, err := strconv.Atoi(s); err == nil {
		s = strconv.Itoa(seconds) + "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, problem.New("bad-wait", "wait="+strconv.Quote(s)+" is not a duration; write one like 25s, at most 55s")
	}
	return min(d, maxWait), nil
}

// await returns events, or none when ctx ends; and where to continue.
func (h *Hub) await(ctx context.Context, sub *subscription) ([]*event.Record, event.Cursor, error) {
	s := h.open(sub)
	defer h.leave(s)
	for {
		records, err := s.next(context.WithoutCancel(ctx)) // a wait of 0 reads too
		if err != nil || len(records) > 0 {
			return records, s.position(), err
		}
		select {
		case <-s.wake:
		case <-h.draining:
			return nil, h.idlePosition(s), nil
		case <-ctx.Done():
			return nil, h.idlePosition(s), nil
		}
	}
}

type pollAnswer struct {
	Events []json.RawMessage `json:"events"`
	Cursor string            `json:"cursor"`
}

func (h *Hub) answerPoll(w http.ResponseWriter, records []*event.Record, at, known event.Cursor) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if len(records) == 0 && !known.IsZero() {
		header.Set("ETag", `"`+known.String()+`"`)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	answer := pollAnswer{Events: make([]json.RawMessage, len(records)), Cursor: at.String()}
	for i, r := range records {
		answer.Events[i] = r.JSON
	}
	header.Set("ETag", `"`+answer.Cursor+`"`)
	header.Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(progressTime)) // refused by recorders only
	_ = json.NewEncoder(w).Encode(answer)                                            // the client may have gone
	h.metrics.sent.Add(float64(len(records)))
}

// waiters bounds how many polls one identity has waiting on the same topics:
// when there is one too many, the oldest is answered.
type waiters struct {
	mu    sync.Mutex
	byKey map[string][]*waiter
}

type waiter struct {
	answer context.CancelFunc
	since  time.Time
}

func waiterKey(sub *subscription) string {
	who := sub.identity.Name
	if who == "" {
		who = sub.address.String()
	}
	return who + " " + joinPatterns(sub.patterns)
}

func (ws *waiters) enter(key string, answer context.CancelFunc) (leave func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.byKey == nil {
		ws.byKey = map[string][]*waiter{}
	}
	own := &waiter{answer, time.Now()}
	list := append(ws.byKey[key], own)
	if len(list) > maxWaiters {
		// Not before it has waited a while: it comes again at once, and nine
		// that push each other out would poll as fast as they can.
		time.AfterFunc(leastWait-time.Since(list[0].since), list[0].answer)
		list = list[1:]
	}
	ws.byKey[key] = list
	return func() { ws.leave(key, own) }
}

func (ws *waiters) leave(key string, own *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := ws.byKey[key]
	for i, w := range list {
		if w == own {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if ws.byKey[key] = list; len(list) == 0 {
		delete(ws.byKey, key)
	}
}
