package gateway

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/prepared"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/progress"
	"github.com/chappe/chappe/internal/rfc9111"
	"github.com/chappe/chappe/internal/upstream"
)

// Match reports whether the request is one of the routes'.
func (g *Gateway) Match(r *http.Request) bool { return g.find(r) != nil }

func (g *Gateway) find(r *http.Request) *route.Route {
	if len(g.places) == 0 {
		return nil
	}
	return g.table.Find(g.isSecure(r), r.Host, route.Target(r))
}

func (g *Gateway) isSecure(r *http.Request) bool {
	return clientip.Secure(r, g.options.TrustedProxies)
}

// ServeHTTP answers a request of a route.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rt := g.find(r)
	if rt == nil {
		problem.Write(w, problem.New("not-found", "There is no "+r.Method+" "+r.URL.Path))
		return
	}
	if cookies := account.OtherCookies(r.Header); cookies != "" { // the console's are nobody else's
		r.Header["Cookie"] = []string{cookies}
	} else {
		delete(r.Header, "Cookie")
	}
	w.Header()["Content-Type"] = nil // net/http is to make none up
	w = progress.Writer(w)
	r.Body = progress.Body(r.Body, w)
	path, _, _ := strings.Cut(route.Target(r), "?")
	switch {
	case strings.Contains(strings.Join(r.Header["Via"], ","), g.via):
		refuse(w, r, rt, problem.New("upstream-loop", "The route's upstream is this server itself"))
	case rt.Preflight(w, r):
	case !rt.Allows(r.Method):
		w.Header().Set("Allow", strings.Join(rt.Methods, ", "))
		refuse(w, r, rt, problem.New("method-not-allowed", "This path answers "+strings.Join(rt.Methods, ", ")+" only"))
	case rt.Path != "/" && route.HasDots(path):
		refuse(w, r, rt, problem.New("bad-path", "The path has dot segments, which may lead out of "+rt.Path+"; resolve them before asking"))
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.ContentLength == 0 && r.Header.Get("Upgrade") == "":
		g.serveCached(w, r, rt, path)
	default:
		g.forward(w, r, rt, rfc9111.Status{Forward: "method"})
	}
}

// serveCached answers a GET or HEAD from the store, or has the store filled.
func (g *Gateway) serveCached(w http.ResponseWriter, r *http.Request, rt *route.Route, path string) {
	out, known := rt.Outgoing(r.Header)
	view := route.Sent(out)
	if !known {
		view = route.Sent(r.Header)
	}
	v := visit{g: g, w: w, r: r, rt: rt, key: rt.Key(g.isSecure(r), r.Host, route.Target(r), route.Sent(r.Header))}
	if !rt.Decides() {
		v.demand = rfc9111.ParseDemand(strings.Join(r.Header["Cache-Control"], ","), strings.Join(r.Header["Pragma"], ","))
	}
	why := ""
	switch {
	case r.Header["Authorization"] != nil && !rt.Authorization:
		why = "authorization"
	case route.Ambiguous(path):
		why = "path"
	case rt.Compress && r.Header["Range"] != nil:
		delete(r.Header, "Range") // of which form it would be, nobody could say
	}
	if why != "" || v.demand.NoStore {
		g.forward(w, r, rt, rfc9111.Status{Forward: "bypass", Detail: why})
		return
	}
	for range maxTries {
		if v.serveStored(view) {
			return
		}
		switch {
		case v.demand.OnlyIfCached:
			refuse(w, r, rt, problem.New("not-cached", "Nothing that could be used is stored, and only that was asked for"))
			return
		case !known:
			why = "header"
		case r.Header["Cookie"] != nil && !rt.Decides() && len(rt.Cookies) == 0:
			why = "cookie"
		case r.Method == http.MethodHead:
			why = "head"
		case r.Header["Range"] != nil:
			why = "partial"
		case v.resource == nil || time.Now().After(v.resource.passUntil):
			if f, leader := g.join(v.key, out, v.resource); f != nil && v.wait(f, leader, out) {
				return
			}
			continue
		case r.Header["If-None-Match"] != nil || r.Header["If-Modified-Since"] != nil:
			why = "hit-for-miss" // which the upstream may answer by 304
		case v.wait(g.flyAlone(v.key, out, v.resource), true, out):
			return
		}
		g.forward(w, r, rt, rfc9111.Status{Forward: v.forwardReason(), Detail: why})
		return
	}
	g.forward(w, r, rt, rfc9111.Status{Forward: "vary-miss", Detail: "variants"})
}

// maxTries is how often a request looks again after a flight that brought
// another variant than its own, or ended while it looked.
const maxTries = 4

// visit is one request for what may be stored.
type visit struct {
	g        *Gateway
	w        http.ResponseWriter
	r        *http.Request
	rt       *route.Route
	key      route.Key
	demand   rfc9111.Demand
	resource *resource // as last looked up
}

func (v *visit) forwardReason() string {
	if v.resource == nil || len(v.resource.variants) == 0 {
		return "uri-miss"
	}
	return "miss"
}

// serveStored answers from the store if it may (RFC 9111 §4).
func (v *visit) serveStored(view route.Sent) bool {
	v.resource = v.g.store.get(v.key)
	e := v.resource.choose(view)
	if e == nil || e.purged.Load() {
		return false
	}
	now := time.Now()
	if !v.demand.Accepts(e.freshness, now) {
		if v.demand.NoCache || !e.freshness.MayRevalidateBehind(now) {
			return false
		}
		out, known := v.rt.Outgoing(v.r.Header)
		if !known {
			return false
		}
		v.g.discard(v.g.join(v.key, out, v.resource)) // RFC 5861 §3
	}
	e.use(now)
	v.g.place(v.rt).hits.Inc()
	v.serve(e, rfc9111.Status{Hit: true, TTL: e.freshness.TTL(now), HasTTL: true})
	return true
}

