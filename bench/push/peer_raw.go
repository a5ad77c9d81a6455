package main

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// raw is the limit: sockets and one write(2) to each by one thread, whatever
// the topic. It is no server: it never reads again, and forgets nobody.
type raw struct {
	mu    sync.Mutex
	files []*os.File
	fds   []int
}

func newRaw() *raw { return &raw{} }

func (p *raw) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := p.take(conn.(*net.TCPConn)); err != nil {
			return err
		}
	}
}

// take lets a connection in and keeps its descriptor alone.
func (p *raw) take(conn *net.TCPConn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := (ws.Upgrader{}).Upgrade(conn); err != nil {
		return nil // a client that gave up
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files = append(p.files, file) // or it is closed with the garbage
	p.fds = append(p.fds, int(file.Fd()))
	return unix.SetNonblock(int(file.Fd()), true)
}

func (p *raw) publish(_ string, payload []byte) {
	frame, err := ws.CompileFrame(ws.NewTextFrame(payload))
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.fds {
		_, _ = unix.Write(fd, frame) // a lost message shows at the client
	}
}
