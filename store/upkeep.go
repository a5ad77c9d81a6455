package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chappe/chappe/event"
)

// Bounds of the upkeep. A slice stands between two commits.
const (
	sliceTime     = 4 * time.Millisecond // then a slice ends; it may finish one statement
	sliceRows     = 256                  // rows looked at by one statement of a purge
	sliceBytes    = 1 << 20              // data that one DELETE frees
	sliceTopics   = 128                  // rows of counts saved by a slice
	slicePages    = 128                  // pages given back by a slice
	passTopics    = 2048                 // topics looked at by a slice
	saveEvery     = 5 * time.Second
	seenEvery     = time.Minute
	seenAge       = 7 * 24 * time.Hour
	forgetAfter   = 24 * time.Hour // a topic without events keeps its row so long
	sparePages    = 512            // free pages left in the file for what comes next
	sparePerMille = 100            // while busy, also this part of the file
)

// upkeep is what the committer has to do between commits.
type upkeep struct {
	touched  map[*topic]struct{} // appended to since the last look
	due      []*topic            // keep more than they may
	unsaved  []*topic            // their rows are behind
	saving   []*topic            // of the round under way
	savingAt int64               // head when the round began
	pass     int                 // position in catalog.all

	nextPass, nextSave, nextSeen, nextHighWater time.Time
}

// touch notes that t has gained an event.
func (u *upkeep) touch(t *topic) {
	if u.touched == nil {
		u.touched = map[*topic]struct{}{}
	}
	u.touched[t] = struct{}{}
	if !t.unsaved {
		t.unsaved = true
		u.unsaved = append(u.unsaved, t)
	}
}

// Maintain does one slice of what is due: purges, forgotten keys, saved
// counts, space given back. More says that another slice is. Idle means that
// nobody publishes, so bounds are held to the event and all space is freed.
func (l *Log) Maintain(ctx context.Context, idle bool) (more bool, err error) {
	now := l.now()
	l.findDue(now, idle)
	u := &l.upkeep
	switch {
	case l.walCopied.CompareAndSwap(true, false):
		return true, wrap("checkpoint", checkpoint(ctx, l.db.writer))
	case len(u.due) > 0:
		return true, wrap("purge", l.purgeDue(ctx, now))
	case now.After(u.nextSeen):
		more, err = l.forgetSeen(ctx, now)
		if !more {
			u.nextSeen = now.Add(seenEvery)
		}
		return true, wrap("forget dedupe keys", err)
	case len(u.saving) > 0 || now.After(u.nextSave) && len(u.unsaved) > 0:
		return true, wrap("save counts", l.saveSome(ctx, now))
	case now.After(u.nextHighWater):
		u.nextHighWater = now.Add(time.Second)
		return true, wrap("write the high-water mark", l.writeHighWater())
	}
	more, err = l.giveBack(ctx, idle)
	return more, wrap("give space back", err)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (l *Log) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := l.db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the first error is the one that counts
		return err
	}
	return tx.Commit()
}

// findDue collects topics over their bounds: those just appended to, and, in
// a slow pass over all, those whose events have come of age.
func (l *Log) findDue(now time.Time, idle bool) {
	u, c := &l.upkeep, l.catalog
	for t := range u.touched {
		if t.over(now, !idle) {
			u.due = append(u.due, t)
		}
		if idle {
			delete(u.touched, t)
		}
	}
	if !idle {
		clear(u.touched)
	}
	if u.pass >= len(c.all) {
		if now.Before(u.nextPass) {
			return
		}
		u.pass, u.nextPass = 0, now.Add(passEvery(c.rules))
	}
	for range min(passTopics, len(c.all)-u.pass) {
		t := c.all[u.pass]
		if t.over(now, false) || t.forgettable(now) {
			u.due = append(u.due, t)
		}
		u.pass++
	}
}

func (t *topic) forgettable(now time.Time) bool {
	return t.events == 0 && t.purgedAt < now.Add(-forgetAfter).UnixMilli()
}

