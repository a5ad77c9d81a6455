package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe/chappe/event"
)

// Options of a log.
type Options struct {
	Rules  event.Rules      // how topics are kept
	Logger *slog.Logger     // required
	Now    func() time.Time // gives commit times; time.Now when nil
}

// Log is the one ordered log of events. Append and Maintain are for one
// goroutine, the committer; everything else is for any.
type Log struct {
	db      *DB
	lock    *lock
	catalog *catalog
	logger  *slog.Logger
	now     func() time.Time
	epoch   string

	committed int64 // time of the last commit: commit times never fall, whatever the clock does

	write  *statements
	read   readStatements
	upkeep upkeep

	walSize     atomic.Int64 // bytes written to the write-ahead log since it was copied, about
	walCopied   atomic.Bool  // all but the last pages of the write-ahead log
	checkpoints sync.WaitGroup
	stop        context.CancelFunc // ends checkpoints
}

// OpenLog takes the data folder's lock, or returns an *InUseError, and loads
// the topics. Close gives the lock back; the DB stays the caller's.
func OpenLog(ctx context.Context, db *DB, o Options) (*Log, error) {
	lock, err := acquire(db.dir)
	if err != nil {
		return nil, err
	}
	l := &Log{db: db, lock: lock, logger: o.Logger, now: o.Now, upkeep: upkeep{touched: map[*topic]struct{}{}, later: map[*topic]struct{}{}}}
	if l.now == nil {
		l.now = time.Now
	}
	if err := l.load(ctx, o.Rules); err != nil {
		lock.release()
		return nil, fmt.Errorf("open the log: %w", err)
	}
	background, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.checkpoints.Go(func() { l.runCheckpoints(background) })
	return l, nil
}

func (l *Log) load(ctx context.Context, rules event.Rules) (err error) {
	head, err := l.loadHead(ctx)
	if err != nil {
		return err
	}
	if err := l.checkHighWater(ctx, head); err != nil {
		return err
	}
	if l.catalog, err = loadCatalog(ctx, l.db.reader, rules, head); err != nil {
		return err
	}
	err = l.db.reader.QueryRowContext(ctx, `SELECT committed FROM events ORDER BY seq DESC LIMIT 1`).Scan(&l.committed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if l.read, err = prepareReads(ctx, l.db.reader); err != nil {
		return err
	}
	l.write, err = prepareStatements(ctx, l.db.writer)
	return err
}

// loadHead finds the newest seq ever given: the newest events may be purged.
func (l *Log) loadHead(ctx context.Context) (head int64, err error) {
	err = l.db.reader.QueryRowContext(ctx, `SELECT epoch, head, garbage FROM log`).Scan(&l.epoch, &head, &l.upkeep.garbage)
	if err != nil {
		return 0, err
	}
	for _, table := range []string{"events", "seen"} {
		var last int64
		if err := l.db.reader.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM `+table).Scan(&last); err != nil {
			return 0, err
		}
		head = max(head, last)
	}
	return head, nil
}

// Announce writes the server's address beside the lock, for commands that
// look for it.
func (l *Log) Announce(address string) error {
	pid, _ := readLock(l.db.dir)
	return l.lock.write(pid + "\n" + address + "\n")
}

// Head is the cursor of the newest event committed.
func (l *Log) Head() event.Cursor { return l.cursor(l.catalog.head.Load()) }

func (l *Log) cursor(seq int64) event.Cursor { return event.Cursor{Epoch: l.epoch, Seq: seq} }

// Close saves the counts and frees the lock.
func (l *Log) Close() error {
	l.stop()
	l.checkpoints.Wait()
	err := l.saveAll(context.Background())
	l.write.close()
	l.read.close()
	l.lock.release()
	return err
}
