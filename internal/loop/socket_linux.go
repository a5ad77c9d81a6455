//go:build linux && !nethttp

package loop

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockets says whether this build has loops with sockets of their own.
const Sockets = true

// poller is an epoll instance. Connections are registered once, edge-triggered
// (DESIGN.md says why), under their index and generation.
type poller struct {
	epoll   int
	file    *os.File // of epoll: the scheduler waits for it, so that no thread does
	asleep  atomic.Bool
	events  [256]unix.EpollEvent
	ready   syscall.RawConn
	look    func(uintptr) bool // polls; made once
	came    int                // events, as look saw
	watched map[uint32]func()  // by descriptor: level-triggered, of generation 0

	mu    sync.Mutex
	event int // an eventfd; -1 once the loop has ended
}

// NewPoller makes a loop that has sockets. Run runs it.
func NewPoller(o Options) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	p := &poller{epoll: epoll, event: event, watched: map[uint32]func(){}}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)}); err != nil {
		return nil, fmt.Errorf("watch the eventfd: %w", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil {
		return nil, fmt.Errorf("watch an epoll instance: %w", err)
	}
	p.file = os.NewFile(uintptr(epoll), "epoll")
	if p.ready, err = p.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("watch an epoll instance: %w", err)
	}
	p.look = func(uintptr) bool {
		p.came = p.poll()
		return p.came > 0
	}
	return newLoop(o, p), nil
}

// wake has wait return.
func (p *poller) wake() {
	if !p.asleep.CompareAndSwap(true, false) {
		return
	}
	one := [8]byte{1}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = unix.Write(p.event, one[:]) // it can only be full, which wakes too
}

func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.file.Close()
	_ = unix.Close(p.event)
	p.event = -1 // another's by now
}

// wait returns how many events there are, after d at the latest; never if
// forever.
func (p *poller) wait(d time.Duration, forever bool) (n int) {
	if n = p.poll(); n > 0 || d == 0 && !forever {
		p.asleep.Store(false)
		return n
	}
	deadline := time.Time{}
	if !forever {
		deadline = time.Now().Add(d)
	}
	p.came = 0
	_ = p.file.SetReadDeadline(deadline) // it is open
	_ = p.ready.Read(p.look)             // a deadline is no fault
	p.asleep.Store(false)
	return p.came
}

// poll returns how many events there are now.
func (p *poller) poll() int {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epoll), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EINTR:
			continue
		}
		return 0 // a fault of ours
	}
}

// Run runs the loop until ctx ends; then it drops its connections.
func (l *Loop) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, l.stop)()
	defer close(l.done)
	defer l.closeAll()
	for {
		wait, ok := l.wait()
		l.poller.asleep.Store(true)
		l.mu.Lock()
		stopped := l.stopped
		if len(l.inbox) > 0 {
			wait, ok = 0, true
		}
		l.mu.Unlock()
		if stopped {
			return
		}
		n := l.poller.wait(wait, !ok)
		l.advance()
		for _, e := range l.poller.events[:n] {
			l.dispatch(e.Events, uint32(e.Fd), uint32(e.Pad))
		}
		l.turn()
	}
}

func (l *Loop) stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.poller.wake()
}

func (l *Loop) dispatch(events, index, generation uint32) {
	if generation == 0 {
		if f := l.poller.watched[index]; f != nil {
			l.guard(0, f)
			return
		}
		var b [8]byte
		_, _ = unix.Read(l.poller.event, b[:]) // the wake-up itself is the message
		return
	}
	c := newConn(index, generation)
	e := l.entry(c)
	if e == nil {
		return
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.flags |= hangup // also of one that is lent: it is not told again
	}
	if x := l.extras[e.extra]; x != nil && x.lent != nil {
		x.lent.poke()
		return
	}
	if events&unix.EPOLLOUT != 0 && e.extra != 0 && l.extras[e.extra].blocked {
		l.flush(c, e)
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 && l.entry(c) != nil {
		l.input(c, e)
	}
}

// Watch has f called while the descriptor, a listener, is readable. Of several
// loops that watch it one is woken.
func (l *Loop) Watch(fd int, f func()) error {
	l.poller.watched[uint32(fd)] = f
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(fd)}
	return unix.EpollCtl(l.poller.epoll, unix.EPOLL_CTL_ADD, fd, &e)
}

