package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/rfc9111"
)

// flightKey is what is asked for once, however many want it.
type flightKey struct {
	key     route.Key
	variant string // the selecting headers, as far as they are known
}

// flight is a request to the upstream that several may wait for. It goes on
// when they leave.
type flight struct {
	key      flightKey
	out      http.Header       // that it is asked with
	tags     []tag             // that the answer will have at least
	outdated bool              // something was purged since; guarded by Gateway.mu
	held     []*front.Exchange // of the loops, that wait for it; guarded by Gateway.mu
	next     *flight           // begins when this has ended, for those who came after that; guarded by Gateway.mu

	interim chan interim   // for the leader
	done    chan struct{}  // closed when the rest is set
	entry   *entry         // the answer; nil if it cannot be shared
	pass    *http.Response // for the leader alone; its to close
	alone   bool           // the entry is for the leader alone, too
	err     error
	status  rfc9111.Status
}

// interim is a 1xx answer.
type interim struct {
	status int
	header http.Header
}

// maxInterim is how many 1xx answers wait for the leader; more are left out.
const maxInterim = 8

// join finds or begins the flight that brings the answer to a request; out is
// what of it goes upstream, and seen what the caller found in the store. The
// leader is the one whose request it is. There is no flight if one has ended
// since: the caller is to look again.
func (g *Gateway) join(k route.Key, out http.Header, seen *resource) (f *flight, leader bool) {
	id := newFlightKey(k, out, seen)
	g.mu.Lock()
	defer g.mu.Unlock()
	current := g.flights[id]
	switch {
	case current == nil && g.store.get(k) != seen:
		return nil, false
	case current == nil:
		f = g.newFlight(id, out, seen)
		g.flights[id] = f
		g.flying.Add(1)
		g.spawnLocked(func() { g.fly(f) }) // ended by the upstream's deadlines
		return f, true
	case !current.outdated:
		return current, false
	case current.next == nil:
		current.next = g.newFlight(id, out, seen)
		return current.next, true
	}
	return current.next, false
}

func newFlightKey(k route.Key, out http.Header, seen *resource) flightKey {
	id := flightKey{key: k}
	if seen != nil && len(seen.vary) > 0 {
		id.variant = rfc9111.NewSelector(seen.vary, route.Sent(out).Header).String()
	}
	return id
}

func (g *Gateway) newFlight(id flightKey, out http.Header, r *resource) *flight {
	id.key = id.key.Clone()
	f := &flight{key: id, out: out, interim: make(chan interim, maxInterim), done: make(chan struct{})}
	f.tags = tagsFor(id.key, id.key.Route.Tags(&id.key, out))
	if e := r.choose(route.Sent(out)); e != nil {
		f.tags = append(f.tags, e.allTags()...)
	}
	return f
}

func tagsFor(k route.Key, names []string) []tag {
	var all []tag
	for _, name := range names {
		all = append(all, tag{k.Route, tagName, name}, tag{nil, tagName, name})
	}
	return all
}

// fly makes the request, stores the answer, tells those who wait, and begins
// the next flight, if somebody waits for that.
func (g *Gateway) fly(f *flight) {
	for f != nil {
		g.fetchSafely(f)
		g.mu.Lock()
		next := f.next
		if next == nil {
			delete(g.flights, f.key)
			g.flying.Add(-1)
		} else {
			g.flights[f.key] = next
		}
		g.mu.Unlock() // nobody joins it any more
		close(f.done)
		g.answerHeld(f)
		f = next
	}
}

// flyAlone makes a request for one client, which nobody joins.
func (g *Gateway) flyAlone(k route.Key, out http.Header, seen *resource) *flight {
	f := g.newFlight(newFlightKey(k, out, seen), out, seen)
	g.spawn(func() { // ended by the upstream's deadlines
		g.fetchSafely(f)
		close(f.done)
	})
	return f
}

// fetchSafely is fetch; one bad answer never ends the process.
func (g *Gateway) fetchSafely(f *flight) {
	defer func() {
		if v := recover(); v != nil {
			g.metrics.panics.Inc()
			g.options.Logger.Error("a fetch failed", "panic", v, "route", f.key.key.Route.Name)
			f.err = errors.New("the answer could not be dealt with")
		}
	}()
	g.fetch(f)
}

