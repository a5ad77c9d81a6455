package push

import (
	"errors"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/ws"
)

// session is one connected subscriber. It has no pointers; what only some
// sessions have, or only for a while, is in its extra.
type session struct {
	conn     loop.Conn
	held     place
	extra    uint32
	reader   uint32 // the first
	expires  uint32 // Unix time in seconds; 0: never
	beat     uint32 // when the next heartbeat is due, in milliseconds of the loop's clock
	refilled uint32 // when tokens were last counted, likewise
	tokens   uint8  // messages that may come
	kind     kind
	flags    uint8
	beats    uint8 // since the last ping
}

// pingEvery is how many heartbeats a ping comes with one.
const pingEvery = 4

// pinged says that a ping was sent and nothing came since.
const pinged = 1

// extra is what most sessions are without.
type extra struct {
	frames *ws.Reader      // in the midst of a frame or message
	since  time.Duration   // of that, by the loop's clock
	done   func()          // ends the use of a ticket
	pong   []byte          // waits for output to be taken
	page   event.Page      // that is being sent
	rest   []*event.Record // of the page: what did not fit into the queue
	kept   bool            // the page is read on the way from the start
	poll   *poll           // the long-poll that this session is
	client *Client         // of a client protocol
}

// kind is how sessions speak.
type kind uint8

const (
	kindSSE kind = iota
	kindWebSocket
	kindDeflated // a WebSocket whose events are compressed
	kindPoll
	kindClientWebSocket // those from here on are of client protocols
	kindClientStream
	kindClientSSE
	kinds
)

var kindNames = [kinds]string{"sse", "websocket", "websocket", "poll", "centrifuge_websocket", "centrifuge_http_stream", "centrifuge_sse"}

// socket reports whether clients send frames.
func (k kind) socket() bool { return k.plainSocket() || k == kindClientWebSocket }

// burst is how many messages may come at once.
func (k kind) burst() uint8 {
	if k.client() {
		return clientBurst
	}
	return messageBurst
}

// plainSocket reports whether clients are sent controls by frames.
func (k kind) plainSocket() bool { return k == kindWebSocket || k == kindDeflated }

// client reports whether sessions belong to a client protocol.
func (k kind) client() bool { return k >= kindClientWebSocket }

// reader is what a session follows with one cursor. It has no pointers.
type reader struct {
	at      int64 // seq up to which all was written to the connection
	session uint32
	members uint32 // the first
	next    uint32 // of the session
	serial  uint32 // tells apart readers that had the same place
	stamp   uint32 // of the last ephemeral event
	flags   uint8
}

const (
	live   = 1 << iota
	kept   // on its way from the start (event.Cursor)
	busy   // a page is being read
	unsaid // at is past the id that the client knows
)

var heartbeatJSON = control{Control: "heartbeat"}.json()

// Bounds of what a client may send. Most have nothing to say but pongs.
const (
	messageRate  = 20 // a second, after a burst
	messageBurst = 50
	clientBurst  = 200              // of client protocols, whose programs subscribe one by one
	messageTime  = 10 * time.Second // for a message to be whole
)

// milliseconds is the loop's clock as sessions keep it: it wraps.
func milliseconds(d time.Duration) uint32 { return uint32(d.Milliseconds()) }

func until(at, now uint32) time.Duration { return time.Duration(int32(at-now)) * time.Millisecond }

// open makes a session of a request that was let in. Connect gives it its
// connection; it may find that the client is gone.
func (sh *shard) open(k kind, sub *subscription, connect func(id uint32) loop.Conn) (id uint32, s *session) {
	id = sh.sessions.Add()
	s = sh.sessions.At(id)
	s.kind, s.held, s.tokens = k, sub.held, k.burst()
	if !sub.identity.Expires.IsZero() {
		s.expires = uint32(max(1, sub.identity.Expires.Unix()))
	}
	if sub.done != nil {
		sh.extraOf(s).done = sub.done
	}
	sh.hub.metrics.sessions[k].Inc()
	if s.conn = connect(id); s.conn == 0 {
		sh.forget(id, s)
		return 0, nil
	}
	now := milliseconds(sh.loop.Now())
	sh.hub.spread.Opened()
	sh.hub.metrics.opened.Inc()
	s.refilled, s.beat = now, now+milliseconds(sh.hub.options.Limits.Heartbeat)
	return id, s
}

// forget removes a session whose connection is gone.
func (sh *shard) forget(id uint32, s *session) {
	for i := s.reader; i != 0; {
		next := sh.readers.At(i).next
		sh.unfollow(i)
		i = next
	}
	var client *Client
	if s.extra != 0 {
		x := sh.extras.At(s.extra)
		if x.done != nil {
			x.done()
		}
		if x.poll != nil {
			x.poll.leave()
		}
		client = x.client
		sh.recycle(x.frames)
		sh.extras.Remove(s.extra)
	}
	sh.hub.metrics.sessions[s.kind].Dec()
	held := s.held
	sh.sessions.Remove(id)
	sh.hub.places.leave(held)
	if client != nil && client.conversation != nil {
		client.conversation.Closed()
	}
}

