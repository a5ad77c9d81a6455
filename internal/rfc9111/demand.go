package rfc9111

import (
	"math"
	"strings"
	"time"
)

// Demand is what a request's Cache-Control asks (RFC 9111 §5.2.1).
type Demand struct {
	NoCache, NoStore, OnlyIfCached bool

	HasMaxAge, HasMinFresh, HasMaxStale bool
	MaxAge, MinFresh, MaxStale          time.Duration
}

// ParseDemand reads a request's Cache-Control, its lines joined by commas. Where
// there is none, Pragma: no-cache counts (RFC 9111 §5.4). What it does not
// understand it ignores.
func ParseDemand(cacheControl, pragma string) Demand {
	var d Demand
	if cacheControl == "" {
		d.NoCache = pragma != "" && hasMember(pragma, "no-cache")
		return d
	}
	for member := range members(cacheControl) {
		name, value := directive(member)
		switch {
		case strings.EqualFold(name, "no-cache"):
			d.NoCache = true
		case strings.EqualFold(name, "no-store"):
			d.NoStore = true
		case strings.EqualFold(name, "only-if-cached"):
			d.OnlyIfCached = true
		case strings.EqualFold(name, "max-age"):
			first(&d.MaxAge, &d.HasMaxAge, value)
		case strings.EqualFold(name, "min-fresh"):
			first(&d.MinFresh, &d.HasMinFresh, value)
		case strings.EqualFold(name, "max-stale") && member == name && !d.HasMaxStale:
			d.MaxStale, d.HasMaxStale = math.MaxInt64, true // RFC 9111 §5.2.1.2: any age
		case strings.EqualFold(name, "max-stale"):
			first(&d.MaxStale, &d.HasMaxStale, value)
		}
	}
	return d
}

// first takes the value of a directive that has none yet, if it is valid.
func first(d *time.Duration, has *bool, value string) {
	if n, ok := delta(value); ok && !*has {
		*d, *has = n, true
	}
}

// Accepts tells whether the stored response may be used without validation.
func (d Demand) Accepts(f Freshness, now time.Time) bool {
	ttl := f.TTL(now)
	switch {
	case d.NoCache || f.NoCache:
		return false
	case d.HasMaxAge && (d.MaxAge == 0 || f.Age(now) > d.MaxAge): // 0 is how browsers ask for validation
		return false
	case d.HasMinFresh && ttl < d.MinFresh:
		return false
	case ttl > 0:
		return true
	}
	return d.HasMaxStale && !f.MustRevalidate && -ttl <= d.MaxStale
}
