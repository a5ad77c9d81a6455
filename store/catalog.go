package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe/chappe/event"
)

// topic is what is known of a topic: in memory (some 300 bytes) and, a few
// seconds behind, in its row.
type topic struct {
	chain
	id     int64
	name   event.Topic
	keep   event.Keep
	rule   event.Pattern // whose watermark it folds into
	purged purged
	oldest int64 // commit time of the first event kept

	place   int  // in catalog.all
	unsaved bool // the row is behind
	due     bool // in upkeep.due
}

// purged is how far a topic is purged: the newest event gone, and when.
type purged struct{ through, ordinal, total, at int64 }

func (t *topic) events() int64 { return t.ordinal - t.purged.ordinal }
func (t *topic) bytes() int64  { return t.total - t.purged.total }

// over reports whether t keeps more than it may; with slack, more by so much
// that a purge is worth it on a busy topic.
func (t *topic) over(now time.Time, slack bool) bool {
	events, bytes := t.keep.Events, int64(t.keep.Bytes)
	if slack {
		events, bytes = events+events/16, bytes+bytes/16
	}
	return t.events() > events || bytes > 0 && t.bytes() > bytes && t.events() > 1 || t.events() > 0 && t.oldest < t.expiry(now)
}

// expiry is the commit time before which t's events are too old.
func (t *topic) expiry(now time.Time) int64 { return now.Add(-t.keep.Age).UnixMilli() }

// keeps reports whether n is within t's bounds. The newest event stays, however
// large it is.
func (t *topic) keeps(n node, now time.Time) bool {
	return t.ordinal-n.ordinal < t.keep.Events &&
		(t.keep.Bytes == 0 || t.total-n.total+n.size <= int64(t.keep.Bytes) || n.seq == t.head) &&
		n.committed >= t.expiry(now)
}

// gain notes an appended event.
func (t *topic) gain(n node) {
	if t.events() == 0 {
		t.oldest = n.committed
	}
	t.head, t.ordinal, t.total = n.seq, n.ordinal, n.total
}

// catalog is the topics in memory. The committer alone changes it, under mu;
// others look under mu.
type catalog struct {
	rules event.Rules
	head  atomic.Int64 // seq of the newest event committed; set under mu

	mu         sync.RWMutex
	byName     map[event.Topic]*topic
	byID       map[int64]*topic
	all        []*topic // in no order; the upkeep walks it
	watermarks map[event.Pattern]int64
	lastID     int64 // no id is given twice: rows of a forgotten topic may still be there
	purged     int64 // nothing is purged after it
	kept       int64 // events of all topics
}

func loadCatalog(ctx context.Context, db *sql.DB, rules event.Rules, head int64) (*catalog, error) {
	c := &catalog{
		rules:      rules,
		byName:     map[event.Topic]*topic{},
		byID:       map[int64]*topic{},
		watermarks: map[event.Pattern]int64{},
	}
	c.head.Store(head)
	for _, load := range []struct {
		what string
		from func(context.Context, *sql.DB) error
	}{{"topics", c.loadTopics}, {"their newest events", c.loadUnsaved}, {"watermarks", c.loadWatermarks}} {
		if err := load.from(ctx, db); err != nil {
			return nil, fmt.Errorf("load %s: %w", load.what, err)
		}
	}
	for _, t := range c.all {
		c.kept += t.events()
		c.purged = max(c.purged, t.purged.through)
	}
	for _, through := range c.watermarks {
		c.purged = max(c.purged, through)
	}
	return c, nil
}

func (c *catalog) loadTopics(ctx context.Context, db *sql.DB) error {
	if err := db.QueryRowContext(ctx, `SELECT topics FROM log`).Scan(&c.lastID); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, `SELECT id, name, head, ordinal, total, purged_through, purged_ordinal, purged_total, purged_at, oldest FROM topics`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		t := &topic{}
		p := &t.purged
		if err := rows.Scan(&t.id, &t.name, &t.head, &t.ordinal, &t.total, &p.through, &p.ordinal, &p.total, &p.at, &t.oldest); err != nil {
			return err
		}
		c.add(t)
	}
	return rows.Err()
}

