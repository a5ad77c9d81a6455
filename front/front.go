package front

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
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
	HeadTime       time.Duration                     // for a request's head, and a TLS handshake; 5 s
	IdleTime       time.Duration                     // between requests; 2 min
	Logger         *slog.Logger                      // required
	Metrics        prometheus.Registerer             // may be nil
}

// Answer is prepared: what is written for a GET.
type Answer struct {
	Head  []byte // from the status line to the last field; it does not change any more
	Lines []byte // further fields; used within the call
	Body  []byte // does not change any more
	Dated bool   // the Head has a Date of its own
}

// Prepared finds the answer to a GET, or says that there is none; then net/http
// has the request, unless it was put on Hold. It is called on a loop, whatever
// the Host: it must not block, nor keep what it is given.
type Prepared func(x *Exchange) (Answer, bool)

func (o *Options) fill() {
	o.HeadTime = cmp.Or(o.HeadTime, 5*time.Second)
	o.IdleTime = cmp.Or(o.IdleTime, 2*time.Minute)
}

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

// counting counts the panics of handlers, which net/http survives.
func (s *Server) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				s.panicked(v)
			}
			panic(http.ErrAbortHandler) // it is logged
		}()
		next.ServeHTTP(w, r)
	})
}

// panicked tells of a fault of ours that cost one connection.
func (s *Server) panicked(v any) {
	s.metrics.panics.Inc()
	s.options.Logger.Error("a connection's handling failed", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}