// passEvery is how late an event's age may be noticed.
func passEvery(rules event.Rules) time.Duration {
	shortest := event.DefaultKeep().Age
	for _, r := range rules {
		if r.Keep.Age > 0 {
			shortest = min(shortest, r.Keep.Age)
		}
	}
	return min(max(shortest/16, time.Second), 10*time.Minute)
}

// purging is one transaction of purges. What readers would miss is announced
// before it is deleted (see Read); the rest can be taken back.
type purging struct {
	log       *Log
	tx        *sql.Tx
	now       time.Time
	before    map[*topic]topic
	forgotten []*topic
}

// purgeDue purges topics until the slice is over.
func (l *Log) purgeDue(ctx context.Context, now time.Time) error {
	p := purging{log: l, now: now, before: map[*topic]topic{}}
	err := l.transact(ctx, func(tx *sql.Tx) error {
		p.tx = tx
		return p.run(ctx)
	})
	l.catalog.settle(&p, err == nil)
	return err
}

func (p *purging) run(ctx context.Context) error {
	if err := keepHead(ctx, p.tx, p.log); err != nil {
		return err
	}
	u := &p.log.upkeep
	for end := time.Now().Add(sliceTime); len(u.due) > 0 && time.Now().Before(end); {
		t := u.due[len(u.due)-1]
		done, err := p.topic(ctx, t)
		if err != nil {
			return fmt.Errorf("topic %s: %w", t.name, err)
		}
		if done {
			u.due = u.due[:len(u.due)-1]
		}
	}
	return nil
}

// keepHead saves the head: the newest events may be about to go.
func keepHead(ctx context.Context, tx *sql.Tx, l *Log) error {
	_, err := tx.ExecContext(ctx, `UPDATE log SET head = $1`, l.head.Load())
	return err
}

// topic purges some of t, or forgets it. A topic can be due twice.
func (p *purging) topic(ctx context.Context, t *topic) (done bool, err error) {
	switch {
	case slices.Contains(p.forgotten, t) || p.log.catalog.byID[t.id] != t:
		return true, nil
	case t.forgettable(p.now):
		return true, p.forget(ctx, t)
	}
	err = p.purge(ctx, t)
	return !t.over(p.now, false), err
}

// purge deletes some of t's oldest events.
func (p *purging) purge(ctx context.Context, t *topic) error {
	cut, err := p.findCut(ctx, t)
	if err != nil || cut.events == 0 {
		return err
	}
	if _, ok := p.before[t]; !ok {
		p.before[t] = *t
	}
	c := p.log.catalog
	c.mu.Lock()
	t.purgedThrough, t.purgedAt = cut.through, p.now.UnixMilli()
	t.events, t.bytes, t.oldest = t.events-cut.events, t.bytes-cut.bytes, cut.oldest
	c.mu.Unlock()
	if _, err := p.tx.ExecContext(ctx, `DELETE FROM events WHERE topic = $1 AND seq <= $2`, t.id, cut.through); err != nil {
		return err
	}
	return p.log.saveTopic(ctx, p.tx, t)
}

// forget folds a topic without events into its rule's watermark.
func (p *purging) forget(ctx context.Context, t *topic) error {
	_, err := p.tx.ExecContext(ctx,
		`INSERT INTO watermarks (match, purged_through) VALUES ($1, $2)
		 ON CONFLICT (match) DO UPDATE SET purged_through = excluded.purged_through WHERE excluded.purged_through > watermarks.purged_through`,
		string(t.rule), t.purgedThrough)
	if err != nil {
		return err
	}
	p.forgotten = append(p.forgotten, t)
	_, err = p.tx.ExecContext(ctx, `DELETE FROM topics WHERE id = $1`, t.id)
	return err
}

// cut is what a purge takes from the front of a topic.
type cut struct {
	events, bytes int64
	through       int64 // the last seq to go
	oldest        int64 // commit time of the first to stay
}

