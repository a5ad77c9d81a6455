// Package upstream is how a reverse proxy reaches its origins: an
// [http.RoundTripper] over one or several addresses. It sends a request to the
// origin that is up and has the fewest in flight, and bounds all that an origin
// can do to us: how many requests it has at once, how many wait for it and how
// long, how long it may take to connect, to answer and to go on, and how much
// head it may send. An origin that fails again and again is left alone for a
// while (breaker.go), and one whose health path does not answer is left out
// (health.go).
//
// A request is sent twice only if it is a GET or HEAD without a body of which
// no byte of an answer came. Redirects, caching, and what headers a proxy adds or
// removes are the caller's.
package upstream

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Times bound a request. What is 0 has its default.
type Times struct {
	Connect time.Duration // to dial and for the TLS handshake; default 2 s
	// Head is from when the origin has all that the client sent so far until
	// its final response head; 1xx answers do not reset it. Default 30 s.
	Head time.Duration
	Body time.Duration // between two reads of the response body; default 30 s
	// Total is all, and the waiting for a place. It does not bound an upgraded
	// connection (101) or an event stream, nor does Body. Default 2 min.
	Total time.Duration
}

// Options of a pool. What is 0 has its default. Of pools that share an origin the
// last one made decides on Concurrency and QueueLength, and the last that has a
// Health path on the health checks.
type Options struct {
	URLs        []string // http://host:port, https://host, h2c://host:port (HTTP/2 without TLS), unix:/run/app.sock
	Times       Times
	Concurrency int           // requests at once to each origin, but for upgraded connections and event streams; default 64
	Queue       time.Duration // how long a request waits for a place; default 5 s
	QueueLength int           // how many wait at most for each origin; default 1024, more are refused at once
	Health      string        // path that is asked each HealthEvery; "" = only what requests show
	HealthEvery time.Duration // default 5 s
}

// Origins are all that are reached. Two pools of one address share its
// connections, bounds and health.
type Origins struct {
	logger  *slog.Logger
	rootCAs *x509.CertPool                                                       // nil: the system's
	dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	added   chan struct{}                                                        // there may be origins to watch that Run does not yet

	mu    sync.Mutex // also guards the changing fields of each origin
	byURL map[string]*origin
}

// Pool is the origins of one proxied place.
type Pool struct {
	all     *Origins
	origins []*origin
	times   Times
	queue   time.Duration
	turn    int // who is asked first among equals; guarded by Origins.mu
}

// State of an origin, for metrics and the API.
type State struct {
	URL       string
	Up        bool   // by its health path
	Breaker   string // closed, open or half-open
	InFlight  int
	Waiting   int
	LastError string
	Since     time.Time // of Up and Breaker
}

// NewOrigins makes them, none at first.
func NewOrigins(logger *slog.Logger) *Origins {
	return &Origins{logger: logger, added: make(chan struct{}, 1), byURL: map[string]*origin{}}
}

// Pool makes a pool. Its origins stay with o.
func (o *Origins) Pool(opt Options) (*Pool, error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	var addresses []address
	for _, raw := range opt.URLs {
		a, err := parseAddress(raw)
		if err != nil {
			return nil, err
		}
		if slices.Contains(addresses, a) {
			return nil, fmt.Errorf("upstream %s is there twice; name it once", a.name)
		}
		addresses = append(addresses, a)
	}
	p := &Pool{all: o, times: opt.Times, queue: opt.Queue}
	o.mu.Lock()
	for _, a := range addresses {
		p.origins = append(p.origins, o.originLocked(a, opt))
	}
	o.mu.Unlock()
	select {
	case o.added <- struct{}{}:
	default: // Run will look anyway
	}
	return p, nil
}

// complete puts in the defaults and refuses what makes no sense.
func (opt *Options) complete() error {
	if len(opt.URLs) == 0 {
		return errors.New("there is no upstream URL; name at least one, like http://127.0.0.1:3000")
	}
	if opt.Health != "" && !strings.HasPrefix(opt.Health, "/") {
		return fmt.Errorf("the health path %q does not begin with /", opt.Health)
	}
	t := &opt.Times
	if min(t.Connect, t.Head, t.Body, t.Total, opt.Queue, opt.HealthEvery) < 0 || min(opt.Concurrency, opt.QueueLength) < 0 {
		return errors.New("a time or bound of an upstream is negative; leave it out for its default")
	}
	t.Connect = cmp.Or(t.Connect, 2*time.Second)
	t.Head = cmp.Or(t.Head, 30*time.Second)
	t.Body = cmp.Or(t.Body, 30*time.Second)
	t.Total = cmp.Or(t.Total, 2*time.Minute)
	opt.Queue = cmp.Or(opt.Queue, 5*time.Second)
	opt.HealthEvery = cmp.Or(opt.HealthEvery, 5*time.Second)
	opt.Concurrency = cmp.Or(opt.Concurrency, 64)
	opt.QueueLength = cmp.Or(opt.QueueLength, 1024)
	return nil
}

// States are those of the pool's origins.
func (p *Pool) States() []State {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	now, states := time.Now(), make([]State, len(p.origins))
	for i, o := range p.origins {
		states[i] = o.stateLocked(now)
	}
	return states
}

// Close closes the connections that idle.
func (o *Origins) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, origin := range o.byURL {
		origin.transport.CloseIdleConnections()
	}
}

// States are of all origins, by URL.
func (o *Origins) States() []State {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	var states []State
	for _, origin := range o.byURL {
		states = append(states, origin.stateLocked(now))
	}
	slices.SortFunc(states, func(a, b State) int { return strings.Compare(a.URL, b.URL) })
	return states
}
