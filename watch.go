package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/internal/terminal"
	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/source/feed"
	"github.com/chappe/chappe/source/mailbox"
)

// What --once shows of what is there now.
const (
	onceEntries = 5000
	onceMails   = 20
)

// watchMaxData bounds an event's data where no configuration says.
const watchMaxData = 1 << 20

// watch tries a source without a server: it runs as the operator, who may
// look at private addresses, and prints what would be published.
func watch(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "watch")
	asJSON := f.Bool("json", false, "print each event as a line of JSON")
	once := f.Bool("once", false, "print what is there now (of a mailbox the newest 20), and end")
	every := f.Duration("every", 0, "how often to ask (default: a feed 15m, on private addresses 10s; a mailbox that cannot tell 1m)")
	insecure := f.Bool("insecure", false, "log in to a mailbox on another machine without TLS")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	t := trial{program: p, once: *once, quiet: *asJSON || !terminal.Is(p.stderr), publisher: printing{newPrinter(p, *asJSON)}}
	u, err := url.Parse(rest[0])
	switch {
	case err == nil && (u.Scheme == "imap" || u.Scheme == "imaps"):
		return t.mailbox(ctx, rest[0], *every, *insecure)
	case err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"):
		return t.feed(ctx, rest[0], *every)
	}
	return usageError{"this is not the http:// or https:// address of a feed, nor a mailbox like imaps://user@host/folder; other kinds are not watched by this version"}
}

// trial is a watch that prints.
type trial struct {
	program
	once, quiet bool
	publisher   event.Publisher
}

func (t trial) feed(ctx context.Context, address string, every time.Duration) error {
	r := &feed.Runner{
		Name: "watch", Topic: "watch", URL: address, Every: every,
		UserAgent: userAgent(), Client: safedial.NewClient(safedial.Policy{Anything: true}),
		States: noStates{}, Publisher: t.publisher, Logger: slog.New(slog.DiscardHandler),
		MaxData: watchMaxData, Parsers: make(chan struct{}, 1),
	}
	if t.once {
		r.Backfill = onceEntries
	}
	return t.run(ctx, r)
}

func (t trial) mailbox(ctx context.Context, raw string, every time.Duration, insecure bool) error {
	address, err := mailbox.ParseAddress(raw)
	if err != nil {
		return usageError{err.Error()}
	}
	password, err := t.password(ctx, address)
	if err != nil {
		return err
	}
	r := &mailbox.Runner{
		Name: "watch", Topic: "watch", Address: address, Insecure: insecure, Every: every,
		Password: func() (string, error) { return mailbox.CheckPassword(password) },
		Dial:     safedial.NewDial(safedial.Policy{Anything: true}),
		States:   noStates{}, Publisher: t.publisher, Logger: slog.New(slog.DiscardHandler),
		MaxData: watchMaxData, LogIns: make(chan struct{}, 1),
	}
	if t.once {
		r.Backfill = onceMails
	}
	return t.run(ctx, r)
}

// password is CHAPPE_PASSWORD, or what is typed without being shown.
func (t trial) password(ctx context.Context, a mailbox.Address) (string, error) {
	if password := t.getenv("CHAPPE_PASSWORD"); password != "" {
		return password, nil
	}
	stdin, ok := t.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(stdin.Fd())) {
		return "", usageError{"the mailbox wants a password: set CHAPPE_PASSWORD, or run this at a terminal"}
	}
	fmt.Fprintf(t.stderr, "password of %s at %s: ", a.User, a.Host)
	before, err := term.GetState(int(stdin.Fd()))
	if err != nil {
		return "", err
	}
	type typed struct {
		text []byte
		err  error
	}
	answer := make(chan typed, 1)
	go func() { // ends with the line, or with the process
		text, err := term.ReadPassword(int(stdin.Fd()))
		answer <- typed{text, err}
	}()
	select {
	case a := <-answer:
		fmt.Fprintln(t.stderr)
		return string(a.text), a.err
	case <-ctx.Done():
		fmt.Fprintln(t.stderr)
		return "", errors.Join(errors.New("no password was typed"), term.Restore(int(stdin.Fd()), before))
	}
}

// run watches until the first failure; with --once, until all was looked at.
func (t trial) run(ctx context.Context, r source.Runner) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := r.Run(ctx, func(next time.Time) {
		switch {
		case t.once:
			cancel(errDone)
		case t.quiet:
		case next.IsZero():
			fmt.Fprintln(t.stderr, "looked, waiting to be told")
		default:
			fmt.Fprintf(t.stderr, "looked, next at %s\n", next.Format(time.TimeOnly))
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
		if e.ID == "" {
			e.ID = uuid.NewString() // the log would make one
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