func (p *purging) findCut(ctx context.Context, t *topic) (cut, error) {
	rows, err := p.tx.QueryContext(ctx, `SELECT seq, committed, LENGTH(data) FROM events WHERE topic = $1 ORDER BY seq LIMIT $2`, t.id, sliceRows)
	if err != nil {
		return cut{}, err
	}
	defer rows.Close()
	c := cut{oldest: p.now.UnixMilli()}
	left := *t
	for rows.Next() {
		var seq, committed int64
		var size sql.NullInt64
		if err := rows.Scan(&seq, &committed, &size); err != nil {
			return cut{}, err
		}
		c.oldest = committed
		left.oldest = committed
		if !left.over(p.now, false) || c.bytes > sliceBytes {
			break
		}
		left.events--
		left.bytes -= size.Int64
		c.events++
		c.bytes += size.Int64
		c.through = seq
	}
	return c, rows.Err()
}

func (l *Log) saveTopic(ctx context.Context, tx *sql.Tx, t *topic) error {
	_, err := tx.ExecContext(ctx,
		`UPDATE topics SET events = $1, bytes = $2, oldest = $3, purged_through = $4, purged_at = $5, counted_through = $6 WHERE id = $7`,
		t.events, t.bytes, t.oldest, t.purgedThrough, t.purgedAt, l.head.Load(), t.id)
	return err
}

// forgetSeen deletes dedupe keys that have come of age.
func (l *Log) forgetSeen(ctx context.Context, now time.Time) (more bool, err error) {
	cutoff := now.Add(-seenAge).UnixMilli()
	var through sql.NullInt64
	// Walks from the oldest, and stops at the first that is to stay.
	err = l.db.writer.QueryRowContext(ctx,
		`SELECT MAX(seq) FROM (SELECT seq, at FROM seen ORDER BY seq LIMIT $1) AS oldest WHERE at < $2`, sliceRows, cutoff).Scan(&through)
	if err != nil || !through.Valid {
		return false, err
	}
	err = l.transact(ctx, func(tx *sql.Tx) error {
		if err := keepHead(ctx, tx, l); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM seen WHERE seq <= $1`, through.Int64)
		return err
	})
	return true, err
}

// saveSome goes on with a round of saving counts, or begins one. Once all of
// a round are saved, a start has to count only what came after it began.
func (l *Log) saveSome(ctx context.Context, now time.Time) error {
	u := &l.upkeep
	if len(u.saving) == 0 {
		u.saving, u.unsaved, u.savingAt = u.unsaved, nil, l.head.Load()
		for _, t := range u.saving {
			t.unsaved = false
		}
	}
	some := u.saving[:min(len(u.saving), sliceTopics)]
	err := l.transact(ctx, func(tx *sql.Tx) error {
		for _, t := range some {
			if err := l.saveTopic(ctx, tx, t); err != nil {
				return err
			}
		}
		if len(some) < len(u.saving) {
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE log SET counted = $1`, u.savingAt)
		return err
	})
	if err != nil {
		return err
	}
	u.saving = u.saving[len(some):]
	if len(u.saving) == 0 {
		u.nextSave = now.Add(saveEvery)
	}
	return nil
}

func (l *Log) saveAll(ctx context.Context) error {
	for len(l.upkeep.saving) > 0 || len(l.upkeep.unsaved) > 0 {
		if err := l.saveSome(ctx, l.now()); err != nil {
			return fmt.Errorf("save counts: %w", err)
		}
	}
	return wrap("write the high-water mark", l.writeHighWater())
}

// giveBack returns free pages to the file system. While events come in, most
// free pages are about to be used again.
func (l *Log) giveBack(ctx context.Context, idle bool) (more bool, err error) {
	var free, pages int64
	err = errors.Join(
		l.db.writer.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free),
		l.db.writer.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages))
	if err != nil {
		return false, err
	}
	spare := int64(sparePages)
	if !idle {
		spare += pages * sparePerMille / 1000
	}
	if free <= spare {
		return false, nil
	}
	_, err = l.db.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(free-spare, slicePages)))
	return true, err
}
