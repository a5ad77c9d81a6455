//go:build linux && !nethttp

package front

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chappe/chappe/internal/loop"
)

const (
	acceptBatch  = 64                     // connections a turn, so that those that are there have theirs
	acceptPause  = 100 * time.Millisecond // when there is no room
	deferSeconds = 1                      // that the kernel keeps a connection to itself which sends nothing
	unackedTime  = 90 * time.Second       // after which a peer that acknowledges nothing is gone (RFC 5482)
)

// arrivals are accepted sockets that another loop brings.
type arrivals struct {
	mu      sync.Mutex
	sockets []arrival
	taken   []arrival
	take    func() // a method value, made once
}

type arrival struct {
	fd   int
	peer netip.AddrPort
}

// socket is a copy of a listener's own, for the loops to accept from. Its
// options are inherited by what is accepted.
func socket(l net.Listener) (fd int, err error) {
	conn, ok := l.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("listen on %s: a %T has no socket", l.Addr(), l)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		failed := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
		err = errors.Join(err, failed)
	}
	if err != nil {
		return -1, fmt.Errorf("listen on %s: %w", l.Addr(), err)
	}
	if _, tcp := l.(*net.TCPListener); tcp {
		// Heartbeats tell who is gone; TCP's own probes would double what an
		// idle connection costs.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTime.Milliseconds()))
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferSeconds)
	}
	return fd, nil
}

// watch accepts from the listener on this loop, for all of them.
func (sd *side) watch(fd int) error {
	return sd.loop.Watch(fd, func() { sd.accept(fd) })
}

func (sd *side) accept(fd int) {
	for range acceptBatch {
		if sd.server.full() {
			sd.pause(fd)
			return
		}
		socket, peer, err := loop.Accept(fd)
		switch err {
		case nil:
			sd.server.least(sd).add(sd, arrival{socket, peer})
		case unix.EAGAIN: //nolint:errorlint // accept4's errno, unwrapped
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			sd.server.metrics.refused.WithLabelValues("no-descriptor").Inc()
			sd.pause(fd)
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			sd.server.options.Logger.Error("accepting failed", "err", err)
			sd.pause(fd)
			return
		}
	}
}

// pause lets connections wait in the kernel for a while.
func (sd *side) pause(fd int) {
	sd.loop.Unwatch(fd)
	time.AfterFunc(acceptPause, func() {
		sd.loop.Post(func() {
			if sd.closing {
				return
			}
			if err := sd.watch(fd); err != nil {
				sd.server.options.Logger.Debug("no longer accepting", "err", err)
			}
		})
	})
}

// full reports whether there are as many connections as may be.
func (s *Server) full() bool {
	n := 0
	for _, l := range s.loops {
		n += l.Len()
	}
	return n >= s.options.Connections
}

// least is the side with the fewest connections; self unless another has
// clearly fewer, since waking that costs as much as accepting.
func (s *Server) least(self *side) *side {
	least := self
	for _, sd := range s.sides {
		if n := sd.loop.Len(); n+n/8+64 < least.loop.Len() {
			least = sd
		}
	}
	return least
}

// add takes an accepted socket, which from may have brought.
func (sd *side) add(from *side, a arrival) {
	if sd == from {
		sd.open(a)
		return
	}
	sd.arrive.mu.Lock()
	sd.arrive.sockets = append(sd.arrive.sockets, a)
	first := len(sd.arrive.sockets) == 1
	sd.arrive.mu.Unlock()
	if first {
		sd.loop.Post(sd.arrive.take)
	}
}

func (sd *side) takeArrivals() {
	sd.arrive.mu.Lock()
	sd.arrive.sockets, sd.arrive.taken = sd.arrive.taken[:0], sd.arrive.sockets
	sd.arrive.mu.Unlock()
	for _, a := range sd.arrive.taken {
		sd.open(a)
	}
}

// closeArrivals closes those that no loop will take any more.
func (sd *side) closeArrivals() {
	sd.arrive.mu.Lock()
	defer sd.arrive.mu.Unlock()
	for _, a := range sd.arrive.sockets {
		_ = unix.Close(a.fd) // nothing was read from it
	}
	sd.arrive.sockets = nil
}

// open begins to read from a new connection.
func (sd *side) open(a arrival) {
	c := sd.loop.Add(a.fd, sd.owner, 0)
	sd.fresh, sd.freshPeer = c, a.peer
	sd.loop.Wake(c, sd.server.options.HeadTime)
	if stage := sd.server.firstStage(a.peer.Addr()); stage != stageRequest {
		_, st := sd.ensure(c, 0)
		st.stage = stage
	}
	if err := sd.loop.Start(c); err != nil {
		sd.server.options.Logger.Error("connection lost", "err", err)
	}
}

// firstStage is what a peer has to show first.
func (s *Server) firstStage(peer netip.Addr) stage {
	switch {
	case s.options.Proxy && s.trusts(peer):
		return stageProxy
	case s.options.TLS != nil:
		return stageTLS
	}
	return stageRequest
}

// trusts reports whether a peer may say whom it speaks for. Whoever reaches a
// Unix socket may.
func (s *Server) trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return true
	}
	for _, p := range s.options.TrustedProxies {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}
