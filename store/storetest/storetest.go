// Package storetest is the conformance test of a log: what any implementation
// must do, whatever database is below it.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/store"
)

// Log is what is tested.
type Log interface {
	event.Reader
	Append(ctx context.Context, batches []event.Batch) ([][]event.Receipt, error)
	Maintain(ctx context.Context, idle bool) (more bool, err error)
	CheckPurged(patterns []event.Pattern, after event.Cursor) error
	Recent(ctx context.Context, size int) ([]*event.Record, error)
	Close() error
}

// Home is a place for one log, which can be opened again and again.
type Home interface {
	Open(t *testing.T, o store.Options) Log
	// State is a watch's checkpoint.
	State(t *testing.T, watch string) []byte
	// Size is what the log takes on disk, in bytes.
	Size(t *testing.T) int64
}

// Run runs the whole test, each part in a new home.
func Run(t *testing.T, newHome func(t *testing.T) Home) {
	for name, test := range map[string]func(*testing.T, Home){
		"append and read":      appendAndRead,
		"every field":          everyField,
		"batches are atomic":   batchWithCheckpoint,
		"dedupe":               dedupe,
		"dedupe ages":          dedupeAges,
		"patterns":             patterns,
		"pages":                pages,
		"gone":                 gone,
		"all that is kept":     allThatIsKept,
		"a clock that falls":   clockFalls,
		"ids of topics":        idsOfTopics,
		"keep events":          keepEvents,
		"keep age":             keepAge,
		"keep bytes":           keepBytes,
		"forgotten topics":     forgottenTopics,
		"reopen":               reopen,
		"space comes back":     spaceComesBack,
		"recent":               recent,
		"purge keeps the head": purgeKeepsHead,
	} {
		t.Run(name, func(t *testing.T) { test(t, newHome(t)) })
	}
}

// clock is a time that tests move.
type clock struct{ now time.Time }

func newClock() *clock                   { return &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }
func (c *clock) Now() time.Time          { return c.now }
func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

func options(rules ...event.Rule) store.Options {
	return store.Options{Rules: rules, Logger: slog.New(slog.DiscardHandler)}
}

