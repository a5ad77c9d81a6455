package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/prepared"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/rfc9111"
	"github.com/chappe/chappe/internal/slab"
)

// retryTime is how soon a wait looks again at an answer that is not fresh.
const retryTime = 2 * time.Second

// desk is where the clients of one loop wait. It runs on the loop.
type desk struct {
	g     *Gateway
	loop  *loop.Loop
	owner loop.OwnerID
	waits slab.Slab[wait]
	byKey map[route.Key]map[uint32]struct{}
}

// wait is a client that has an answer and waits for another.
type wait struct {
	x        *front.Exchange // nil: the place is free
	conn     loop.Conn
	entry    *entry // that it has
	tag      string // its If-None-Match
	encoding string // its Accept-Encoding
	origin   string
	ends     time.Duration // on the loop's clock
}

func newDesk(g *Gateway, l *loop.Loop) *desk {
	d := &desk{g: g, loop: l, byKey: map[route.Key]map[uint32]struct{}{}}
	done := make(chan struct{})
	l.Post(func() { d.owner = l.Register(d); close(done) })
	<-done
	return d
}

// hold has a client wait, which has what is stored. It fails if too many wait,
// or if it has no validator to tell a change by.
func (g *Gateway) hold(x *front.Exchange, e *entry, length time.Duration) bool {
	tag, encoding, origin := strings.Clone(x.Header("if-none-match")), strings.Clone(x.Header("accept-encoding")), strings.Clone(x.Header("origin"))
	if tag == "" || tag == "*" {
		return false
	}
	for _, d := range g.desks {
		if d.loop == x.Loop() {
			return d.enter(x, wait{entry: e, tag: tag, encoding: encoding, origin: origin, ends: d.loop.Now() + length})
		}
	}
	return false
}

// holds has a request of net/http wait on one of the loops, in turn, if it
// wants to.
func (v *visit) holds(e *entry) bool {
	g, length := v.g, route.Wait(v.r.Header.Get("Prefer"))
	if length <= 0 || v.r.Method != http.MethodGet || len(g.desks) == 0 || v.r.Header.Get("If-None-Match") == "" {
		return false
	}
	d := g.desks[int(g.hosted.Add(1))%len(g.desks)]
	front.Host(d.loop, func(x *front.Exchange) {
		if !g.hold(x, e, length) {
			x.Answer(http.StatusNotModified, prepared.ReadHeader(e.form(x.Header("accept-encoding")).NotModified), nil)
		}
	}, v.w, v.r)
	return true
}

func (d *desk) enter(x *front.Exchange, w wait) bool {
	if !d.g.waiters.Enter(w.entry.key) {
		return false
	}
	held, err := x.Hold()
	if err != nil {
		d.g.waiters.Leave(w.entry.key)
		return false
	}
	id := d.waits.Add()
	w.x = held
	if w.conn = held.Wait(d.owner, id); w.conn == 0 { // it has gone
		d.g.waiters.Leave(w.entry.key)
		d.waits.Remove(id)
		return true
	}
	*d.waits.At(id) = w
	ids := d.byKey[w.entry.key]
	if ids == nil {
		ids = map[uint32]struct{}{}
		d.byKey[w.entry.key] = ids
	}
	ids[id] = struct{}{}
	d.look(id)
	return true
}

// look answers a wait that is over, and sets when to look again.
func (d *desk) look(id uint32) {
	w := d.waits.At(id)
	e := d.current(w)
	left := w.ends - d.loop.Now()
	switch r := d.g.store.get(w.entry.key); {
	case e == nil && r != nil && time.Now().Before(r.passUntil): // it cannot be shared any more: the client is to ask for itself
		d.answer(id, w.entry, true)
		return
	case e != nil && !e.purged.Load() && !rfc9111.ETagMatches(w.tag, e.form(w.encoding).ETag):
		d.answer(id, e, false)
		return
	case left <= 0 && w.entry.purged.Load():
		d.giveUp(id)
		return
	case left <= 0:
		d.answer(id, w.entry, true)
		return
	}
	ttl := w.entry.freshness.TTL(time.Now())
	if e != nil {
		w.entry, ttl = e, e.freshness.TTL(time.Now())
	}
	if e == nil || e.purged.Load() || ttl <= 0 {
		d.g.renewSoon(w.entry)
		ttl = retryTime
	}
	d.loop.Wake(w.conn, min(left, ttl))
}

