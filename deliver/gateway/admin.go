package gateway

import (
	"net/url"
	"strings"
	"time"

	"github.com/chappe/chappe/internal/upstream"
)

// RouteStatus is a route with the state of its upstreams.
type RouteStatus struct {
	Name      string           `json:"name"`
	Host      string           `json:"host,omitempty"`
	Path      string           `json:"path"`
	TTL       string           `json:"ttl,omitempty" doc:"How long answers are kept that do not say so themselves."`
	ForceTTL  string           `json:"force_ttl,omitempty"`
	Topic     string           `json:"topic,omitempty" doc:"Where new answers are published."`
	Upstreams []UpstreamStatus `json:"upstreams"`
}

// UpstreamStatus is the state of an origin.
type UpstreamStatus struct {
	URL       string    `json:"url"`
	Up        bool      `json:"up" doc:"By its health path, if it has one."`
	Breaker   string    `json:"breaker" enum:"closed,open,half-open" doc:"open: it failed, and is left alone for a while."`
	InFlight  int       `json:"in_flight"`
	Waiting   int       `json:"waiting" doc:"Requests that wait for their turn."`
	LastError string    `json:"last_error,omitempty"`
	Since     time.Time `json:"since" doc:"Of up and breaker."`
}

// Routes are the routes in the order of the file.
func (g *Gateway) Routes() []RouteStatus {
	all := make([]RouteStatus, 0, len(g.places))
	for i := range g.places {
		rt := g.places[i].route
		s := RouteStatus{Name: rt.Name, Host: rt.Host, Path: rt.Path, TTL: written(rt.TTL), ForceTTL: written(rt.ForceTTL), Topic: string(rt.Topic)}
		for _, o := range g.places[i].pool.States() {
			s.Upstreams = append(s.Upstreams, upstreamStatus(o))
		}
		all = append(all, s)
	}
	return all
}

func upstreamStatus(s upstream.State) UpstreamStatus {
	return UpstreamStatus{s.URL, s.Up, s.Breaker, s.InFlight, s.Waiting, s.LastError, s.Since.UTC()}
}

func written(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// CacheStatus is what the cache holds.
type CacheStatus struct {
	Keys    int64 `json:"keys" doc:"Addresses with stored answers, or of which it is known that theirs cannot be shared."`
	Bytes   int64 `json:"bytes" doc:"What they take of the memory."`
	Size    int64 `json:"size" doc:"What they may take: cache.size."`
	Waiting int   `json:"waiting" doc:"Clients that wait for a change, by Prefer: wait."`
}

// Cache tells what the cache holds.
func (g *Gateway) Cache() CacheStatus {
	return CacheStatus{g.store.count.Load(), g.store.bytes.Load(), int64(g.options.Cache.Size), g.waiters.Len()}
}

// PurgeTag removes the answers with the tag, or, softly, has them asked about
// before their next use. It returns how many there were.
func (g *Gateway) PurgeTag(name string, softly bool) int {
	return g.purge(tag{nil, tagName, name}, softly)
}

// PurgeURL is PurgeTag for the answers of a path with its query, on all hosts;
// the scheme and host of a whole URL do not matter.
func (g *Gateway) PurgeURL(address string, softly bool) int {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		_, rest, _ := strings.Cut(address, "://")
		address = "/"
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			address = rest[i:]
		}
	}
	return g.purge(tag{nil, tagTarget, address}, softly)
}

func (g *Gateway) purge(t tag, softly bool) int {
	how := removed
	if softly {
		how = soft
	}
	return g.invalidate([]tag{t}, how)
}
