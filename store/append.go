package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/chappe/chappe/event"
)

// Append writes the batches in one transaction, in order, and returns each
// one's receipts when they are on disk. On an error nothing was written.
// Events are complete and valid: the bus has seen to it.
func (l *Log) Append(ctx context.Context, batches []event.Batch) ([][]event.Receipt, error) {
	a := appending{
		log: l, seq: l.catalog.head.Load(), now: max(l.now().UnixMilli(), l.committed),
		known: map[dedupeKey]int64{}, chains: map[*topic]*chain{},
	}
	var receipts [][]event.Receipt
	err := l.transact(ctx, func(tx *sql.Tx) (err error) {
		a.tx = tx
		receipts, err = a.run(ctx, batches)
		return err
	})
	if err != nil {
		return nil, wrap("append", err)
	}
	a.settle()
	return receipts, nil
}

// dedupeKey stands for (source, id).
type dedupeKey [16]byte

// keyOf hashes (source, id). A time-ordered id (UUIDv7, as the bus makes
// them) keeps its time in front, so that its index entry goes to the end of
// the index and not to a random page.
func keyOf(e *event.Event) dedupeKey {
	h := sha256.New()
	h.Write([]byte(e.Source))
	h.Write([]byte{0})
	h.Write([]byte(e.ID))
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	key := dedupeKey(sum[:16])
	if len(e.ID) == 36 {
		if id, err := uuid.Parse(e.ID); err == nil && id.Version() == 7 {
			copy(key[:8], id[:8])
		}
	}
	return key
}

// appending is one transaction of Append.
type appending struct {
	log    *Log
	tx     *sql.Tx
	seq    int64 // the last one taken
	now    int64 // Unix milliseconds
	known  map[dedupeKey]int64
	fresh  []*topic          // made by this transaction
	chains map[*topic]*chain // as they are after it
	links  []link            // for the catalog, after the commit
	events []any             // arguments of the rows to insert
	seen   []any
}

// link is an event that a topic gained.
type link struct {
	topic *topic
	node
}

func (a *appending) run(ctx context.Context, batches []event.Batch) ([][]event.Receipt, error) {
	keys, err := a.lookUp(ctx, batches)
	if err != nil {
		return nil, err
	}
	receipts := make([][]event.Receipt, len(batches))
	for i, b := range batches {
		receipts[i] = make([]event.Receipt, len(b.Events))
		for j := range b.Events {
			if receipts[i][j], err = a.add(ctx, &b.Events[j], keys[0]); err != nil {
				return nil, err
			}
			keys = keys[1:]
		}
		if b.Checkpoint != nil {
			if _, err := a.tx.StmtContext(ctx, a.log.write.checkpoint).ExecContext(ctx, b.Checkpoint.Watch, b.Checkpoint.State); err != nil {
				return nil, fmt.Errorf("checkpoint of %s: %w", b.Checkpoint.Watch, err)
			}
		}
	}
	if err := a.log.write.events.insert(ctx, a.tx, a.events); err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	if err := a.log.write.seen.insert(ctx, a.tx, a.seen); err != nil {
		return nil, fmt.Errorf("dedupe keys: %w", err)
	}
	return receipts, nil
}

// lookUp makes every event's key, in order, and finds those in the log already.
func (a *appending) lookUp(ctx context.Context, batches []event.Batch) ([]dedupeKey, error) {
	var keys []dedupeKey
	for _, b := range batches {
		for i := range b.Events {
			keys = append(keys, keyOf(&b.Events[i]))
		}
	}
	for start := 0; start < len(keys); start += lookUpWidth {
		args := make([]any, lookUpWidth)
		for i := range args { // the last one fills up
			args[i] = keys[min(start+i, len(keys)-1)][:]
		}
		if err := a.lookUpSome(ctx, args); err != nil {
			return nil, fmt.Errorf("look for duplicates: %w", err)
		}
	}
	return keys, nil
}

func (a *appending) lookUpSome(ctx context.Context, args []any) error {
	rows, err := a.tx.StmtContext(ctx, a.log.write.lookUp).QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key sql.RawBytes
		var seq int64
		if err := rows.Scan(&key, &seq); err != nil {
			return err
		}
		a.known[dedupeKey(key)] = seq
	}
	return rows.Err()
}

// add takes a place in the log for e, unless it has one.
func (a *appending) add(ctx context.Context, e *event.Event, key dedupeKey) (event.Receipt, error) {
	if seq, ok := a.known[key]; ok {
		topic, err := a.topicOf(ctx, seq, e.Topic)
		return event.Receipt{ID: e.ID, Topic: topic, Cursor: a.log.cursor(seq), Duplicate: true}, err
	}
	t, c, err := a.topic(ctx, e.Topic)
	if err != nil {
		return event.Receipt{}, fmt.Errorf("topic %s: %w", e.Topic, err)
	}
	extensions, err := encodeExtensions(e.Extensions)
	if err != nil {
		return event.Receipt{}, err
	}
	a.seq++
	a.known[key] = a.seq
	n := c.push(a.seq, int64(len(e.Data)))
	n.committed = a.now
	a.links = append(a.links, link{t, n})
	a.events = append(a.events, n.seq, t.id, n.prev, n.jump, n.ordinal, n.total, a.now, e.Time.UnixMicro(),
		e.ID, e.Source, e.Type, e.Subject, e.ContentType, extensions, e.Data)
	a.seen = append(a.seen, n.seq, a.now, key[:])
	return event.Receipt{ID: e.ID, Topic: e.Topic, Cursor: a.log.cursor(n.seq)}, nil
}