// current is what is stored of what the wait is for.
func (d *desk) current(w *wait) *entry {
	r := d.g.store.get(w.entry.key)
	if r == nil {
		return nil
	}
	for _, e := range r.variants {
		if e.selector.String() == w.entry.selector.String() {
			return e
		}
	}
	return nil
}

// answer ends a wait, with the new answer or with what the client has.
func (d *desk) answer(id uint32, e *entry, unchanged bool) {
	w := *d.waits.At(id)
	d.forget(id)
	f := e.form(w.encoding)
	head, body, code := f.Head, f.Body, e.status
	if unchanged {
		head, body, code = f.NotModified, nil, http.StatusNotModified
	}
	h := prepared.ReadHeader(head)
	h.Del("Date") // its own is written
	h.Del("Content-Length")
	now := time.Now()
	h.Set("Age", strconv.FormatInt(int64(e.freshness.Age(now)/time.Second), 10))
	h.Add("Cache-Status", rfc9111.Status{Hit: true, TTL: e.freshness.TTL(now), HasTTL: true}.String())
	h.Set("Preference-Applied", "wait") // RFC 7240 §3
	e.key.Route.AddCORS(h, w.origin)
	w.x.Answer(code, h, body)
}

// giveUp ends a wait for an answer that has changed, nobody knows how.
func (d *desk) giveUp(id uint32) {
	w := *d.waits.At(id)
	d.forget(id)
	p := problem.New("upstream-timeout", "The upstream did not say in time what the new answer is.")
	h, body := p.Answer()
	w.entry.key.Route.MarkCORS(h, w.origin)
	w.x.Answer(p.Status, h, body)
}

// forget frees a place.
func (d *desk) forget(id uint32) {
	w := d.waits.At(id)
	k := w.entry.key
	d.g.waiters.Leave(k)
	if delete(d.byKey[k], id); len(d.byKey[k]) == 0 {
		delete(d.byKey, k)
	}
	*w = wait{}
	d.waits.Remove(id)
}

// retry has a wait look again, after a while: what it waits for could not be
// fetched.
func (d *desk) retry(id uint32) {
	w := d.waits.At(id)
	d.loop.Wake(w.conn, max(time.Millisecond, min(w.ends-d.loop.Now(), retryTime)))
}

// tell has those that wait for the key look.
func (g *Gateway) tell(k route.Key) { g.each(k, (*desk).look) }

// each does something with all that wait for the key.
func (g *Gateway) each(k route.Key, do func(d *desk, id uint32)) {
	if !g.waiters.Has(k) {
		return
	}
	for _, d := range g.desks {
		d.loop.Post(func() {
			for id := range d.byKey[k] {
				do(d, id)
			}
		})
	}
}

// Drain answers all that wait, which then ask anew.
func (g *Gateway) Drain() {
	for _, d := range g.desks {
		done := make(chan struct{})
		d.loop.Post(func() {
			defer close(done)
			for _, ids := range d.byKey {
				for id := range ids {
					d.answer(id, d.waits.At(id).entry, true)
				}
			}
		})
		<-done
	}
}

// Input implements loop.Owner: what comes before the answer is the front's.
func (d *desk) Input(loop.Conn, uint32, []byte) {}

// Drained implements loop.Owner.
func (d *desk) Drained(loop.Conn, uint32) {}

// Timeout implements loop.Owner.
func (d *desk) Timeout(_ loop.Conn, id uint32) { d.look(id) }

// Closed implements loop.Owner.
func (d *desk) Closed(_ loop.Conn, id uint32, _ error) { d.forget(id) }
