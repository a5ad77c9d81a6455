package gateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/upstream"
	"github.com/chappe/chappe/internal/waitlist"
)

// Options of a gateway.
type Options struct {
	Routes         []route.Config
	Cache          CacheConfig
	Reserved       []string // the program's own paths: one that ends in a slash with all below
	TrustedProxies []netip.Prefix
	Waiting        int          // clients that may wait for a change at once
	Loops          []*loop.Loop // that they wait on
	Publisher      event.Publisher
	EventBytes     int                   // an event's data at most
	Head           func() event.Cursor   // of the log
	File           string                // of a warm restart, if Cache.Warm
	Logger         *slog.Logger          // required
	Metrics        prometheus.Registerer // may be nil
}

// Gateway answers the requests of its routes.
type Gateway struct {
	options Options
	table   route.Table
	places  []*place // by the routes' index
	origins *upstream.Origins
	store   *store
	proxy   *httputil.ReverseProxy
	metrics *metrics
	via     string // how we call ourselves to upstreams (RFC 9110 §7.6.3)
	desks   []*desk
	waiters waitlist.Crowd[route.Key] // those that wait for a change: their entries are kept fresh
	hosted  atomic.Uint32
	queued  atomic.Int64 // requests that wait for a fetch
	filling atomic.Int64 // bytes of answers that are being read

	mu      sync.Mutex
	flights map[flightKey]*flight
	flying  atomic.Int32 // how many there are

	news    chan struct{} // there is something in pending
	pending pending
	renew   chan *entry
	changes chan *entry     // to be published
	closing bool            // guarded by mu
	life    context.Context // of fetches, which outlive the requests that began them
	end     context.CancelFunc
	run     sync.WaitGroup
}

// New makes a gateway. Run is to be called.
func New(o Options) (*Gateway, error) {
	o.Cache.fill()
	g := &Gateway{
		options: o, origins: upstream.NewOrigins(o.Logger), flights: map[flightKey]*flight{},
		via: "chappe-" + strings.ToLower(rand.Text()[:8]), news: make(chan struct{}, 1), renew: make(chan *entry, maxRenew), changes: make(chan *entry, maxChanges),
	}
	g.life, g.end = context.WithCancel(context.Background())
	g.metrics = newMetrics(o.Metrics, g)
	var routes []*route.Route
	for i, c := range o.Routes {
		rt, err := route.New(i, c)
		if err != nil {
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
		pool, err := g.origins.Pool(upstream.Options{
			URLs: c.Upstream, Times: upstream.Times(c.Timeouts), Concurrency: c.Concurrency, Queue: c.Queue, Health: c.Health,
		})
		if err != nil {
			return nil, fmt.Errorf("routes[%d].upstream: %w", i, err)
		}
		routes = append(routes, rt)
		g.places = append(g.places, &place{route: rt, pool: pool, routeMetrics: g.metrics.route(rt.Name)})
	}
	g.table = route.NewTable(routes, o.Reserved)
	var err error
	if g.store, err = newStore(int64(o.Cache.Size)); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	g.proxy = g.newProxy()
	g.waiters.Most = o.Waiting
	for _, l := range o.Loops {
		g.desks = append(g.desks, newDesk(g, l))
	}
	return g, nil
}

// Run follows events and the health of the upstreams until ctx ends, and fetches
// with it: the requests that wanted them are over by then.
func (g *Gateway) Run(ctx context.Context) {
	defer g.end()
	if len(g.places) == 0 {
		return
	}
	g.run.Go(func() { g.origins.Run(ctx) })
	g.run.Go(func() { g.follow(ctx) })
	g.run.Go(func() { g.publish(ctx) })
	for range renewers {
		g.run.Go(func() { g.renewAll(ctx) })
	}
	if g.options.Cache.Warm {
		n, err := g.load(g.options.File)
		if err != nil {
			g.options.Logger.Warn("not all stored answers were read", "file", g.options.File, "err", err)
		}
		g.options.Logger.Info("the cache was warmed", "answers", n)
	}
	<-ctx.Done()
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.end()
	g.run.Wait()
	g.origins.Close()
	if g.options.Cache.Warm {
		if err := g.save(g.options.File); err != nil {
			g.options.Logger.Warn("the stored answers were not written", "file", g.options.File, "err", err)
		}
	}
}

// spawn runs what ends by itself. Run waits for what was spawned before it was
// to end.
func (g *Gateway) spawn(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spawnLocked(f)
}

func (g *Gateway) spawnLocked(f func()) {
	if g.closing {
		go f() // a request that came too late
		return
	}
	g.run.Go(f)
}

// place is what a route's requests go through.
type place struct {
	route *route.Route
	pool  *upstream.Pool
	routeMetrics
	warned atomic.Int64 // Unix second of the last warning
}

func (g *Gateway) place(rt *route.Route) *place { return g.places[rt.Index] }

// recentHit is how long after its last hit an entry is still in use.
const recentHit = 5 * time.Minute
