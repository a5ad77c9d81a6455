package bus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/event"
)

// Bounds of a group commit, of the queue before it and of the memory tail.
const (
	groupEvents   = 1000
	groupBytes    = 8 << 20
	queueBatches  = 1024             // waiting publishers; more wait to be let in
	gatherTime    = time.Millisecond // for publishers that were just answered to come again
	idleAfter     = 250 * time.Millisecond
	dispatchQueue = 16 // groups that the followers may be behind
	tailBytes     = 32 << 20
)

// Log is the durable log that the bus commits to.
type Log interface {
	// Append writes all batches in one transaction.
	Append(ctx context.Context, batches []event.Batch) ([][]event.Receipt, error)
	// Maintain does a slice of upkeep; more says that another is due.
	Maintain(ctx context.Context, idle bool) (more bool, err error)
	// Read, Head: see event.Reader.
	event.Reader
	// CheckPurged says whether reading from memory would hide a purge.
	CheckPurged(patterns []event.Pattern, after event.Cursor) error
	// Recent is the end of the log, about size bytes of memory.
	Recent(ctx context.Context, size int) ([]*event.Record, error)
}

// Follower is handed each group of events after its commit, in log order,
// from when it was attached by Follow.
// Ephemeral events come in the order of their publishers. It must not block.
type Follower interface {
	Committed(records []*event.Record)
}

// Options of a bus.
type Options struct {
	Rules      event.Rules  // which topics are ephemeral
	EventBytes int          // an event's data at most; 256 KiB when 0
	Logger     *slog.Logger // required
	Metrics    prometheus.Registerer
}

// Bus implements event.Publisher and event.Reader.
type Bus struct {
	log        Log
	rules      event.Rules
	eventBytes int
	logger     *slog.Logger
	metrics    *metrics
	tail       *tail

	queue    chan *pending
	dispatch chan []*event.Record
	closing  chan struct{} // no more publishes
	ended    chan struct{} // the committer has gone
	close    sync.Once
	done     sync.WaitGroup

	upkeepFailed bool // the committer's own

	failure atomic.Pointer[error] // of the last commit, nil if it succeeded

	handing   sync.Mutex // one group at a time to the followers
	followers []Follower
}

// pending is a publish that waits for its commit.
type pending struct {
	batch    event.Batch
	size     int
	receipts []event.Receipt
	err      error
	done     chan struct{}
}

// New starts a bus on the log. Close ends it; the log stays the caller's.
func New(ctx context.Context, log Log, o Options) (*Bus, error) {
	recent, err := log.Recent(ctx, tailBytes)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		log: log, rules: o.Rules, eventBytes: o.EventBytes, logger: o.Logger,
		metrics:  newMetrics(o.Metrics),
		tail:     newTail(tailBytes, log.Head(), recent),
		queue:    make(chan *pending, queueBatches),
		dispatch: make(chan []*event.Record, dispatchQueue),
		closing:  make(chan struct{}),
		ended:    make(chan struct{}),
	}
	if b.eventBytes == 0 {
		b.eventBytes = 256 << 10
	}
	b.done.Go(b.commitLoop)
	b.done.Go(b.dispatchLoop)
	return b, nil
}

// Follow hands every later group to f, too: all that is past the head which f
// is told first, if it wants to know.
func (b *Bus) Follow(f Follower) {
	b.handing.Lock()
	defer b.handing.Unlock()
	if s, ok := f.(interface{ Following(head event.Cursor) }); ok {
		s.Following(b.log.Head())
	}
	b.followers = append(b.followers, f)
}