func newEvent(topic string, n int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("%s-%d", topic, n), Source: "/test", Type: "test", Topic: event.Topic(topic),
		Time: time.Date(2026, 11, 22, 0, 0, n, 0, time.UTC), Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func put(t *testing.T, l Log, events ...event.Event) []event.Receipt {
	t.Helper()
	receipts, err := l.Append(t.Context(), []event.Batch{{Events: events}})
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	return receipts[0]
}

func series(topic string, from, to int) []event.Event {
	var events []event.Event
	for n := from; n <= to; n++ {
		events = append(events, newEvent(topic, n))
	}
	return events
}

// maintain does all that is due.
func maintain(t *testing.T, l Log) {
	t.Helper()
	for range 100_000 {
		more, err := l.Maintain(t.Context(), true)
		if err != nil {
			t.Fatalf("Maintain: %v", err)
		}
		if !more {
			return
		}
	}
	t.Fatal("Maintain finds no end")
}

// ids reads everything after a cursor, page by page.
func ids(t *testing.T, l Log, after event.Cursor, limit int, patterns ...event.Pattern) []string {
	t.Helper()
	var ids []string
	for more := true; more; {
		page, err := l.Read(t.Context(), event.Query{Patterns: patterns, After: after, Limit: limit})
		if err != nil {
			t.Fatalf("Read(%v after %s): %v", patterns, after, err)
		}
		for _, r := range page.Records {
			if r.Cursor.Seq <= after.Seq {
				t.Fatalf("record %s comes after cursor %s", r.Cursor, after)
			}
			after = r.Cursor
			ids = append(ids, r.ID)
		}
		after, more = page.Cursor, page.More
	}
	return ids
}

func idsOf(events ...[]event.Event) []string {
	var ids []string
	for _, some := range events {
		for _, e := range some {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func wantIDs(t *testing.T, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}

func wantGone(t *testing.T, l Log, after event.Cursor, want bool, patterns ...event.Pattern) {
	t.Helper()
	_, err := l.Read(t.Context(), event.Query{Patterns: patterns, After: after})
	gone, is := errors.AsType[*event.GoneError](err)
	if is != want {
		t.Errorf("Read(%v after %s) = %v, want gone %v", patterns, after, err, want)
	}
	if is && gone.Head != l.Head() {
		t.Errorf("gone: start over from %s, want the head %s", gone.Head, l.Head())
	}
}

func appendAndRead(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	start := l.Head()
	a, b := series("a", 1, 3), series("b", 1, 2)
	receipts, err := l.Append(t.Context(), []event.Batch{{Events: a}, {Events: b}})
	if err != nil {
		t.Fatal(err)
	}
	var seq int64
	for i, batch := range receipts {
		for j, r := range batch {
			seq++
			if r.Cursor.Seq != seq || r.Cursor.Epoch != start.Epoch || r.Duplicate {
				t.Errorf("receipt %d.%d = %+v, want seq %d of epoch %s", i, j, r, seq, start.Epoch)
			}
		}
	}
	if got := l.Head(); got.Seq != seq {
		t.Errorf("Head() = %s, want seq %d", got, seq)
	}
	wantIDs(t, ids(t, l, start, 0, "**"), idsOf(a, b))
	wantIDs(t, ids(t, l, receipts[0][1].Cursor, 0, "**"), idsOf(a[2:], b))
	wantIDs(t, ids(t, l, l.Head(), 0, "**"), nil)
	page, err := l.Read(t.Context(), event.Query{Patterns: []event.Pattern{"nothing/here"}, After: start})
	if err != nil || page.Cursor != l.Head() || page.More || len(page.Records) != 0 {
		t.Errorf("a topic without events = %+v, %v, want an empty page at the head", page, err)
	}
}

func everyField(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	want := []event.Event{
		{ID: "1", Source: "/s", Type: "t", Subject: "été", Topic: "a/b", Time: time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC),
			ContentType: "application/json", Data: []byte(`{"x":[1,"\u0000"]}`), Extensions: map[string]json.RawMessage{"hops": []byte("3"), "trace": []byte(`"x"`)}},
		{ID: "2", Source: "/s", Type: "t", Topic: "a/b", Time: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), ContentType: "image/png", Data: []byte{0, 255, 10}},
		{ID: "3", Source: "/s", Type: "t", Topic: "a/b", Time: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), ContentType: "text/plain"},
		{ID: "4", Source: "/s", Type: "t", Topic: "a/b", Time: time.Unix(0, 0).UTC()},
	}
	put(t, l, want...)
	page, err := l.Read(t.Context(), event.Query{Patterns: []event.Pattern{"a/*"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []event.Event
	for _, r := range page.Records {
		got = append(got, r.Event)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func batchWithCheckpoint(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	if got := h.State(t, "w"); got != nil {
		t.Errorf("State before the first checkpoint = %q, want none", got)
	}
	batch := event.Batch{Events: series("a", 1, 2), Checkpoint: &event.Checkpoint{Watch: "w", State: []byte("one")}}
	only := event.Batch{Checkpoint: &event.Checkpoint{Watch: "w", State: []byte("two")}}
	if _, err := l.Append(t.Context(), []event.Batch{batch, only}); err != nil {
		t.Fatal(err)
	}
	if got := h.State(t, "w"); string(got) != "two" {
		t.Errorf("State = %q, want %q", got, "two")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	batch = event.Batch{Events: series("b", 1, 2), Checkpoint: &event.Checkpoint{Watch: "w", State: []byte("three")}}
	if _, err := l.Append(cancelled, []event.Batch{batch}); err == nil {
		t.Fatal("Append on a cancelled context succeeded")
	}
	if got := h.State(t, "w"); string(got) != "two" {
		t.Errorf("State after a failed Append = %q, want %q", got, "two")
	}
	put(t, l, series("b", 3, 3)...)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "**"), idsOf(series("a", 1, 2), series("b", 3, 3)))
}

func dedupe(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	first := put(t, l, series("a", 1, 40)...)
	again := put(t, l, newEvent("a", 7), newEvent("a", 41), newEvent("a", 41), newEvent("a", 39))
	for i, want := range []struct {
		seq       int64
		duplicate bool
	}{{first[6].Cursor.Seq, true}, {41, false}, {41, true}, {first[38].Cursor.Seq, true}} {
		if r := again[i]; r.Cursor.Seq != want.seq || r.Duplicate != want.duplicate {
			t.Errorf("receipt %d = %+v, want %+v", i, r, want)
		}
	}
	elsewhere := newEvent("a", 7)
	elsewhere.Topic = "b"
	if r := put(t, l, elsewhere)[0]; !r.Duplicate || r.Topic != "a" {
		t.Errorf("the same id on another topic: %+v, want a duplicate on a", r)
	}
	other := newEvent("a", 7)
	other.Source = "/other"
	if r := put(t, l, other)[0]; r.Duplicate {
		t.Errorf("the same id from another source is a duplicate: %+v", r)
	}
	ordered := newEvent("a", 50)
	ordered.ID = "019ab000-0000-7000-8000-000000000001"
	if a, b := put(t, l, ordered)[0], put(t, l, ordered)[0]; a.Duplicate || !b.Duplicate || a.Cursor != b.Cursor {
		t.Errorf("a UUIDv7 published twice: %+v, then %+v", a, b)
	}
	if got, want := len(ids(t, l, event.Cursor{}, 0, "**")), 43; got != want {
		t.Errorf("%d events are in the log, want %d", got, want)
	}
}

func dedupeAges(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "short/**", Keep: event.Keep{Events: 1}})
	o.Now = c.Now
	l := h.Open(t, o)
	defer l.Close()
	first := put(t, l, series("short/a", 1, 3)...)
	maintain(t, l)
	c.advance(7*24*time.Hour - time.Second)
	maintain(t, l)
	if r := put(t, l, newEvent("short/a", 1))[0]; !r.Duplicate || r.Cursor != first[0].Cursor {
		t.Errorf("after 7 days less a second, of a purged event: %+v, want a duplicate of %s", r, first[0].Cursor)
	}
	c.advance(time.Minute + 2*time.Second)
	maintain(t, l)
	if r := put(t, l, newEvent("short/a", 1))[0]; r.Duplicate {
		t.Errorf("after 7 days: %+v, want it to be new", r)
	}
}

func patterns(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	for n := 1; n <= 3; n++ {
		for i := range 50 { // more topics than are read one by one
			put(t, l, newEvent(fmt.Sprintf("many/%d/x", i), n))
		}
		put(t, l, newEvent("few/a", n), newEvent("few/b", n), newEvent("few", n))
	}
	for _, tt := range []struct {
		patterns []event.Pattern
		want     int
	}{
		{[]event.Pattern{"**"}, 159},
		{[]event.Pattern{"many/**"}, 150},
		{[]event.Pattern{"many/*/x"}, 150},
		{[]event.Pattern{"many/*"}, 0},
		{[]event.Pattern{"few/**"}, 6},
		{[]event.Pattern{"few", "few/*"}, 9},
		{[]event.Pattern{"few/a", "few/a", "few/**"}, 6},
		{[]event.Pattern{"many/7/x"}, 3},
	} {
		for _, limit := range []int{0, 1, 7} {
			if got := len(ids(t, l, event.Cursor{}, limit, tt.patterns...)); got != tt.want {
				t.Errorf("%v by pages of %d: %d events, want %d", tt.patterns, limit, got, tt.want)
			}
		}
	}
}

func pages(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	big := bytes.Repeat([]byte("x"), 256<<10)
	for n := range 12 {
		e := newEvent("big", n)
		e.ContentType, e.Data = "application/octet-stream", big
		put(t, l, e)
	}
	for _, p := range []event.Pattern{"big", "**"} {
		page, err := l.Read(t.Context(), event.Query{Patterns: []event.Pattern{p}})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(page.Records); n < 1 || n > 5 || !page.More {
			t.Errorf("a page of %s has %d events of 256 KiB, more %v, want 1 MiB and more", p, n, page.More)
		}
		if got := len(ids(t, l, event.Cursor{}, 0, p)); got != 12 {
			t.Errorf("all pages of %s have %d events, want 12", p, got)
		}
	}
}

func gone(t *testing.T, h Home) {
	l := h.Open(t, options(event.Rule{Match: "short/**", Keep: event.Keep{Events: 2}}))
	defer l.Close()
	put(t, l, series("long", 1, 5)...)
	before := l.Head()
	short := put(t, l, series("short/a", 1, 5)...)
	maintain(t, l)
	head := l.Head()

	wantGone(t, l, event.Cursor{Epoch: "other", Seq: 1}, true, "long")
	wantGone(t, l, event.Cursor{Epoch: head.Epoch, Seq: head.Seq + 1}, true, "long")
	wantGone(t, l, head, false, "**")
	wantGone(t, l, event.Cursor{}, false, "**")
	wantGone(t, l, before, true, "short/a")
	wantGone(t, l, before, true, "short/*")
	wantGone(t, l, before, true, "**")
	wantGone(t, l, short[1].Cursor, true, "short/a")
	wantGone(t, l, short[2].Cursor, false, "short/a")
	wantGone(t, l, before, false, "long")          // purges of other topics never matter
	wantGone(t, l, before, false, "short/nothing") // nor those of the same rule
}

// Who asks for what is kept gets it, page by page, although some topics were
// purged long after others.
func allThatIsKept(t *testing.T, h Home) {
	l := h.Open(t, options(event.Rule{Match: "busy/**", Keep: event.Keep{Events: 10}}))
	defer l.Close()
	for n := 1; n <= 200; n++ {
		put(t, l, newEvent("quiet/a", n), newEvent("busy/a", n))
	}
	maintain(t, l)
	for _, p := range []event.Pattern{"**", "*/a"} {
		if got := len(ids(t, l, event.Cursor{}, 7, p)); got != 210 {
			t.Errorf("%s from the start: %d events, want all 210 that are kept", p, got)
		}
	}
	page, err := l.Read(t.Context(), event.Query{Patterns: []event.Pattern{"**"}, Limit: 1000})
	if err != nil || page.Cursor != l.Head() {
		t.Errorf("at the head the cursor is %s, %v, want %s", page.Cursor, err, l.Head())
	}
}

// A clock that was wrong once does not make good events old.
func clockFalls(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "**", Keep: event.Keep{Age: time.Hour}})
	o.Now = c.Now
	l := h.Open(t, o)
	put(t, l, series("a", 1, 3)...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = h.Open(t, o)
	defer l.Close()
	good := c.now
	c.now = time.Unix(0, 0)
	put(t, l, series("a", 4, 4)...)
	c.now = good.Add(time.Minute)
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "a"), idsOf(series("a", 1, 4)))
}

