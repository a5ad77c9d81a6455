package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/chappe/chappe/event"
)

// Bounds of the upkeep. A slice stands between two commits.
const (
	sliceTime   = 4 * time.Millisecond // then a slice ends; it may finish one statement
	sliceTopics = 128                  // topic rows saved by a slice
	slicePages  = 128                  // pages given back by a slice
	sliceSeen   = 1024                 // dedupe keys forgotten by a slice
	passTopics  = 2048                 // topics looked at by a slice
	saveEvery   = 5 * time.Second
	seenEvery   = time.Minute
	seenAge     = 7 * 24 * time.Hour
	forgetAfter = 24 * time.Hour // a topic without events keeps its row so long
	sparePages  = 512            // free pages left in the file for what comes next
	spareShare  = 8              // while busy, also the file's pages divided by this

	// A sweep looks at the whole log; it begins when garbage is this share
	// of it, so that what it costs is borne by what it frees.
	sweepShare     = 8
	sweepShareIdle = 64
	sweepLeast     = 1000 // rows; while busy, fewer are left alone
	sweepMin       = 64   // seqs looked at by a statement, adapted to sliceTime
	sweepMax       = 8192
)

// upkeep is what the committer has to do between commits.
type upkeep struct {
	touched map[*topic]struct{} // appended to since the last look
	later   map[*topic]struct{} // over their bounds by less than the slack
	due     []*topic            // keep more than they may, or are to be forgotten
	pass    int                 // position in catalog.all

	unsaved  []*topic // their rows are behind
	saving   []*topic // of the round under way
	savingAt int64    // head when the round began

	garbage  int64 // rows purged and not yet deleted
	sweeping bool
	swept    int64 // the sweep has come so far
	sweepTo  int64 // head when it began
	width    int64 // seqs of its next statement

	sweepLeaves int64 // garbage that came since it began, at the most

	marked string // what the high-water mark says

	nextPass, nextSave, nextSeen, nextHighWater time.Time
}

// touch notes that t has gained an event.
func (u *upkeep) touch(t *topic) {
	u.touched[t] = struct{}{}
	if !t.unsaved {
		t.unsaved = true
		u.unsaved = append(u.unsaved, t)
	}
}

// enqueue has t purged, once.
func (u *upkeep) enqueue(t *topic) {
	if !t.due {
		t.due = true
		u.due = append(u.due, t)
	}
}

// Maintain does one slice of what is due: purges, deletion of what was purged,
// forgotten keys, saved topics, space given back. More says that another slice
// is. Idle means that nobody publishes, so bounds are held to the event and
// space is freed to the page.
func (l *Log) Maintain(ctx context.Context, idle bool) (more bool, err error) {
	now := l.now()
	l.findDue(now, idle)
	u := &l.upkeep
	switch {
	case l.walCopied.CompareAndSwap(true, false):
		return true, wrap("checkpoint", checkpoint(ctx, l.db.writer))
	case len(u.due) > 0:
		return true, wrap("purge", l.purgeDue(ctx, now))
	case l.sweepDue(idle):
		return true, wrap("sweep", l.sweep(ctx))
	case now.After(u.nextSeen):
		more, err = l.forgetSeen(ctx, now)
		if !more {
			u.nextSeen = now.Add(seenEvery)
		}
		return true, wrap("forget dedupe keys", err)
	case len(u.saving) > 0 || now.After(u.nextSave) && len(u.unsaved) > 0:
		return true, wrap("save topics", l.saveSome(ctx, now))
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
	err = tx.Commit()
	if err != nil { // database/sql lets go of it even if SQLite has not
		_, _ = l.db.writer.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`) // fails where SQLite has
	}
	return err
}

// findDue collects topics over their bounds: those just appended to, and, in
// a slow pass over all, those whose events have come of age.
func (l *Log) findDue(now time.Time, idle bool) {
	u, c := &l.upkeep, l.catalog
	if idle {
		maps.Copy(u.touched, u.later)
		clear(u.later)
	}
	for t := range u.touched {
		if t.over(now, !idle) {
			u.enqueue(t)
		} else if t.over(now, false) {
			u.later[t] = struct{}{}
		}
	}
	clear(u.touched)
	if u.pass >= len(c.all) {
		if now.Before(u.nextPass) {
			return
		}
		u.pass, u.nextPass = 0, now.Add(passEvery(c.rules))
	}
	for range min(passTopics, len(c.all)-u.pass) {
		t := c.all[u.pass]
		if t.over(now, false) || t.forgettable(now) {
			u.enqueue(t)
		}
		u.pass++
	}
}

func (t *topic) forgettable(now time.Time) bool {
	return t.events() == 0 && t.purged.at < now.Add(-forgetAfter).UnixMilli()
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

// forgetSeen deletes dedupe keys that have come of age.
func (l *Log) forgetSeen(ctx context.Context, now time.Time) (more bool, err error) {
	var through sql.NullInt64
	// Walks from the oldest, and only some way.
	err = l.db.writer.QueryRowContext(ctx,
		`SELECT MAX(seq) FROM (SELECT seq, at FROM seen ORDER BY seq LIMIT $1) AS oldest WHERE at < $2`,
		sliceSeen, now.Add(-seenAge).UnixMilli()).Scan(&through)
	if err != nil || !through.Valid {
		return false, err
	}
	err = l.transact(ctx, func(tx *sql.Tx) error {
		if err := l.saveLog(ctx, tx, l.upkeep.garbage); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM seen WHERE seq <= $1`, through.Int64)
		return err
	})
	return true, err
}

// saveLog saves the head (the newest events may be about to go) and the count
// of garbage.
func (l *Log) saveLog(ctx context.Context, tx *sql.Tx, garbage int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE log SET head = $1, garbage = $2`, l.catalog.head.Load(), garbage)
	return err
}

// saveSome goes on with a round of saving topics, or begins one. Once all of
// a round are saved, a start has to read only what came after it began.
func (l *Log) saveSome(ctx context.Context, now time.Time) error {
	u := &l.upkeep
	if len(u.saving) == 0 {
		u.saving, u.unsaved, u.savingAt = u.unsaved, nil, l.catalog.head.Load()
		for _, t := range u.saving {
			t.unsaved = false
		}
	}
	some := u.saving[:min(len(u.saving), sliceTopics)]
	err := l.transact(ctx, func(tx *sql.Tx) error {
		for _, t := range some {
			if err := l.saveTopic(ctx, tx, t, t.purged, t.oldest); err != nil {
				return err
			}
		}
		if len(some) < len(u.saving) {
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE log SET saved = $1`, u.savingAt)
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

func (l *Log) saveTopic(ctx context.Context, tx *sql.Tx, t *topic, p purged, oldest int64) error {
	_, err := tx.StmtContext(ctx, l.write.saveTopic).ExecContext(ctx, t.head, t.ordinal, t.total, p.through, p.ordinal, p.total, p.at, oldest, t.id)
	return err
}

func (l *Log) saveAll(ctx context.Context) error {
	for len(l.upkeep.saving) > 0 || len(l.upkeep.unsaved) > 0 {
		if err := l.saveSome(ctx, l.now()); err != nil {
			return fmt.Errorf("save topics: %w", err)
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
		spare += pages / spareShare
	}
	if free <= spare {
		return false, nil
	}
	_, err = l.db.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(free-spare, slicePages)))
	return true, err
}
