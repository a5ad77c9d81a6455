//go:build !linux || nethttp

package front

import (
	"crypto/tls"
	"net"
	"net/http"

	"github.com/chappe/chappe/internal/loop"
)

// platform is what a server has where loops have sockets: nothing here.
type platform struct{}

// New makes a server.
func New(o Options) (*Server, error) {
	s := &Server{options: o, waiting: map[string]Waiting{}}
	s.metrics = newMetrics(o.Metrics, s.Loops)
	s.loops = []*loop.Loop{loop.New(loop.Options{Late: s.metrics.observeLate})}
	return s, nil
}

// Listen begins to accept connections, which all are net/http's here.
func (s *Server) Listen(listener net.Listener, h *http.Server) (net.Listener, error) {
	if s.options.TLS == nil {
		return listener, nil
	}
	h.TLSConfig = s.options.TLS
	return tls.NewListener(listener, s.options.TLS), nil
}

// StopAccepting leaves new connections to whoever else has the listener.
func (s *Server) StopAccepting() {}

// Close ends all connections at once; net/http's have ended.
func (s *Server) Close() {}
