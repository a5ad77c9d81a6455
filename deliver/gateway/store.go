package gateway

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/chappe/chappe/deliver/gateway/route"
)

// maxVariants is how many answers one key may have, by Vary; the oldest goes.
const maxVariants = 16

// passTime is how long requests of a key whose answer could not be shared go
// side by side ("hit-for-miss"). What they bring is stored, if it may be.
const passTime = 10 * time.Second

// resource is what is known of a key. It does not change: a new one takes its
// place.
type resource struct {
	key       route.Key
	vary      []string // names that choose among the variants, as the last answer said
	variants  []*entry // the newest first
	passUntil time.Time
}

// tag is what entries are purged by.
type tag struct {
	route *route.Route // nil: of any
	kind  tagKind
	name  string
}

type tagKind uint8

const (
	tagName   tagKind = iota // a route's tag, Surrogate-Key, Cache-Tag
	tagGroup                 // Cache-Groups; the name has the origin before it (RFC 9875 §2)
	tagTarget                // path and query
	tagRoute                 // all of a route
)

// tagsOf are all tags of a resource.
func (r *resource) tagsOf(yield func(tag) bool) {
	if !yield(tag{r.key.Route, tagRoute, ""}) || !yield(tag{nil, tagTarget, r.key.Target}) {
		return
	}
	for _, e := range r.variants {
		for _, t := range e.allTags() {
			if !yield(t) {
				return
			}
		}
	}
}

// allTags are an entry's own names, for its route and for all.
func (e *entry) allTags() []tag {
	all := make([]tag, 0, 2*len(e.tags)+len(e.groups))
	for _, name := range e.tags {
		all = append(all, tag{e.key.Route, tagName, name}, tag{nil, tagName, name})
	}
	for _, name := range e.groups {
		all = append(all, tag{nil, tagGroup, name})
	}
	return all
}

// store keeps the entries, bounded by bytes, and finds them by tag.
type store struct {
	cache *otter.Cache[route.Key, *resource]
	bytes atomic.Int64
	count atomic.Int64

	writing  sync.Mutex // one writer at a time; purges are writers
	fetching int        // fetches under way
	clock    uint64     // counts purges
	purges   map[tag]uint64
	forgot   uint64 // purges up to here may be missing from purges

	mu    sync.Mutex // of the index alone; the cache calls with its own locks held
	index map[tag]map[*resource]struct{}
}

// maxPurges is how many purges are remembered for fetches that are under way.
const maxPurges = 1 << 16

func newStore(size int64) (*store, error) {
	s := &store{purges: map[tag]uint64{}, index: map[tag]map[*resource]struct{}{}}
	var err error
	s.cache, err = otter.New(&otter.Options[route.Key, *resource]{
		MaximumWeight:    uint64(size),
		Weigher:          func(_ route.Key, r *resource) uint32 { return uint32(min(r.size(), 1<<31)) },
		OnAtomicDeletion: func(e otter.DeletionEvent[route.Key, *resource]) { s.unindex(e.Value) },
	})
	return s, err
}

func (r *resource) size() int {
	n := overhead / 3
	for _, e := range r.variants {
		n += e.size()
	}
	return n
}

func (s *store) get(k route.Key) *resource {
	r, _ := s.cache.GetIfPresent(k)
	return r
}

// choose is the variant that the request selects (RFC 9111 §4.1).
func (r *resource) choose(req route.Request) *entry {
	if r == nil {
		return nil
	}
	for _, e := range r.variants {
		if !e.removed.Load() && e.selector.Matches(req.Header) {
			return e
		}
	}
	return nil
}

// begin returns the time on the store's clock, for a fetch that begins; end is
// to be called when what it brought is stored, or it has failed.
func (s *store) begin() uint64 {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.fetching++
	return s.clock
}

func (s *store) end() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.fetching--; s.fetching == 0 {
		clear(s.purges) // nobody can have missed them
	}
}

// put stores an entry in place of the variant that it is a newer answer of,
// which is returned. An entry that was fetched before its kind was purged is
// purged from the start.
func (s *store) put(e *entry, vary []string) (old *entry) {
	s.writing.Lock()
	defer s.writing.Unlock()
	before := s.get(e.key)
	next := &resource{key: e.key, vary: vary, variants: []*entry{e}}
	if before != nil {
		for _, v := range before.variants {
			switch {
			case v.selector.String() == e.selector.String():
				old = v
			case len(next.variants) < maxVariants:
				next.variants = append(next.variants, v)
			}
		}
	}
	if old != nil && old.started > e.started {
		return old // a fetch that began later was quicker
	}
	if s.purgedSince(e.started, e.key, e.allTags()) {
		e.purged.Store(true)
	}
	s.set(next)
	return old
}

