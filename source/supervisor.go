package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/backoff"
)

// Waits between tries of a watch that fails.
const (
	retryFirst = 5 * time.Second
	retryMost  = 30 * time.Minute
	steady     = time.Minute // of working starts the waits anew
)

// linger is how long a watch on demand runs on for those who come back.
const linger = time.Minute

// Supervisor keeps watches running.
type Supervisor struct {
	publisher event.Publisher
	demand    Demand
	logger    *slog.Logger
	states    *prometheus.GaugeVec
	running   sync.WaitGroup

	mu       sync.Mutex
	statuses map[string]*Status
}

// NewSupervisor makes one without watches. It asks demand only of watches that
// run on demand.
func NewSupervisor(publisher event.Publisher, demand Demand, logger *slog.Logger, metrics prometheus.Registerer) *Supervisor {
	s := &Supervisor{
		publisher: publisher, demand: demand, logger: logger, statuses: map[string]*Status{},
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chappe_watches", Help: "Watches, by kind and state."}, []string{"kind", "state"}),
	}
	if metrics != nil {
		metrics.MustRegister(s.states)
	}
	return s
}

// Start runs w until ctx ends. Names are unique: the configuration saw to it.
func (s *Supervisor) Start(ctx context.Context, w Watch) {
	s.mu.Lock()
	s.statuses[w.Name] = &Status{Name: w.Name, Kind: w.Kind, Topic: w.Topic, State: Starting, Since: time.Now().UTC()}
	s.states.WithLabelValues(w.Kind, string(Starting)).Inc()
	s.mu.Unlock()
	s.running.Go(func() { s.keep(ctx, w) })
}

// Wait returns when all watches have ended, after their context did.
func (s *Supervisor) Wait() { s.running.Wait() }

// Statuses are all watches, by name.
func (s *Supervisor) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.statuses))
	for _, status := range s.statuses {
		list = append(list, *status)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// keep runs w: always, or each time that somebody follows its topic.
func (s *Supervisor) keep(ctx context.Context, w Watch) {
	logger := s.logger.With("watch", w.Name, "topic", w.Topic)
	logger.Info("watch started", "kind", w.Kind, "on_demand", w.OnDemand)
	t := &tries{waits: backoff.Backoff{First: retryFirst, Most: retryMost}}
	if !w.OnDemand {
		s.try(ctx, w, t, logger)
		return
	}
	for ctx.Err() == nil && s.await(ctx, w) == nil {
		wanted, stop := context.WithCancel(ctx)
		var leaving sync.WaitGroup
		leaving.Go(func() {
			defer stop()
			s.whileFollowed(wanted, w.Topic)
		})
		parked := s.try(wanted, w, t, logger)
		stop()
		leaving.Wait()
		if parked {
			return
		}
	}
}

// await returns when somebody follows the topic.
func (s *Supervisor) await(ctx context.Context, w Watch) error {
	s.rest(w)
	return s.demand.Await(ctx, w.Topic, true)
}

// whileFollowed returns when nobody has followed the topic for a while.
func (s *Supervisor) whileFollowed(ctx context.Context, t event.Topic) {
	for s.demand.Await(ctx, t, false) == nil {
		again, cancel := context.WithTimeout(ctx, linger)
		err := s.demand.Await(again, t, true)
		cancel()
		if err != nil {
			return
		}
	}
}

// tries are what is known of the runs of a watch.
type tries struct {
	waits backoff.Backoff
	due   time.Time // not before: whoever comes and goes, nothing is asked more often
}

// try runs w again and again, until ctx ends or no new try will help.
func (s *Supervisor) try(ctx context.Context, w Watch, t *tries, logger *slog.Logger) (parked bool) {
	for {
		select {
		case <-time.After(time.Until(t.due)):
		case <-ctx.Done():
			return false
		}
		var well time.Time // since when
		err := runOnce(ctx, w, func(next time.Time) {
			if well.IsZero() {
				well = time.Now()
			}
			t.due = next
			s.succeeded(ctx, w, next, logger)
		})
		if ctx.Err() != nil {
			return false
		}
		// One that fails as soon as it works is not tried at once for ever.
		if !well.IsZero() && time.Since(well) >= steady {
			t.waits.Reset()
		}
		if _, park := errors.AsType[*ParkError](err); park {
			s.failed(ctx, w, Parked, err, time.Time{}, logger)
			return true
		}
		t.due = time.Now().Add(t.waits.Next())
		if retry, ok := errors.AsType[*RetryError](err); ok && retry.After.After(t.due) {
			t.due = retry.After
		}
		s.failed(ctx, w, Failed, err, t.due, logger)
	}
}

// runOnce turns a panic of one watch into its failure: the others go on.
func runOnce(ctx context.Context, w Watch, report Report) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the program has a fault here: %v", p)
		}
	}()
	err = w.Run.Run(ctx, report)
	if err == nil {
		err = errors.New("it ended without a reason")
	}
	return err
}

func (s *Supervisor) succeeded(ctx context.Context, w Watch, next time.Time, logger *slog.Logger) {
	before := s.move(w, Running, "", next)
	if before == Failed {
		logger.Info("watch recovered")
		s.publish(ctx, w, "watch.recovered", nil, logger)
	}
}

// failed publishes the first failure in a row, not the hundredth.
func (s *Supervisor) failed(ctx context.Context, w Watch, state State, err error, next time.Time, logger *slog.Logger) {
	before := s.move(w, state, err.Error(), next)
	if before == state {
		logger.Debug("watch failed again", "err", err, "next", next)
		return
	}
	data := map[string]any{"watch": w.Name, "state": state, "reason": err.Error()}
	if !next.IsZero() {
		data["next"] = next.UTC()
		logger = logger.With("next", next)
	}
	logger.Warn("watch failed", "state", state, "err", err)
	s.publish(ctx, w, "watch.failed", data, logger)
}

// rest is the state of a watch that nobody wants. One that failed stays so
// until it has worked again.
func (s *Supervisor) rest(w Watch) {
	s.mu.Lock()
	status := s.statuses[w.Name]
	failed := status.State == Failed
	status.Next = time.Time{} // when somebody comes
	s.mu.Unlock()
	if !failed {
		s.move(w, Standby, "on demand: nobody follows "+string(w.Topic), time.Time{})
	}
}

// move sets the watch's state and returns the one before.
func (s *Supervisor) move(w Watch, state State, reason string, next time.Time) (before State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.statuses[w.Name]
	before = status.State
	if state != before {
		s.states.WithLabelValues(w.Kind, string(before)).Dec()
		s.states.WithLabelValues(w.Kind, string(state)).Inc()
		status.State, status.Since = state, time.Now().UTC()
	}
	status.Reason, status.Next = reason, next
	if status.Tries++; state == Running || state == Standby {
		status.Tries = 0
	}
	return before
}

func (s *Supervisor) publish(ctx context.Context, w Watch, kind string, data map[string]any, logger *slog.Logger) {
	if data == nil {
		data = map[string]any{"watch": w.Name}
	}
	text, err := json.Marshal(data)
	if err == nil {
		e := event.Event{Source: "/watches/" + w.Name, Type: kind, Subject: w.Name, Topic: w.Topic, Data: text}
		_, err = s.publisher.Publish(ctx, event.Batch{Events: []event.Event{e}})
	}
	if err != nil && ctx.Err() == nil {
		logger.Error("state of a watch not published", "type", kind, "err", err)
	}
}
