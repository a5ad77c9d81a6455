package push

import (
	"context"
	"errors"
	"sync"

	"github.com/chappe/chappe/event"
)

// pageEvents is how many events a session that catches up takes at once.
const pageEvents = 256

// session is one connected subscriber, whatever the transport. One goroutine
// calls next; the hub calls offer.
type session struct {
	hub      *Hub
	patterns []event.Pattern
	wake     chan struct{} // has a value when next may have something

	mu     sync.Mutex
	live   bool
	at     event.Cursor // all up to it was queued or taken
	taken  event.Cursor // all up to it was taken: where the client resumes
	queue  []*event.Record
	queued int    // bytes
	stamp  uint64 // of the last ephemeral event offered
	cut    error
}

// errTooSlow cuts a session whose queue overflowed with ephemeral events.
var errTooSlow = errors.New("too-slow")

// open adds a session where the subscription wants to continue.
func (h *Hub) open(sub *subscription) *session {
	s := &session{hub: h, patterns: sub.patterns, at: sub.after, wake: make(chan struct{}, 1)}
	if sub.now {
		s.at = h.reader.Head()
	}
	s.taken = s.at
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range s.patterns {
		h.trie.add(p, s)
	}
	h.follow(s.patterns, +1)
	return s
}

func (h *Hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range s.patterns {
		h.trie.remove(p, s)
	}
	h.follow(s.patterns, -1)
}

// offer queues an event, if s is live and does not have it yet. Ephemeral
// events are queued even while s catches up: there is no second chance.
func (s *session) offer(r *event.Record, stamp uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Cursor.IsZero() {
		s.offerEphemeral(r, stamp)
		return
	}
	if !s.live || r.Cursor.Seq <= s.at.Seq {
		return
	}
	if s.full(r) {
		s.live = false // it catches up from s.at once its queue is taken
		return
	}
	s.at = r.Cursor
	s.push(r)
}

func (s *session) offerEphemeral(r *event.Record, stamp uint64) {
	if stamp == s.stamp {
		return // matched by another of its patterns
	}
	s.stamp = stamp
	if s.full(r) {
		s.cut = errTooSlow
		s.signal()
		return
	}
	s.push(r)
}

// full reports whether r would overflow the queue; a queue takes one event of any size.
func (s *session) full(r *event.Record) bool {
	return s.queued > 0 && s.queued+len(r.JSON) > int(s.hub.options.Limits.Queue)
}

func (s *session) push(r *event.Record) {
	s.queue = append(s.queue, r)
	s.queued += len(r.JSON)
	s.signal()
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next returns what is to be sent, in order, or nothing if s is live and
// waits. A position that is gone is an *event.GoneError; s goes on from the head.
func (s *session) next(ctx context.Context) ([]*event.Record, error) {
	for {
		records, live, err := s.take()
		if len(records) > 0 || live || err != nil {
			return records, err
		}
		page, err := s.hub.reader.Read(ctx, event.Query{Patterns: s.patterns, After: s.position(), Limit: pageEvents})
		if gone, ok := errors.AsType[*event.GoneError](err); ok {
			s.moveTo(gone.Head)
			return nil, gone
		}
		if err != nil {
			return nil, err
		}
		s.moveTo(page.Cursor)
		if !page.More {
			s.hub.join(s)
		}
		if len(page.Records) > 0 {
			return page.Records, nil
		}
	}
}

// take empties the queue.
func (s *session) take() (records []*event.Record, live bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		return nil, false, s.cut
	}
	records, s.queue, s.queued = s.queue, nil, 0
	s.taken = s.at
	return records, s.live, nil
}

// position is where a client resumes that was sent what next returned. What
// still waits in the queue lies after it.
func (s *session) position() event.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// moveTo is for a session that is not live.
func (s *session) moveTo(at event.Cursor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.taken = at, at
}

// join makes s live, unless something past its position was handed out
// already: then it goes on catching up.
func (h *Hub) join(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = h.handed <= s.at.Seq
}

// idlePosition is how far a session that has nothing to send has come: for a
// live one that is as far as events were handed out.
func (h *Hub) idlePosition(s *session) event.Cursor {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && len(s.queue) == 0 {
		s.at.Seq = max(s.at.Seq, h.handed)
		s.taken = s.at
	}
	return s.taken
}
