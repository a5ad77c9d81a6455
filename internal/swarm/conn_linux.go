package swarm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// attempt begins to connect.
func (l *loop) attempt(j int) {
	c := &l.conns[j]
	if c.state == waiting {
		l.counts.Waiting--
	}
	c.attempt++
	c.attempts++
	l.counts.Attempts++
	l.counts.Connecting++
	c.state, c.chunkState, c.chunk = dialing, 0, 0
	c.told, c.streamRetry, c.silence, c.flags = 0, 0, 0, c.flags&(met|connected)
	c.due = l.now + int64(l.options.AttemptTime)
	if err := l.dial(j, c); err != nil {
		l.finish(j, lost, "connect: "+err.Error())
	}
}

func (l *loop) dial(j int, c *conn) error {
	o := l.options
	address := o.Target.Addr().Unmap()
	family := unix.AF_INET6
	if address.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.fd = int32(fd)
	if o.Sources.IsValid() {
		if err := l.bind(j, fd); err != nil {
			return err
		}
	}
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(o.Target.Port()), Addr: address.As16()}
	if address.Is4() {
		to = &unix.SockaddrInet4{Port: int(o.Target.Port()), Addr: address.As4()}
	}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(j)})
}

// bind gives the connection its source address and leaves the port until it
// connects, when it need not be free for other targets too.
func (l *loop) bind(j, fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	base := l.options.Sources.Masked().Addr().As4()
	from := binary.BigEndian.Uint32(base[:]) + 1 + uint32(l.global(j)/l.options.PerSource)
	var source unix.SockaddrInet4
	binary.BigEndian.PutUint32(source.Addr[:], from)
	return unix.Bind(fd, &source)
}

// ready is called with what epoll says of connection j.
func (l *loop) ready(j int, events uint32) {
	c := &l.conns[j]
	if c.fd < 0 {
		return
	}
	if c.state == dialing && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if err := l.ask(j, c); err != nil {
			l.finish(j, lost, "connect: "+err.Error())
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		l.read(j, c)
	}
}

// ask sends the request of a connection that is made.
func (l *loop) ask(j int, c *conn) error {
	failure, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if failure != 0 {
		return unix.Errno(failure)
	}
	o, i := l.options, l.global(j)
	l.out = appendRequest(l.out[:0], o.Transport, o.Target, o.Request(i), c.cursor, key(i, c.attempt))
	n, err := unix.Write(int(c.fd), l.out)
	if err != nil {
		return err
	}
	if n < len(l.out) {
		return io.ErrShortWrite // a fresh socket takes any sensible request
	}
	c.state = asking
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, int(c.fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(j)})
}

