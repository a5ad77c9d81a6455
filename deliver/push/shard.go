package push

import (
	"context"
	"errors"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/index"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/slab"
	"github.com/chappe/chappe/internal/ws"
)

// pattern is a list of members: who follows it.
type pattern struct {
	first uint32 // member
}

// member is one pattern that a reader follows.
type member struct {
	reader     uint32
	pattern    uint32
	next, prev uint32 // of the pattern
	sibling    uint32 // next of the reader
}

// shard is the sessions of one loop, and runs on it alone.
type shard struct {
	hub      *Hub
	loop     *loop.Loop
	owner    loop.OwnerID
	doors    doors
	sessions slab.Slab[session]
	extras   slab.Slab[extra]
	readers  slab.Slab[reader]
	members  slab.Slab[member]
	topics   index.Patterns[pattern]
	demands  map[event.Topic]*demand
	backlog  chan struct{} // groups of events that are posted and not handed out
	handed   int64         // seq of the newest event handed out here
	stamp    uint32        // of the last ephemeral event, never 0
	serial   uint32        // of the last reader

	frames  [kinds][]byte // of the event that is handed out, as made so far
	polls   []uint32      // sessions to be answered at the end of the group
	spare   []*ws.Reader
	sub     subscription // scratch of let
	scratch []byte
}

func newShard(h *Hub, l *loop.Loop) *shard {
	sh := &shard{hub: h, loop: l, demands: map[event.Topic]*demand{}, backlog: make(chan struct{}, maxBacklog)}
	sh.openDoors()
	sh.owner = l.Register(sh)
	return sh
}

// commit hands a group of events to whoever follows them.
func (sh *shard) commit(records []*event.Record, committed time.Time) {
	sent := 0
	write := sh.loop.WriteShared
	if len(records) > 1 {
		write = sh.loop.Later // one call for all of a session's events
	}
	for _, r := range records {
		if sh.stamp++; sh.stamp == 0 {
			sh.stamp = 1
		}
		clear(sh.frames[:])
		sh.topics.Each(string(r.Topic), func(p uint32) {
			clear(sh.frames[kindClientWebSocket:]) // these name the channel
			for m := sh.topics.At(p).first; m != 0; {
				member := sh.members.At(m)
				m = member.next
				if sh.offer(member.reader, p, r, write) {
					sent++
				}
			}
		})
		sh.handed = max(sh.handed, r.Cursor.Seq)
	}
	sh.answerPolls()
	if sent > 0 {
		sh.hub.metrics.sent.Add(float64(sent))
		sh.hub.metrics.fanout.Observe(time.Since(committed).Seconds())
	}
}

// offer writes an event to a reader's session, if it is live and does not have
// it yet. Ephemeral events go also to one that catches up: there is no second
// chance.
func (sh *shard) offer(id, p uint32, r *event.Record, write func(loop.Conn, []byte)) bool {
	rd := sh.readers.At(id)
	s := sh.sessions.At(rd.session)
	if ephemeral := r.Cursor.IsZero(); ephemeral {
		if rd.stamp == sh.stamp {
			return false // matched by another of its patterns
		}
		rd.stamp = sh.stamp
		if sh.full(s, r) {
			sh.end(rd.session, s, errTooSlow)
			return false
		}
	} else {
		if rd.flags&live == 0 || r.Cursor.Seq <= rd.at {
			return false
		}
		if sh.full(s, r) {
			rd.flags &^= live // it catches up from here once its queue is taken
			return false
		}
		rd.at = r.Cursor.Seq
		rd.flags &^= unsaid
	}
	if s.kind == kindPoll {
		sh.collect(rd.session, s, r)
		return true
	}
	if sh.frames[s.kind] == nil {
		sh.frames[s.kind] = sh.frame(s, p, r)
	}
	write(s.conn, sh.frames[s.kind])
	return true
}