func (sh *shard) extraOf(s *session) *extra {
	if s.extra == 0 {
		s.extra = sh.extras.Add()
	}
	return sh.extras.At(s.extra)
}

// dropExtra saves the memory of an extra that holds nothing more.
func (sh *shard) dropExtra(s *session) {
	if s.extra == 0 {
		return
	}
	if x := sh.extras.At(s.extra); x.frames == nil && x.done == nil && len(x.rest) == 0 && x.pong == nil && x.poll == nil && x.client == nil {
		sh.extras.Remove(s.extra)
		s.extra = 0
	}
}

// wakeNext sets the session's next deadline. A heartbeat is not pressing.
func (sh *shard) wakeNext(s *session) {
	now := sh.loop.Now()
	beat := max(until(s.beat, milliseconds(now)), 1)
	d := beat
	if s.expires != 0 {
		d = min(d, time.Until(time.Unix(int64(s.expires), 0)))
	}
	if s.extra != 0 {
		if x := sh.extras.At(s.extra); x.frames != nil {
			d = min(d, x.since+messageTime-now)
		}
	}
	if d == beat && sh.hub.options.Limits.Heartbeat >= lazyHeartbeat {
		sh.loop.WakeLazily(s.conn, d)
		return
	}
	sh.loop.Wake(s.conn, max(d, 1))
}

// lazyHeartbeat is how rare heartbeats are that a fifth of a second is nothing to.
const lazyHeartbeat = 10 * time.Second

// Timeout implements loop.Owner.
func (sh *shard) Timeout(_ loop.Conn, id uint32) {
	s := sh.sessions.At(id)
	switch {
	case s.kind == kindPoll:
		sh.finishPoll(id, s)
		return
	case s.extra != 0 && sh.late(sh.extras.At(s.extra)):
		sh.endSocket(id, s, statusPolicyViolation, "a message took more than 10 s")
		return
	case s.kind.client():
		sh.extras.At(s.extra).client.conversation.Timeout()
		return
	case s.expires != 0 && time.Now().Unix() >= int64(s.expires):
		sh.end(id, s, errExpired)
		return
	}
	if now := milliseconds(sh.loop.Now()); until(s.beat, now) <= 0 {
		if !sh.heartbeat(s) {
			sh.hub.metrics.ended.WithLabelValues("silent").Inc()
			sh.cut(id, s)
			return
		}
		s.beat = now + milliseconds(sh.hub.options.Limits.Heartbeat)
	}
	sh.wakeNext(s)
}

func (sh *shard) late(x *extra) bool {
	return x.frames != nil && sh.loop.Now()-x.since >= messageTime
}

// heartbeat says that the session lives, and where a client resumes. Every
// fourth one of a WebSocket is a ping as well, since only its pong proves that
// the client is there; it returns false if the last had no answer.
func (sh *shard) heartbeat(s *session) bool {
	ping := false
	if s.kind.plainSocket() {
		s.beats++
		ping = s.beats >= pingEvery
		if ping && s.flags&pinged != 0 {
			return false
		}
	}
	if sh.loop.Pending(s.conn) > writeChunk {
		return true // what it is being sent says as much, and the loop looks after its taking it
	}
	rd := sh.readers.At(s.reader)
	if rd.flags&live != 0 && sh.handed > rd.at {
		rd.at = sh.handed
		rd.flags |= unsaid
	}
	at := event.Cursor{}
	if rd.flags&unsaid != 0 {
		at = sh.position(rd)
		rd.flags &^= unsaid
	}
	sh.loop.Cork(s.conn) // a ping goes along in the same segment
	sh.sayJSON(s, heartbeatJSON, at)
	if ping {
		sh.loop.Write(s.conn, pingFrame)
		s.flags |= pinged
		s.beats = 0
	}
	return true
}

// Closed implements loop.Owner.
func (sh *shard) Closed(_ loop.Conn, id uint32, err error) {
	if errors.Is(err, loop.ErrStuck) {
		sh.hub.metrics.ended.WithLabelValues("stuck").Inc()
	}
	sh.forget(id, sh.sessions.At(id))
}

// cut ends a session that need not be told.
func (sh *shard) cut(id uint32, s *session) {
	sh.loop.Close(s.conn)
	sh.forget(id, s)
}

// Drained implements loop.Owner.
func (sh *shard) Drained(_ loop.Conn, id uint32) {
	s := sh.sessions.At(id)
	sh.pongWaiting(s)
	if s.reader == 0 {
		return
	}
	if s.kind.client() {
		sh.catchUpNext(id, s)
		return
	}
	if rd := sh.readers.At(s.reader); rd.flags&live == 0 {
		sh.catchUp(s.reader, rd)
	}
}
