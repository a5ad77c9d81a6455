//go:build !linux || nethttp

package front

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"github.com/chappe/chappe/internal/loop"
)

// platform is what a server has where loops have sockets: nothing here.
type platform struct{}

// New makes a server.
func New(o Options) (*Server, error) {
	if o.Proxy {
		return nil, errors.New("server.proxy_protocol needs the listener of Linux; name the client by X-Forwarded-For here")
	}
	o.fill()
	s := &Server{options: o, waiting: map[string]Waiting{}}
	s.metrics = newMetrics(o.Metrics, s.Loops)
	s.loops = []*loop.Loop{loop.New(loop.Options{Late: s.metrics.observeLate, Panics: s.panicked})}
	return s, nil
}

// Listen begins to accept connections, which all are net/http's here.
func (s *Server) Listen(listener net.Listener, h *http.Server) (net.Listener, error) {
	h.Handler = s.counting(h.Handler)
	if s.options.TLS == nil {
		return listener, nil
	}
	h.TLSConfig = s.options.TLS
	return tls.NewListener(listener, s.options.TLS), nil
}

// StopAccepting leaves new connections to whoever else has the listener.
func (s *Server) StopAccepting() {}

// Settle has nothing to wait for: net/http's Shutdown does.
func (s *Server) Settle() {}

// Close ends all connections at once; net/http's have ended.
func (s *Server) Close() {}
