package front

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/internal/loop"
)

// Options of a server.
type Options struct {
	Loops          int                               // 0: one for each CPU
	Connections    int                               // at the most; more wait to be accepted
	Prefix         string                            // that paths may begin with, besides
	KnownHost      func(host string) bool            // others are net/http's to refuse
	Header         http.Header                       // of every answer
	CORS           func(r *http.Request) http.Header // of answers to requests with an Origin
	TLS            *tls.Config                       // nil: plain
	TrustedProxies []netip.Prefix                    // may send a PROXY header
	Proxy          bool                              // they do
	Logger         *slog.Logger                      // required
	Metrics        prometheus.Registerer             // may be nil
}

// Answer is prepared: what is written, with keep-alive, for a GET.
type Answer struct {
	Head []byte // from the status line to the empty line, that included
	Body []byte
}

// Prepared finds the answer to a GET by its path and query as they were sent,
// or says that there is none. It is called on a loop: it must not block, nor
// keep what it is given.
type Prepared func(x *Exchange) (Answer, bool)

// Times of a connection.
const (
	headTime = 5 * time.Second // for a request's head, and a TLS handshake
	idleTime = 2 * time.Minute // between requests
)

// Server listens. Handle, HandlePost and Prepare are to be called before Listen.
type Server struct {
	options  Options
	metrics  *metrics
	loops    []*loop.Loop
	waiting  map[string]Waiting
	prepared Prepared
	platform
}

// Loops are what exchanges are handled on.
func (s *Server) Loops() []*loop.Loop { return s.loops }

// Handle has the GET requests of a path handled by w.
func (s *Server) Handle(path string, w Waiting) { s.waiting[path] = w }

// HandlePost has the POST requests of a path handled by w, once their bodies
// of at most 64 KiB are there.
func (s *Server) HandlePost(path string, w Waiting) { s.waiting["POST "+path] = w }

// Prepare has GETs answered by p where it knows an answer.
func (s *Server) Prepare(p Prepared) { s.prepared = p }
