package source_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/source"
)

// followers is a demand that the test sets.
type followers struct {
	mu      sync.Mutex
	there   bool
	changed chan struct{}
}

func (f *followers) Await(ctx context.Context, _ event.Topic, followed bool) error {
	for {
		f.mu.Lock()
		there, changed := f.there, f.changed
		f.mu.Unlock()
		if there == followed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *followers) set(there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there = there
	close(f.changed)
	f.changed = make(chan struct{})
}

// demanded supervises one watch on demand, in the bubble of the test.
func demanded(t *testing.T, r *runner) (s *source.Supervisor, f *followers, m *memory) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m, f = &memory{}, &followers{changed: make(chan struct{})}
	s = source.NewSupervisor(m, f, slog.New(slog.DiscardHandler), nil)
	s.Start(ctx, source.Watch{Name: "alice", Topic: "mail/alice", Kind: "mailbox", OnDemand: true, Run: r})
	t.Cleanup(func() { cancel(); s.Wait() })
	synctest.Wait()
	return s, f, m
}

// untilTold works until its context ends, and counts who does.
func untilTold(working *int, mu *sync.Mutex) *runner {
	return &runner{run: func(ctx context.Context, _ int, report source.Report) error {
		mu.Lock()
		*working++
		mu.Unlock()
		report(time.Time{})
		<-ctx.Done()
		mu.Lock()
		*working--
		mu.Unlock()
		return ctx.Err()
	}}
}

func TestOnDemandRunsWhileFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		working := 0
		r := untilTold(&working, &mu)
		s, f, m := demanded(t, r)
		check := func(when string, want int, state source.State) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := s.Statuses()[0]; working != want || got.State != state {
				t.Errorf("%s: %d run and it is %s, want %d and %s", when, working, got.State, want, state)
			}
		}
		time.Sleep(time.Hour)
		check("nobody follows", 0, source.Standby)
		f.set(true)
		check("somebody follows", 1, source.Running)
		time.Sleep(time.Hour)
		check("an hour later", 1, source.Running)
		f.set(false)
		time.Sleep(59 * time.Second)
		check("gone for 59s", 1, source.Running)
		f.set(true)
		time.Sleep(2 * time.Second)
		check("back before a minute was over", 1, source.Running)
		f.set(false)
		time.Sleep(61 * time.Second)
		check("gone for a minute", 0, source.Standby)
		f.set(true)
		check("back later", 1, source.Running)
		if n := len(r.times()); n != 2 {
			t.Errorf("it was started %d times, want twice", n)
		}
		if diff := cmp.Diff([]string(nil), m.types()); diff != "" {
			t.Errorf("going to stand by is no failure (-want +got):\n%s", diff)
		}
	})
}

// A watch on demand that fails is tried at growing intervals, and no more once
// nobody follows; it has not recovered by that.
func TestOnDemandFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(context.Context, int, source.Report) error { return errors.New("down") }}
		s, f, m := demanded(t, r)
		f.set(true)
		time.Sleep(time.Hour)
		f.set(false)
		time.Sleep(2 * time.Minute)
		tries := len(r.times())
		time.Sleep(24 * time.Hour)
		if n := len(r.times()); n != tries || n > 20 {
			t.Errorf("it ran %d times in an hour with followers, and %d times more without", tries, n-tries)
		}
		if got := s.Statuses()[0]; got.State != source.Failed || got.Reason != "down" {
			t.Errorf("status = %+v, want it to tell of the failure", got)
		}
		if diff := cmp.Diff([]string{"watch.failed"}, m.types()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// Whoever comes and goes, a feed is not asked before its time.
func TestOnDemandKeepsItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(ctx context.Context, _ int, report source.Report) error {
			report(time.Now().Add(time.Hour))
			<-ctx.Done()
			return ctx.Err()
		}}
		_, f, _ := demanded(t, r)
		for range 30 { // two hours of visits
			f.set(true)
			time.Sleep(2 * time.Minute)
			f.set(false)
			time.Sleep(2 * time.Minute)
		}
		times := r.times()
		if len(times) != 2 || times[1].Sub(times[0]) < time.Hour {
			t.Errorf("asked at %v, want twice, an hour apart", times)
		}
	})
}

// One that is parked stays so, whoever comes.
func TestOnDemandParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(context.Context, int, source.Report) error {
			return &source.ParkError{Cause: errors.New("the password is wrong")}
		}}
		s, f, _ := demanded(t, r)
		for range 3 {
			f.set(true)
			time.Sleep(time.Hour)
			f.set(false)
			time.Sleep(time.Hour)
		}
		if n := len(r.times()); n != 1 {
			t.Errorf("it ran %d times, want once", n)
		}
		if got := s.Statuses()[0]; got.State != source.Parked {
			t.Errorf("status = %+v, want parked", got)
		}
	})
}

// A watch that fails as soon as it works is not tried for ever at the shortest
// interval.
func TestWorkingForAMomentDoesNotBeginTheWaitsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{run: func(_ context.Context, _ int, report source.Report) error {
			report(time.Time{})
			return errors.New("the server said BYE")
		}}
		start(t, map[string]*runner{"news": r})
		time.Sleep(24 * time.Hour)
		if n := len(r.times()); n > 200 {
			t.Errorf("%d tries in a day", n)
		}
	})
}
