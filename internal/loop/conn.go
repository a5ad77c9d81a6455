package loop

import (
	"errors"
	"io"
	"time"
)

// entry is what the loop knows of a connection. It has no pointers.
type entry struct {
	generation uint32
	fd         int32  // -1: a pipe
	data       uint32 // the owner's
	extra      uint32 // index of what it has besides; 0: nothing
	next, prev uint32 // in its slot of the wheel
	due        uint32 // tick of its deadline; 0: none
	owner      OwnerID
	flags      uint16
}

const (
	paused     = 1 << iota // its input waits
	again                  // it is in Loop.again
	dirty                  // it is in Loop.dirty
	ending                 // it ends when its output is written
	broken                 // it is in Loop.failed
	hangup                 // the peer has ended it, or it broke: there is no input after what is there
	registered             // epoll tells of it
	watched                // also when its socket takes more
)

// extra is what a connection has only while it needs it.
type extra struct {
	queue   [][]byte // output, in order
	gone    int      // bytes of queue[0] that are written
	bytes   int      // of the queue that are not
	moved   uint64   // tick at which some were last written
	blocked bool     // the socket did not take all
	pipe    *Pipe
	lent    *Lent
	tls     *session
}

// entry is what there is of a connection that can still be used.
func (l *Loop) entry(c Conn) *entry {
	if e := l.find(c); e != nil && e.flags&broken == 0 {
		return e
	}
	return nil
}

// find is entry for broken connections too, whose owner has not been told yet.
func (l *Loop) find(c Conn) *entry {
	if !l.entries.Has(c.index()) {
		return nil
	}
	if e := l.entries.At(c.index()); e.generation == c.generation() {
		return e
	}
	return nil
}

// add makes a connection of the owner's.
func (l *Loop) add(fd int, owner OwnerID, data uint32) (Conn, *entry) {
	i := l.entries.Add()
	e := l.entries.At(i)
	if e.generation == 0 {
		e.generation = 1 // so that no Conn is 0
	}
	e.fd, e.owner, e.data = int32(fd), owner, data
	l.count.Add(1)
	return newConn(i, e.generation), e
}

// release forgets a connection and closes its socket.
func (l *Loop) release(c Conn, e *entry) {
	l.wheel.remove(&l.entries, c.index(), e)
	l.dropExtra(e)
	if e.fd >= 0 {
		closeSocket(int(e.fd))
	}
	generation := e.generation + 1
	l.entries.Remove(c.index())
	e.generation = max(1, generation)
	l.count.Add(-1)
}

func (l *Loop) extraOf(e *entry) *extra {
	if e.extra == 0 {
		if n := len(l.spare); n > 0 {
			e.extra = l.spare[n-1]
			l.spare = l.spare[:n-1]
		} else {
			e.extra = uint32(len(l.extras))
			l.extras = append(l.extras, new(extra))
		}
	}
	return l.extras[e.extra]
}

func (l *Loop) dropExtra(e *entry) {
	if e.extra == 0 {
		return
	}
	x := l.extras[e.extra]
	l.queued.Add(-int64(x.bytes))
	delete(l.pending, e.extra)
	if x.pipe != nil {
		x.pipe.end()
	}
	if x.lent != nil {
		x.lent.finish()
	}
	clear(x.queue)
	*x = extra{queue: x.queue[:0]}
	if cap(x.queue) > 64 {
		x.queue = nil
	}
	l.spare = append(l.spare, e.extra)
	e.extra = 0
}

// Give hands the connection to another owner.
func (l *Loop) Give(c Conn, owner OwnerID, data uint32) {
	if e := l.find(c); e != nil {
		e.owner, e.data = owner, data
	}
}

// Alive reports whether the connection is there. One that broke while it was
// written to is not, though its owner has not been told yet.
func (l *Loop) Alive(c Conn) bool { return l.entry(c) != nil }

// Wake has the owner's Timeout called in d, in place of what was set before. 0
// is never.
func (l *Loop) Wake(c Conn, d time.Duration) { l.wakeAt(c, d, l.wheel.after(d)) }

// WakeLazily is Wake, up to 200 ms later, with others: many idle connections
// then cost the loop few turns.
func (l *Loop) WakeLazily(c Conn, d time.Duration) { l.wakeAt(c, d, l.wheel.lazily(d)) }

