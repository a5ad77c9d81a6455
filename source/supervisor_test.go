package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/source"
)

// memory is a log that keeps what was published.
type memory struct {
	mu     sync.Mutex
	events []event.Event
}

func (m *memory) Publish(_ context.Context, b event.Batch) ([]event.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range b.Events {
		if err := e.Validate(); err != nil {
			return nil, err
		}
		m.events = append(m.events, e)
	}
	return make([]event.Receipt, len(b.Events)), nil
}

func (m *memory) types() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var types []string
	for _, e := range m.events {
		types = append(types, e.Type)
	}
	return types
}

// runner is a function that counts its calls, from 1.
type runner struct {
	mu    sync.Mutex
	calls []time.Time
	run   func(ctx context.Context, call int, report source.Report) error
}

func (r *runner) Run(ctx context.Context, report source.Report) error {
	r.mu.Lock()
	r.calls = append(r.calls, time.Now())
	call := len(r.calls)
	r.mu.Unlock()
	return r.run(ctx, call, report)
}

func (r *runner) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// start supervises the runners in the bubble of the test and returns what
// they publish. stop ends them and waits.
func start(t *testing.T, runners map[string]*runner) (s *source.Supervisor, m *memory, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m = &memory{}
	s = source.NewSupervisor(m, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for name, r := range runners {
		s.Start(ctx, source.Watch{Name: name, Topic: event.Topic("feeds/" + name), Kind: "feed", Run: r})
	}
	stop = func() {
		cancel()
		s.Wait()
	}
	t.Cleanup(stop)
	return s, m, stop
}

func TestRetriesGrowJitteredAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(context.Context, int, source.Report) error { return errors.New("down") }}
		_, m, stop := start(t, map[string]*runner{"news": r})
		time.Sleep(24 * time.Hour)
		stop()

		calls := r.times()
		if len(calls) < 48 {
			t.Fatalf("%d tries in a day, want at least one each half hour", len(calls))
		}
		step, longest := 5*time.Second, map[time.Duration]bool{}
		for i := 1; i < len(calls); i++ {
			wait := calls[i].Sub(calls[i-1])
			if wait < step/10 || wait > step+1 {
				t.Errorf("wait %d = %v, want %v to %v", i, wait, step/10, step)
			}
			if step == 30*time.Minute {
				longest[wait] = true
			}
			step = min(2*step, 30*time.Minute)
		}
		if len(longest) < 10 {
			t.Errorf("of the longest waits only %d differ, want jitter", len(longest))
		}
		if diff := cmp.Diff([]string{"watch.failed"}, m.types()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestFailureAndRecoveryArePublishedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(ctx context.Context, call int, report source.Report) error {
			if call <= 3 {
				return errors.New("no route to host")
			}
			for range 3 {
				report(time.Now().Add(time.Hour))
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		_, m, stop := start(t, map[string]*runner{"news": r})
		time.Sleep(time.Hour)
		stop()

		if diff := cmp.Diff([]string{"watch.failed", "watch.recovered"}, m.types()); diff != "" {
			t.Fatalf("events (-want +got):\n%s", diff)
		}
		failed := m.events[0]
		if failed.Topic != "feeds/news" || failed.Source != "/watches/news" || failed.Subject != "news" {
			t.Errorf("event = %+v, want it on the watch's own topic, in its name", failed)
		}
		var data struct {
			Watch, State, Reason string
			Next                 time.Time
		}
		if err := json.Unmarshal(failed.Data, &data); err != nil {
			t.Fatal(err)
		}
		if data.Watch != "news" || data.State != "failed" || data.Reason != "no route to host" || data.Next.IsZero() {
			t.Errorf("data = %s", failed.Data)
		}
	})
}

func TestSuccessBeginsTheWaitsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(_ context.Context, call int, report source.Report) error {
			if call == 10 {
				report(time.Time{})
				time.Sleep(time.Minute)
			}
			return errors.New("down")
		}}
		start(t, map[string]*runner{"news": r})
		time.Sleep(12 * time.Hour)

		calls := r.times()
		if wait := calls[10].Sub(calls[9]) - time.Minute; wait > 5*time.Second+1 {
			t.Errorf("the wait after a success = %v, want at most 5s", wait)
		}
	})
}

func TestParkedIsNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(context.Context, int, source.Report) error {
			return &source.ParkError{Cause: errors.New("the password is wrong")}
		}}
		s, m, _ := start(t, map[string]*runner{"news": r})
		time.Sleep(24 * time.Hour)

		if n := len(r.times()); n != 1 {
			t.Errorf("it ran %d times, want once", n)
		}
		got := s.Statuses()[0]
		if got.State != source.Parked || got.Reason != "the password is wrong" || !got.Next.IsZero() {
			t.Errorf("status = %+v, want parked, with the reason and no next try", got)
		}
		if diff := cmp.Diff([]string{"watch.failed"}, m.types()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestRetryErrorIsWaitedFor(t *testing.T) {
	tests := []struct {
		name  string
		after time.Duration
		least time.Duration
		most  time.Duration
	}{
		{"later than the backoff", time.Hour, time.Hour, time.Hour},
		{"sooner than the backoff", time.Millisecond, 500 * time.Millisecond, 5*time.Second + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &runner{run: func(ctx context.Context, call int, _ source.Report) error {
					if call == 1 {
						return &source.RetryError{After: time.Now().Add(tt.after), Cause: errors.New("busy")}
					}
					<-ctx.Done()
					return ctx.Err()
				}}
				start(t, map[string]*runner{"news": r})
				time.Sleep(2 * time.Hour)

				calls := r.times()
				if len(calls) != 2 {
					t.Fatalf("it ran %d times, want twice", len(calls))
				}
				if wait := calls[1].Sub(calls[0]); wait < tt.least || wait > tt.most {
					t.Errorf("wait = %v, want %v to %v", wait, tt.least, tt.most)
				}
			})
		})
	}
}

func TestPanicIsTheFailureOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &runner{run: func(context.Context, int, source.Report) error { panic("index out of range") }}
		good := &runner{run: func(ctx context.Context, _ int, report source.Report) error {
			report(time.Now().Add(time.Minute))
			<-ctx.Done()
			return ctx.Err()
		}}
		s, _, _ := start(t, map[string]*runner{"bad": bad, "good": good})
		time.Sleep(time.Minute)

		statuses := s.Statuses()
		if got := statuses[0]; got.State != source.Failed || got.Reason != "the program has a fault here: index out of range" {
			t.Errorf("status = %+v, want failed with the panic as reason", got)
		}
		if got := statuses[1]; got.State != source.Running || len(good.times()) != 1 {
			t.Errorf("status of the other = %+v after %d runs, want running after one", got, len(good.times()))
		}
		if len(bad.times()) < 2 {
			t.Error("what panicked was not tried again")
		}
	})
}

func TestEndWithoutReasonIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(context.Context, int, source.Report) error { return nil }}
		s, _, _ := start(t, map[string]*runner{"news": r})
		synctest.Wait()
		if got := s.Statuses()[0]; got.State != source.Failed || got.Reason == "" {
			t.Errorf("status = %+v, want failed with a reason", got)
		}
	})
}

func TestStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().UTC()
		later := begin.Add(time.Hour)
		release := make(chan struct{})
		wait := func(ctx context.Context, _ int, _ source.Report) error {
			<-ctx.Done()
			return ctx.Err()
		}
		s, _, _ := start(t, map[string]*runner{
			"c": {run: wait},
			"a": {run: func(ctx context.Context, call int, report source.Report) error {
				report(later)
				return wait(ctx, call, report)
			}},
			"b": {run: func(ctx context.Context, call int, report source.Report) error {
				if call > 3 {
					<-release
					report(later)
					return wait(ctx, call, report)
				}
				return &source.RetryError{After: begin.Add(time.Duration(call) * time.Minute), Cause: errors.New("busy")}
			}},
		})

		synctest.Wait()
		want := []source.Status{
			{Name: "a", Kind: "feed", Topic: "feeds/a", State: source.Running, Since: begin, Next: later},
			{Name: "b", Kind: "feed", Topic: "feeds/b", State: source.Failed, Reason: "busy", Since: begin, Next: begin.Add(time.Minute), Tries: 1},
			{Name: "c", Kind: "feed", Topic: "feeds/c", State: source.Starting, Since: begin},
		}
		if diff := cmp.Diff(want, s.Statuses()); diff != "" {
			t.Errorf("at the start (-want +got):\n%s", diff)
		}

		time.Sleep(150 * time.Second)
		if got := s.Statuses()[1]; got.Tries != 3 || got.Next != begin.Add(3*time.Minute) || got.Since != begin {
			t.Errorf("after three failures = %+v, want 3 tries, the next after 3m, failed since the first", got)
		}

		time.Sleep(time.Minute)
		close(release)
		synctest.Wait()
		got := s.Statuses()[1]
		want[1] = source.Status{Name: "b", Kind: "feed", Topic: "feeds/b", State: source.Running, Since: begin.Add(210 * time.Second), Next: later}
		if diff := cmp.Diff(want[1], got); diff != "" {
			t.Errorf("after the recovery (-want +got):\n%s", diff)
		}
	})
}

func TestAllEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := func(context.Context, int, source.Report) error { return errors.New("down") }
		waiting := &runner{run: down}
		running := &runner{run: func(ctx context.Context, _ int, report source.Report) error {
			report(time.Time{})
			<-ctx.Done()
			return ctx.Err()
		}}
		_, m, stop := start(t, map[string]*runner{"waiting": waiting, "running": running})
		time.Sleep(time.Hour)
		before := time.Now()
		stop()
		if took := time.Since(before); took != 0 {
			t.Errorf("it ended after %v, want at once", took)
		}
		if diff := cmp.Diff([]string{"watch.failed"}, m.types()); diff != "" {
			t.Errorf("the end of a run was published (-want +got):\n%s", diff)
		}
	})
}
