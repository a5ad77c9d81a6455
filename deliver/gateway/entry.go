package gateway

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/internal/coding"
	"github.com/chappe/chappe/internal/prepared"
	"github.com/chappe/chappe/internal/rfc9111"
)

// entry is a stored answer. But for the counters it does not change.
type entry struct {
	key       route.Key
	selector  rfc9111.Selector // by which requests it is chosen among the key's variants
	status    int
	freshness rfc9111.Freshness
	plain     prepared.Form
	gzip, br  *prepared.Form // nil without
	modified  string         // Last-Modified
	received  time.Time
	tags      []string    // the route's, Surrogate-Key, Cache-Tag
	groups    []string    // Cache-Groups, each after its origin
	request   http.Header // what it was asked with, as far as it matters; nil: nothing
	ours      bool        // the ETag is of our making: the upstream does not know it
	started   uint64      // when its fetch began, on the store's clock of purges

	purged   atomic.Bool  // it must be asked for anew
	removed  atomic.Bool  // it is not even to be asked about
	renewing atomic.Bool  // it is in Gateway.renew
	used     atomic.Int64 // Unix second of its last use
}

// answer is what came from upstream, to be stored.
type answer struct {
	status   int
	header   http.Header // rfc9111.Storable
	body     []byte
	received time.Time
}

// newEntry makes the answer ready.
func newEntry(k route.Key, s rfc9111.Selector, f rfc9111.Freshness, a *answer) *entry {
	rt := k.Route
	if rt.Jitter > 0 {
		f.Lifetime -= min(rand.N(rt.Jitter), f.Lifetime/2)
	}
	e := &entry{key: k, selector: s, status: a.status, freshness: f, received: a.received, modified: a.header.Get("Last-Modified")}
	h := a.header.Clone()
	if h.Get("Date") == "" {
		h.Set("Date", a.received.UTC().Format(http.TimeFormat)) // RFC 9110 §6.6.1
	}
	if e.ours = h.Get("Etag") == "" && a.status == http.StatusOK; e.ours {
		h.Set("Etag", prepared.ETag(a.body))
	}
	rt.PrepareCORS(h)
	encodable := rt.Compress && compressible(h, a)
	if encodable {
		route.AddVary(h, "Accept-Encoding")
	}
	e.plain = prepared.New(a.status, h, a.body)
	if encodable {
		e.gzip, e.br = prepared.Encoded(h, coding.Gzip(a.body), "gzip"), prepared.Encoded(h, coding.Brotli(a.body), "br")
	}
	e.used.Store(a.received.Unix())
	return e
}

// compressible reports whether an answer is text that nobody has encoded yet,
// and may be transformed (RFC 9110 §7.7).
func compressible(h http.Header, a *answer) bool {
	return a.status == http.StatusOK && h.Get("Content-Encoding") == "" && coding.Worth(h.Get("Content-Type"), len(a.body)) &&
		!strings.Contains(strings.ToLower(strings.Join(h["Cache-Control"], ",")), "no-transform")
}

// form chooses what the client accepts (RFC 9110 §12.5.3).
func (e *entry) form(acceptEncoding string) *prepared.Form {
	if e.gzip == nil {
		return &e.plain
	}
	switch gzip, br := rfc9111.AcceptsEncoding(acceptEncoding); {
	case br:
		return e.br
	case gzip:
		return e.gzip
	}
	return &e.plain
}

// stored is the header as the upstream gave it, for asking whether it still
// holds and for updating it: without what is of our making.
func (e *entry) stored() http.Header {
	h := e.plain.Header()
	if e.ours {
		h.Del("Etag")
	}
	return h
}

// validators are what to ask with whether the answer still holds. A
// Last-Modified of the second of the answer says nothing: there may have been
// another change in it (RFC 9110 §8.8.2.2).
func (e *entry) validators() http.Header {
	h := e.stored()
	modified, ok := rfc9111.ParseDate(h.Get("Last-Modified"))
	if date, dated := rfc9111.ParseDate(h.Get("Date")); ok && dated && date.Before(modified.Add(time.Second)) {
		h.Del("Last-Modified")
	}
	return rfc9111.Validators(h)
}

// notModified evaluates the client's conditions against a form (RFC 9111 §4.3.2).
func (e *entry) notModified(f *prepared.Form, ifNoneMatch, ifModifiedSince string) bool {
	if e.status != http.StatusOK {
		return false
	}
	if ifNoneMatch != "" {
		return rfc9111.ETagMatches(ifNoneMatch, f.ETag)
	}
	if ifModifiedSince == "" {
		return false
	}
	if e.modified != "" && ifModifiedSince == e.modified {
		return true
	}
	return rfc9111.NotModified("", ifModifiedSince, e.status, f.Header(), e.received)
}

// use notes that the entry was asked for.
func (e *entry) use(now time.Time) {
	if s := now.Unix(); e.used.Load() != s {
		e.used.Store(s)
	}
}

func (e *entry) inUse(now time.Time) bool {
	return now.Unix()-e.used.Load() <= int64(recentHit/time.Second)
}

// overhead is about what an entry takes besides its bytes: the structs, the
// index of tags, and the cache's own.
const overhead = 900

// size is what the entry takes of the memory.
func (e *entry) size() int {
	n := overhead + e.key.Size()
	for _, f := range []*prepared.Form{&e.plain, e.gzip, e.br} {
		if f != nil {
			n += len(f.Head) + len(f.NotModified) + len(f.Body) + len(f.ETag)
		}
	}
	for _, tag := range e.tags {
		n += len(tag) + 64
	}
	return n
}
