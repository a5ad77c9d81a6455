package loop

// Write sends b, or keeps a copy of what the socket does not take. It is in
// order with all other writes.
func (l *Loop) Write(c Conn, b []byte) { l.write(c, b, false) }

// WriteShared is Write for bytes that nobody changes any more: what the socket
// does not take is kept without a copy, however many connections it is for.
func (l *Loop) WriteShared(c Conn, b []byte) { l.write(c, b, true) }

// Later is WriteShared at the end of the turn, together with what comes until
// then.
func (l *Loop) Later(c Conn, b []byte) {
	e := l.entry(c)
	if e == nil || e.flags&ending != 0 {
		return
	}
	if c == l.corked {
		l.uncork()
	}
	x := l.extraOf(e)
	if x.pipe != nil || x.tls != nil {
		l.write(c, b, true)
		return
	}
	l.keep(x, b)
	if e.flags&dirty == 0 && !x.blocked {
		e.flags |= dirty
		l.dirty[0] = append(l.dirty[0], c)
	}
}

// Cork has what the owner writes to c go out at once, when the owner is done
// with what it was called for.
func (l *Loop) Cork(c Conn) {
	l.uncork()
	l.corked = c
}

func (l *Loop) uncork() {
	if l.corked == 0 {
		return
	}
	c, b := l.corked, l.cork
	l.corked, l.cork = 0, l.cork[:0]
	l.write(c, b, false)
}

// Flushed writes what is corked and reports whether no output waits: the
// connection can be lent then.
func (l *Loop) Flushed(c Conn) bool {
	if c == l.corked {
		l.uncork()
	}
	return l.Pending(c) == 0
}

// Pending is how many bytes wait for the socket to take them.
func (l *Loop) Pending(c Conn) int {
	e := l.entry(c)
	if e == nil || e.extra == 0 {
		return 0
	}
	x := l.extras[e.extra]
	if x.pipe != nil {
		return x.pipe.pending()
	}
	return x.bytes
}

func (l *Loop) write(c Conn, b []byte, shared bool) {
	e := l.entry(c)
	if e == nil || len(b) == 0 || e.flags&ending != 0 {
		return
	}
	if c == l.corked {
		if len(l.cork)+len(b) <= maxCork {
			l.cork = append(l.cork, b...)
			return
		}
		l.uncork() // it would be copied for nothing
		l.write(c, b, shared)
		l.corked = c
		return
	}
	if e.extra != 0 {
		x := l.extras[e.extra]
		if x.pipe != nil {
			x.pipe.write(b, shared)
			return
		}
		if x.tls != nil {
			l.writeTLS(c, e, x, b)
			return
		}
	}
	l.writeRaw(c, e, b, shared)
}

// writeRaw sends what goes over the wire as it is.
func (l *Loop) writeRaw(c Conn, e *entry, b []byte, shared bool) {
	n := 0
	if e.extra == 0 || l.extras[e.extra].bytes == 0 {
		var err error
		if n, err = writeSocket(int(e.fd), b); err != nil {
			l.fail(c, err)
			return
		}
		if n == len(b) {
			return
		}
		l.block(c, e)
	}
	rest := b[n:]
	if !shared {
		rest = append([]byte(nil), rest...)
	}
	l.keep(l.extraOf(e), rest)
}

func (l *Loop) keep(x *extra, b []byte) {
	x.queue = append(x.queue, b)
	x.bytes += len(b)
	l.queued.Add(int64(len(b)))
}

// block waits for the socket to take more.
func (l *Loop) block(c Conn, e *entry) {
	l.watchOutput(c, e)
	x := l.extraOf(e)
	x.blocked, x.moved = true, l.wheel.now
	l.pending[e.extra] = c
}

// flush writes what waits, in as few calls as may be.
func (l *Loop) flush(c Conn, e *entry) {
	e.flags &^= dirty
	if e.extra == 0 {
		return
	}
	x := l.extras[e.extra]
	for x.bytes > 0 {
		n, err := writeSocket(int(e.fd), l.gather(x))
		if err != nil {
			l.fail(c, err)
			return
		}
		if n == 0 {
			if !x.blocked {
				l.block(c, e)
			}
			return
		}
		l.queued.Add(-int64(n))
		x.took(n)
		x.moved = l.wheel.now
	}
	l.flushed(c, e, x)
}

func (l *Loop) flushed(c Conn, e *entry, x *extra) {
	x.blocked = false
	delete(l.pending, e.extra)
	if x.tls == nil && x.lent == nil {
		l.dropExtra(e)
	}
	if e.flags&ending != 0 {
		l.shut(c, e)
		return
	}
	l.guard(c, func() { l.owners[e.owner].Drained(c, e.data) })
	if e := l.entry(c); e != nil && e.flags&(paused|hangup) == paused|hangup {
		l.readLater(c, e)
	}
}

// gather is what is next to be written: the first piece, or several small
// ones copied together.
func (l *Loop) gather(x *extra) []byte {
	first := x.queue[0][x.gone:]
	if len(x.queue) == 1 || len(first) >= cap(l.scratch)/2 {
		return first
	}
	b := append(l.scratch[:0], first...)
	for _, next := range x.queue[1:] {
		if len(b)+len(next) > cap(b) {
			break
		}
		b = append(b, next...)
	}
	return b
}

// took removes n bytes from the queue's beginning.
func (x *extra) took(n int) {
	x.bytes -= n
	n += x.gone
	taken := 0
	for taken < len(x.queue) && n >= len(x.queue[taken]) {
		n -= len(x.queue[taken])
		taken++
	}
	rest := copy(x.queue, x.queue[taken:])
	clear(x.queue[rest:])
	x.queue, x.gone = x.queue[:rest], n
}