func (l *Loop) wakeAt(c Conn, d time.Duration, due uint32) {
	e := l.entry(c)
	switch {
	case e == nil:
	case d <= 0:
		l.wheel.remove(&l.entries, c.index(), e)
	default:
		l.wheel.add(&l.entries, c.index(), e, due)
	}
}

// Pause keeps the connection's input in its socket until Resume. Should the
// peer end it meanwhile, it is closed once it has taken what waits for it.
func (l *Loop) Pause(c Conn) {
	if e := l.entry(c); e != nil {
		e.flags |= paused
	}
}

// Resume goes on reading.
func (l *Loop) Resume(c Conn) {
	if e := l.entry(c); e != nil && e.flags&paused != 0 {
		e.flags &^= paused
		l.readLater(c, e)
	}
}

func (l *Loop) readLater(c Conn, e *entry) {
	if e.flags&again == 0 {
		e.flags |= again
		l.again[0] = append(l.again[0], c)
	}
}

// Inject gives the owner input that came with something else.
func (l *Loop) Inject(c Conn, b []byte) {
	if e := l.entry(c); e != nil && len(b) > 0 {
		l.guard(c, func() { l.owners[e.owner].Input(c, e.data, b) })
	}
}

// Close ends the connection at once; what waits for it is lost. The owner is
// not told.
func (l *Loop) Close(c Conn) {
	if e := l.find(c); e != nil {
		l.release(c, e)
	}
}

// End ends the connection when what waits for it is written, and the peer has
// seen that (or two seconds later): closing a socket with input unread would
// make the peer lose the last words. The owner is told no more.
func (l *Loop) End(c Conn) {
	if c == l.corked {
		l.uncork()
	}
	e := l.find(c)
	if e == nil {
		return
	}
	e.owner, e.data, e.flags = Nobody, 0, e.flags&^paused|ending
	if e.flags&broken != 0 {
		return // closeFailed is about to end it
	}
	if e.fd < 0 {
		l.extraOf(e).pipe.end()
		l.release(c, e)
		return
	}
	if e.extra != 0 && l.extras[e.extra].tls != nil {
		_ = l.extras[e.extra].tls.conn.CloseWrite() // what it writes is only kept
	}
	if l.waits(e) {
		l.Wake(c, endTime)
		return
	}
	l.shut(c, e)
}

// waits reports whether output waits for the socket.
func (l *Loop) waits(e *entry) bool { return e.extra != 0 && l.extras[e.extra].bytes > 0 }

// shut is for a connection that ends and has nothing left to write.
func (l *Loop) shut(c Conn, e *entry) {
	shutSocket(int(e.fd))
	l.Wake(c, lingerTime)
	l.readLater(c, e)
}

// input reads what there is.
func (l *Loop) input(c Conn, e *entry) {
	e.flags &^= again
	for range maxReads {
		switch x := l.extras[e.extra]; {
		case x != nil && x.lent != nil:
			x.lent.poke()
			return
		case e.flags&(paused|hangup) == paused|hangup && !l.waits(e):
			l.drop(c, io.EOF) // nobody waits for what the owner is about to do
			return
		case e.flags&paused != 0:
			return // Resume looks again
		}
		n, more, err := l.read(e, l.buffer)
		if errors.Is(err, io.EOF) && l.waits(e) {
			l.finish(c, e)
			return
		}
		if err != nil {
			l.drop(c, err)
			return
		}
		if e.flags&ending != 0 {
			if e.data += uint32(n); e.data > maxLinger { // which is nobody's by now
				l.release(c, e)
				return
			}
		} else if n > 0 {
			l.guard(c, func() { l.owners[e.owner].Input(c, e.data, l.buffer[:n]) })
		}
		if !more || l.entry(c) == nil {
			return
		}
	}
	l.readLater(c, e)
}

// finish ends a connection whose peer sends no more, but may still take what
// waits for it. Its owner is told that it is closed.
func (l *Loop) finish(c Conn, e *entry) {
	owner, data := l.owners[e.owner], e.data
	if e.flags&ending == 0 {
		l.End(c)
	}
	l.guard(0, func() { owner.Closed(c, data, io.EOF) })
}

// Now is the loop's clock, from an arbitrary beginning. Like the deadlines it
// stands still while the loop does.
func (l *Loop) Now() time.Duration { return time.Duration(l.wheel.now) * tick }
