package push

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/problem"
)

// Limits bound the sessions. Zero fields take their defaults.
type Limits struct {
	// Connections is how many sessions this process holds.
	Connections int `yaml:"connections"`
	// PerAddress is how many sessions one client address may have.
	PerAddress int `yaml:"per_address"`
	// PerUser is how many sessions one subscriber may have; anonymous ones have no user.
	PerUser int `yaml:"per_user"`
	// Queue is how much may wait for a slow session before it has to catch up from the log.
	Queue event.ByteSize `yaml:"queue"`
	// Heartbeat is how often a session that has nothing to say says so; keep it below the proxy's idle time-out.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

// Validate refuses what no session could live with.
func (l Limits) Validate() error {
	switch {
	case l.Connections < 0 || l.PerAddress < 0 || l.PerUser < 0 || l.Queue < 0:
		return errors.New("a limit is negative; give how many may be there, or leave the key out for its default")
	case l.Heartbeat != 0 && l.Heartbeat < time.Second:
		return errors.New("heartbeat is below 1s; write one like 45s")
	}
	return nil
}

func (l *Limits) fill() {
	setDefault(&l.Connections, 18_000)
	setDefault(&l.PerAddress, 1000)
	setDefault(&l.PerUser, 100)
	setDefault(&l.Queue, 256<<10)
	setDefault(&l.Heartbeat, 45*time.Second)
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Options of a hub.
type Options struct {
	Limits         Limits
	TrustedProxies []netip.Prefix
	Logger         *slog.Logger          // required
	Metrics        prometheus.Registerer // may be nil
}

// Bounds of a session's connection.
const (
	progressTime = 30 * time.Second // to take what is written to it
	writeChunk   = 64 << 10         // bytes that have progressTime each
	maxPatterns  = 64               // of one session
)

// start stands for the oldest event kept, where a cursor is given.
const start = "start"

// Hub knows who follows what.
type Hub struct {
	reader   event.Reader
	access   *account.Access
	options  Options
	metrics  *metrics
	draining chan struct{}
	drain    sync.Once
	sessions sync.WaitGroup
	waiters  waiters

	mu        sync.Mutex
	trie      trie
	demands   map[event.Topic]*demand
	handed    int64 // seq of the newest event handed out
	stamp     uint64
	count     int
	byAddress map[netip.Addr]int
	byUser    map[string]int
}

// New makes a hub. It is to follow the bus that reader reads.
func New(reader event.Reader, access *account.Access, o Options) *Hub {
	o.Limits.fill()
	return &Hub{
		reader: reader, access: access, options: o, metrics: newMetrics(o.Metrics),
		draining: make(chan struct{}), demands: map[event.Topic]*demand{},
		byAddress: map[netip.Addr]int{}, byUser: map[string]int{},
	}
}

// Committed implements bus.Follower.
func (h *Hub) Committed(records []*event.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		h.stamp++
		h.trie.each(r.Topic, func(s *session) { s.offer(r, h.stamp) })
		h.handed = max(h.handed, r.Cursor.Seq)
	}
}

// Drain tells every session to come back elsewhere, or later, and waits for
// them to end.
func (h *Hub) Drain(ctx context.Context) {
	h.drain.Do(func() {
		h.mu.Lock() // enter adds no session once draining is closed
		defer h.mu.Unlock()
		close(h.draining)
	})
	ended := make(chan struct{})
	go func() { // ends with the sessions, at the latest when their writes time out
		h.sessions.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// subscription is a request that was let in.
type subscription struct {
	identity *account.Identity
	patterns []event.Pattern
	after    event.Cursor // zero: from the oldest kept
	now      bool         // from now, whatever after says
	address  netip.Addr
	done     func() // gives its places back
}

// errFull refuses a session for now.
type errFull struct{ what string }

func (e errFull) Error() string {
	return "there are as many sessions as " + e.what + " allows; come back later"
}
func (e errFull) Code() string { return "too-many-sessions" }

// admit checks a request: who it is, what it may follow, whether there is room.
func (h *Hub) admit(r *http.Request, origin func(*http.Request) error) (*subscription, error) {
	if err := origin(r); err != nil {
		return nil, err
	}
	identity, done, err := h.access.IdentifyStream(r)
	if err != nil {
		return nil, err
	}
	sub := &subscription{identity: identity, address: clientip.From(r, h.options.TrustedProxies), done: done}
	if err := h.parse(r, sub); err != nil {
		done()
		return nil, err
	}
	leave, err := h.enter(sub)
	if err != nil {
		done()
		return nil, err
	}
	sub.done = func() { leave(); done() }
	return sub, nil
}

func (h *Hub) parse(r *http.Request, sub *subscription) (err error) {
	query := r.URL.Query()
	topics := query["topic"]
	if len(topics) == 0 || len(topics) > maxPatterns {
		return problem.New("bad-pattern", "Name 1 to 64 topics or patterns, as ?topic=mail/alice/*")
	}
	if sub.patterns, err = event.ParsePatterns(topics); err != nil {
		return err
	}
	slices.Sort(sub.patterns)
	sub.patterns = slices.Compact(sub.patterns)
	for _, p := range sub.patterns {
		if h.access.MayRead(sub.identity, p) {
			continue
		}
		if !sub.identity.Known() {
			return problem.New("token-missing", "Topic "+string(p)+" is not public: send a token (Authorization: Bearer ...) or a ticket")
		}
		return problem.New("forbidden", "This token may not read "+string(p))
	}
	after := query.Get("after")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		after = id
	}
	switch after {
	case "":
		sub.now = true
	case start:
	default:
		sub.after, err = event.ParseCursor(after)
	}
	return err
}

// enter takes a place for the session, and returns what gives it back.
func (h *Hub) enter(sub *subscription) (leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, user := h.options.Limits, sub.identity.User
	select {
	case <-h.draining:
		return nil, event.ErrClosed
	default:
	}
	switch {
	case h.count >= l.Connections:
		err = errFull{"limits.connections"}
	case h.byAddress[sub.address] >= l.PerAddress:
		err = errFull{"limits.per_address"}
	case user != "" && h.byUser[user] >= l.PerUser:
		err = errFull{"limits.per_user"}
	}
	if err != nil {
		return nil, err
	}
	h.sessions.Add(1)
	h.count++
	h.byAddress[sub.address]++
	if user != "" {
		h.byUser[user]++
	}
	return func() {
		defer h.sessions.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count--
		release(h.byAddress, sub.address)
		release(h.byUser, user)
	}, nil
}

func release[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// refuse answers a request that was not let in.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.From(err)
	h.metrics.refused.WithLabelValues(p.Code).Inc()
	if p.Code == "internal" {
		h.options.Logger.Error("session refused", "path", r.URL.Path, "err", err)
	}
	problem.Write(w, p)
}

// refusedForNow reports whether a request was refused that is welcome later.
// It is told so in the way that lets a browser come back.
func refusedForNow(err error) bool {
	return err != nil && problem.From(err).Status == http.StatusServiceUnavailable
}

// retryMin and retryMax are the hint for reconnecting, evenly spread.
const (
	retryMin = time.Second
	retryMax = 10 * time.Second
)

func retrySpread() time.Duration { return retryMin + rand.N(retryMax-retryMin) }

// expiry fires when the identity's token ends; never if it does not.
func expiry(id *account.Identity) (<-chan time.Time, func()) {
	if id.Expires.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(id.Expires))
	return t.C, func() { t.Stop() }
}

func joinPatterns(patterns []event.Pattern) string {
	var b strings.Builder
	for _, p := range patterns {
		b.WriteString(string(p))
		b.WriteByte(' ')
	}
	return b.String()
}