// A new topic has nothing of a forgotten one, although that one's rows may
// still be there.
func idsOfTopics(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "secret/**", Keep: event.Keep{Age: time.Hour}})
	o.Now = c.Now
	l := h.Open(t, o)
	put(t, l, series("long", 1, 500)...)
	put(t, l, series("secret/a", 1, 3)...)
	c.advance(2 * time.Hour)
	maintain(t, l)
	c.advance(25 * time.Hour)
	maintain(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = h.Open(t, o)
	defer l.Close()
	put(t, l, series("open/a", 1, 2)...)
	maintain(t, l) // finds an end
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "open/a"), idsOf(series("open/a", 1, 2)))
	if got := len(ids(t, l, event.Cursor{}, 0, "**")); got != 502 {
		t.Errorf("%d events are read, want 502", got)
	}
	latest, err := l.Recent(t.Context(), 1<<20)
	if err != nil || len(latest) != 502 {
		t.Errorf("Recent has %d records, %v, want 502", len(latest), err)
	}
}

func keepEvents(t *testing.T, h Home) {
	l := h.Open(t, options(event.Rule{Match: "short/**", Keep: event.Keep{Events: 10}}))
	defer l.Close()
	put(t, l, series("short/a", 1, 700)...)
	put(t, l, series("short/b", 1, 9)...)
	put(t, l, series("other", 1, 1000)...)
	put(t, l, newEvent("other", 1001))
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "short/*"), idsOf(series("short/a", 691, 700), series("short/b", 1, 9)))
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "other"), idsOf(series("other", 2, 1001))) // the default
}