// pass notes that an answer of the key could not be shared.
func (s *store) pass(k route.Key) {
	s.writing.Lock()
	defer s.writing.Unlock()
	next := &resource{key: k, passUntil: time.Now().Add(passTime)}
	if before := s.get(k); before != nil {
		if time.Until(before.passUntil) > passTime/2 {
			return
		}
		next.vary, next.variants = before.vary, before.variants
	}
	s.set(next)
}

// drop forgets one variant.
func (s *store) drop(e *entry) {
	s.writing.Lock()
	defer s.writing.Unlock()
	before := s.get(e.key)
	if before == nil || !slices.Contains(before.variants, e) {
		return
	}
	next := &resource{key: e.key, vary: before.vary, passUntil: before.passUntil}
	next.variants = slices.DeleteFunc(slices.Clone(before.variants), func(v *entry) bool { return v == e })
	s.set(next)
}

func (s *store) set(r *resource) {
	s.mu.Lock()
	for t := range r.tagsOf {
		if s.index[t] == nil {
			s.index[t] = map[*resource]struct{}{}
		}
		s.index[t][r] = struct{}{}
	}
	s.mu.Unlock()
	s.bytes.Add(int64(r.size()))
	s.count.Add(1)
	s.cache.Set(r.key, r)
}

// unindex is called when a resource has left the cache, for whatever reason.
func (s *store) unindex(r *resource) {
	s.bytes.Add(-int64(r.size()))
	s.count.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range r.tagsOf {
		delete(s.index[t], r)
		if len(s.index[t]) == 0 {
			delete(s.index, t)
		}
	}
}

// purge makes all entries with one of the tags stale, or has them removed. What
// is being fetched counts as fetched before. It returns the entries.
func (s *store) purge(tags []tag, hard bool) []*entry {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.clock++
	if len(s.purges)+len(tags) > maxPurges {
		clear(s.purges)
		s.forgot = s.clock
	}
	for _, t := range tags {
		s.purges[t] = s.clock
	}
	var purged []*entry
	for _, r := range s.tagged(tags) {
		for _, e := range r.variants {
			if e.isTagged(tags) {
				e.purged.Store(true)
				e.removed.Store(hard)
				purged = append(purged, e)
			}
		}
	}
	return purged
}

// sweep frees what removed entries take.
func (s *store) sweep(removed []*entry) {
	for _, e := range removed {
		s.writing.Lock()
		if r := s.get(e.key); r != nil && slices.Contains(r.variants, e) {
			s.cache.Invalidate(e.key)
		}
		s.writing.Unlock()
	}
}

// tagged are the resources with one of the tags.
func (s *store) tagged(tags []tag) []*resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(tags) == 1 {
		return slices.Collect(maps.Keys(s.index[tags[0]]))
	}
	all := map[*resource]struct{}{}
	for _, t := range tags {
		maps.Copy(all, s.index[t])
	}
	return slices.Collect(maps.Keys(all))
}

// isTagged reports whether one of the tags is the entry's.
func (e *entry) isTagged(tags []tag) bool {
	return slices.ContainsFunc(tags, func(t tag) bool {
		switch t.kind {
		case tagName:
			return (t.route == nil || t.route == e.key.Route) && slices.Contains(e.tags, t.name)
		case tagGroup:
			return slices.Contains(e.groups, t.name)
		}
		return t.covers(e.key)
	})
}

// covers reports whether the tag is one that the key alone brings.
func (t tag) covers(k route.Key) bool {
	return t.kind == tagRoute && t.route == k.Route || t.kind == tagTarget && t.name == k.Target
}

// purgedSince reports whether something with the tags was purged after the
// time.
func (s *store) purgedSince(t uint64, k route.Key, tags []tag) bool {
	if s.clock == t {
		return false
	}
	if s.forgot > t {
		return true
	}
	return slices.ContainsFunc(append(tags, tag{k.Route, tagRoute, ""}, tag{nil, tagTarget, k.Target}), func(tag tag) bool { return s.purges[tag] > t })
}
