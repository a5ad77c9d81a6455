package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// purging is one transaction of purges. Nothing is deleted by it: events up to
// a topic's purged_through are not read any more, and swept later. Memory
// learns of it after the commit, and so before any deletion (see Read).
type purging struct {
	log       *Log
	tx        *sql.Tx
	now       time.Time
	results   map[*topic]purgeResult
	forgotten []*topic
}

// purgeResult is how a topic is after its purge.
type purgeResult struct {
	purged purged
	oldest int64
}

// purgeDue purges topics until the slice is over.
func (l *Log) purgeDue(ctx context.Context, now time.Time) error {
	p := purging{log: l, now: now, results: map[*topic]purgeResult{}}
	u := &l.upkeep
	done, garbage := 0, u.garbage
	err := l.transact(ctx, func(tx *sql.Tx) error {
		p.tx = tx
		for end := time.Now().Add(sliceTime); done < len(u.due) && time.Now().Before(end); done++ {
			gained, err := p.topic(ctx, u.due[done])
			if err != nil {
				return fmt.Errorf("topic %s: %w", u.due[done].name, err)
			}
			garbage += gained
		}
		return l.saveLog(ctx, tx, garbage)
	})
	if err != nil {
		return err
	}
	for _, t := range u.due[:done] {
		t.due = false
	}
	u.due = u.due[:copy(u.due, u.due[done:])]
	u.sweepLeaves += garbage - u.garbage
	u.garbage = garbage
	l.catalog.settle(&p)
	return nil
}

// topic purges t, or forgets it, and returns how many events it loses.
func (p *purging) topic(ctx context.Context, t *topic) (int64, error) {
	switch {
	case t.forgettable(p.now):
		return 0, p.forget(ctx, t)
	case !t.over(p.now, false):
		return 0, nil
	}
	result, err := p.find(ctx, t)
	if err != nil {
		return 0, err
	}
	p.results[t] = result
	return result.purged.ordinal - t.purged.ordinal, p.log.saveTopic(ctx, p.tx, t, result.purged, result.oldest)
}

// find looks for the first event to keep.
func (p *purging) find(ctx context.Context, t *topic) (purgeResult, error) {
	chain := chainReader{p.tx, p.log.write.links}
	first, ok, err := chain.oldest(ctx, t.head, t.purged.ordinal, func(n node) bool { return t.keeps(n, p.now) })
	if err != nil {
		return purgeResult{}, err
	}
	if !ok { // nothing is kept
		all := purged{through: t.head, ordinal: t.ordinal, total: t.total, at: p.now.UnixMilli()}
		return purgeResult{all, p.now.UnixMilli()}, nil
	}
	last := t.purged
	if first.ordinal-1 > t.purged.ordinal {
		n, err := chain.node(ctx, first.prev)
		if err != nil {
			return purgeResult{}, err
		}
		last = purged{through: n.seq, ordinal: n.ordinal, total: n.total, at: p.now.UnixMilli()}
	}
	return purgeResult{last, first.committed}, nil
}

// forget folds a topic without events into its rule's watermark.
func (p *purging) forget(ctx context.Context, t *topic) error {
	_, err := p.tx.ExecContext(ctx,
		`INSERT INTO watermarks (match, purged_through) VALUES ($1, $2)
		 ON CONFLICT (match) DO UPDATE SET purged_through = excluded.purged_through WHERE excluded.purged_through > watermarks.purged_through`,
		string(t.rule), t.purged.through)
	if err != nil {
		return err
	}
	p.forgotten = append(p.forgotten, t)
	if _, err := p.tx.ExecContext(ctx, `UPDATE log SET topics = $1 WHERE topics < $1`, t.id); err != nil {
		return err
	}
	_, err = p.tx.ExecContext(ctx, `DELETE FROM topics WHERE id = $1`, t.id)
	return err
}

// settle takes over what a purge has committed.
func (c *catalog) settle(p *purging) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, r := range p.results {
		c.kept -= r.purged.ordinal - t.purged.ordinal
		t.purged, t.oldest = r.purged, r.oldest
		c.purged = max(c.purged, r.purged.through)
	}
	for _, t := range p.forgotten {
		c.forget(t)
	}
}

// sweepDue reports whether a sweep is under way or worth beginning.
func (l *Log) sweepDue(idle bool) bool {
	u := &l.upkeep
	if !u.sweeping {
		least, share := int64(sweepLeast), int64(sweepShare)
		if idle {
			least, share = 1, sweepShareIdle
		}
		if u.garbage < max(least, l.catalog.kept/share) {
			return false
		}
		u.sweeping, u.swept, u.sweepTo, u.width = true, 0, l.catalog.head.Load(), max(u.width, sweepMin)
		u.sweepLeaves = 0
	}
	return true
}

// sweep deletes the garbage among the next few events, in seq order.
func (l *Log) sweep(ctx context.Context) error {
	u := &l.upkeep
	start := time.Now()
	var next sql.NullInt64
	if err := l.db.writer.QueryRowContext(ctx, `SELECT MIN(seq) FROM events WHERE seq > $1`, u.swept).Scan(&next); err != nil {
		return err
	}
	if !next.Valid || next.Int64 > u.sweepTo {
		u.sweeping, u.garbage = false, u.sweepLeaves // a wrong count does not outlive a sweep
		return nil
	}
	through := min(next.Int64-1+u.width, u.sweepTo)
	var deleted int64
	err := l.transact(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `
			DELETE FROM events WHERE seq > $1 AND seq <= $2
			AND seq <= COALESCE((SELECT purged_through FROM topics WHERE topics.id = events.topic), $2)`, u.swept, through)
		if err != nil {
			return err
		}
		if deleted, err = result.RowsAffected(); err != nil {
			return err
		}
		return l.saveLog(ctx, tx, u.garbage-deleted)
	})
	if err != nil {
		return err
	}
	u.garbage -= deleted
	u.swept = through
	l.walSize.Add(deleted * rowSize)
	switch took := time.Since(start); {
	case took > sliceTime:
		u.width = max(u.width/2, sweepMin)
	case took < sliceTime/2:
		u.width = min(u.width*2, sweepMax)
	}
	return nil
}