// discard leaves a flight to itself.
func (g *Gateway) discard(f *flight, leader bool) {
	if !leader {
		return
	}
	g.spawn(func() { // ended by the upstream's deadlines
		<-f.done
		if f.pass != nil {
			_ = f.pass.Body.Close() // nobody is there to take it
		}
	})
}

// wait has the request answered by a flight. It reports whether it was: what
// the flight brought may be another variant, or stored already.
func (v *visit) wait(f *flight, leader bool, out http.Header) bool {
	v.g.queued.Add(1)
	defer v.g.queued.Add(-1)
	var interims chan interim
	if leader {
		interims = f.interim
	}
	for landed := false; !landed; {
		select {
		case i := <-interims:
			v.inform(i)
		case <-v.r.Context().Done():
			v.g.discard(f, leader)
			return true
		case <-f.done:
			landed = true
		}
	}
	for leader && len(f.interim) > 0 {
		v.inform(<-f.interim)
	}
	return v.land(f, leader, out)
}

func (v *visit) land(f *flight, leader bool, out http.Header) bool {
	status := f.status
	status.Collapsed = !leader
	switch {
	case f.err != nil:
		v.g.place(v.rt).failures.Inc()
		v.g.fail(v.w, v.r, v.rt, f.err)
	case f.entry != nil && f.entry.selector.Matches(route.Sent(out).Header) && (leader || !f.alone):
		v.g.place(v.rt).misses.Inc()
		f.entry.use(time.Now())
		v.serve(f.entry, status)
	case f.pass != nil && leader:
		v.g.place(v.rt).passes.Inc()
		v.hand(f.pass, status)
	case f.pass != nil || f.alone:
		v.g.forward(v.w, v.r, v.rt, rfc9111.Status{Forward: status.Forward, Detail: status.Detail})
	default:
		return false
	}
	return true
}

// inform passes a 1xx answer on (RFC 9110 §15.2).
func (v *visit) inform(i interim) {
	h := v.w.Header()
	maps.Copy(h, i.header)
	v.w.WriteHeader(i.status)
	for name := range i.header {
		delete(h, name)
	}
}

// hand gives the leader what cannot be shared.
func (v *visit) hand(res *http.Response, status rfc9111.Status) {
	defer res.Body.Close()
	h := v.w.Header()
	maps.Copy(h, rfc9111.Storable(res.Header))
	removeTags(h)
	v.rt.MarkCORS(h, v.r.Header.Get("Origin"))
	if res.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
	h.Add("Cache-Status", status.String())
	if res.StatusCode == http.StatusOK && rfc9111.ETagMatches(v.r.Header.Get("If-None-Match"), h.Get("Etag")) {
		h.Del("Content-Length")
		v.w.WriteHeader(http.StatusNotModified)
		return
	}
	v.w.WriteHeader(res.StatusCode)
	if err := progress.Copy(v.w, res.Body, res.ContentLength < 0); err != nil {
		panic(http.ErrAbortHandler) // the client is to see that it is not whole
	}
}

// serve answers with an entry: whole, a part of it, or that it has not changed.
func (v *visit) serve(e *entry, status rfc9111.Status) {
	in := v.r.Header
	f := e.form(strings.Join(in["Accept-Encoding"], ","))
	unchanged := e.notModified(f, strings.Join(in["If-None-Match"], ","), in.Get("If-Modified-Since"))
	if unchanged && v.holds(e) {
		return
	}
	head, code := f.Head, e.status
	if unchanged {
		head, code = f.NotModified, http.StatusNotModified
	}
	h := v.w.Header()
	maps.Copy(h, prepared.ReadHeader(head))
	h.Set("Age", strconv.FormatInt(int64(e.freshness.Age(time.Now())/time.Second), 10)) // RFC 9111 §5.1
	h.Add("Cache-Status", status.String())
	v.rt.AddCORS(h, in.Get("Origin"))
	body := f.Body
	if unchanged {
		body = nil
	} else if in["Range"] != nil && e.status == http.StatusOK && v.r.Method == http.MethodGet { // RFC 9110 §14.2
		body, code = rfc9111.Part(h, in, f.Body, code)
	}
	v.w.WriteHeader(code)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(body) // the client may have gone
	}
}

// warnEvery is how many seconds lie between two warnings about a route.
const warnEvery = 10

// fail answers for an upstream that did not.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, rt *route.Route, err error) {
	if r.Context().Err() != nil {
		return // nobody is there
	}
	if now, last := time.Now().Unix(), g.place(rt).warned.Load(); now-last >= warnEvery && g.place(rt).warned.CompareAndSwap(last, now) {
		g.options.Logger.Warn("an upstream failed", "route", rt.Name, "err", err)
	}
	p := failure(err)
	w.Header().Set("Cache-Status", rfc9111.Status{Forward: "miss", Detail: p.Code}.String())
	refuse(w, r, rt, p)
}

// failure is what clients are told of an upstream's error.
func failure(err error) *problem.Problem {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		switch e.Status() {
		case http.StatusGatewayTimeout:
			return problem.New("upstream-timeout", "The upstream did not answer in time.")
		case http.StatusServiceUnavailable:
			return problem.New("upstream-busy", "The upstream has more requests than it can take, or does not answer; come back.")
		}
	}
	return problem.New("upstream-failed", "The upstream did not answer.")
}

// refuse says why there is no answer, also to the route's pages.
func refuse(w http.ResponseWriter, r *http.Request, rt *route.Route, p *problem.Problem) {
	rt.MarkCORS(w.Header(), r.Header.Get("Origin"))
	problem.Write(w, p)
}