// outdate has those who come from now on not given what flights with the tags
// are about to bring.
func (g *Gateway) outdate(tags []tag) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.flights {
		if slices.ContainsFunc(tags, func(t tag) bool { return t.covers(f.key.key) || slices.Contains(f.tags, t) }) {
			f.outdated = true
		}
	}
}

// fetch fills in the flight's outcome.
func (g *Gateway) fetch(f *flight) {
	k, now := f.key.key, time.Now()
	started := g.store.begin()
	defer g.store.end()
	stored := g.store.get(k).choose(route.Sent(f.out))
	req, err := g.upstreamRequest(f, stored)
	if err != nil {
		f.err = err
		return
	}
	f.status = rfc9111.Status{Forward: "uri-miss"}
	if stored != nil {
		f.status.Forward = "stale"
	} else if r := g.store.get(k); r != nil && len(r.variants) > 0 {
		f.status.Forward = "vary-miss"
	}
	place := g.place(k.Route)
	place.fetches.Inc()
	res, err := place.pool.RoundTrip(req)
	place.seconds.Observe(time.Since(now).Seconds())
	if err != nil {
		g.fallBack(f, stored, err)
		return
	}
	f.status.ForwardStatus = res.StatusCode
	g.land(f, stored, started, &rfc9111.Exchange{
		Method: http.MethodGet, Request: f.out, Status: res.StatusCode, Response: res.Header, Requested: now, Received: time.Now(),
	}, res)
}

// upstreamRequest is the flight's request; stored, if it is there, is asked
// about (RFC 9111 §4.3.1).
func (g *Gateway) upstreamRequest(f *flight, stored *entry) (*http.Request, error) {
	k := f.key.key
	u, err := url.ParseRequestURI(k.Target)
	if err != nil {
		return nil, err
	}
	h := f.out.Clone()
	if stored != nil {
		for name, values := range stored.validators() {
			h[name] = values
		}
	}
	host := ""
	if k.Route.KeepHost {
		host = k.Host
	}
	route.SetForwarded(h, &k)
	h.Add("Via", "1.1 "+g.via) // RFC 9110 §7.6.3
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{"chappe"}
	}
	ctx := httptrace.WithClientTrace(g.life, &httptrace.ClientTrace{
		Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			select {
			case f.interim <- interim{status, http.Header(header).Clone()}:
			default:
			}
			return nil
		},
	})
	return (&http.Request{Method: http.MethodGet, URL: u, Header: h, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx), nil
}

// fallBack is for a request that failed: what is stored may still be given, by
// leave of the response (RFC 5861 §4), or since nobody can be asked (RFC 9111
// §4.2.4); but not what is known to have changed.
func (g *Gateway) fallBack(f *flight, stored *entry, err error) {
	switch {
	case stored == nil:
	case stored.freshness.MayServeOnError(time.Now()):
		f.entry, f.status.Detail = stored, "stale-if-error"
		return
	case !stored.freshness.MustRevalidate && !stored.freshness.NoCache && !stored.purged.Load():
		f.entry, f.status.Detail = stored, "disconnected"
		return
	}
	f.err = err
}

