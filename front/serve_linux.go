//go:build linux && !nethttp

package front

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chappe/chappe/internal/loop"
)

// platform is what a server has where loops have sockets.
type platform struct {
	sides  []*side
	queue  *queue
	gate   loop.Gate
	always []byte // header lines of every answer
	stop   context.CancelFunc
	run    sync.WaitGroup
	socket int // the copy of the listener's; -1: none
}

// New makes a server, whose loops run from now on.
func New(o Options) (*Server, error) {
	o.fill()
	s := &Server{options: o, waiting: map[string]Waiting{}, platform: platform{socket: -1}}
	s.metrics = newMetrics(o.Metrics, s.Loops)
	s.always = appendHeader(nil, o.Header)
	s.gate = make(loop.Gate, max(1, runtime.GOMAXPROCS(0)-1))
	if o.TLS != nil {
		s.options.TLS = ungated(o.TLS)
	}
	if o.Loops == 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	for range o.Loops {
		l, err := loop.NewPoller(loop.Options{Late: s.metrics.observeLate, Panics: s.panicked})
		if err != nil {
			cancel()
			return nil, err
		}
		sd := &side{server: s, loop: l}
		sd.owner = l.Register(sd)
		sd.arrive.take = sd.takeArrivals
		s.loops, s.sides = append(s.loops, l), append(s.sides, sd)
		s.run.Go(func() { l.Run(ctx) }) // ended by Close
	}
	return s, nil
}

// ungated lets a certificate be fetched (ACME) while others shake hands.
func ungated(config *tls.Config) *tls.Config {
	get := config.GetCertificate
	if get == nil {
		return config
	}
	config = config.Clone()
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (c *tls.Certificate, err error) {
		loop.Ungated(hello.Conn, func() { c, err = get(hello) })
		return c, err
	}
	return config
}

// Listen begins to accept connections. What is net/http's comes out of the
// listener that it returns, which h, prepared here for that, is to serve.
func (s *Server) Listen(listener net.Listener, h *http.Server) (net.Listener, error) {
	var err error
	if s.socket, err = socket(listener); err != nil {
		return nil, err
	}
	s.queue = newQueue(listener)
	h.Handler = inside(s.counting(h.Handler))
	h.ConnState, h.ConnContext = stateChanged, connContext
	for _, sd := range s.sides {
		watched := make(chan error, 1)
		sd.loop.Post(func() { watched <- sd.watch(s.socket) })
		if err := <-watched; err != nil {
			return nil, fmt.Errorf("listen on %s: %w", listener.Addr(), err)
		}
	}
	return s.queue, nil
}

// StopAccepting leaves new connections to whoever else has the listener; if
// nobody has, they are refused. Those that are there are told, with their next
// answer, that it is the last. It does nothing the second time.
func (s *Server) StopAccepting() {
	if s.socket < 0 {
		return
	}
	for _, sd := range s.sides {
		done := make(chan struct{})
		sd.loop.Post(func() {
			sd.closing = true
			sd.loop.Unwatch(s.socket)
			close(done)
		})
		<-done
	}
	_ = unix.Close(s.socket) // it was only accepted from
	s.socket = -1
	_ = s.queue.Listener.Close() // nothing was to be written
}

// Settle gives connections that may have sent a request already time to have
// it answered, after StopAccepting: until there are none, at most a second.
func (s *Server) Settle() {
	deadline := time.Now().Add(settleTime)
	for time.Now().Before(deadline) {
		open := 0
		for _, l := range s.loops {
			open += l.Len()
		}
		if open == 0 {
			return
		}
		time.Sleep(settleTime / 100)
	}
}

const settleTime = time.Second

// Close ends all connections at once. Sessions are to be drained, and net/http
// shut down, before. It may be called again.
func (s *Server) Close() {
	s.stop()
	s.run.Wait()
	for _, sd := range s.sides {
		sd.closeArrivals()
	}
	if s.socket >= 0 {
		_ = unix.Close(s.socket) // it was only accepted from
		s.socket = -1
	}
}
