package bus

import (
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/chappe/chappe/event"
)

// tail is the end of the log in memory. It serves those who resume from a
// moment ago, so that thousands of reconnects are not thousands of queries.
type tail struct {
	limit int // bytes

	mu      sync.RWMutex
	from    event.Cursor // everything after it is here
	head    event.Cursor
	records []*event.Record
	size    int
	byTopic map[event.Topic][]*event.Record
}

func newTail(limit int, head event.Cursor, recent []*event.Record) *tail {
	t := &tail{limit: limit, from: head, head: head, byTopic: map[event.Topic][]*event.Record{}}
	if len(recent) > 0 {
		t.from.Seq = recent[0].Cursor.Seq - 1
	}
	t.add(recent, head)
	return t
}

func (t *tail) add(records []*event.Record, head event.Cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		t.records = append(t.records, r)
		t.byTopic[r.Topic] = append(t.byTopic[r.Topic], r)
		t.size += r.Size()
	}
	t.head = head
	for t.size > t.limit {
		t.dropFirst()
	}
}

// Shed drops most of the memory tail; readers find the log on disk.
func (b *Bus) Shed() {
	t := b.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.size > t.limit/8 {
		t.dropFirst()
	}
	t.records = slices.Clone(t.records)
}

// dropFirst makes room. The slices' fronts go when append next moves them.
func (t *tail) dropFirst() {
	r := t.records[0]
	t.records[0] = nil
	t.records = t.records[1:]
	t.size -= r.Size()
	t.from = r.Cursor
	if rest := t.byTopic[r.Topic][1:]; len(rest) > 0 {
		t.byTopic[r.Topic][0] = nil
		t.byTopic[r.Topic] = rest
	} else {
		delete(t.byTopic, r.Topic)
	}
}

// read returns what follows q.After, unless part of it is no longer here.
func (t *tail) read(q event.Query, pageBytes int) (event.Page, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if q.After.Epoch != t.head.Epoch || q.After.Seq < t.from.Seq || q.After.Seq > t.head.Seq {
		return event.Page{}, false
	}
	source, patterns := t.records, q.Patterns
	if len(patterns) == 1 && patterns[0].Literal() {
		source, patterns = t.byTopic[event.Topic(patterns[0])], nil
	}
	page := event.Page{Cursor: t.head}
	start := sort.Search(len(source), func(i int) bool { return source[i].Cursor.Seq > q.After.Seq })
	size := 0
	for _, r := range source[start:] {
		if patterns != nil && !event.AnyMatches(patterns, r.Topic) {
			continue
		}
		if len(page.Records) >= q.Limit || size >= pageBytes {
			page.More = true
			page.Cursor = page.Records[len(page.Records)-1].Cursor
			break
		}
		page.Records = append(page.Records, r)
		size += len(r.JSON)
	}
	return page, true
}

// Read implements event.Reader, from memory where it can.
func (b *Bus) Read(ctx context.Context, q event.Query) (event.Page, error) {
	const pageEvents, pageBytes = 1000, 1 << 20
	if q.Limit <= 0 || q.Limit > pageEvents {
		q.Limit = pageEvents
	}
	if q.After.FromStart() { // what is kept, the log knows
		return b.log.Read(ctx, q)
	}
	if page, ok := b.tail.read(q, pageBytes); ok {
		return page, b.log.CheckPurged(q.Patterns, q.After)
	}
	return b.log.Read(ctx, q)
}

// Latest is up to n of the newest durable events in memory, oldest first.
func (b *Bus) Latest(n int) []*event.Record {
	b.tail.mu.RLock()
	defer b.tail.mu.RUnlock()
	return slices.Clone(b.tail.records[max(0, len(b.tail.records)-n):])
}

// Head implements event.Reader.
func (b *Bus) Head() event.Cursor { return b.log.Head() }
