package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// session is TLS over a connection of the loop. Crypto/tls can go on after a
// Read that had a temporary error, so a session needs no goroutine to wait in
// one; it cannot after a failed Write, so the one below it never fails.
type session struct {
	conn  *tls.Conn
	below *below
}

// below is what crypto/tls reads from and writes to: the socket, or whoever it
// is lent to.
type below struct {
	net.Conn // of the borrower; nil on the loop
	loop     *Loop
	c        Conn
	ahead    []byte // came before TLS was begun
	gate     Gate   // of the handshake, nil after it
}

// Gate bounds how many handshakes compute at once. None is held while the
// client is waited for.
type Gate chan struct{}

func (g Gate) enter() {
	if g != nil {
		g <- struct{}{}
	}
}

func (g Gate) leave() {
	if g != nil {
		<-g
	}
}

// Ungated has f not count among the handshakes that compute: it may wait for
// others. Conn is tls.ClientHelloInfo's.
func Ungated(conn net.Conn, f func()) {
	if b, ok := conn.(*below); ok {
		b.gate.leave()
		defer b.gate.enter()
	}
	f()
}

// errAgain is a net.Error after which crypto/tls goes on.
type errAgain struct{}

func (errAgain) Error() string   { return "nothing has come yet" }
func (errAgain) Timeout() bool   { return true }
func (errAgain) Temporary() bool { return true }

func (b *below) Read(p []byte) (int, error) {
	if len(b.ahead) > 0 {
		n := copy(p, b.ahead)
		b.ahead = b.ahead[n:]
		return n, nil
	}
	b.ahead = nil
	if b.Conn != nil {
		b.gate.leave()
		defer b.gate.enter()
		return b.Conn.Read(p)
	}
	e := b.loop.entry(b.c)
	if e == nil {
		return 0, net.ErrClosed
	}
	return b.loop.readBelow(e, p)
}

func (b *below) Write(p []byte) (int, error) {
	if b.Conn != nil {
		b.gate.leave()
		defer b.gate.enter()
		return b.Conn.Write(p)
	}
	e := b.loop.entry(b.c)
	if e == nil {
		return 0, net.ErrClosed
	}
	b.loop.writeRaw(b.c, e, p, false)
	return len(p), nil
}

func (b *below) Close() error {
	if b.Conn != nil {
		return b.Conn.Close()
	}
	return nil // the loop closes it
}

// Crypto/tls sets deadlines only where it is asked to, and around its close
// notification.
func (b *below) SetDeadline(t time.Time) error { return b.deadline(t, net.Conn.SetDeadline) }

func (b *below) SetReadDeadline(t time.Time) error { return b.deadline(t, net.Conn.SetReadDeadline) }

func (b *below) SetWriteDeadline(t time.Time) error { return b.deadline(t, net.Conn.SetWriteDeadline) }

func (b *below) deadline(t time.Time, set func(net.Conn, time.Time) error) error {
	if b.Conn == nil {
		return nil
	}
	return set(b.Conn, t)
}

// read decrypts what has come.
func (s *session) read(p []byte) (n int, more bool, err error) {
	n, err = s.conn.Read(p)
	switch _, again := errors.AsType[errAgain](err); {
	case again:
		return 0, false, nil
	case err != nil:
		return 0, false, orEOF(err)
	}
	return n, true, nil
}

func orEOF(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) { // cut without a close notification
		return io.EOF
	}
	return err
}

// writeTLS encrypts b for one connection.
func (l *Loop) writeTLS(c Conn, _ *entry, x *extra, b []byte) {
	if _, err := x.tls.conn.Write(b); err != nil {
		l.fail(c, err)
	}
}
