package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"time"
)

// The write-ahead log is copied into the database off the commit path, by a
// connection of its own. A writer that never rests would keep ahead of it for
// ever, so the last few pages are copied between two commits.
const (
	walCheck = 100 * time.Millisecond
	walSoft  = 48 << 20         // bytes, about; above, the copying begins
	walRest  = 10 * time.Second // or after this, whatever its size

	rowSize = 512 // what an event writes beside its data
)

func (l *Log) runCheckpoints(ctx context.Context) {
	path := filepath.Join(l.db.dir, dbFile)
	db, err := sql.Open("sqlite", dsn(path, "busy_timeout(1000)", "synchronous(full)"))
	if err != nil {
		l.logger.Error("checkpoints not started", "err", err)
		return
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	tick := time.NewTicker(walCheck)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if size := l.walSize.Load(); size == 0 || size < walSoft && time.Since(last) < walRest {
			continue
		}
		l.walSize.Store(0)
		if err := checkpoint(ctx, db); err != nil && ctx.Err() == nil {
			l.logger.Warn("checkpoint failed, it will be tried again", "err", err)
		}
		l.walCopied.Store(true)
		last = time.Now()
	}
}

// checkpoint copies what no reader or writer holds back; it blocks neither.
func checkpoint(ctx context.Context, db *sql.DB) error {
	var busy, frames, copied int
	return db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(passive)`).Scan(&busy, &frames, &copied)
}
