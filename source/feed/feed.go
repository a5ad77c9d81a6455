package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/source"
)

// When a feed is asked for.
const (
	defaultEvery = 15 * time.Minute
	politeFloor  = 5 * time.Minute  // on public addresses
	privateEvery = 10 * time.Second // where it is our own server
)

// maxSeen bounds what is remembered of a feed: twice what it may hold.
const maxSeen = 2 * maxEntries

// batchSize keeps a batch of large entries below the bus's bounds.
const batchSize = 100

// Runner watches one feed.
type Runner struct {
	Name      string
	Topic     event.Topic
	URL       string
	Every     time.Duration // 0: the default
	Backfill  int
	UserAgent string
	Client    *http.Client
	States    source.States
	Publisher event.Publisher
	Logger    *slog.Logger
	MaxData   int           // bytes of an event's data; what is too long loses its content
	Parsers   chan struct{} // its capacity bounds how many parse at once
}

// state is the checkpoint.
type state struct {
	URL string `json:"url"`
	validators
	Seen []string `json:"seen"` // entry ids, oldest first
}

// Run implements source.Runner.
func (r *Runner) Run(ctx context.Context, report source.Report) error {
	s, err := r.load(ctx)
	if err != nil {
		return err
	}
	for {
		private, err := r.read(ctx, s)
		if err != nil {
			return err
		}
		next := time.Now().Add(r.interval(private))
		report(next)
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// load returns the last checkpoint; an empty one for another address.
func (r *Runner) load(ctx context.Context) (*state, error) {
	text, err := r.States.State(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	s := &state{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("the checkpoint cannot be read: %w", err)
		}
	}
	if s.URL != r.URL {
		return &state{}, nil
	}
	return s, nil
}

// interval is how long to wait: up to a tenth more than asked for, never less.
func (r *Runner) interval(private bool) time.Duration {
	every := r.Every
	switch {
	case private && every == 0:
		every = privateEvery
	case every == 0:
		every = defaultEvery
	case !private:
		every = max(every, politeFloor)
	}
	return every + rand.N(every/10+1)
}

// read asks once and publishes what is new.
func (r *Runner) read(ctx context.Context, s *state) (private bool, err error) {
	a, err := r.fetch(ctx, s.validators)
	if err != nil {
		return false, err
	}
	changed := a.validators != s.validators
	var fresh []Entry
	if !a.unchanged {
		entries, err := r.parse(ctx, a)
		if err != nil {
			return false, err
		}
		fresh = s.fresh(entries, r.Backfill)
		changed = changed || len(fresh) > 0 || s.URL == ""
	}
	if !changed {
		return a.private, nil
	}
	s.URL, s.validators = r.URL, a.validators
	return a.private, r.publish(ctx, s, fresh)
}

func (r *Runner) parse(ctx context.Context, a *answer) ([]Entry, error) {
	select {
	case r.Parsers <- struct{}{}:
		defer func() { <-r.Parsers }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return parse(a.body, a.url)
}

// fresh returns the entries not seen before, oldest first, and remembers all.
// At the first reading only the newest backfill are fresh.
func (s *state) fresh(entries []Entry, backfill int) []Entry {
	first := s.URL == ""
	seen := make(map[string]bool, len(s.Seen))
	for _, id := range s.Seen {
		seen[id] = true
	}
	here := make(map[string]bool, len(entries))
	var fresh []Entry
	var ids []string
	for _, e := range slices.Backward(entries) { // feeds put the newest first
		if here[e.id] {
			continue
		}
		here[e.id] = true
		ids = append(ids, e.id)
		if !seen[e.id] {
			fresh = append(fresh, e)
		}
	}
	// What is in the feed now is forgotten last: a pinned entry is no news.
	s.Seen = append(slices.DeleteFunc(s.Seen, func(id string) bool { return here[id] }), ids...)
	s.Seen = s.Seen[max(0, len(s.Seen)-maxSeen):]
	if first {
		fresh = fresh[max(0, len(fresh)-backfill):]
	}
	return fresh
}

// publish writes the events, and the checkpoint with the last of them. Should
// the process end between two batches, the first are found to be duplicates.
func (r *Runner) publish(ctx context.Context, s *state, fresh []Entry) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	events := make([]event.Event, len(fresh))
	for i := range fresh {
		if events[i], err = r.event(&fresh[i]); err != nil {
			return err
		}
	}
	for len(events) > batchSize {
		if _, err := r.Publisher.Publish(ctx, event.Batch{Events: events[:batchSize]}); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		events = events[batchSize:]
	}
	last := event.Batch{Events: events, Checkpoint: &event.Checkpoint{Watch: r.Name, State: text}}
	if _, err := r.Publisher.Publish(ctx, last); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if len(fresh) > 0 {
		r.Logger.Debug("entries published", "watch", r.Name, "entries", len(fresh))
	}
	return nil
}

func (r *Runner) event(entry *Entry) (event.Event, error) {
	now := time.Now().UTC()
	entry.Feed, entry.FirstSeen = r.Name, now
	data, err := r.encode(*entry)
	if err != nil {
		return event.Event{}, fmt.Errorf("entry %s: %w", entry.id, err)
	}
	e := event.Event{
		ID: entry.id, Source: "/feeds/" + r.Name, Type: "feed.entry", Subject: entry.Title,
		Topic: r.Topic, Time: now, Data: data,
	}
	if entry.Published != nil && entry.Published.Before(now) {
		e.Time = *entry.Published
	}
	return e, nil
}

// encode leaves out, part by part, what is too long for an event.
func (r *Runner) encode(entry Entry) ([]byte, error) {
	for _, leaveOut := range []func(){
		func() {},
		func() { entry.Content = "" },
		func() { entry.Summary = "" },
		func() { entry.Enclosures, entry.Categories = nil, nil },
	} {
		leaveOut()
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false) // three letters in ten would become six
		if err := encoder.Encode(entry); err != nil {
			return nil, err
		}
		if b.Len() <= r.MaxData {
			return b.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("its title and address alone exceed %d bytes (limits.event)", r.MaxData)
}
