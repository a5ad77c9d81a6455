package gateway

import (
	"strconv"
	"strings"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/clientip"
)

// Prepare answers a GET from the store, on the event loop, if a stored answer
// may be used as it is. It holds one that waits for a change.
func (g *Gateway) Prepare(x *front.Exchange) (front.Answer, bool) {
	target := x.Target()
	if target == "" || len(g.places) == 0 {
		return front.Answer{}, false
	}
	secure := x.Secure() || g.saysSecure(x)
	rt := g.table.Find(secure, x.Host(), target)
	if rt == nil || !rt.Allows("GET") || needsMore(rt, x) {
		return front.Answer{}, false
	}
	e := g.store.get(rt.Key(secure, x.Host(), target, x)).choose(x)
	if e == nil || e.purged.Load() {
		return front.Answer{}, false
	}
	now := time.Now()
	ttl := e.freshness.TTL(now)
	if ttl <= 0 {
		return front.Answer{}, false
	}
	e.use(now)
	f := e.form(x.Header("accept-encoding"))
	a := front.Answer{Head: f.Head, Body: f.Body, Dated: true}
	if e.notModified(f, x.Header("if-none-match"), x.Header("if-modified-since")) {
		if wait := waitOf(x.Header("prefer")); wait > 0 && g.hold(x, e, wait) {
			return front.Answer{}, false
		}
		a.Head, a.Body = f.NotModified, nil
	}
	g.place(rt).hits.Inc()
	a.Lines = lines(rt, make([]byte, 0, 128), e, now, ttl, x.Header("origin"))
	return a, true
}

// needsMore reports whether a request is for ServeHTTP to think about.
func needsMore(rt *route.Route, x *front.Exchange) bool {
	if x.Has("range") || x.Has("upgrade") || x.Has("authorization") && !rt.Authorization {
		return true
	}
	if len(rt.Cookies) > 0 && strings.Contains(x.Header("cookie"), ",") { // perhaps several, which are joined otherwise
		return true
	}
	if rt.Decides() {
		return false
	}
	return x.Has("cache-control") || x.Has("pragma")
}

// lines are the fields of a hit that change (RFC 9111 §5.1, RFC 9211).
func lines(rt *route.Route, b []byte, e *entry, now time.Time, ttl time.Duration, origin string) []byte {
	b = strconv.AppendInt(append(b, "Age: "...), int64(e.freshness.Age(now)/time.Second), 10)
	b = strconv.AppendInt(append(b, "\r\nCache-Status: chappe; hit; ttl="...), int64(ttl/time.Second), 10)
	return rt.CORSLines(append(b, "\r\n"...), origin)
}

// saysSecure reports whether a trusted proxy says that the client came by https.
func (g *Gateway) saysSecure(x *front.Exchange) bool {
	return x.Has("x-forwarded-proto") && strings.EqualFold(x.Header("x-forwarded-proto"), "https") && clientip.Trusted(x.Peer(), g.options.TrustedProxies)
}
