//go:build linux && !nethttp

package front

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"

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
	s := &Server{options: o, waiting: map[string]Waiting{}, platform: platform{socket: -1}}
	s.metrics = newMetrics(o.Metrics, s.Loops)
	s.always = appendHeader(nil, o.Header)
	s.gate = make(loop.Gate, max(1, runtime.GOMAXPROCS(0)-1))
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

func (s *Server) panicked(v any) {
	s.metrics.panics.Inc()
	s.options.Logger.Error("a connection's handling failed", "panic", fmt.Sprint(v))
}

// Listen begins to accept connections. What is net/http's comes out of the
// listener that it returns, which h, prepared here for that, is to serve.
func (s *Server) Listen(listener net.Listener, h *http.Server) (net.Listener, error) {
	var err error
	if s.socket, err = socket(listener); err != nil {
		return nil, err
	}
	s.queue = newQueue(listener)
	h.Handler = inside(h.Handler)
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

// StopAccepting leaves new connections to whoever else has the listener.
func (s *Server) StopAccepting() {
	for _, sd := range s.sides {
		done := make(chan struct{})
		sd.loop.Post(func() { sd.loop.Unwatch(s.socket); close(done) })
		<-done
	}
}

// Close ends all connections at once. Sessions are to be drained, and net/http
// shut down, before.
func (s *Server) Close() {
	s.stop()
	s.run.Wait()
	if s.socket >= 0 {
		_ = unix.Close(s.socket) // it was only accepted from
	}
}
