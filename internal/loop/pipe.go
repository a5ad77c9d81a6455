package loop

import (
	"context"
	"io"
	"sync"
)

// Pipe is a connection that somebody else reads and writes: net/http. Its
// methods may be called by any goroutine.
type Pipe struct {
	loop *Loop
	conn Conn

	mu     sync.Mutex
	queue  [][]byte
	bytes  int  // that were given and are not written
	ended  bool // there will be no more
	wakeup chan struct{}
}

// OpenPipe makes a connection of the owner's, on the loop.
func (l *Loop) OpenPipe(owner OwnerID, data uint32) (Conn, *Pipe) {
	c, e := l.add(-1, owner, data)
	p := &Pipe{loop: l, conn: c, wakeup: make(chan struct{}, 1)}
	l.extraOf(e).pipe = p
	return c, p
}

// Next returns what is to be written, waiting for it. It is io.EOF when the
// loop has ended the connection, or the context's error.
func (p *Pipe) Next(ctx context.Context) ([][]byte, error) {
	for {
		p.mu.Lock()
		queue, ended := p.queue, p.ended
		p.queue = nil
		p.mu.Unlock()
		if len(queue) > 0 {
			return queue, nil
		}
		if ended {
			return nil, io.EOF
		}
		select {
		case <-p.wakeup:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Wrote says that n bytes of what Next returned are written.
func (p *Pipe) Wrote(n int) {
	p.mu.Lock()
	p.bytes -= n
	drained := p.bytes == 0 && !p.ended
	p.mu.Unlock()
	if !drained {
		return
	}
	p.loop.Post(func() {
		if e := p.loop.entry(p.conn); e != nil {
			p.loop.guard(p.conn, func() { p.loop.owners[e.owner].Drained(p.conn, e.data) })
		}
	})
}

// Input hands over what the peer has sent, and returns when it is dealt with.
func (p *Pipe) Input(ctx context.Context, b []byte) {
	done := make(chan struct{})
	p.loop.Post(func() {
		defer close(done)
		if e := p.loop.entry(p.conn); e != nil {
			p.loop.guard(p.conn, func() { p.loop.owners[e.owner].Input(p.conn, e.data, b) })
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Gone says that the peer is gone.
func (p *Pipe) Gone(err error) {
	p.loop.Post(func() { p.loop.drop(p.conn, err) })
}

func (p *Pipe) write(b []byte, shared bool) {
	if !shared {
		b = append([]byte(nil), b...)
	}
	p.mu.Lock()
	p.queue = append(p.queue, b)
	p.bytes += len(b)
	p.mu.Unlock()
	p.signal()
}

func (p *Pipe) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

func (p *Pipe) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.signal()
}

func (p *Pipe) signal() {
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}
