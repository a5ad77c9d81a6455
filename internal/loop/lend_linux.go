//go:build linux && !nethttp

package loop

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Lent is a socket in the hands of goroutines: a net.Conn that blocks. It is
// given back by Return or ended by Close.
type Lent struct {
	Remote net.Addr // answers RemoteAddr, where it is set before the first use

	loop *Loop
	conn Conn
	fd   int
	turn [2]sync.Mutex    // one reads, and one writes, at a time
	wake [2]chan struct{} // the reader's, the writer's

	mu       sync.RWMutex // held by whoever uses fd, which never blocks
	over     bool
	deadline [2]time.Time
}

const (
	reading = iota
	writing
)

// Lend takes the connection off the loop. Nothing may wait to be written to
// it, as Flushed tells.
func (l *Loop) Lend(c Conn) *Lent {
	e := l.entry(c)
	if e == nil || e.fd < 0 || l.waits(e) {
		return nil
	}
	t := &Lent{loop: l, conn: c, fd: int(e.fd), wake: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}}
	l.watchOutput(c, e)
	x := l.extraOf(e)
	x.lent = t
	if x.tls != nil {
		x.tls.below.Conn = t
	}
	return t
}

// Secure lends the connection out for a TLS handshake, which begins with what
// came already and may take limit, and calls done on another goroutine when it is over. Return
// then makes the loop encrypt: Input gives, and Write takes, what is inside.
func (l *Loop) Secure(c Conn, config *tls.Config, ahead []byte, gate Gate, limit time.Duration, done func(*tls.Conn, *Lent, error)) {
	e := l.entry(c)
	if e == nil || e.fd < 0 {
		return
	}
	b := &below{loop: l, c: c, ahead: bytes.Clone(ahead), gate: gate}
	conn := tls.Server(b, config)
	l.extraOf(e).tls = &session{conn: conn, below: b}
	lent := l.Lend(c)
	end := time.Now().Add(limit)
	_ = lent.SetDeadline(end) // it is open
	go func() {               // ends with the handshake, at the limit at the latest
		gate.enter()
		err := os.ErrDeadlineExceeded // at the gate: not worth computing any more
		if time.Now().Before(end) {
			err = conn.Handshake()
		}
		gate.leave()
		b.gate = nil
		_ = lent.SetDeadline(time.Time{}) // it may have been closed
		done(conn, lent, err)
	}()
}

// TLS is the connection's encrypted inside, nil if it is not encrypted.
func (l *Loop) TLS(c Conn) *tls.Conn {
	if e := l.entry(c); e != nil && e.extra != 0 && l.extras[e.extra].tls != nil {
		return l.extras[e.extra].tls.conn
	}
	return nil
}

// Return gives the connection back to its owner and then calls f, on the loop.
func (t *Lent) Return(f func()) {
	if !t.finish() {
		return
	}
	t.loop.Post(func() {
		e := t.loop.entry(t.conn)
		if e == nil {
			return
		}
		x := t.loop.extras[e.extra]
		x.lent = nil
		if x.tls != nil {
			x.tls.below.Conn = nil
		} else {
			t.loop.dropExtra(e)
		}
		t.loop.guard(t.conn, f)
		if e := t.loop.entry(t.conn); e != nil {
			t.loop.readLater(t.conn, e)
		}
	})
}

// Close ends the connection.
func (t *Lent) Close() error {
	if !t.finish() {
		return net.ErrClosed
	}
	t.loop.Post(func() { t.loop.Close(t.conn) })
	return nil
}

// finish keeps everybody off the descriptor, which may soon be another's.
func (t *Lent) finish() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.over = true
	t.poke()
	return true
}

// CloseWrite ends our side of the connection.
func (t *Lent) CloseWrite() error {
	_, err := t.use(writing, func() (int, error) { return 0, unix.Shutdown(t.fd, unix.SHUT_WR) })
	return err
}

// Read implements net.Conn.
func (t *Lent) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t.turn[reading].Lock()
	defer t.turn[reading].Unlock()
	for {
		n, err := t.use(reading, func() (int, error) { return readSocket(t.fd, b) })
		switch {
		case err == syscall.EAGAIN: //nolint:errorlint // it is an errno, unwrapped
			t.wait(reading)
		case n == 0 && err == nil:
			return 0, io.EOF
		default:
			return n, err
		}
	}
}

// Write implements net.Conn.
func (t *Lent) Write(b []byte) (written int, err error) {
	t.turn[writing].Lock()
	defer t.turn[writing].Unlock()
	for written < len(b) {
		n, err := t.use(writing, func() (int, error) { return writeSocket(t.fd, b[written:]) })
		if err != nil {
			return written, err
		}
		if written += n; n == 0 {
			t.wait(writing)
		}
	}
	return written, nil
}

func (t *Lent) use(side int, call func() (int, error)) (int, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.over {
		return 0, net.ErrClosed
	}
	if d := t.deadline[side]; !d.IsZero() && !time.Now().Before(d) {
		return 0, os.ErrDeadlineExceeded
	}
	return call()
}

// wait returns when the socket may be ready, or the deadline has come or changed.
func (t *Lent) wait(side int) {
	t.mu.RLock()
	deadline := t.deadline[side]
	t.mu.RUnlock()
	if deadline.IsZero() {
		<-t.wake[side]
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-t.wake[side]:
	case <-timer.C:
	}
}

// Sleep returns an error when the read deadline has come or the connection is
// over; before that it returns now and then.
func (t *Lent) Sleep() error {
	t.turn[reading].Lock()
	defer t.turn[reading].Unlock()
	_, err := t.use(reading, func() (int, error) { return 0, nil })
	if err == nil {
		t.wait(reading)
	}
	return err
}

// poke has whoever waits look again.
func (t *Lent) poke() {
	for _, w := range t.wake {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// SetDeadline implements net.Conn.
func (t *Lent) SetDeadline(d time.Time) error {
	_ = t.SetReadDeadline(d)
	return t.SetWriteDeadline(d)
}

// SetReadDeadline implements net.Conn.
func (t *Lent) SetReadDeadline(d time.Time) error { return t.setDeadline(reading, d) }

// SetWriteDeadline implements net.Conn.
func (t *Lent) SetWriteDeadline(d time.Time) error { return t.setDeadline(writing, d) }

func (t *Lent) setDeadline(side int, d time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return net.ErrClosed
	}
	t.deadline[side] = d
	t.poke()
	return nil
}

// LocalAddr implements net.Conn.
func (t *Lent) LocalAddr() net.Addr { return t.address(unix.Getsockname) }

// RemoteAddr implements net.Conn.
func (t *Lent) RemoteAddr() net.Addr {
	if t.Remote != nil {
		return t.Remote
	}
	return t.address(unix.Getpeername)
}

func (t *Lent) address(get func(fd int) (unix.Sockaddr, error)) net.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.over {
		return &net.TCPAddr{}
	}
	sa, err := get(t.fd)
	if err != nil { // the peer is gone
		return &net.TCPAddr{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	return &net.TCPAddr{}
}
