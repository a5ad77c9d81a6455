package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chappe/chappe/event"
)

// Bounds of one read, so that a read transaction stays far below a second.
const (
	pageBytes   = 1 << 20 // data in a page, one event excepted
	scanRows    = 4096    // rows looked at when many topics match
	fewTopics   = 32      // up to here each topic's chain is followed by itself
	defaultPage = 1000
)

// Read returns the next page after q.After. See event.Reader.
func (l *Log) Read(ctx context.Context, q event.Query) (event.Page, error) {
	if err := l.checkCursor(q.After); err != nil {
		return event.Page{}, err
	}
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	var page event.Page
	err := sql.ErrNoRows
	for tries := 0; tries < 3 && errors.Is(err, sql.ErrNoRows); tries++ { // a sweep took an event away under the reader
		page, err = l.readPage(ctx, q)
	}
	// After the rows, not before: what is purged is in the catalog before it
	// is deleted, so whatever these rows lack is known by now.
	if err := l.CheckPurged(q.Patterns, q.After); err != nil {
		return event.Page{}, err
	}
	return page, wrap("read the log", err)
}

func (l *Log) checkCursor(c event.Cursor) error {
	switch {
	case c.IsZero():
		return nil
	case c.Epoch != l.epoch:
		return l.gone(c, "it is from another log, or from before a restore")
	case c.Seq > l.catalog.head.Load():
		return l.gone(c, "it is beyond the newest event")
	}
	return nil
}

// CheckPurged returns an *event.GoneError if something that patterns match
// was purged after the cursor, unless it asks for what is kept.
func (l *Log) CheckPurged(patterns []event.Pattern, after event.Cursor) error {
	if after.FromStart() || !l.catalog.purgedAfter(patterns, after.Seq) {
		return nil
	}
	return l.gone(after, "events after it are no longer kept")
}

func (l *Log) gone(c event.Cursor, reason string) error {
	return &event.GoneError{Cursor: c, Head: l.Head(), Reason: reason}
}

func (l *Log) readPage(ctx context.Context, q event.Query) (event.Page, error) {
	topics, head := l.catalog.find(q.Patterns)
	if topics != nil && len(topics) == 0 {
		return event.Page{Cursor: l.cursor(head)}, nil
	}
	tx, err := l.db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return event.Page{}, err
	}
	defer func() { _ = tx.Rollback() }() // nothing to undo: it only reads
	r := reading{log: l, tx: tx, patterns: q.Patterns, topics: topics, kept: q.After.FromStart(), after: q.After.Seq, head: head, limit: q.Limit}
	if topics == nil || len(topics) > fewTopics {
		return r.scan(ctx)
	}
	return r.merge(ctx)
}

// reading is one read transaction.
type reading struct {
	log         *Log
	tx          *sql.Tx
	patterns    []event.Pattern
	topics      map[int64]extent // nil: all
	kept        bool             // the reader is on its way from the start
	after, head int64
	limit       int
	size        int
	records     []*event.Record
}

// readStatements are what is run once an event, prepared.
type readStatements struct{ links, row *sql.Stmt }

func prepareReads(ctx context.Context, db *sql.DB) (s readStatements, err error) {
	if s.links, err = db.PrepareContext(ctx, selectLinks); err != nil {
		return s, err
	}
	s.row, err = db.PrepareContext(ctx, `SELECT `+columns+` FROM events WHERE seq = $1`)
	return s, err
}

func (s readStatements) close() {
	_ = s.links.Close() // the connection closes next
	_ = s.row.Close()
}

const columns = `seq, topic, time, id, source, type, subject, content_type, extensions, data`

