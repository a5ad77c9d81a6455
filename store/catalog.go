package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/chappe/chappe/event"
)

// topic is what is known of a topic, in memory (about 200 bytes) and, some
// seconds behind, in its row.
type topic struct {
	id            int64
	name          event.Topic
	keep          event.Keep
	rule          event.Pattern // whose watermark it folds into
	events, bytes int64
	oldest        int64 // commit time of the first event kept, or before it
	purgedThrough int64
	purgedAt      int64
	place         int  // in catalog.all
	unsaved       bool // the row is behind
}

// over reports whether t keeps more than it may, by more than an eighth where
// slack makes the purge of a busy topic worth its transaction.
func (t *topic) over(now time.Time, slack bool) bool {
	events, bytes := t.keep.Events, int64(t.keep.Bytes)
	if slack {
		events, bytes = events+events/8, bytes+bytes/8
	}
	return t.events > events || bytes > 0 && t.bytes > bytes || t.expired(now, t.oldest)
}

func (t *topic) expired(now time.Time, committed int64) bool {
	return t.events > 0 && committed < now.Add(-t.keep.Age).UnixMilli()
}

// catalog is the topics in memory. The committer alone changes it, under mu;
// readers look under mu.
type catalog struct {
	rules event.Rules

	mu         sync.RWMutex
	byName     map[event.Topic]*topic
	byID       map[int64]*topic
	all        []*topic // in no order; the upkeep walks it
	watermarks map[event.Pattern]int64
	lastID     int64
}

func loadCatalog(ctx context.Context, db *sql.DB, rules event.Rules) (*catalog, error) {
	c := &catalog{
		rules:      rules,
		byName:     map[event.Topic]*topic{},
		byID:       map[int64]*topic{},
		watermarks: map[event.Pattern]int64{},
	}
	if err := c.loadTopics(ctx, db); err != nil {
		return nil, fmt.Errorf("load topics: %w", err)
	}
	if err := c.loadWatermarks(ctx, db); err != nil {
		return nil, fmt.Errorf("load watermarks: %w", err)
	}
	return c, nil
}

// loadTopics reads the rows and counts the events that came after them.
func (c *catalog) loadTopics(ctx context.Context, db *sql.DB) error {
	countedThrough := map[int64]int64{}
	rows, err := db.QueryContext(ctx, `SELECT id, name, events, bytes, oldest, purged_through, purged_at, counted_through FROM topics`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		t := &topic{}
		var through int64
		if err := rows.Scan(&t.id, &t.name, &t.events, &t.bytes, &t.oldest, &t.purgedThrough, &t.purgedAt, &through); err != nil {
			return err
		}
		countedThrough[t.id] = through
		c.add(t)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows, err = db.QueryContext(ctx, `SELECT seq, topic, committed, LENGTH(data) FROM events WHERE seq > (SELECT counted FROM log)`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, id, committed int64
		var size sql.NullInt64
		if err := rows.Scan(&seq, &id, &committed, &size); err != nil {
			return err
		}
		if t := c.byID[id]; t != nil && seq > countedThrough[id] {
			t.count(committed, size.Int64)
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

// count adds one event to t's figures.
func (t *topic) count(committed, size int64) {
	if t.events == 0 {
		t.oldest = committed
	}
	t.events++
	t.bytes += size
	t.unsaved = true
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

// settle takes over what a purge has done. Where it failed, the counts are as
// before; purgedThrough stays announced, which only costs a reader a restart.
func (c *catalog) settle(p *purging, committed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if committed {
		for _, t := range p.forgotten {
			c.forget(t)
		}
		return
	}
	for t, was := range p.before {
		t.events, t.bytes, t.oldest = was.events, was.bytes, was.oldest
	}
}

// forget drops t; its watermark keeps what its row said.
func (c *catalog) forget(t *topic) {
	c.watermarks[t.rule] = max(c.watermarks[t.rule], t.purgedThrough)
	delete(c.byName, t.name)
	delete(c.byID, t.id)
	last := c.all[len(c.all)-1]
	c.all[t.place], last.place = last, t.place
	c.all = c.all[:len(c.all)-1]
}

// selected is the topics that a query reads.
type selected struct {
	all   bool
	names map[int64]event.Topic
}

// find resolves patterns. Literal patterns are looked up, others compared
// with every topic.
func (c *catalog) find(patterns []event.Pattern) selected {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := selected{names: map[int64]event.Topic{}}
	var wild []event.Pattern
	for _, p := range patterns {
		if p == "**" {
			s.all = true
		} else if !p.Literal() {
			wild = append(wild, p)
		} else if t := c.byName[event.Topic(p)]; t != nil {
			s.names[t.id] = t.name
		}
	}
	if s.all || len(wild) == 0 {
		return s
	}
	for _, t := range c.byName {
		if matchesAny(wild, t.name) {
			s.names[t.id] = t.name
		}
	}
	return s
}

func matchesAny(patterns []event.Pattern, t event.Topic) bool {
	for _, p := range patterns {
		if p.Matches(t) {
			return true
		}
	}
	return false
}

// name is the topic's name, if s has it.
func (c *catalog) name(s selected, id int64) (event.Topic, bool) {
	if !s.all {
		name, ok := s.names[id]
		return name, ok
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	t := c.byID[id]
	if t == nil {
		return "", false
	}
	return t.name, true
}

// purged reports whether something that patterns match was purged after seq.
func (c *catalog) purged(patterns []event.Pattern, seq int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for match, through := range c.watermarks {
		if through > seq && overlapsAny(patterns, match) {
			return true
		}
	}
	var wild []event.Pattern
	for _, p := range patterns {
		if !p.Literal() {
			wild = append(wild, p)
		} else if t := c.byName[event.Topic(p)]; t != nil && t.purgedThrough > seq {
			return true
		}
	}
	if len(wild) == 0 {
		return false
	}
	for _, t := range c.byName {
		if t.purgedThrough > seq && matchesAny(wild, t.name) {
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
