package bus

import (
	"context"
	"time"

	"github.com/chappe/chappe/event"
)

// commitLoop is the committer. It ends when the bus closes and nobody waits.
func (b *Bus) commitLoop() {
	defer close(b.ended)
	defer close(b.dispatch)
	idle := time.NewTicker(idleAfter)
	defer idle.Stop()
	last := time.Now() // the last commit
	expected := 1      // publishers that are likely to come
	for {
		select {
		case p := <-b.queue:
			group := b.gather(p, expected)
			expected = len(group)
			b.commitGroup(group)
			last = time.Now()
			b.maintain(false)
		case <-idle.C:
			for !b.closed() && len(b.queue) == 0 && b.maintain(time.Since(last) >= idleAfter) {
			}
		case <-b.closing:
			b.drain()
			return
		}
	}
}

func (b *Bus) closed() bool {
	select {
	case <-b.closing:
		return true
	default:
		return false
	}
}

// gather takes what waits. The publishers of the last group were answered a
// moment ago and are on their way with the next: without a short wait, the
// first of them would be committed alone and the others after it.
func (b *Bus) gather(first *pending, expected int) []*pending {
	group, events, size := []*pending{first}, len(first.batch.Events), first.size
	wait := time.NewTimer(gatherTime)
	defer wait.Stop()
	for events < groupEvents && size < groupBytes {
		var p *pending
		select {
		case p = <-b.queue:
		default:
			if len(group) >= expected {
				return group
			}
			select {
			case p = <-b.queue:
			case <-wait.C:
				return group
			}
		}
		group = append(group, p)
		events += len(p.batch.Events)
		size += p.size
	}
	return group
}

// commitGroup writes the group, answers its publishers and hands it on.
func (b *Bus) commitGroup(group []*pending) {
	batches := make([]event.Batch, len(group))
	for i, p := range group {
		batches[i] = p.batch
	}
	start := time.Now()
	receipts, err := b.log.Append(context.Background(), batches)
	b.metrics.commit(len(group), time.Since(start), err)
	if err != nil {
		err = &event.StorageError{Cause: err}
		if b.failure.Swap(&err) == nil { // the first of many
			b.logger.Error("events not stored", "batches", len(group), "err", err)
		}
		for _, p := range group {
			p.err = err
			close(p.done)
		}
		return
	}
	if b.failure.Swap(nil) != nil {
		b.logger.Info("events are stored again")
	}
	records := records(batches, receipts)
	b.metrics.events.WithLabelValues("durable").Add(float64(len(records)))
	b.tail.add(records, b.log.Head())
	for i, p := range group {
		p.receipts = receipts[i]
		close(p.done)
	}
	if len(records) > 0 {
		b.dispatch <- records
	}
}

// records are the events that are new in the log.
func records(batches []event.Batch, receipts [][]event.Receipt) []*event.Record {
	var records []*event.Record
	for i, batch := range batches {
		for j, r := range receipts[i] {
			if !r.Duplicate {
				records = append(records, event.NewRecord(batch.Events[j], r.Cursor))
			}
		}
	}
	return records
}

// dispatchLoop hands groups to the followers beside the next commit.
func (b *Bus) dispatchLoop() {
	for records := range b.dispatch {
		b.hand(records)
	}
}

func (b *Bus) maintain(idle bool) (more bool) {
	more, err := b.log.Maintain(context.Background(), idle)
	if err != nil {
		if !b.upkeepFailed { // the first of many
			b.logger.Error("upkeep of the log failed, it will be tried again", "err", err)
		}
		b.upkeepFailed = true
		return false
	}
	b.upkeepFailed = false
	return more
}

// drain commits what was queued before the bus closed.
func (b *Bus) drain() {
	for {
		select {
		case p := <-b.queue:
			b.commitGroup(b.gather(p, 1))
		default:
			return
		}
	}
}