// scan walks the log in order and picks what matches.
func (r *reading) scan(ctx context.Context) (event.Page, error) {
	rows, err := r.tx.QueryContext(ctx, `SELECT `+columns+` FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, r.after, r.head, scanRows)
	if err != nil {
		return event.Page{}, err
	}
	defer rows.Close()
	last, looked := r.after, 0
	for !r.full() && rows.Next() {
		if last, err = r.row(rows); err != nil {
			return event.Page{}, err
		}
		looked++
	}
	if err := rows.Err(); err != nil {
		return event.Page{}, err
	}
	return r.page(last, r.full() || looked == scanRows), nil
}

// merge follows each topic's chain, then reads the rows that come first.
func (r *reading) merge(ctx context.Context) (event.Page, error) {
	var seqs []int64
	for _, t := range r.topics {
		after := max(r.after, t.through)
		if t.head <= after {
			continue
		}
		some, err := chainReader{r.tx, r.log.read.links}.seqs(ctx, t.head, t.floor, after, r.limit)
		if err != nil {
			return event.Page{}, err
		}
		seqs = append(seqs, some...)
	}
	slices.Sort(seqs)
	more := len(seqs) >= r.limit
	seqs = seqs[:min(len(seqs), r.limit)]
	last := r.after
	for i, seq := range seqs {
		rows, err := r.tx.StmtContext(ctx, r.log.read.row).QueryContext(ctx, seq)
		if err != nil {
			return event.Page{}, err
		}
		if rows.Next() {
			_, err = r.row(rows)
		}
		if err = firstError(err, rows.Err(), rows.Close()); err != nil {
			return event.Page{}, err
		}
		last = seq
		if r.full() && i+1 < len(seqs) {
			more = true
			break
		}
	}
	return r.page(last, more), nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) full() bool { return len(r.records) >= r.limit || r.size >= pageBytes }

func (r *reading) page(last int64, more bool) event.Page {
	if !more {
		last = r.head
	}
	page := event.Page{Records: r.records, Cursor: r.log.cursor(last), More: more}
	page.Cursor.Kept = more && r.kept && r.log.catalog.purgedAfter(r.patterns, last)
	return page
}

// row takes the current row if its topic is wanted, and returns its seq.
func (r *reading) row(rows *sql.Rows) (seq int64, err error) {
	var e event.Event
	var topic, micros int64
	var extensions string
	var data []byte
	if err := rows.Scan(&seq, &topic, &micros, &e.ID, &e.Source, &e.Type, &e.Subject, &e.ContentType, &extensions, &data); err != nil {
		return 0, err
	}
	t, ok := r.topics[topic]
	if r.topics == nil {
		t, ok = r.log.catalog.extentOf(topic)
	}
	if !ok || seq <= t.through {
		return seq, nil
	}
	e.Topic, e.Time, e.Data = t.name, time.UnixMicro(micros).UTC(), data
	if extensions != "" {
		if err := json.Unmarshal([]byte(extensions), &e.Extensions); err != nil {
			return 0, fmt.Errorf("extensions of event %d: %w", seq, err)
		}
	}
	r.records = append(r.records, event.NewRecord(e, r.log.cursor(seq)))
	r.size += len(data)
	return seq, nil
}

// Recent is the end of the log, as much as takes about size bytes in memory.
func (l *Log) Recent(ctx context.Context, size int) ([]*event.Record, error) {
	var from int64
	rows, err := l.db.reader.QueryContext(ctx, `SELECT seq, LENGTH(data) FROM events ORDER BY seq DESC LIMIT $1`, size/recentOverhead)
	if err != nil {
		return nil, fmt.Errorf("read the end of the log: %w", err)
	}
	defer rows.Close()
	for size > 0 && rows.Next() {
		var length sql.NullInt64
		if err := rows.Scan(&from, &length); err != nil {
			return nil, err
		}
		size -= recentOverhead + 2*int(length.Int64)
	}
	if err := rows.Err(); err != nil || from == 0 {
		return nil, err
	}
	return l.readAll(ctx, event.Cursor{Epoch: l.epoch, Seq: from - 1})
}

// recentOverhead is about what a record takes beside its data, in bytes.
const recentOverhead = 700

func (l *Log) readAll(ctx context.Context, after event.Cursor) ([]*event.Record, error) {
	var all []*event.Record
	for more := true; more; {
		page, err := l.readPage(ctx, event.Query{Patterns: []event.Pattern{"**"}, After: after, Limit: defaultPage})
		if err != nil {
			return nil, fmt.Errorf("read the end of the log: %w", err)
		}
		all = append(all, page.Records...)
		after, more = page.Cursor, page.More
	}
	return all, nil
}