// frame is the event as sessions of the kind are sent it.
func (sh *shard) frame(s *session, p uint32, r *event.Record) []byte {
	if !s.kind.client() {
		return appendEvent(nil, s.kind, r, r.Cursor)
	}
	message := sh.extras.At(s.extra).client.protocol.AppendEvent(nil, r, sh.topics.Name(p))
	return appendClientMessage(nil, s.kind, message)
}

// full reports whether r would overflow the session's queue; a queue takes one
// event of any size.
func (sh *shard) full(s *session, r *event.Record) bool {
	pending := sh.loop.Pending(s.conn)
	return pending > 0 && pending+len(r.JSON) > int(sh.hub.options.Limits.Queue)
}

// follow makes a reader of what the session asked for.
func (sh *shard) follow(id uint32, s *session, sub *subscription) {
	i := sh.readers.Add()
	rd := sh.readers.At(i)
	sh.serial++
	rd.session, rd.serial, s.reader = id, sh.serial, i
	for _, p := range sub.patterns {
		sh.join(i, rd, p)
	}
	sh.demand(rd, +1)
	head := sh.hub.reader.Head()
	if sub.now {
		sub.after = head
	}
	rd.at = sub.after.Seq
	if sub.after.FromStart() {
		rd.flags |= kept
	}
	// Who asks for what comes from now on need not read: all that is past
	// the head is yet to be handed out, unless some of it was meanwhile. A
	// shard that knows of none handed out does not know that it will be.
	if sub.after == head && sh.handed != 0 && sh.handed <= head.Seq {
		rd.flags |= live
	}
}

func (sh *shard) join(i uint32, rd *reader, p event.Pattern) {
	number := sh.topics.Add(string(p))
	list := sh.topics.At(number)
	m := sh.members.Add()
	*sh.members.At(m) = member{reader: i, pattern: number, next: list.first, sibling: rd.members}
	if list.first != 0 {
		sh.members.At(list.first).prev = m
	}
	list.first, rd.members = m, m
}

// unfollow removes a reader.
func (sh *shard) unfollow(i uint32) {
	rd := sh.readers.At(i)
	sh.demand(rd, -1)
	for m := rd.members; m != 0; {
		member := *sh.members.At(m)
		if list := sh.topics.At(member.pattern); list.first == m {
			list.first = member.next
		} else {
			sh.members.At(member.prev).next = member.next
		}
		if member.next != 0 {
			sh.members.At(member.next).prev = member.prev
		}
		if sh.topics.At(member.pattern).first == 0 {
			sh.topics.Remove(member.pattern)
		}
		sh.members.Remove(m)
		m = member.sibling
	}
	sh.readers.Remove(i)
}

// patterns are what a reader follows.
func (sh *shard) patterns(rd *reader) []event.Pattern {
	var patterns []event.Pattern
	for m := rd.members; m != 0; m = sh.members.At(m).sibling {
		patterns = append(patterns, event.Pattern(sh.topics.Name(sh.members.At(m).pattern)))
	}
	return patterns
}

// position is where the client resumes, once it has what was written to it.
func (sh *shard) position(rd *reader) event.Cursor {
	if rd.flags&kept != 0 && rd.at == 0 {
		return event.Cursor{}
	}
	return event.Cursor{Epoch: sh.hub.reader.Head().Epoch, Seq: rd.at, Kept: rd.flags&kept != 0}
}

// catchUp goes on sending what the reader lacks: the rest of a page, or the
// next one. It does nothing while the connection has not taken the last.
func (sh *shard) catchUp(i uint32, rd *reader) {
	s := sh.sessions.At(rd.session)
	if rd.flags&(busy|live) != 0 {
		return
	}
	if s.extra != 0 && len(sh.extras.At(s.extra).rest) > 0 {
		sh.sendRest(i, rd, s)
		return
	}
	if sh.loop.Pending(s.conn) == 0 {
		sh.read(i, rd, sh.position(rd))
	}
}

