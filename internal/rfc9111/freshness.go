package rfc9111

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Freshness is how long a response may be used.
type Freshness struct {
	Born     time.Time // response time less corrected_initial_age (RFC 9111 §4.2.3)
	Lifetime time.Duration

	StaleWhileRevalidate, StaleIfError time.Duration

	MustRevalidate bool // never used stale: must-revalidate, proxy-revalidate, s-maxage, no-cache
	NoCache        bool // validated before each use
}

// Age is the current_age of RFC 9111 §4.2.3, never negative.
func (f Freshness) Age(now time.Time) time.Duration { return max(now.Sub(f.Born), 0) }

// TTL is what is left, negative when stale. It is never positive for a response
// that is to be validated before each use.
func (f Freshness) TTL(now time.Time) time.Duration {
	ttl := f.Lifetime - f.Age(now)
	if f.NoCache {
		return min(ttl, 0)
	}
	return ttl
}

// Fresh tells whether the response may be used as it is (RFC 9111 §4.2).
func (f Freshness) Fresh(now time.Time) bool { return f.TTL(now) > 0 }

// MayRevalidateBehind tells whether the response is stale, but may be used while
// it is validated in the background (RFC 5861 §3).
func (f Freshness) MayRevalidateBehind(now time.Time) bool {
	return !f.Fresh(now) && f.within(f.StaleWhileRevalidate, now)
}

// MayServeOnError tells whether the response may stand in for an error of the
// origin (RFC 5861 §4).
func (f Freshness) MayServeOnError(now time.Time) bool { return f.within(f.StaleIfError, now) }

func (f Freshness) within(window time.Duration, now time.Time) bool {
	return !f.MustRevalidate && !f.NoCache && window > 0 && -f.TTL(now) < window
}

// initialAge is the corrected_initial_age of RFC 9111 §4.2.3.
func initialAge(x *Exchange) time.Duration {
	value, _, _ := strings.Cut(x.Response.Get("Age"), ",") // RFC 9111 §5.1: the first, if it is a number
	age, _ := delta(trim(value))
	age += max(x.Received.Sub(x.Requested), 0)
	if date, ok := ParseDate(x.Response.Get("Date")); ok {
		// Dates are in whole seconds: the rest of the current one is no age.
		age = max(age, x.Received.Truncate(time.Second).Sub(date))
	}
	return min(age, maxDelta)
}

// dateOf is when the response was made: by its Date or, where it is missing or
// invalid, by our clock (RFC 9110 §6.6.1).
func dateOf(h http.Header, received time.Time) time.Time {
	if date, ok := ParseDate(h.Get("Date")); ok {
		return date
	}
	return received.Truncate(time.Second)
}

// explicit is the lifetime that the response states (RFC 9111 §4.2.1).
func explicit(x *Exchange, c *control) (lifetime time.Duration, ok bool) {
	switch {
	case c.sMaxAge.set:
		return c.sMaxAge.Duration, true
	case c.maxAge.set:
		return c.maxAge.Duration, true
	case c.targeted:
		return 0, false
	}
	return expires(x)
}

// expires is the lifetime by the Expires field. An invalid date, "0" above all,
// is in the past, and so are several that differ (RFC 9111 §4.2.1, §5.3).
func expires(x *Exchange) (lifetime time.Duration, ok bool) {
	lines := x.Response.Values("Expires")
	if len(lines) == 0 {
		return 0, false
	}
	end, ok := ParseDate(lines[0])
	if !ok || len(slices.Compact(slices.Clone(lines))) > 1 {
		return 0, true
	}
	lifetime = end.Sub(dateOf(x.Response, x.Received))
	return min(max(lifetime, 0), maxDelta), true
}

const maxHeuristic = 24 * time.Hour

// heuristic guesses a lifetime, 10 % of the time since the last modification (RFC
// 9111 §4.2.2). A response that HTTP/1.0 would
// not have cached says that it does not want to be guessed about.
func heuristic(x *Exchange, c *control) time.Duration {
	if c.noCache || !guessable(x.Status) && !c.public {
		return 0
	}
	if len(x.Response.Values("Cache-Control")) == 0 && hasMember(x.Response.Get("Pragma"), "no-cache") {
		return 0
	}
	modified, ok := ParseDate(x.Response.Get("Last-Modified"))
	if !ok {
		return 0
	}
	since := dateOf(x.Response, x.Received).Sub(modified)
	return min(max(since/10, 0), maxHeuristic)
}

// guessable are the statuses that are cacheable by default (RFC 9110 §15.1), but
// 206, which we never store.
func guessable(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// hasMember tells whether the list has this member, in any case.
func hasMember(list, name string) bool {
	for member := range members(list) {
		if strings.EqualFold(member, name) {
			return true
		}
	}
	return false
}
