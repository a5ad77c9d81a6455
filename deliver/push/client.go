package push

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/ws"
)

// Transport is how the messages of a client protocol travel.
type Transport uint8

// The transports.
const (
	OverWebSocket Transport = iota // a text message each, both ways
	OverStream                     // a line each, of an answer without end
	OverSSE                        // an event each
)

func (t Transport) kind() kind { return kindClientWebSocket + kind(t) }

// Protocol is a client protocol: how its clients talk and how events read in it.
type Protocol interface {
	// Talk begins a client's conversation.
	Talk(c *Client) Conversation
	// AppendEvent appends an event, without line ends, as a subscriber of the
	// channel is sent it. It is called once for all of them.
	AppendEvent(b []byte, r *event.Record, channel string) []byte
}

// Conversation is the protocol's side of a client. It is called on the
// client's loop, and must not block.
type Conversation interface {
	// Receive takes a message, which is valid during the call.
	Receive(message []byte)
	// Timeout says that the time set by Wake has come. It may come early: what
	// was set is forgotten then, and to be set anew.
	Timeout()
	// Lost says that a subscription has ended: events of it that were to come
	// next are gone.
	Lost(channel event.Pattern)
	// End says that the server ends the client, and why: event.ErrClosed when
	// it shuts down. It is to call Close.
	End(why error)
	// Closed is the last call.
	Closed()
}

// ErrTooSlow ends a client that did not take events which cannot be caught up with.
var ErrTooSlow = errTooSlow

// Client is a session of a client protocol. Unless they say otherwise its
// methods are to be called on its loop.
type Client struct {
	shard        *shard
	id           uint32
	conn         loop.Conn
	kind         kind
	protocol     Protocol
	conversation Conversation
	request      *http.Request
	joining      map[uint32]*joining // readers whose past is being read
	held         bool
}

// Accept opens a session of a client protocol, whatever the client may do: that
// is for its conversation to find out. First is the message that came with the
// request, if any.
func (h *Hub) Accept(x *front.Exchange, t Transport, p Protocol, first []byte) {
	sh := h.shardOf(x.Loop())
	if t == OverWebSocket {
		if status, reason := x.CheckUpgrade(); status != 0 {
			sh.refuseUpgrade(x, status, reason)
			return
		}
	}
	r, err := x.Request()
	if err == nil && t == OverWebSocket {
		err = h.access.Origins.CheckWebSocket(r)
	} else if err == nil {
		err = h.access.Origins.CheckStream(r)
	}
	var held place
	if err == nil {
		held, err = h.places.enter(clientip.Of(x.Peer(), x.Header("x-forwarded-for"), h.options.TrustedProxies), &anonymous)
	}
	if err != nil {
		sh.refuseClient(x, t, err)
		return
	}
	first = slices.Clone(first)
	c := &Client{shard: sh, kind: t.kind(), protocol: p, request: r, joining: map[uint32]*joining{}}
	sub := &subscription{identity: &anonymous, held: held}
	id, s := sh.open(c.kind, sub, func(id uint32) loop.Conn {
		switch t {
		case OverStream:
			return x.Stream("application/json", sh.owner, id)
		case OverSSE:
			return x.Stream(eventStream, sh.owner, id)
		}
		return x.Upgrade("", sh.owner, id)
	})
	if s == nil {
		return
	}
	c.id, c.conn = id, s.conn
	sh.extraOf(s).client = c
	c.conversation = p.Talk(c)
	if len(first) > 0 {
		c.conversation.Receive(first)
	}
}

// refuseClient refuses in the way that each transport's clients come back from.
func (sh *shard) refuseClient(x *front.Exchange, t Transport, err error) {
	if t == OverWebSocket && refusedForNow(err) {
		code := problem.From(err).Code
		sh.hub.metrics.refused.WithLabelValues(code).Inc()
		if c := x.Upgrade("", loop.Nobody, 0); c != 0 {
			sh.loop.Write(c, ws.AppendClose(nil, statusTryAgainLater, retryReason(sh.hub.retryIn().Milliseconds())))
			sh.loop.End(c)
		}
		return
	}
	sh.answerProblem(x, err)
}

// Deliver gives the conversation a message that came another way. Any
// goroutine may call it.
func (c *Client) Deliver(message []byte) {
	c.Post(func() { c.conversation.Receive(message) })
}