// land judges the answer and stores it, if it may be.
func (g *Gateway) land(f *flight, stored *entry, started uint64, x *rfc9111.Exchange, res *http.Response) {
	k := f.key.key
	if x.Status < 200 { // 101, which nobody asked for, or no status at all: none that a client could get
		_ = res.Body.Close()
		g.fallBack(f, stored, fmt.Errorf("status %d", x.Status))
		return
	}
	if x.Status == http.StatusNotModified && stored != nil {
		drain(res.Body)
		if !rfc9111.Freshens(stored.stored(), res.Header) { // RFC 9111 §4.3.4: it is about another answer
			g.store.drop(stored)
			g.fetch(f)
			return
		}
		x.Status, x.Response = stored.status, rfc9111.Update(stored.stored(), res.Header)
		f.entry = g.keep(f, started, x, stored.plain.Body, stored)
		return
	}
	failed := x.Status == 500 || x.Status == 502 || x.Status == 503 || x.Status == 504 // RFC 5861 §4
	if failed && stored != nil && stored.freshness.MayServeOnError(time.Now()) {
		drain(res.Body)
		f.entry, f.status.Detail = stored, "stale-if-error"
		return
	}
	_, storable, why := rfc9111.Judge(x, k.Route.Policy)
	if storable && isStream(x.Response) {
		storable, why = false, "stream"
	}
	if !storable {
		if stored != nil && x.Status < 500 {
			g.store.drop(stored) // what it was is no more
		}
		if x.Status < 500 {
			g.store.pass(k)
		}
		f.pass, f.status.Detail = res, why
		return
	}
	body, whole, err := g.read(res)
	switch {
	case err != nil:
		g.fallBack(f, stored, err)
	case !whole:
		g.store.pass(k)
		f.pass, f.status.Detail = res, "too-large"
	default:
		f.entry = g.keep(f, started, x, body, stored)
	}
}

// isStream reports whether an answer goes on for as long as somebody reads it.
func isStream(h http.Header) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return t == "text/event-stream" || t == "multipart/x-mixed-replace"
}

// keep makes and stores the entry of a whole answer, and tells who wants to
// know that it differs from the one before. What may not be stored after all
// is for those who wait for it now.
func (g *Gateway) keep(f *flight, started uint64, x *rfc9111.Exchange, body []byte, before *entry) *entry {
	k := f.key.key
	freshness, storable, _ := rfc9111.Judge(x, k.Route.Policy)
	names, any := rfc9111.Vary(x.Response)
	if x.Response.Get("Content-Encoding") != "" && !slices.Contains(names, "accept-encoding") {
		names = append(names, "accept-encoding") // whatever it says
	}
	names = k.Route.Selecting(names)
	tags := append(k.Route.Tags(&k, f.out), rfc9111.Tags(x.Response)...)
	groups := k.Groups(rfc9111.Groups(x.Response))
	header := rfc9111.Storable(x.Response)
	removeTags(header)
	e := newEntry(k, rfc9111.NewSelector(names, route.Sent(f.out).Header), freshness, &answer{x.Status, header, body, x.Received})
	e.tags, e.groups, e.started, e.request = tags, groups, started, k.Route.AskedWith(f.out, names)
	if before != nil {
		e.used.Store(before.used.Load())
	}
	if !storable || any {
		f.alone = true
		if before != nil {
			g.store.drop(before)
		}
		return e
	}
	f.status.Stored = true
	old := g.store.put(e, names)
	if old == nil {
		old = before
	}
	g.changed(old, e)
	return e
}

// removeTags removes what is between the upstream and its cache.
func removeTags(h http.Header) {
	h.Del("Surrogate-Key")
	h.Del("Cache-Tag")
}

// read reads a body as long as it may be stored, and closes it. One that may
// not is left, with what was read, to be passed on.
func (g *Gateway) read(res *http.Response) (body []byte, whole bool, err error) {
	most := int64(g.options.Cache.Object)
	if res.ContentLength > most {
		return nil, false, nil
	}
	var b bytes.Buffer
	b.Grow(int(max(0, min(res.ContentLength, 64<<10))) + bytes.MinRead) // more may never come
	held := int64(0)
	defer func() { g.filling.Add(-held) }()
	for {
		n, err := io.CopyN(&b, res.Body, 64<<10)
		held += n
		filling := g.filling.Add(n)
		switch {
		case errors.Is(err, io.EOF) && held <= most:
			drain(res.Body)
			return bytes.Clone(b.Bytes()), true, nil
		case err != nil && !errors.Is(err, io.EOF):
			_ = res.Body.Close()
			return nil, false, err
		case filling > int64(g.options.Cache.Size), held > most:
			res.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(&b, res.Body), res.Body}
			return nil, false, nil
		}
	}
}

// drain reads what is left of a short body, so that its connection is kept.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10) // nobody wants it
	_ = body.Close()
}
