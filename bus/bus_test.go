package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/store"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// open starts a bus on a log in dir; stop ends both.
func open(t *testing.T, dir string, rules event.Rules, wrap func(bus.Log) bus.Log) (b *bus.Bus, stop func()) {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	log, err := store.OpenLog(t.Context(), db, store.Options{Rules: rules, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	var l bus.Log = log
	if wrap != nil {
		l = wrap(l)
	}
	if b, err = bus.New(t.Context(), l, bus.Options{Rules: rules, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		b.Close()
		if err := errors.Join(log.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return b, stop
}

func newEvent(topic event.Topic) event.Event {
	return event.Event{Source: "/test", Type: "test", Topic: topic, Data: []byte("1")}
}

func publish(t *testing.T, b *bus.Bus, events ...event.Event) []event.Receipt {
	t.Helper()
	receipts, err := b.Publish(t.Context(), event.Batch{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return receipts
}

// recorder is a follower that keeps what it is handed.
type recorder struct {
	mu      sync.Mutex
	records []*event.Record
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{}, 1)} }

func (r *recorder) Committed(records []*event.Record) {
	r.mu.Lock()
	r.records = append(r.records, records...)
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) wait(t *testing.T, n int) []*event.Record {
	t.Helper()
	for {
		r.mu.Lock()
		got := slices.Clone(r.records)
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-r.changed:
		case <-t.Context().Done():
			t.Fatalf("%d records were handed over, want %d", len(got), n)
		}
	}
}

func TestManyPublishers(t *testing.T) {
	b, _ := open(t, t.TempDir(), nil, nil)
	follower := newRecorder()
	b.Follow(follower)
	const publishers, each = 50, 40
	cursors := make([][]int64, publishers)
	var wait sync.WaitGroup
	for p := range publishers {
		wait.Go(func() {
			for range each {
				receipts, err := b.Publish(context.Background(), event.Batch{Events: []event.Event{newEvent("a"), newEvent("b")}})
				if err != nil {
					t.Error(err)
					return
				}
				if receipts[1].Cursor.Seq != receipts[0].Cursor.Seq+1 {
					t.Errorf("a batch was torn apart: %v", receipts)
				}
				cursors[p] = append(cursors[p], receipts[0].Cursor.Seq, receipts[1].Cursor.Seq)
			}
		})
	}
	wait.Wait()
	all := slices.Concat(cursors...)
	slices.Sort(all)
	for i, seq := range all {
		if seq != int64(i+1) {
			t.Fatalf("receipt %d has seq %d: a gap or a double", i+1, seq)
		}
	}
	for i, r := range follower.wait(t, len(all)) {
		if r.Cursor.Seq != int64(i+1) {
			t.Fatalf("the follower's event %d has seq %d", i+1, r.Cursor.Seq)
		}
	}
	for _, mine := range cursors {
		if !slices.IsSorted(mine) {
			t.Error("a publisher's events are not in its order")
		}
	}
}

func TestReadYourWrites(t *testing.T) {
	b, _ := open(t, t.TempDir(), nil, nil)
	for n := range 50 {
		before := b.Head()
		r := publish(t, b, newEvent("a"))
		page, err := b.Read(t.Context(), event.Query{Patterns: []event.Pattern{"a"}, After: before})
		if err != nil || len(page.Records) != 1 || page.Cursor != r[0].Cursor || b.Head() != r[0].Cursor {
			t.Fatalf("event %d at %s: page %+v, %v, head %s", n, r[0].Cursor, page, err, b.Head())
		}
	}
}

// Reading from memory and from disk gives the same, wherever one begins.
func TestTailAgreesWithLog(t *testing.T) {
	dir := t.TempDir()
	rules := event.Rules{{Match: "short/**", Keep: event.Keep{Events: 10}}}
	b, stop := open(t, dir, rules, nil)
	start := b.Head()
	for n := range 300 {
		publish(t, b, newEvent(event.Topic(fmt.Sprintf("long/%d", n%3))), newEvent("short/a"))
	}
	read := func(b *bus.Bus, after event.Cursor, patterns ...event.Pattern) (seqs []int64) {
		t.Helper()
		for more := true; more; {
			page, err := b.Read(t.Context(), event.Query{Patterns: patterns, After: after, Limit: 37})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				seqs = append(seqs, r.Cursor.Seq)
			}
			after, more = page.Cursor, page.More
		}
		return seqs
	}
	middle := event.Cursor{Epoch: start.Epoch, Seq: 301}
	inMemory := map[string][]int64{}
	for _, p := range []event.Pattern{"long/1", "long/*", "long/**"} {
		inMemory["start "+string(p)] = read(b, start, p)
		inMemory["middle "+string(p)] = read(b, middle, p)
	}
	stop()
	b, _ = open(t, dir, rules, func(l bus.Log) bus.Log { return noRecent{l} })
	for _, p := range []event.Pattern{"long/1", "long/*", "long/**"} {
		for name, after := range map[string]event.Cursor{"start ": start, "middle ": middle} {
			if got, want := read(b, after, p), inMemory[name+string(p)]; !slices.Equal(got, want) || len(got) == 0 {
				t.Errorf("%s%s: from disk %d events, from memory %d", name, p, len(got), len(want))
			}
		}
	}
}

// noRecent is a log whose end is not loaded into memory.
type noRecent struct{ bus.Log }

func (noRecent) Recent(context.Context, int) ([]*event.Record, error) { return nil, nil }

func TestGoneIsSeenInMemory(t *testing.T) {
	b, stop := open(t, t.TempDir(), event.Rules{{Match: "short/**", Keep: event.Keep{Events: 3}}}, nil)
	start := b.Head()
	for range 50 {
		publish(t, b, newEvent("short/a"))
	}
	// The purge comes within a slice of upkeep after the next commits.
	for {
		_, err := b.Read(t.Context(), event.Query{Patterns: []event.Pattern{"short/a"}, After: start})
		if gone, ok := errors.AsType[*event.GoneError](err); ok {
			if gone.Head != b.Head() {
				t.Errorf("start over from %s, want %s", gone.Head, b.Head())
			}
			break
		}
		publish(t, b, newEvent("other"))
	}
	if _, err := b.Read(t.Context(), event.Query{Patterns: []event.Pattern{"other"}, After: start}); err != nil {
		t.Errorf("the purge of another topic matters: %v", err)
	}
	stop()
}

func TestEphemeral(t *testing.T) {
	b, _ := open(t, t.TempDir(), event.Rules{{Match: "pointer/**", Ephemeral: true}}, nil)
	follower := newRecorder()
	b.Follow(follower)
	head := b.Head()
	r := publish(t, b, newEvent("pointer/a"))
	if !r[0].Cursor.IsZero() || r[0].ID == "" || b.Head() != head {
		t.Errorf("receipt %+v, head %s: an ephemeral event is in the log", r[0], b.Head())
	}
	mixed := publish(t, b, newEvent("pointer/a"), newEvent("kept"), newEvent("pointer/b"))
	if !mixed[0].Cursor.IsZero() || mixed[1].Cursor.Seq != head.Seq+1 || !mixed[2].Cursor.IsZero() || mixed[2].Topic != "pointer/b" {
		t.Errorf("receipts of a mixed batch: %+v", mixed)
	}
	got := map[event.Topic]int{}
	for _, r := range follower.wait(t, 4) {
		got[r.Topic]++
	}
	if got["pointer/a"] != 2 || got["pointer/b"] != 1 || got["kept"] != 1 {
		t.Errorf("handed over: %v", got)
	}
}

func TestLimits(t *testing.T) {
	b, _ := open(t, t.TempDir(), nil, nil)
	head := b.Head()
	big := newEvent("a")
	big.Data = []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
	for name, events := range map[string][]event.Event{
		"event-too-large": {newEvent("a"), big},
		"batch-too-large": make([]event.Event, 1001),
		"bad-topic":       {newEvent("a"), newEvent("a b")},
	} {
		_, err := b.Publish(t.Context(), event.Batch{Events: events})
		var coded interface{ Code() string }
		if !errors.As(err, &coded) || coded.Code() != name {
			t.Errorf("Publish = %v, want the code %s", err, name)
		}
	}
	if b.Head() != head {
		t.Errorf("a refused batch moved the head to %s", b.Head())
	}
	fits := newEvent("a")
	fits.Data = []byte(`"` + strings.Repeat("x", 256<<10-2) + `"`)
	publish(t, b, fits)
}

// failing is a log whose commits fail while told to.
type failing struct {
	bus.Log
	mu  sync.Mutex
	err error
}

func (f *failing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) Append(ctx context.Context, batches []event.Batch) ([][]event.Receipt, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Log.Append(ctx, batches)
}

func TestFailedCommit(t *testing.T) {
	var log *failing
	b, _ := open(t, t.TempDir(), nil, func(l bus.Log) bus.Log { log = &failing{Log: l}; return log })
	follower := newRecorder()
	b.Follow(follower)
	full := errors.New("disk full")
	log.set(full)
	if _, err := b.Publish(t.Context(), event.Batch{Events: []event.Event{newEvent("lost")}}); !errors.Is(err, full) {
		t.Errorf("Publish = %v, want %v", err, full)
	}
	if !errors.Is(b.Err(), full) {
		t.Errorf("Err() = %v, want %v", b.Err(), full)
	}
	log.set(nil)
	publish(t, b, newEvent("kept"))
	if got := follower.wait(t, 1); len(got) != 1 || got[0].Topic != "kept" || b.Err() != nil {
		t.Errorf("after the disk has room: %d records, Err() %v", len(got), b.Err())
	}
}

func TestClose(t *testing.T) {
	b, stop := open(t, t.TempDir(), nil, nil)
	var wait sync.WaitGroup
	started := make(chan struct{}, 20)
	for range 20 {
		wait.Go(func() {
			for {
				_, err := b.Publish(context.Background(), event.Batch{Events: []event.Event{newEvent("a")}})
				if errors.Is(err, event.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	b.Close()
	wait.Wait() // nobody waits for ever
	stop()
}