// topicOf is where a duplicate is: not always where it was sent again to. What
// is purged is said to be there.
func (a *appending) topicOf(ctx context.Context, seq int64, asked event.Topic) (event.Topic, error) {
	for _, n := range a.links {
		if n.seq == seq {
			return n.topic.name, nil
		}
	}
	var id int64
	err := a.tx.QueryRowContext(ctx, `SELECT topic FROM events WHERE seq = $1`, seq).Scan(&id)
	if t := a.log.catalog.byID[id]; t != nil {
		return t.name, nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return asked, err
}

func encodeExtensions(extensions map[string]json.RawMessage) (string, error) {
	if len(extensions) == 0 {
		return "", nil
	}
	b, err := json.Marshal(extensions)
	return string(b), err
}

// topic finds or makes the topic, and the end of its chain in this
// transaction. Only the committer changes the catalog, so it may look without
// the lock.
func (a *appending) topic(ctx context.Context, name event.Topic) (*topic, *chain, error) {
	t := a.log.catalog.byName[name]
	for _, fresh := range a.fresh {
		if fresh.name == name {
			t = fresh
		}
	}
	if t == nil {
		var err error
		if t, err = a.newTopic(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	if c := a.chains[t]; c != nil {
		return t, c, nil
	}
	c := t.chain
	c.terms = slices.Clone(t.terms)
	if c.terms == nil && c.ordinal > 0 {
		if err := c.restore(ctx, chainReader{a.tx, a.log.write.links}, t.purged.through); err != nil {
			return nil, nil, err
		}
	}
	a.chains[t] = &c
	return t, &c, nil
}

func (a *appending) newTopic(ctx context.Context, name event.Topic) (*topic, error) {
	t := &topic{id: a.log.catalog.lastID + int64(len(a.fresh)) + 1, name: name}
	_, err := a.tx.StmtContext(ctx, a.log.write.topic).ExecContext(ctx, t.id, string(name))
	if err != nil {
		return nil, err
	}
	a.fresh = append(a.fresh, t)
	return t, nil
}

// settle tells memory what is on disk now.
func (a *appending) settle() {
	c := a.log.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range a.fresh {
		c.add(t)
	}
	before := a.log.walSize.Load()
	for _, n := range a.links {
		before += n.total - n.topic.total + rowSize
		n.topic.gain(n.node)
		a.log.upkeep.touch(n.topic)
	}
	a.log.walSize.Store(before)
	for t, chain := range a.chains {
		t.terms = chain.terms
	}
	c.kept += int64(len(a.links))
	c.head.Store(a.seq)
	a.log.committed = a.now
}

// Rows that one statement looks for and inserts.
const lookUpWidth = 32

var insertWidths = [...]int{64, 8, 1}

// statements are what the committer runs most, prepared once on the write
// connection.
type statements struct {
	events, seen inserter
	lookUp       *sql.Stmt // keys
	links        *sql.Stmt // see chainReader
	topic        *sql.Stmt // a new one
	saveTopic    *sql.Stmt
	checkpoint   *sql.Stmt
}

func prepareStatements(ctx context.Context, db *sql.DB) (*statements, error) {
	s := &statements{}
	var err error
	prepare := func(query string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var stmt *sql.Stmt
		stmt, err = db.PrepareContext(ctx, query)
		return stmt
	}
	s.lookUp = prepare(`SELECT key, seq FROM seen WHERE key IN ` + tuple(lookUpWidth))
	s.links = prepare(selectLinks)
	s.saveTopic = prepare(`UPDATE topics SET head = $1, ordinal = $2, total = $3, purged_through = $4, purged_ordinal = $5, purged_total = $6, purged_at = $7, oldest = $8 WHERE id = $9`)
	s.topic = prepare(`INSERT INTO topics (id, name, head, ordinal, total, purged_through, purged_ordinal, purged_total, purged_at, oldest) VALUES ($1, $2, 0, 0, 0, 0, 0, 0, 0, 0)`)
	s.checkpoint = prepare(`INSERT INTO checkpoints (watch, state) VALUES ($1, $2) ON CONFLICT (watch) DO UPDATE SET state = excluded.state`)
	s.events = prepareInsert(prepare, `INSERT INTO events (seq, topic, prev, jump, ordinal, total, committed, time, id, source, type, subject, content_type, extensions, data) VALUES `, 15)
	s.seen = prepareInsert(prepare, `INSERT INTO seen (seq, at, key) VALUES `, 3)
	return s, err
}

// tuple is (?, ..., ?). With many numbered parameters SQLite would spend a
// tenth of its time on looking them up by name.
func tuple(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }

func (s *statements) close() {
	for _, stmt := range append(append(s.events.stmts[:], s.seen.stmts[:]...), s.lookUp, s.links, s.topic, s.saveTopic, s.checkpoint) {
		_ = stmt.Close() // the connection closes next
	}
}

// inserter inserts rows, many with one statement.
type inserter struct {
	columns int
	stmts   [len(insertWidths)]*sql.Stmt
}

func prepareInsert(prepare func(string) *sql.Stmt, query string, columns int) inserter {
	in := inserter{columns: columns}
	for i, width := range insertWidths {
		in.stmts[i] = prepare(query + tuple(columns) + strings.Repeat(", "+tuple(columns), width-1))
	}
	return in
}

// insert writes the rows whose arguments stand one after another.
func (in inserter) insert(ctx context.Context, tx *sql.Tx, args []any) error {
	for i, width := range insertWidths {
		for n := width * in.columns; len(args) >= n; args = args[n:] {
			if _, err := tx.StmtContext(ctx, in.stmts[i]).ExecContext(ctx, args[:n]...); err != nil {
				return err
			}
		}
	}
	return nil
}
