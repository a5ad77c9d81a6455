package source

import (
	"context"
	"time"

	"github.com/chappe/chappe/event"
)

// Watch is one thing that is watched.
type Watch struct {
	Name     string
	Topic    event.Topic
	Kind     string // "feed", "mailbox", ...
	OnDemand bool   // run only while somebody follows the topic
	Run      Runner
}

// Runner reads what is watched until ctx ends or something goes wrong. An
// error that no new try will mend is a *ParkError.
type Runner interface {
	Run(ctx context.Context, report Report) error
}

// Report is how a runner says that all is well; next is when it will look
// again, zero if it is told.
type Report func(next time.Time)

// ParkError ends a watch until a person has done something.
type ParkError struct{ Cause error }

func (e *ParkError) Error() string { return e.Cause.Error() }
func (e *ParkError) Unwrap() error { return e.Cause }

// RetryError asks not to be tried again before a time: the other side said so.
type RetryError struct {
	After time.Time
	Cause error
}

func (e *RetryError) Error() string { return e.Cause.Error() }
func (e *RetryError) Unwrap() error { return e.Cause }

// States keeps checkpoints. They are written with the events, as part of a batch.
type States interface {
	// State is nil before the first checkpoint.
	State(ctx context.Context, watch string) ([]byte, error)
}

// Demand knows whether anybody follows a topic.
type Demand interface {
	// Await returns when somebody follows t or, if followed is false, when
	// nobody does; or with ctx's error.
	Await(ctx context.Context, t event.Topic, followed bool) error
}

// State of a watch.
type State string

// The states.
const (
	Starting State = "starting" // not heard of yet
	Running  State = "running"
	Failed   State = "failed"  // it will be tried again
	Parked   State = "parked"  // it waits for a person
	Standby  State = "standby" // on demand, and nobody follows its topic
)

// Status is a watch as people see it.
type Status struct {
	Name   string      `json:"name"`
	Kind   string      `json:"kind"`
	Topic  event.Topic `json:"topic"`
	State  State       `json:"state" enum:"starting,running,failed,parked,standby"`
	Reason string      `json:"reason,omitempty" doc:"Why it failed or is parked."`
	Since  time.Time   `json:"since" doc:"When it came into this state."`
	Next   time.Time   `json:"next,omitzero" doc:"When it looks, or is tried, again."`
	Tries  int         `json:"tries,omitempty" doc:"Failures in a row."`
}