// read gets the next page; what came of it is for turned.
func (sh *shard) read(i uint32, rd *reader, after event.Cursor) {
	rd.flags |= busy
	serial := rd.serial
	query := event.Query{Patterns: sh.patterns(rd), After: after, Limit: pageEvents}
	sh.hub.reads.Go(func() { // its queue takes a page for every session there may be
		page, err := sh.hub.reader.Read(context.Background(), query)
		sh.loop.Post(func() {
			if rd := sh.readers.At(i); rd.serial == serial { // it may have gone
				rd.flags &^= busy
				sh.turned(i, rd, page, err)
			}
		})
	})
}

// turned sends a page that was read.
func (sh *shard) turned(i uint32, rd *reader, page event.Page, err error) {
	s := sh.sessions.At(rd.session)
	gone, isGone := errors.AsType[*event.GoneError](err)
	if isGone && s.kind.client() {
		sh.goneForClient(i, rd, s, gone)
		return
	}
	if isGone {
		rd.at = gone.Head.Seq
		rd.flags &^= kept
		sh.reset(rd.session, s, gone)
		if s := sh.sessions.At(rd.session); s.conn != 0 && s.reader == i {
			sh.goLive(i, rd)
		}
		return
	}
	if err != nil {
		sh.end(rd.session, s, err)
		return
	}
	switch {
	case s.kind == kindPoll:
		sh.pageForPoll(i, rd, s, page)
		return
	case s.kind.client():
		sh.pageForClient(i, rd, s, page)
		return
	}
	before := sh.position(rd)
	x := sh.extraOf(s)
	x.rest, x.page = page.Records, page
	x.kept = before.Kept || page.Cursor.Kept
	sh.sendRest(i, rd, s)
}

// sendRest sends what is left of a page, as far as the queue has room.
func (sh *shard) sendRest(i uint32, rd *reader, s *session) {
	x := sh.extras.At(s.extra)
	sent := 0
	for len(x.rest) > 0 && sh.loop.Pending(s.conn) <= int(sh.hub.options.Limits.Queue) {
		b := sh.scratch[:0]
		for len(x.rest) > 0 && len(b) < writeChunk {
			r := x.rest[0]
			id := r.Cursor
			id.Kept = x.kept
			b = appendEvent(b, s.kind, r, id)
			rd.at, x.rest = r.Cursor.Seq, x.rest[1:]
			sent++
		}
		sh.loop.Write(s.conn, b)
		if sh.scratch = b[:0]; cap(b) > 4*writeChunk {
			sh.scratch = nil // one large event is no reason to keep its buffer
		}
	}
	sh.hub.metrics.sent.Add(float64(sent))
	if len(x.rest) == 0 {
		sh.pageSent(i, rd, s, x)
	}
}

// pageSent goes on after a page: with the next, or live.
func (sh *shard) pageSent(i uint32, rd *reader, s *session, x *extra) {
	to, more, atHead := x.page.Cursor, x.page.More, rd.flags&kept != 0 && rd.at != 0 && !x.page.Cursor.Kept && x.kept
	x.rest, x.page = nil, event.Page{}
	sh.dropExtra(s)
	if to.Seq > rd.at {
		rd.at = to.Seq
		rd.flags |= unsaid
	}
	if !to.Kept {
		rd.flags &^= kept
	}
	if atHead { // from now on a purge is a hole
		sh.say(s, control{Control: "heartbeat"}, to)
		rd.flags &^= unsaid
	}
	if more {
		sh.catchUp(i, rd)
		return
	}
	sh.goLive(i, rd)
}

// goLive has a reader that came to the head follow what is handed out, unless
// something past its position was handed out already: then it reads on.
func (sh *shard) goLive(i uint32, rd *reader) {
	if sh.handed > rd.at {
		sh.catchUp(i, rd)
		return
	}
	rd.flags |= live
}