// read takes what there is, and keeps what is not whole yet.
func (l *loop) read(j int, c *conn) {
	kept := copy(l.buffer, c.partial)
	n, err := unix.Read(int(c.fd), l.buffer[kept:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil:
		l.finish(j, lost, "read: "+err.Error())
		return
	case n == 0:
		l.finish(j, lost, "closed without a word")
		return
	}
	if c.silence > 0 {
		c.due = l.now + int64(milliseconds(c.silence))
	}
	b := l.buffer[:kept+n]
	if c.is(isFramed) {
		fresh, err := c.unframe(b[kept:])
		if err != nil {
			l.finish(j, lost, err.Error())
			return
		}
		b = b[:kept+len(fresh)]
	}
	rest, w, err := l.take(j, c, b)
	if err != nil {
		l.finish(j, w, err.Error())
		return
	}
	if c.partial = append(c.partial[:0], rest...); len(rest) == 0 {
		c.partial = nil
	}
	if c.fd >= 0 && c.chunkState == bodyOver {
		l.finish(j, lost, "the stream ended") // its connection may be kept
	}
}

// take handles what is whole of b and returns the rest, or why it is the end.
func (l *loop) take(j int, c *conn, b []byte) ([]byte, why, error) {
	if c.state == asking {
		size, w, err := l.answer(j, c, b)
		if err != nil || size == 0 {
			return b, w, err
		}
		fresh := b[size:]
		if c.is(isFramed) {
			if fresh, err = c.unframe(fresh); err != nil {
				return nil, lost, err
			}
		}
		b = fresh
	}
	if l.options.Transport == SSE {
		return l.takeStream(c, b)
	}
	return l.takeFrames(j, c, b)
}

// answer checks the answer to the request.
func (l *loop) answer(j int, c *conn, b []byte) (size int, w why, err error) {
	a, size, err := readAnswer(b)
	if err != nil || size == 0 {
		return 0, lost, err
	}
	if l.options.Transport == WebSocket {
		i := l.global(j)
		proof := accept(key(i, c.attempt))
		switch {
		case a.status != 101:
			return 0, lost, errors.New("refused: " + strconv.Itoa(a.status)) // a browser does not tell why
		case !bytes.Equal(a.accept, proof[:]):
			return 0, lost, errors.New("wrong Sec-WebSocket-Accept")
		}
	} else {
		switch {
		case a.status != 200:
			c.told = a.retryAfter * 1000
			if a.status == 410 {
				c.cursor = c.cursor[:0] // RFC 9457 cursor-gone: from now on
			}
			return 0, finality(a.status), errors.New("refused: " + strconv.Itoa(a.status))
		case !bytes.HasPrefix(a.contentType, []byte("text/event-stream")):
			return 0, refused, errors.New("not an event stream")
		}
		c.body(a)
	}
	c.state = answered
	if !l.options.Greeted {
		l.live(c)
	}
	return size, lost, nil
}

// body notes how the end of a stream is told; one that is told by neither
// ends with its connection.
func (c *conn) body(a answer) {
	switch {
	case a.chunked:
		c.flags |= isFramed
	case a.measured && a.length == 0:
		c.flags |= isFramed
		c.chunkState = bodyOver
	case a.measured:
		c.flags |= isFramed
		c.chunkState, c.chunk = bodyData, a.length
	}
}

// finality is chappe.js's: which answers another attempt cannot change.
func finality(status int) why {
	switch status {
	case 408, 410, 425, 429:
		return lost
	}
	if status >= 400 && status < 500 {
		return refused
	}
	return lost
}

func (l *loop) live(c *conn) {
	if c.state == live {
		return
	}
	c.state, c.tries, c.due = live, 0, 0
	if c.silence > 0 {
		c.due = l.now + int64(milliseconds(c.silence))
	}
	l.counts.Connecting--
	l.counts.Live++
	if !c.is(connected) {
		c.flags |= connected
		l.underWay--
		l.counts.Connected++
		l.lastConnected = max(l.lastConnected, l.now)
	}
	c.back = l.now - l.marked
	l.back.Record(time.Duration(c.back))
}

// drop closes the descriptor.
func (l *loop) drop(c *conn) {
	_ = unix.Close(int(c.fd)) // which takes it out of the epoll
	delete(l.fragments, c.fd)
	c.fd, c.partial = -1, nil
}

// finish ends a connection or an attempt, and asks the policy what is next.
func (l *loop) finish(j int, w why, text string) {
	c := &l.conns[j]
	if c.fd >= 0 {
		l.drop(c)
	}
	l.reason(text)
	if c.state == live {
		l.counts.Live--
		l.counts.Ended++
		if slot := (l.now - l.marked) / int64(endSlot); slot >= 0 && slot < endSlots {
			l.ends[slot]++
		}
	} else {
		l.counts.Connecting--
	}
	delay := l.options.delay(c, w, l.random.Float64)
	if delay >= 0 {
		c.state, c.due = waiting, max(1, l.now+int64(delay))
		l.counts.Waiting++
		return
	}
	if c.state, c.due = ended, 0; !c.is(connected) {
		l.underWay--
		l.counts.Failed++
	}
}

// write sends a frame. What the socket does not take at once is the end of it:
// a swarm says little, so the server does not read.
func (l *loop) write(j int, op byte, payload []byte) bool {
	c := &l.conns[j]
	l.out = appendFrame(l.out[:0], op, payload, l.random.Uint32())
	n, err := unix.Write(int(c.fd), l.out)
	if err != nil || n < len(l.out) {
		l.finish(j, lost, "write: the server takes nothing")
		return false
	}
	return true
}