// Unwatch ends what Watch began.
func (l *Loop) Unwatch(fd int) {
	delete(l.poller.watched, uint32(fd))
	_ = unix.EpollCtl(l.poller.epoll, unix.EPOLL_CTL_DEL, fd, nil) // a closed one is gone already
}

// Add takes a connected, non-blocking socket. Start has it read.
func (l *Loop) Add(fd int, owner OwnerID, data uint32) Conn {
	c, _ := l.add(fd, owner, data)
	return c
}

// Start reads what has come already, and then what comes: most that connect
// have sent their request by now, and are answered without another wake-up.
func (l *Loop) Start(c Conn) error {
	if e := l.entry(c); e != nil {
		l.input(c, e)
	}
	e := l.entry(c)
	if e == nil {
		return nil
	}
	// What comes between that read and this call is reported at once.
	output := uint32(0)
	if e.flags&watched != 0 {
		output = unix.EPOLLOUT
	}
	e.flags |= registered
	if err := l.register(c, e, unix.EPOLL_CTL_ADD, output); err != nil {
		l.fail(c, err)
		return fmt.Errorf("watch a connection: %w", err)
	}
	return nil
}

func (l *Loop) register(c Conn, e *entry, op int, more uint32) error {
	event := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff | more, Fd: int32(c.index()), Pad: int32(c.generation()),
	}
	return unix.EpollCtl(l.poller.epoll, op, int(e.fd), &event)
}

// watchOutput has the loop told when the socket takes more. Most never need
// it: watched from the beginning it would wake the loop for each connection once.
func (l *Loop) watchOutput(c Conn, e *entry) {
	if e.flags&watched != 0 {
		return
	}
	e.flags |= watched
	if e.flags&registered == 0 {
		return
	}
	if err := l.register(c, e, unix.EPOLL_CTL_MOD, unix.EPOLLOUT); err != nil {
		l.fail(c, err)
	}
}

// read returns how many bytes came; more says that there may be others.
func (l *Loop) read(e *entry, b []byte) (n int, more bool, err error) {
	if x := l.extras[e.extra]; x != nil && x.tls != nil {
		return x.tls.read(b)
	}
	n, err = l.readBelow(e, b)
	if err == (errAgain{}) { //nolint:errorlint // it is ours, unwrapped
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	// A short read means that the socket is empty (epoll(7)), unless the end
	// stands behind it: then an event comes, or has come, for that.
	return n, n == len(b) || e.flags&hangup != 0, nil
}

// readBelow reads what goes over the wire as it is.
func (l *Loop) readBelow(e *entry, b []byte) (n int, err error) {
	n, err = readSocket(int(e.fd), b)
	switch {
	case err == syscall.EAGAIN: //nolint:errorlint // it is an errno, unwrapped
		return 0, errAgain{}
	case n == 0 && err == nil:
		return 0, io.EOF
	}
	return n, err
}

func readSocket(fd int, b []byte) (int, error) {
	for {
		if n, err := syscall.Read(fd, b); err != syscall.EINTR {
			return max(0, n), err
		}
	}
}

// writeSocket returns 0 if the socket takes nothing now.
func writeSocket(fd int, b []byte) (int, error) {
	for {
		switch n, err := syscall.Write(fd, b); err {
		case nil:
			return n, nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
			continue
		default:
			return 0, err
		}
	}
}

func closeSocket(fd int) { _ = unix.Close(fd) } // nothing can be done about it

func shutSocket(fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_WR) } // the peer may be gone

// closeAll drops what is left.
func (l *Loop) closeAll() {
	l.entries.All(func(i uint32, e *entry) bool {
		if c := newConn(i, e.generation); e.owner != 0 || e.fd > 0 {
			l.drop(c, context.Canceled)
		}
		return true
	})
	l.closeFailed()
	l.poller.close()
}