// Post has f called on the client's loop, if the client is still there. Any
// goroutine may call it.
func (c *Client) Post(f func()) {
	c.shard.loop.Post(func() {
		if c.alive() {
			f()
		}
	})
}

// Go has work done that may block, and what it returns called on the client's
// loop, if the client is still there. It returns false if there is too much to
// do.
func (c *Client) Go(work func() (then func())) bool {
	return c.shard.hub.pool.Go(func() { c.Post(work()) })
}

func (c *Client) alive() bool { return c.shard.sessions.At(c.id).conn == c.conn }

// Identify finds out who a client is, by the token that it sent or, without
// one, by its request, and takes a place for that user. Then is called with
// either, on the loop.
func (c *Client) Identify(token string, then func(*account.Identity, error)) {
	r := c.request.Clone(context.Background())
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	sh := c.shard
	began := sh.hub.pool.Go(func() {
		id, done, err := sh.hub.access.IdentifyStream(r)
		sh.loop.Post(func() { c.identified(id, done, err, then) })
	})
	if !began {
		then(nil, errFull{"the work that waits"})
	}
}

func (c *Client) identified(id *account.Identity, done func(), err error, then func(*account.Identity, error)) {
	if !c.alive() {
		if err == nil {
			done()
		}
		return
	}
	sh := c.shard
	s := sh.sessions.At(c.id)
	if err == nil {
		if err = sh.hub.places.enterUser(&s.held, id); err != nil {
			done()
		}
	}
	if err != nil {
		then(nil, err)
		return
	}
	x := sh.extraOf(s)
	if x.done != nil {
		x.done()
	}
	x.done = done
	then(id, nil)
}

// Send writes a message; it has no line ends.
func (c *Client) Send(message []byte) {
	sh := c.shard
	b := appendClientMessage(sh.scratch[:0], c.kind, message)
	sh.scratch = b[:0]
	sh.loop.Write(c.conn, b)
}

// Full reports whether as much waits for the client as a session's queue takes.
func (c *Client) Full() bool {
	return c.shard.loop.Pending(c.conn) > int(c.shard.hub.options.Limits.Queue)
}

// Hold keeps back the events of all subscriptions until Release. None is lost
// but ephemeral ones, which are not kept back. It is to be called before Subscribe.
func (c *Client) Hold() { c.held = true }

// Release ends Hold.
func (c *Client) Release() {
	c.held = false
	c.shard.catchUpNext(c.id, c.shard.sessions.At(c.id))
}

// Wake has the conversation's Timeout called in d, in place of what was set
// before. 0 is never.
func (c *Client) Wake(d time.Duration) { c.shard.loop.Wake(c.conn, d) }

// Close ends the client; code and reason are a WebSocket's. Closed is called.
func (c *Client) Close(code uint16, reason string) {
	if !c.alive() {
		return
	}
	sh := c.shard
	if c.kind == kindClientWebSocket {
		sh.loop.Write(c.conn, ws.AppendClose(nil, code, reason))
	}
	sh.loop.End(c.conn)
	sh.forget(c.id, sh.sessions.At(c.id))
}

// RetryIn is how long a client that is sent away is to wait.
func (c *Client) RetryIn() time.Duration { return c.shard.hub.retryIn() }

// Joined is what a subscription begins with.
type Joined struct {
	Head      event.Cursor    // all up to it was sent, is in Records or was not asked for
	Recovered bool            // Records are all there was since the cursor given
	Records   []*event.Record // that were missed
}

// Past says where a subscription begins.
type Past struct {
	After event.Cursor // events after it are wanted; zero: those from now on
	Most  int          // of them; if there were more, none is given
	Bytes int          // likewise, as they are on the wire
}

// joining is a subscription whose past is being read.
type joining struct {
	past    Past
	records []*event.Record
	size    int
	failed  bool
	then    func(Joined, error)
}

