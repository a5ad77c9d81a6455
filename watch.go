package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/source/feed"
)

// watch tries a source without a server: it runs as the operator, who may
// look at private addresses, and prints what would be published.
func watch(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "watch")
	asJSON := f.Bool("json", false, "print each event as a line of JSON")
	once := f.Bool("once", false, "print what is there now, and end")
	every := f.Duration("every", 0, "how often to look (default: 15m, on private addresses 10s)")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	if u, err := url.Parse(rest[0]); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usageError{fmt.Sprintf("%q is not the http:// or https:// address of a feed; other kinds are not watched by this version", rest[0])}
	}
	runner := &feed.Runner{
		Name: "watch", Topic: "watch", URL: rest[0], Every: *every,
		UserAgent: userAgent(), Client: safedial.NewClient(safedial.Policy{Anything: true}),
		States: noStates{}, Publisher: printing{newPrinter(p, *asJSON)}, Logger: slog.New(slog.DiscardHandler),
		MaxData: 1 << 20, Parsers: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if *once {
		runner.Backfill = 5000
	}
	err = runner.Run(ctx, func(next time.Time) {
		if *once {
			cancel(errDone)
			return
		}
		if terminal(p.stderr) && !*asJSON {
			fmt.Fprintf(p.stderr, "looked, next at %s\n", next.Format(time.TimeOnly))
		}
	})
	if errors.Is(context.Cause(ctx), errDone) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

var errDone = errors.New("done")

// printing is a log that is the terminal.
type printing struct{ print func([]byte) error }

func (w printing) Publish(_ context.Context, b event.Batch) ([]event.Receipt, error) {
	for _, e := range b.Events {
		if err := e.Validate(); err != nil {
			return nil, err
		}
		if err := w.print(event.NewRecord(e, event.Cursor{}).JSON); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// noStates remembers nothing.
type noStates struct{}

func (noStates) State(context.Context, string) ([]byte, error) { return nil, nil }

var _ source.States = noStates{}
