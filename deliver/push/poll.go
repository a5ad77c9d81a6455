package push

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/problem"
)

// Bounds of a long-poll.
const (
	defaultWait = 25 * time.Second
	maxWait     = 55 * time.Second // proxies give up after 60
	maxWaiters  = 8                // of one identity on the same topics: then the oldest is answered
	leastWait   = 5 * time.Second  // before it is; nine that push each other out would poll as fast as they can
)

// poll is a long-poll that waits.
type poll struct {
	exchange *front.Exchange
	known    event.Cursor // that the client has; zero: none
	ends     time.Duration
	records  []*event.Record
	leave    func() // the waiters
}

// ServePoll serves long-polls: it answers with what came after the cursor, as
// soon as something does or when the wait is over. The next cursor is the
// ETag; a client that sends it back in If-None-Match gets 304 when nothing came.
func (h *Hub) ServePoll(x *front.Exchange) {
	sh := h.shardOf(x.Loop())
	sh.admit(x, &sh.doors.poll)
}

func (sh *shard) openPoll(x *front.Exchange, sub *subscription) {
	known := validator(x, sub)
	wait, err := waitOf(sub.wait)
	if err == nil {
		x, err = x.Hold()
	}
	if err != nil {
		sh.giveBack(sub)
		sh.answerProblem(x, err)
		return
	}
	if end := sub.identity.Expires; !end.IsZero() {
		wait = min(wait, time.Until(end))
	}
	id, s := sh.open(kindPoll, sub, func(id uint32) loop.Conn { return x.Wait(sh.owner, id) })
	if s == nil {
		return
	}
	p := &poll{exchange: x, known: known, ends: sh.loop.Now() + wait}
	c := s.conn
	p.leave = sh.hub.waiters.Enter(sh.waiterKey(x, sub), func() { sh.answerSoon(id, c) })
	sh.extraOf(s).poll = p
	sh.follow(id, s, sub)
	if rd := sh.readers.At(s.reader); rd.flags&live == 0 {
		sh.read(s.reader, rd, sub.after)
		return
	}
	sh.waitForMore(id, s)
}

// waitForMore is for a poll that has come to the head.
func (sh *shard) waitForMore(id uint32, s *session) {
	left := sh.extras.At(s.extra).poll.ends - sh.loop.Now()
	if left <= 0 {
		sh.finishPoll(id, s)
		return
	}
	sh.loop.Wake(s.conn, left)
}

// validator is the cursor in If-None-Match; it is where to continue if the
// query does not say.
func validator(x *front.Exchange, sub *subscription) event.Cursor {
	tag := strings.TrimPrefix(strings.TrimSpace(x.Header("if-none-match")), "W/")
	if tag == "" || tag == "*" {
		return event.Cursor{}
	}
	c, err := event.ParseCursor(strings.Clone(strings.Trim(tag, `"`)))
	if err != nil {
		return event.Cursor{} // a tag of someone else's, which does not match
	}
	if sub.now {
		sub.after, sub.now = c, false
	}
	return c
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

// pageForPoll answers with a page that was read, or goes on.
func (sh *shard) pageForPoll(i uint32, rd *reader, s *session, page event.Page) {
	rd.at = page.Cursor.Seq
	if !page.Cursor.Kept {
		rd.flags &^= kept
	}
	switch id := rd.session; {
	case len(page.Records) > 0:
		sh.extras.At(s.extra).poll.records = page.Records
		sh.finishPoll(id, s)
	case page.More:
		sh.catchUp(i, rd)
	default:
		sh.goLive(i, rd)
		if rd.flags&live != 0 {
			sh.waitForMore(id, s)
		}
	}
}

// collect takes an event for a poll, which is answered when the group is
// handed out.
func (sh *shard) collect(id uint32, s *session, r *event.Record) {
	p := sh.extras.At(s.extra).poll
	if len(p.records) == 0 {
		sh.polls = append(sh.polls, id)
	}
	p.records = append(p.records, r)
}

func (sh *shard) answerPolls() {
	for _, id := range sh.polls {
		if s := sh.sessions.At(id); s.conn != 0 && s.kind == kindPoll {
			sh.finishPoll(id, s)
		}
	}
	sh.polls = sh.polls[:0]
}

// answerSoon answers a poll from another goroutine.
func (sh *shard) answerSoon(id uint32, c loop.Conn) {
	sh.loop.Post(func() {
		if s := sh.sessions.At(id); s.conn == c {
			sh.finishPoll(id, s)
		}
	})
}

// finishPoll answers with what there is, which may be nothing.
func (sh *shard) finishPoll(id uint32, s *session) {
	rd := sh.readers.At(s.reader)
	p := sh.extras.At(s.extra).poll
	if rd.flags&live != 0 {
		rd.at = max(rd.at, sh.handed)
	}
	at := sh.position(rd)
	sh.forget(id, s)
	header, body := p.answer(at)
	status := http.StatusOK
	if body == nil {
		status = http.StatusNotModified
	}
	p.exchange.Answer(status, header, body)
	sh.hub.metrics.sent.Add(float64(len(p.records)))
}

// failPoll answers with an error; for a drain, with what there is.
func (sh *shard) failPoll(id uint32, s *session, why error) {
	if errors.Is(why, event.ErrClosed) {
		sh.finishPoll(id, s)
		return
	}
	x := sh.extras.At(s.extra).poll.exchange
	sh.forget(id, s)
	sh.answerProblem(x, why)
}

type pollAnswer struct {
	Events []json.RawMessage `json:"events"`
	Cursor string            `json:"cursor"`
}

// answer is the header and body of the answer; no body is 304.
func (p *poll) answer(at event.Cursor) (http.Header, []byte) {
	header := http.Header{"Cache-Control": {"no-store"}}
	if len(p.records) == 0 && !p.known.IsZero() {
		header["Etag"] = []string{`"` + p.known.String() + `"`}
		return header, nil
	}
	answer := pollAnswer{Events: make([]json.RawMessage, len(p.records)), Cursor: at.String()}
	for i, r := range p.records {
		answer.Events[i] = r.JSON
	}
	header["Etag"] = []string{`"` + answer.Cursor + `"`}
	header["Content-Type"] = []string{"application/json"}
	body, _ := json.Marshal(answer) // records are JSON already
	return header, append(body, '\n')
}

func (sh *shard) waiterKey(x *front.Exchange, sub *subscription) string {
	var b strings.Builder
	if b.WriteString(sub.identity.Name); b.Len() == 0 {
		b.WriteString(clientip.Of(x.Peer(), x.Header("x-forwarded-for"), sh.hub.options.TrustedProxies).String())
	}
	for _, p := range sub.patterns {
		b.WriteByte(' ')
		b.WriteString(string(p))
	}
	return b.String()
}
