package gateway

import (
	"strconv"
	"strings"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/rfc9111"
)

// Prepare answers a GET from the store, on the event loop, if a stored answer
// may be used as it is. It holds one that waits for a change.
func (g *Gateway) Prepare(x *front.Exchange) (front.Answer, bool) {
	target := x.Target()
	if target == "" || len(g.places) == 0 {
		return front.Answer{}, false
	}
	secure := x.Secure() || x.Has("x-forwarded-proto") && clientip.SaysSecure(x.Peer(), x.Header("x-forwarded-proto"), g.options.TrustedProxies)
	rt := g.table.Find(secure, x.Host(), target)
	if rt == nil || !rt.Allows("GET") || needsMore(rt, x) {
		return front.Answer{}, false
	}
	k := rt.Key(secure, x.Host(), target, x)
	e, now := g.store.get(k).choose(x), time.Now()
	if e == nil || e.purged.Load() || !e.freshness.Fresh(now) {
		g.lineUp(x, k)
		return front.Answer{}, false
	}
	e.use(now)
	f := e.form(x.Header("accept-encoding"))
	a := front.Answer{Head: f.Head, Body: f.Body, Dated: true}
	if e.notModified(f, x.Header("if-none-match"), x.Header("if-modified-since")) {
		if wait := route.Wait(x.Header("prefer")); wait > 0 && g.hold(x, e, wait) {
			return front.Answer{}, false
		}
		a.Head, a.Body = f.NotModified, nil
	}
	g.place(rt).hits.Inc()
	a.Lines = lines(e, rfc9111.Status{Hit: true, TTL: e.freshness.TTL(now), HasTTL: true}, now, x.Header("origin"))
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

// lines are the fields of an answer that change (RFC 9111 §5.1, RFC 9211).
func lines(e *entry, status rfc9111.Status, now time.Time, origin string) []byte {
	b := append(make([]byte, 0, 128), "Age: "...)
	b = strconv.AppendInt(b, int64(e.freshness.Age(now)/time.Second), 10)
	b = append(status.Append(append(b, "\r\nCache-Status: "...)), "\r\n"...)
	return e.key.Route.CORSLines(b, origin)
}

// lineUp has an exchange wait on its loop for a flight that is under way: it
// takes no goroutine then. Whoever begins one is net/http's.
func (g *Gateway) lineUp(x *front.Exchange, k route.Key) {
	if g.flying.Load() == 0 || strings.Contains(x.Header("via"), g.via) { // it would wait for itself
		return
	}
	r, err := x.Request()
	if err != nil {
		return
	}
	out, known := k.Route.Outgoing(r.Header)
	if !known || r.Header["Cookie"] != nil && !k.Route.Decides() || k.Route.Path != "/" && route.HasDots(k.Target) || route.Ambiguous(k.Target) {
		return
	}
	id := newFlightKey(k, out, g.store.get(k))
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flights[id]
	if f == nil || f.outdated {
		return
	}
	if held, err := x.Postpone(); err == nil {
		f.held = append(f.held, held)
		g.queued.Add(1)
	}
}

// answerHeld answers those that wait on the loops.
func (g *Gateway) answerHeld(f *flight) {
	byLoop := map[*loop.Loop][]*front.Exchange{}
	for _, x := range f.held {
		byLoop[x.Loop()] = append(byLoop[x.Loop()], x)
	}
	for l, held := range byLoop {
		l.Post(func() {
			for _, x := range held {
				g.answerOne(f, x)
			}
		})
	}
}

func (g *Gateway) answerOne(f *flight, x *front.Exchange) {
	g.queued.Add(-1)
	switch {
	case f.err != nil:
		p := failure(f.err)
		h, body := p.Answer()
		f.key.key.Route.MarkCORS(h, x.Header("origin"))
		x.Answer(p.Status, h, body)
		return
	case f.entry == nil || f.alone || !f.entry.selector.Matches(x.Header):
		x.Pass() // to ask for itself
		return
	}
	e, now := f.entry, time.Now()
	rep := e.form(x.Header("accept-encoding"))
	a := front.Answer{Head: rep.Head, Body: rep.Body, Dated: true}
	if e.notModified(rep, x.Header("if-none-match"), x.Header("if-modified-since")) {
		a.Head, a.Body = rep.NotModified, nil
	}
	status := f.status
	status.Collapsed = true
	a.Lines = lines(e, status, now, x.Header("origin"))
	e.use(now)
	g.place(e.key.Route).misses.Inc()
	x.Reply(a)
}
