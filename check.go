package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/internal/listen"
	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/internal/upstream"
	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/store"
)

// checkTime bounds the look at one upstream.
const checkTime = 30 * time.Second

// check looks at what serve needs and prints, for each, OK or what to do.
func check(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "check")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	failed := 0
	report := func(what string, err error) {
		if err != nil {
			failed++
			fmt.Fprintf(p.stdout, "FAIL  %s: %v\n", what, err)
			return
		}
		fmt.Fprintf(p.stdout, "OK    %s\n", what)
	}
	s, err := f.load()
	report("configuration", err)
	if err != nil {
		return err
	}
	running := checkData(ctx, s, report)
	if !running {
		report("address "+s.Server.Listen, checkListen(s.Server.Listen))
	}
	report("descriptors", checkDescriptors(s))
	if s.TLS.on() {
		_, err := s.tlsConfig(slog.New(slog.NewTextHandler(p.stderr, nil)))
		report("certificate", err)
	}
	if hook := s.Access.Hook; hook.URL != "" {
		err := account.NewHook(hook, s.client(hook.URL), slog.New(slog.DiscardHandler), nil).Check(ctx)
		if err != nil {
			err = fmt.Errorf("%w; start the application, or correct access.hook.url: it is to answer JSON, or 401", err)
		}
		report("access hook", err)
	}
	checkUpstreams(ctx, s, report)
	sources := newSources(s, noStates{}, printing{func([]byte) error { return nil }}, slog.New(slog.DiscardHandler))
	for _, w := range s.Watches {
		w.Backfill = 0
		report("watch "+w.Name, checkWatch(ctx, sources.watch(w)))
	}
	if failed > 0 {
		return fmt.Errorf("%d of these need a hand", failed)
	}
	return nil
}

// checkData also says whether a server runs on the folder.
func checkData(ctx context.Context, s *settings, report func(string, error)) (running bool) {
	db, err := store.Open(ctx, s.Data)
	report("data folder "+s.Data, err)
	if err != nil {
		return false
	}
	defer db.Close()
	_, err = newVerifier(ctx, s, db)
	report("keys of subscriber tokens", err)
	log, err := store.OpenLog(ctx, db, store.Options{Rules: s.Topics, Logger: slog.New(slog.DiscardHandler)})
	if inUse, ok := errors.AsType[*store.InUseError](err); ok {
		report("log (a server runs on it, process "+inUse.PID+")", nil)
		return true
	}
	if err == nil {
		err = log.Close()
	}
	report("log", err)
	return false
}

func checkListen(address string) error {
	l, err := listen.On(address)
	if err != nil {
		return err
	}
	return l.Close()
}

// checkDescriptors compares the process's limit with the sessions wanted.
func checkDescriptors(s *settings) error {
	wanted := s.connections()
	room, err := listen.RoomFor(wanted)
	if err == nil && room < wanted {
		err = fmt.Errorf("a process has room for %d connections, limits.connections asks for %d with those that come besides; raise LimitNOFILE (systemd) or ulimit -n to %d, or lower the limit",
			room, wanted, wanted+listen.OtherDescriptors)
	}
	return err
}

// checkUpstreams connects to each upstream of the routes; it asks nothing.
func checkUpstreams(ctx context.Context, s *settings, report func(string, error)) {
	all := upstream.NewOrigins(slog.New(slog.DiscardHandler))
	for _, r := range s.Routes {
		if _, err := all.Pool(upstream.Options{URLs: r.Upstream}); err != nil {
			report("route "+cmp.Or(r.Name, r.Path), err)
		}
	}
	for _, origin := range all.States() {
		err := safedial.Reach(ctx, origin.URL)
		if err != nil {
			err = fmt.Errorf("%w; start what listens there, or correct the upstream of its routes", err)
		}
		report("upstream "+origin.URL, err)
	}
}

// checkWatch looks once at what is watched.
func checkWatch(ctx context.Context, w source.Watch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTime, errors.New("it did not answer in time"))
	defer cancel()
	ended, done := context.WithCancelCause(ctx)
	err := w.Run.Run(ended, func(time.Time) { done(errDone) })
	if errors.Is(context.Cause(ended), errDone) {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
