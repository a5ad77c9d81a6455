package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Kind is what went wrong.
type Kind int

const (
	Connect   Kind = iota + 1 // no connection
	Timeout                   // no connection, no head, no more body or no end in time
	Reset                     // the connection was cut
	Malformed                 // a head that is not HTTP, or too much of it
	Queue                     // no place in time, or too many wait for one
	Open                      // the breakers of all origins are open
	Canceled                  // the client went away
)

var kinds = [...]struct{ short, sentence string }{
	Connect:   {"connect", "no connection"},
	Timeout:   {"timeout", "too slow"},
	Reset:     {"reset", "the connection was cut"},
	Malformed: {"malformed", "not a valid answer"},
	Queue:     {"queue", "too busy"},
	Open:      {"open", "left alone after failures"},
	Canceled:  {"canceled", "the client went away"},
}

// String is short, for metrics.
func (k Kind) String() string { return kinds[k].short }

// Error is why a request got no answer, or not all of it.
type Error struct {
	Kind   Kind
	Origin string // its URL; "" if none was chosen
	Err    error

	after      time.Duration // see RetryAfter
	unanswered bool          // no byte of an answer came, and none will
}

// Error is a sentence for a log. It has no query strings, as these may hold secrets.
func (e *Error) Error() string {
	name := "upstream"
	if e.Origin != "" {
		name += " " + e.Origin
	}
	return fmt.Sprintf("%s: %s: %v", name, kinds[e.Kind].sentence, withoutURL(e.Err))
}

func (e *Error) Unwrap() error { return e.Err }

// Status is what the client gets. RFC 9110 §15.6.3 to §15.6.5.
func (e *Error) Status() int {
	switch e.Kind {
	case Timeout:
		return http.StatusGatewayTimeout
	case Queue, Open:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// RetryAfter is when to come back, for Open and Queue, at least a second; else 0.
func (e *Error) RetryAfter() time.Duration { return e.after }

// withoutURL strips what net/url and net/http wrap around an error, with all of the URL.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