// Subscribe follows a channel, which the client does not yet. Then is called on
// the loop, at once or later; every event past Joined.Head comes after it.
func (c *Client) Subscribe(channel event.Pattern, past Past, then func(Joined, error)) {
	sh := c.shard
	s := sh.sessions.At(c.id)
	first := s.reader
	sub := &subscription{identity: &anonymous, patterns: []event.Pattern{channel}, after: past.After, now: past.After.IsZero()}
	sh.follow(c.id, s, sub)
	rd := sh.readers.At(s.reader)
	rd.next = first
	if rd.flags&live != 0 {
		if c.held {
			rd.flags &^= live
		}
		then(Joined{Head: sh.position(rd), Recovered: !past.After.IsZero()}, nil)
		return
	}
	c.joining[s.reader] = &joining{past: past, then: then}
	sh.read(s.reader, rd, sub.after)
}

// Unsubscribe ends a subscription, and reports whether there was one.
func (c *Client) Unsubscribe(channel event.Pattern) bool {
	sh := c.shard
	s := sh.sessions.At(c.id)
	for link := &s.reader; *link != 0; link = &sh.readers.At(*link).next {
		i := *link
		if rd := sh.readers.At(i); sh.channel(rd) == channel {
			*link = rd.next
			delete(c.joining, i)
			sh.unfollow(i)
			return true
		}
	}
	return false
}

// channel is what the reader of a client follows.
func (sh *shard) channel(rd *reader) event.Pattern {
	return event.Pattern(sh.topics.Name(sh.members.At(rd.members).pattern))
}

// pageForClient takes a page that was read for a client.
func (sh *shard) pageForClient(i uint32, rd *reader, s *session, page event.Page) {
	c := sh.extras.At(s.extra).client
	j := c.joining[i]
	if j != nil && !j.add(page.Records) {
		page = event.Page{Cursor: sh.hub.reader.Head()} // what is not given need not be read
	}
	rd.at = page.Cursor.Seq
	if !page.Cursor.Kept {
		rd.flags &^= kept
	}
	if j == nil {
		channel := string(sh.channel(rd))
		for _, r := range page.Records {
			c.Send(c.protocol.AppendEvent(nil, r, channel))
		}
		sh.hub.metrics.sent.Add(float64(len(page.Records)))
	}
	if page.More || sh.handed > rd.at {
		sh.catchUp(i, rd)
		return
	}
	if !c.held {
		rd.flags |= live
	}
	if j != nil {
		delete(c.joining, i)
		j.then(Joined{Head: sh.position(rd), Recovered: !j.failed && !j.past.After.IsZero(), Records: j.records}, nil)
	}
	if c.alive() {
		sh.catchUpNext(c.id, s)
	}
}

// add returns false if there is more than was asked for.
func (j *joining) add(records []*event.Record) bool {
	if j.failed || j.past.After.IsZero() {
		return !j.failed
	}
	j.records = append(j.records, records...)
	for _, r := range records {
		j.size += len(r.JSON)
	}
	if len(j.records) > j.past.Most || j.size > j.past.Bytes {
		j.fail()
	}
	return !j.failed
}

func (j *joining) fail() { j.records, j.failed = nil, true }

// goneForClient is for a reader whose position is gone: one that joins goes on
// from the head, not recovered; one that followed has lost events.
func (sh *shard) goneForClient(i uint32, rd *reader, s *session, gone *event.GoneError) {
	c := sh.extras.At(s.extra).client
	if j := c.joining[i]; j != nil {
		j.fail()
		sh.pageForClient(i, rd, s, event.Page{Cursor: gone.Head})
		return
	}
	channel := sh.channel(rd)
	c.Unsubscribe(channel)
	c.conversation.Lost(channel)
}

// catchUpNext goes on with the next of a client's readers that is behind: one
// page at a time waits for the connection, whatever the number of readers.
func (sh *shard) catchUpNext(id uint32, s *session) {
	c := sh.extras.At(s.extra).client
	for i := s.reader; i != 0; i = sh.readers.At(i).next {
		if rd := sh.readers.At(i); rd.flags&(live|busy) == 0 && (!c.held || c.joining[i] != nil) {
			sh.catchUp(i, rd)
			return
		}
	}
}

// appendClientMessage frames a message for its transport.
func appendClientMessage(b []byte, k kind, message []byte) []byte {
	switch k {
	case kindClientWebSocket:
		return ws.AppendFrame(b, ws.OpText, message)
	case kindClientSSE:
		return append(append(append(b, "data: "...), message...), '\n', '\n')
	}
	return append(append(b, message...), '\n')
}