// Err is why the last commit failed, nil if it did not.
func (b *Bus) Err() error {
	if err := b.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Close commits what waits, hands it on and returns. Later publishes fail
// with event.ErrClosed.
func (b *Bus) Close() {
	b.close.Do(func() { close(b.closing) })
	b.done.Wait()
}

// Publish implements event.Publisher. It completes the batch's events in
// place (id, time) and must be the only one to use them from then on.
func (b *Bus) Publish(ctx context.Context, batch event.Batch) ([]event.Receipt, error) {
	size, ephemeral, err := b.prepare(batch.Events)
	if err != nil {
		return nil, err
	}
	if ephemeral == len(batch.Events) && batch.Checkpoint == nil {
		return b.handOver(batch.Events), nil
	}
	if ephemeral > 0 {
		return b.publishMixed(ctx, batch, size)
	}
	return b.commit(ctx, batch, size)
}

// prepare checks and completes the events.
func (b *Bus) prepare(events []event.Event) (size, ephemeral int, err error) {
	if len(events) > groupEvents {
		return 0, 0, &event.LimitError{What: "batch", Got: len(events), Limit: groupEvents, Unit: "events"}
	}
	for i := range events {
		e := &events[i]
		if err := e.Validate(); err != nil {
			return 0, 0, inBatch(err, i, len(events))
		}
		if len(e.Data) > b.eventBytes {
			return 0, 0, inBatch(&event.LimitError{What: "event", Got: len(e.Data), Limit: b.eventBytes, Unit: "bytes of data", Key: "limits.event"}, i, len(events))
		}
		if err := complete(e); err != nil {
			return 0, 0, err
		}
		size += len(e.Data) + len(e.ID) + len(e.Source) + len(e.Subject)
		if b.rules.For(e.Topic).Ephemeral {
			ephemeral++
		}
	}
	return size, ephemeral, nil
}

func inBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("event %d of %d: %w", i+1, n, err)
}

func complete(e *event.Event) error {
	if e.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make an event id: %w", err)
		}
		e.ID = id.String()
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Microsecond) // as the log keeps it
	return nil
}

// publishMixed commits the durable events, then hands over the others.
func (b *Bus) publishMixed(ctx context.Context, batch event.Batch, size int) ([]event.Receipt, error) {
	var durable, ephemeral []event.Event
	for _, e := range batch.Events {
		if b.rules.For(e.Topic).Ephemeral {
			ephemeral = append(ephemeral, e)
		} else {
			durable = append(durable, e)
		}
	}
	kept, err := b.commit(ctx, event.Batch{Events: durable, Checkpoint: batch.Checkpoint}, size)
	if err != nil {
		return nil, err
	}
	passed := b.handOver(ephemeral)
	receipts := make([]event.Receipt, 0, len(batch.Events))
	for _, e := range batch.Events {
		from := &kept
		if b.rules.For(e.Topic).Ephemeral {
			from = &passed
		}
		receipts = append(receipts, (*from)[0])
		*from = (*from)[1:]
	}
	return receipts, nil
}

// handOver gives ephemeral events to the followers.
func (b *Bus) handOver(events []event.Event) []event.Receipt {
	records := make([]*event.Record, len(events))
	receipts := make([]event.Receipt, len(events))
	for i, e := range events {
		records[i] = event.NewRecord(e, event.Cursor{})
		receipts[i] = event.Receipt{ID: e.ID, Topic: e.Topic}
	}
	b.metrics.events.WithLabelValues("ephemeral").Add(float64(len(events)))
	b.hand(records)
	return receipts
}

func (b *Bus) hand(records []*event.Record) {
	b.handing.Lock()
	defer b.handing.Unlock()
	for _, f := range b.followers {
		f.Committed(records)
	}
}

// commit queues the batch and waits. When ctx ends first the batch may still
// be committed: its publisher does not know, and may publish it again.
func (b *Bus) commit(ctx context.Context, batch event.Batch, size int) ([]event.Receipt, error) {
	p := &pending{batch: batch, size: size, done: make(chan struct{})}
	select {
	case <-b.closing:
		return nil, event.ErrClosed
	default:
	}
	select {
	case b.queue <- p:
	case <-b.closing:
		return nil, event.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-p.done:
		return p.receipts, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.ended:
	}
	select {
	case <-p.done: // by the last commit
		return p.receipts, p.err
	default:
		return nil, event.ErrClosed
	}
}
