package push

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/backoff"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/waitlist"
)

// Limits bound the sessions. Zero fields take their defaults.
type Limits struct {
	// Connections is how many sessions this process holds.
	Connections int `yaml:"connections"`
	// PerAddress is how many sessions one client address may have.
	PerAddress int `yaml:"per_address"`
	// PerUser is how many sessions one subscriber may have; anonymous ones have no user.
	PerUser int `yaml:"per_user"`
	// PerToken is how many sessions one API token may have.
	PerToken int `yaml:"per_token"`
	// Queue is how much may wait for a slow session before it has to catch up from the log.
	Queue event.ByteSize `yaml:"queue"`
	// Heartbeat is how often a session that has nothing to say says so; keep it below the proxy's idle time-out.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

// Validate refuses what no session could live with.
func (l Limits) Validate() error {
	switch {
	case l.Connections < 0 || l.PerAddress < 0 || l.PerUser < 0 || l.PerToken < 0 || l.Queue < 0:
		return errors.New("a limit is negative; give how many may be there, or leave the key out for its default")
	case l.Heartbeat != 0 && l.Heartbeat < time.Second:
		return errors.New("heartbeat is below 1s; write one like 45s")
	}
	return nil
}

// DefaultLimits are what zero fields mean.
func DefaultLimits() Limits {
	return Limits{Connections: 18_000, PerAddress: 1000, PerUser: 100, PerToken: 5000, Queue: 256 << 10, Heartbeat: 45 * time.Second}
}

func (l *Limits) fill() {
	d := DefaultLimits()
	l.Connections = cmp.Or(l.Connections, d.Connections)
	l.PerAddress = cmp.Or(l.PerAddress, d.PerAddress)
	l.PerUser = cmp.Or(l.PerUser, d.PerUser)
	l.PerToken = cmp.Or(l.PerToken, d.PerToken)
	l.Queue = cmp.Or(l.Queue, d.Queue)
	l.Heartbeat = cmp.Or(l.Heartbeat, d.Heartbeat)
}

// Options of a hub.
type Options struct {
	Limits         Limits
	TrustedProxies []netip.Prefix
	Loops          []*loop.Loop          // that sessions are on; none: one without sockets
	Compression    bool                  // events may be compressed for WebSockets of known users (RFC 7692)
	Logger         *slog.Logger          // required
	Metrics        prometheus.Registerer // may be nil
}

// Bounds of what a session asks for.
const (
	maxPatterns = 64       // that it follows
	pageEvents  = 256      // that it reads at once when it catches up
	writeChunk  = 64 << 10 // bytes that it is written at once then
)

// Hub knows who follows what.
type Hub struct {
	reader  event.Reader
	access  *account.Access
	options Options
	metrics *metrics
	shards  []*shard
	pool    loop.Pool // finds out who asks, which may take seconds
	reads   loop.Pool // reads the log
	places  places
	waiters waitlist.List // of long-polls
	spread  *backoff.Spread

	draining  atomic.Bool
	helloHead []byte
	hosted    atomic.Uint32 // sessions that net/http brought

	mu      sync.Mutex
	demands map[event.Topic]*demand
}

// How many calls that may block are made at once; an access hook bounds its own.
const (
	identifySize = 256
	readSize     = 16
)

// New makes a hub. It is to follow the bus that reader reads.
func New(reader event.Reader, access *account.Access, o Options) *Hub {
	o.Limits.fill()
	if len(o.Loops) == 0 {
		o.Loops = []*loop.Loop{loop.New(loop.Options{})}
	}
	h := &Hub{
		reader: reader, access: access, options: o, metrics: newMetrics(o.Metrics),
		pool: loop.Pool{Goroutines: identifySize, Queue: 1 << 16}, reads: loop.Pool{Goroutines: readSize, Queue: 1 << 20},
		demands: map[event.Topic]*demand{}, waiters: waitlist.List{Most: maxWaiters, Least: leastWait},
	}
	h.places.limits = o.Limits
	h.helloHead = helloHead(o.Limits)
	h.spread = backoff.NewSpread(h.places.open, h.pool.Waiting)
	for _, l := range o.Loops {
		h.shards = append(h.shards, newShard(h, l))
	}
	return h
}

// Following is told by the bus from where on Committed will be called.
func (h *Hub) Following(head event.Cursor) {
	for _, sh := range h.shards {
		sh.loop.Post(func() { sh.handed = max(sh.handed, head.Seq) })
	}
}

// Committed implements bus.Follower. When a shard has groups enough to do, it
// waits: what is published meanwhile makes one larger group, which costs a
// session one write.
func (h *Hub) Committed(records []*event.Record) {
	at := time.Now()
	for _, sh := range h.shards {
		select {
		case sh.backlog <- struct{}{}:
			sh.loop.Post(func() { <-sh.backlog; sh.commit(records, at) })
		case <-sh.loop.Done():
		}
	}
}

// maxBacklog is how many groups of events may wait for a shard.
const maxBacklog = 64
