package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// gobwas is where "A million WebSockets and Go" arrives: the upgrade without
// net/http and copies, one epoll that wakes a few goroutines, net.Conn kept.
type gobwas struct {
	hub[net.Conn]
	epoll int

	mu    sync.Mutex
	conns map[int32]gobwasConn
}

type gobwasConn struct {
	net.Conn
	topic string
}

const gobwasWorkers = 4

func newGobwas() *gobwas { return &gobwas{conns: map[int32]gobwasConn{}} }

func (p *gobwas) serve(l net.Listener) (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	failed := make(chan error, 2*gobwasWorkers)
	ready := make(chan int32, 128)
	for range gobwasWorkers { // all of them until the process ends
		go func() { failed <- p.accept(l) }()
		go func() { failed <- p.read(ready) }()
	}
	go func() { failed <- p.wait(ready) }()
	return <-failed
}

func (p *gobwas) accept(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		topic, err := p.upgrade(conn)
		if err != nil {
			_ = conn.Close() // there is nobody to tell
			continue
		}
		if err := p.watch(gobwasConn{conn, topic}); err != nil {
			return err
		}
		p.join(topic, conn)
	}
}

func (p *gobwas) upgrade(conn net.Conn) (topic string, err error) {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	upgrader := ws.Upgrader{OnRequest: func(uri []byte) error {
		u, err := url.ParseRequestURI(string(uri))
		if err == nil {
			topic = u.Query().Get("topic")
		}
		return err
	}}
	if _, err := upgrader.Upgrade(conn); err != nil {
		return "", err
	}
	return topic, conn.SetDeadline(time.Time{})
}

func (p *gobwas) watch(c gobwasConn) error {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) {
		p.mu.Lock()
		p.conns[int32(fd)] = c
		p.mu.Unlock()
		err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)})
	})
	if failed != nil {
		return failed
	}
	return err
}

func (p *gobwas) wait(ready chan<- int32) error {
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			ready <- e.Fd
		}
	}
}

// read takes one frame of each connection that has one.
func (p *gobwas) read(ready <-chan int32) error {
	for fd := range ready {
		p.mu.Lock()
		c := p.conns[fd]
		p.mu.Unlock()
		head, err := ws.ReadHeader(c)
		if err == nil {
			_, err = io.CopyN(io.Discard, c, head.Length)
		}
		if err == nil && head.OpCode != ws.OpClose {
			err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: fd})
		}
		if err != nil || head.OpCode == ws.OpClose {
			p.mu.Lock()
			delete(p.conns, fd) // before another connection may have its number
			p.mu.Unlock()
			p.leave(c.topic, c.Conn)
			_ = c.Close() // there is nobody to tell
		}
	}
	return nil
}

func (p *gobwas) publish(topic string, payload []byte) {
	frame, err := ws.CompileFrame(ws.NewTextFrame(payload))
	if err != nil {
		return
	}
	p.each(topic, func(c net.Conn) {
		_, _ = c.Write(frame) // a failed one shows in the epoll
	})
}