func keepAge(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "short/**", Keep: event.Keep{Age: time.Hour}})
	o.Now = c.Now
	l := h.Open(t, o)
	defer l.Close()
	put(t, l, series("short/a", 1, 3)...)
	put(t, l, series("long", 1, 3)...)
	c.advance(40 * time.Minute)
	put(t, l, series("short/a", 4, 5)...)
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "short/a"), idsOf(series("short/a", 1, 5)))
	c.advance(30 * time.Minute)
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "short/a"), idsOf(series("short/a", 4, 5)))
	c.advance(2 * time.Hour)
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "**"), idsOf(series("long", 1, 3)))
}

func keepBytes(t *testing.T, h Home) {
	l := h.Open(t, options(
		event.Rule{Match: "short/tight", Keep: event.Keep{Bytes: 100}},
		event.Rule{Match: "short/**", Keep: event.Keep{Bytes: 10_500}}))
	defer l.Close()
	for n := 1; n <= 30; n++ {
		e := newEvent("short/a", n)
		e.ContentType, e.Data = "text/plain", bytes.Repeat([]byte("x"), 1000)
		tight := e
		tight.Topic, tight.ID = "short/tight", "tight-"+e.ID
		put(t, l, e, tight)
	}
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "short/a"), idsOf(series("short/a", 21, 30)))
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "short/tight"), []string{"tight-short/a-30"}) // the newest, however large
}

