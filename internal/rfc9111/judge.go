package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// Policy is what the operator says besides the response.
type Policy struct {
	// TTL is the lifetime of responses that say nothing about theirs: no max-age,
	// s-maxage, Expires, CDN-Cache-Control, no-store, private, no-cache. ForceTTL is
	// that of all, whatever they say, but for those that must not be shared. Both
	// count from when the response was received, whatever its Age and Date.
	TTL, ForceTTL time.Duration

	// The windows in which a stale response may be used, where it does not say.
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration

	Authorization bool // of the request is no reason not to store, if the response or a TTL above allows it
	Cookies       bool // neither are they: the key has those that matter
}

// limits tells whether the operator sets lifetimes, which brings limits for
// errors, and makes the requests' directives void.
func (p *Policy) limits() bool { return p.TTL > 0 || p.ForceTTL > 0 }

// Exchange is a request and its response. The names of fields are canonical, as
// net/http makes them.
type Exchange struct {
	Method              string
	Request             http.Header
	Status              int
	Response            http.Header
	Requested, Received time.Time
}

const (
	maxErrorTTL    = time.Second      // of a 5xx where the operator sets lifetimes
	maxNegativeTTL = 10 * time.Second // of the operator's for what may soon be different
)

// Judge decides whether a shared cache may store the response, and how long it
// may use it. Where it may not, why is a token for the detail of Cache-Status.
func Judge(x *Exchange, p Policy) (f Freshness, store bool, why string) {
	if why = unshareable(x, &p); why != "" {
		return f, false, why
	}
	c := controlOf(x.Response)
	forced := p.ForceTTL > 0 && x.Method == http.MethodGet && operatorTTL(x.Status, p.ForceTTL) > 0
	if forced {
		// What is left is how long it may be used stale.
		c = control{behind: c.behind, onError: c.onError}
	} else if why = prohibited(x.Status, &c); why != "" {
		return f, false, why
	}

	age := initialAge(x)
	lifetime, stated := explicit(x, &c)
	if !authorized(x, &p, &c, stated && !forced) {
		return f, false, "authorization"
	}
	ttl := p.TTL
	if forced {
		ttl, stated = p.ForceTTL, false
	}
	switch {
	case stated:
	case x.Method != http.MethodGet:
		return f, false, "method" // RFC 9110 §9.3.3
	case ttl > 0 && !c.targeted && !c.noCache && !c.noStore:
		if ttl = operatorTTL(x.Status, ttl); ttl == 0 {
			return f, false, "status"
		}
		lifetime = age + ttl
	default:
		lifetime = heuristic(x, &c)
	}
	f = freshness(&c, &p)
	f.Born, f.Lifetime = x.Received.Add(-age), lifetime
	if x.Status >= 500 && p.limits() {
		f.Lifetime = min(f.Lifetime, age+maxErrorTTL)
		f.StaleWhileRevalidate, f.StaleIfError = 0, 0
	}
	if !worthStoring(x, &c, f, stated) {
		return Freshness{}, false, "no-freshness"
	}
	return f, true, ""
}

// unshareable is why a response is not stored whatever it says, or "". It is
// stricter than RFC 9111 §3.5, and §7.3 for cookies.
func unshareable(x *Exchange, p *Policy) string {
	_, any := Vary(x.Response)
	switch {
	case x.Method != http.MethodGet && (x.Method != http.MethodPost || x.Response.Get("Content-Location") == ""):
		return "method"
	case x.Status == http.StatusPartialContent:
		return "partial"
	case x.Status < 200 || x.Status > 599 || x.Status == http.StatusNotModified:
		return "status"
	case !p.Authorization && len(x.Request.Values("Authorization")) > 0:
		return "authorization"
	case !p.Cookies && len(x.Request.Values("Cookie")) > 0:
		return "cookie"
	case len(x.Response.Values("Set-Cookie")) > 0:
		return "set-cookie"
	case any:
		return "vary-star" // RFC 9111 §4.1
	case !p.limits() && ParseDemand(strings.Join(x.Request.Values("Cache-Control"), ","), "").NoStore:
		return "request-no-store" // RFC 9111 §5.2.1.5
	}
	return ""
}

// authorized tells whether the response may be shared in spite of Authorization in
// its request. Where the operator allows it and sets no lifetime, the response
// still has to say so itself (RFC 9111 §3.5).
func authorized(x *Exchange, p *Policy, c *control, stated bool) bool {
	if len(x.Request.Values("Authorization")) == 0 || c.public || c.mustRevalidate || c.sMaxAge.set {
		return true
	}
	return p.limits() && !stated
}

// prohibited is why the response itself forbids storing, or "" (RFC 9111 §3).
func prohibited(status int, c *control) string {
	known := c.mustUnderstand && understood(status) // RFC 9111 §5.2.2.3
	switch {
	case c.noStore && !known:
		return "no-store"
	case c.mustUnderstand && !known:
		return "status"
	case c.private:
		return "private"
	}
	return ""
}

// understood are the final statuses of RFC 9110 §15 that we store.
func understood(status int) bool {
	switch status {
	case 307, 308, 421, 422, 426:
		return true
	}
	return status <= 205 || 300 <= status && status <= 303 || 400 <= status && status <= 417 || 500 <= status && status <= 505
}

// operatorTTL is what a status gets of a lifetime that the operator sets, 0 for
// those that have to state their own.
func operatorTTL(status int, ttl time.Duration) time.Duration {
	switch status {
	case 200, 203, 301, 308:
		return ttl
	case 302, 307, 404, 405, 410, 414, 501:
		return min(ttl, maxNegativeTTL)
	}
	return 0
}

// freshness is that part of it which does not depend on time.
func freshness(c *control, p *Policy) Freshness {
	return Freshness{
		StaleWhileRevalidate: c.behind.or(p.StaleWhileRevalidate),
		StaleIfError:         c.onError.or(p.StaleIfError),
		// RFC 9111 §5.2.2.10: s-maxage has the meaning of proxy-revalidate.
		MustRevalidate: c.mustRevalidate || c.sMaxAge.set || c.noCache,
		NoCache:        c.noCache,
	}
}

// worthStoring tells whether the response can be of use: fresh, or stale where it
// says that it may be used so, or with something to validate it by.
func worthStoring(x *Exchange, c *control, f Freshness, stated bool) bool {
	now := x.Received
	switch {
	case f.Fresh(now):
		return true
	case x.Method != http.MethodGet:
		return false
	case !stated && !c.noCache && !c.public && !guessable(x.Status):
		return false // RFC 9111 §3
	case stated && c.behind.Duration > 0 && f.MayRevalidateBehind(now),
		stated && c.onError.Duration > 0 && f.MayServeOnError(now):
		return true
	}
	return Validators(x.Response) != nil
}
