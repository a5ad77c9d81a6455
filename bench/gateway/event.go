package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	changeTime  = 5 * time.Second       // after which a change is missed
	betweenTime = 20 * time.Millisecond // in which the waiter asks again
)

// measureEvent changes what the upstream answers, says so by an event, and
// looks when those who wait for it know.
func measureEvent(ctx context.Context, r *run) error {
	fmt.Printf(`
### Event: %d changes of what the upstream answers, each followed by an event

The time is from the moment the upstream handed the new answer out. One client waits by "Prefer: wait=30" with If-None-Match, one
reads the route's topic by SSE. The last row is before it: POST /v1/events (durable) until the upstream is asked.

`, r.changes)
	t := r.newTable("event", "<= 50 ms, all", "p50", "p99", "largest", "came")
	if !slices.Contains(r.servers, "chappe") {
		return nil
	}
	w, err := watchChanges(ctx, r)
	if err != nil {
		t.row("chappe", nil, err)
		return ctx.Err()
	}
	t.row("chappe, Prefer: wait", delays(w.waiter, r.changes), nil)
	t.row("chappe, SSE", delays(w.stream, r.changes), nil)
	t.row("before it", delays(w.asked, r.changes), nil)
	if w.more > 0 {
		fmt.Printf("\n%d events more than changes came on the route's topic.\n", w.more)
	}
	return nil
}

func delays(times []time.Duration, of int) []string {
	return []string{ms(quantile(times, 0.5)), ms(quantile(times, 0.99)), ms(quantile(times, 1)), fmt.Sprintf("%d of %d", len(times), of)}
}

// watched is how long each change took.
type watched struct {
	waiter, stream, asked []time.Duration
	more                  int // events on the route's topic that no change was followed by
}

// moments are when the upstream handed out each generation first.
type moments struct {
	mu         sync.Mutex
	generation int64 // now
	handed     map[int64]time.Time
}

func (m *moments) answer(w http.ResponseWriter, req *http.Request) {
	m.mu.Lock()
	generation := m.generation
	if m.handed[generation].IsZero() {
		m.handed[generation] = time.Now()
	}
	m.mu.Unlock()
	document(w, req, generation)
}

// next changes what is answered.
func (m *moments) next() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	return m.generation
}

func (m *moments) of(generation int64) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.handed[generation]
}

func watchChanges(ctx context.Context, r *run) (*watched, error) {
	m := &moments{handed: map[int64]time.Time{}}
	u, err := serveUpstream(m.answer)
	if err != nil {
		return nil, err
	}
	defer u.close()
	s, err := r.start(ctx, "chappe", setup{upstream: u.address, events: true})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ctx, cancel := context.WithCancel(ctx) // ends the client
	c, err := startClient(ctx, "follow", followOrder{s.address, s.token})
	if err != nil {
		cancel()
		return nil, err
	}
	told := make(chan followed, 1024)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(told)
		for { // until the client has ended
			var f followed
			if c.told.Decode(&f) != nil {
				return
			}
			select {
			case told <- f:
			case <-ctx.Done():
			}
		}
	})
	defer func() {
		cancel()
		reading.Wait()
		_ = c.cmd.Wait() // killed
	}()
	for ready := 0; ready < 2; ready++ {
		if f := <-told; f.What != "ready" {
			return nil, fmt.Errorf("the client did not begin: %s %s", f.What, f.Text)
		}
	}
	w := &watched{}
	for range r.changes {
		time.Sleep(betweenTime)
		if err := w.change(ctx, s, m, told); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// change makes one, and waits until both know of it, or changeTime.
func (w *watched) change(ctx context.Context, s *server, m *moments, told <-chan followed) error {
	generation := m.next()
	posted := time.Now()
	if err := s.api(ctx, http.MethodPost, "/v1/events", strings.NewReader(`{"topic":"bench/x","data":{"g":"1"}}`)); err != nil {
		return err
	}
	var waiter, stream time.Time
	for late := time.After(changeTime); waiter.IsZero() || stream.IsZero(); {
		select {
		case f, open := <-told:
			switch {
			case !open || f.What == "failed":
				return fmt.Errorf("the client ended: %s", f.Text)
			case f.What == "waiter" && f.Text == etag(generation):
				waiter = f.At
			case f.What == "stream" && stream.IsZero() && f.At.After(posted):
				stream = f.At
			case f.What == "stream":
				w.more++
			}
			continue
		case <-late:
		}
		break
	}
	handed := m.of(generation)
	if handed.IsZero() {
		return nil // all missed
	}
	w.asked = append(w.asked, handed.Sub(posted))
	if !waiter.IsZero() {
		w.waiter = append(w.waiter, waiter.Sub(handed))
	}
	if !stream.IsZero() {
		w.stream = append(w.stream, stream.Sub(handed))
	}
	return nil
}