// loadUnsaved brings topics up to the events after their rows were saved.
func (c *catalog) loadUnsaved(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT seq, topic, ordinal, total, committed FROM events WHERE seq > (SELECT saved FROM log) ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n node
		var id int64
		if err := rows.Scan(&n.seq, &id, &n.ordinal, &n.total, &n.committed); err != nil {
			return err
		}
		if t := c.byID[id]; t != nil && n.seq > t.head {
			t.gain(n)
		}
	}
	return rows.Err()
}

func (c *catalog) loadWatermarks(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT match, purged_through FROM watermarks`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var match event.Pattern
		var through int64
		if err := rows.Scan(&match, &through); err != nil {
			return err
		}
		c.watermarks[match] = through
	}
	return rows.Err()
}

func (c *catalog) add(t *topic) {
	rule := c.rules.For(t.name)
	t.keep, t.rule = rule.Keep, rule.Match
	c.byName[t.name] = t
	c.byID[t.id] = t
	t.place = len(c.all)
	c.all = append(c.all, t)
	c.lastID = max(c.lastID, t.id)
}

// forget drops t; its watermark keeps what its row said.
func (c *catalog) forget(t *topic) {
	c.watermarks[t.rule] = max(c.watermarks[t.rule], t.purged.through)
	delete(c.byName, t.name)
	delete(c.byID, t.id)
	last := c.all[len(c.all)-1]
	c.all[t.place], last.place = last, t.place
	c.all = c.all[:len(c.all)-1]
}

// extent is what a reader needs of a topic, taken at one moment.
type extent struct {
	name                 event.Topic
	head, through, floor int64 // newest seq; newest purged, and its ordinal
}

func (t *topic) extent() extent { return extent{t.name, t.head, t.purged.through, t.purged.ordinal} }

// find resolves patterns: literal ones are looked up, others compared with
// every topic. It returns nil for all topics, and the head of that moment.
func (c *catalog) find(patterns []event.Pattern) (found map[int64]extent, head int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	head = c.head.Load()
	found = map[int64]extent{}
	wild := patterns[:0:0]
	for _, p := range patterns {
		if p == "**" {
			return nil, head
		} else if !p.Literal() {
			wild = append(wild, p)
		} else if t := c.byName[event.Topic(p)]; t != nil {
			found[t.id] = t.extent()
		}
	}
	if len(wild) == 0 {
		return found, head
	}
	for _, t := range c.byName {
		if event.AnyMatches(wild, t.name) {
			found[t.id] = t.extent()
		}
	}
	return found, head
}

// extentOf is one topic's.
func (c *catalog) extentOf(id int64) (extent, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	t := c.byID[id]
	if t == nil {
		return extent{}, false
	}
	return t.extent(), true
}

// purgedAfter reports whether something that patterns match was purged after seq.
func (c *catalog) purgedAfter(patterns []event.Pattern, seq int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.purged <= seq {
		return false // as it is for those who were here a moment ago
	}
	for match, through := range c.watermarks {
		if through > seq && overlapsAny(patterns, match) {
			return true
		}
	}
	wild := patterns[:0:0]
	for _, p := range patterns {
		if !p.Literal() {
			wild = append(wild, p)
		} else if t := c.byName[event.Topic(p)]; t != nil && t.purged.through > seq {
			return true
		}
	}
	if len(wild) == 0 {
		return false
	}
	for _, t := range c.byName {
		if t.purged.through > seq && event.AnyMatches(wild, t.name) {
			return true
		}
	}
	return false
}

func overlapsAny(patterns []event.Pattern, q event.Pattern) bool {
	for _, p := range patterns {
		if p.Overlaps(q) {
			return true
		}
	}
	return false
}