func forgottenTopics(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "short/**", Keep: event.Keep{Age: time.Hour}})
	o.Now = c.Now
	l := h.Open(t, o)
	before := l.Head()
	put(t, l, series("short/a", 1, 3)...)
	put(t, l, series("long", 1, 3)...)
	c.advance(2 * time.Hour)
	maintain(t, l)
	wantGone(t, l, before, true, "short/a")
	wantGone(t, l, before, false, "short/b")
	c.advance(25 * time.Hour)
	maintain(t, l) // short/a is folded into the watermark of its rule
	for range 2 {
		wantGone(t, l, before, true, "short/a")
		wantGone(t, l, before, true, "short/b")
		wantGone(t, l, before, false, "long")
		wantGone(t, l, l.Head(), false, "short/a")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = h.Open(t, o)
	}
	defer l.Close()
	r := put(t, l, series("short/a", 4, 5)...)
	wantGone(t, l, r[0].Cursor, false, "short/a")
	wantIDs(t, ids(t, l, r[0].Cursor, 0, "short/a"), idsOf(series("short/a", 5, 5)))
}

func reopen(t *testing.T, h Home) {
	o := options(event.Rule{Match: "short/**", Keep: event.Keep{Events: 10}})
	l := h.Open(t, o)
	put(t, l, series("short/a", 1, 25)...)
	put(t, l, series("b", 1, 25)...)
	maintain(t, l)
	put(t, l, series("short/a", 26, 29)...) // not counted in the rows
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = h.Open(t, o)
	defer l.Close()
	if got := l.Head(); got != head {
		t.Errorf("Head() = %s after reopening, want %s", got, head)
	}
	maintain(t, l)
	wantIDs(t, ids(t, l, event.Cursor{}, 0, "short/a"), idsOf(series("short/a", 20, 29)))
	wantGone(t, l, event.Cursor{Epoch: head.Epoch, Seq: 1}, true, "short/a")
	if r := put(t, l, newEvent("short/a", 29), newEvent("c", 1)); !r[0].Duplicate || r[1].Cursor.Seq != head.Seq+1 {
		t.Errorf("after reopening: %+v, want a duplicate, then seq %d", r, head.Seq+1)
	}
	wantIDs(t, ids(t, l, head, 0, "**"), []string{"c-1"})
}

func spaceComesBack(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "short/**", Keep: event.Keep{Age: time.Hour}})
	o.Now = c.Now
	l := h.Open(t, o)
	for n := range 64 {
		e := newEvent("short/a", n)
		e.ContentType, e.Data = "application/octet-stream", bytes.Repeat([]byte("x"), 256<<10)
		put(t, l, e)
	}
	maintain(t, l)
	full := h.Size(t)
	c.advance(2 * time.Hour)
	maintain(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = h.Open(t, o)
	defer l.Close()
	if left := h.Size(t); left > full/4 {
		t.Errorf("%d bytes are left on disk of %d after everything was purged", left, full)
	}
}

func recent(t *testing.T, h Home) {
	l := h.Open(t, options())
	defer l.Close()
	if got, err := l.Recent(t.Context(), 1<<20); err != nil || len(got) != 0 {
		t.Errorf("Recent of an empty log = %d records, %v", len(got), err)
	}
	put(t, l, series("a", 1, 500)...)
	got, err := l.Recent(t.Context(), 100<<10)
	if err != nil || len(got) < 50 || len(got) > 200 || got[len(got)-1].Cursor != l.Head() {
		t.Fatalf("Recent(100 KiB) = %d records, %v, want some hundred up to the head", len(got), err)
	}
	for i, r := range got {
		if want := l.Head().Seq - int64(len(got)-1-i); r.Cursor.Seq != want {
			t.Fatalf("record %d is at %s, want seq %d", i, r.Cursor, want)
		}
	}
}

func purgeKeepsHead(t *testing.T, h Home) {
	c := newClock()
	o := options(event.Rule{Match: "**", Keep: event.Keep{Age: time.Hour}})
	o.Now = c.Now
	l := h.Open(t, o)
	put(t, l, series("a", 1, 5)...)
	head := l.Head()
	c.advance(8 * 24 * time.Hour)
	maintain(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = h.Open(t, o)
	defer l.Close()
	if got := l.Head(); got != head {
		t.Errorf("Head() = %s after everything was purged, want %s", got, head)
	}
	if r := put(t, l, newEvent("a", 6)); r[0].Cursor.Seq != head.Seq+1 {
		t.Errorf("the next event is at %s, want seq %d", r[0].Cursor, head.Seq+1)
	}
}
