package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/api"
	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/console"
	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/deliver/push/centrifuge"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/listen"
	"github.com/chappe/chappe/internal/memory"
	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/store"
)

// Times of the HTTP server.
const (
	headTime  = 5 * time.Second // for a request's head
	idleTime  = 2 * time.Minute // between requests of a connection
	drainTime = 8 * time.Second // for requests to end, besides the sessions' own time
)

// spareConnections are for requests, and to refuse sessions by, when there are
// as many sessions as there may be.
const spareConnections = 1000

// server is what serve builds, in the order in which events flow.
type server struct {
	settings  *settings
	takesOver net.Listener // from the process before this one; nil: it listens itself
	logger    *slog.Logger
	registry  *prometheus.Registry
	base      *url.URL // base_url; nil without

	db      *store.DB
	log     *store.Log
	bus     *bus.Bus
	access  *account.Access
	front   *front.Server
	watches *source.Supervisor
	hub     *push.Hub
	clients *centrifuge.Server // of the Centrifuge protocol
	gateway *gateway.Gateway
	api     http.Handler
	console *console.Console

	ready atomic.Bool
}

func serve(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "serve")
	address := f.String("listen", "", "the address and port to listen on (default: the configuration's, or 127.0.0.1:8080)")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	s, err := f.load()
	if err != nil {
		return err
	}
	if *address != "" {
		s.Server.Listen = *address
	}
	given, err := listen.Activated(p.getenv)
	if err != nil {
		return configError{err}
	}
	logger := slog.New(slog.NewTextHandler(p.stderr, nil))
	log.SetFlags(0) // net/http tells of odd origins there, in their own words
	log.SetOutput(slog.NewLogLogger(logger.With("component", "http").Handler(), slog.LevelDebug).Writer())
	srv, err := build(ctx, s, logger, given)
	if err != nil {
		return err
	}
	return errors.Join(srv.listenAndRun(ctx, p), srv.close())
}

func (srv *server) listenAndRun(ctx context.Context, p program) (err error) {
	listener := srv.takesOver
	if listener == nil {
		if listener, err = listen.On(srv.settings.Server.Listen); err != nil {
			return err
		}
	}
	if err := srv.log.Announce(srv.settings.urlOf(listener)); err != nil {
		return errors.Join(fmt.Errorf("announce the address: %w", err), listener.Close())
	}
	return srv.run(ctx, listener, p)
}

// build makes the parts: the log, who may read it, the ways out, the ways in.
// Given is a socket to take over, nil if there is none.
func build(ctx context.Context, s *settings, logger *slog.Logger, given net.Listener) (*server, error) {
	srv := &server{settings: s, takesOver: given, logger: logger, registry: prometheus.NewRegistry()}
	srv.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, part := range []func(context.Context) error{srv.buildLog, srv.buildAccess, srv.buildFront, srv.buildWays} {
		if err := part(ctx); err != nil {
			return nil, errors.Join(err, srv.close())
		}
	}
	return srv, nil
}

func (srv *server) buildLog(ctx context.Context) (err error) {
	s := srv.settings
	if srv.db, err = store.Open(ctx, s.Data); err != nil {
		return err
	}
	srv.log, err = openLog(ctx, srv.db, store.Options{Rules: s.Topics, Logger: srv.logger.With("component", "store")}, srv.takesOver != nil)
	if err != nil {
		return err
	}
	srv.bus, err = bus.New(ctx, srv.log, bus.Options{
		Rules: s.Topics, EventBytes: int(s.Limits.Event), Logger: srv.logger.With("component", "bus"), Metrics: srv.registry,
	})
	return err
}

func (srv *server) buildAccess(ctx context.Context) error {
	s := srv.settings
	if s.Server.BaseURL != "" {
		base, err := url.Parse(s.Server.BaseURL)
		if err != nil {
			return fmt.Errorf("server.base_url: %w", err)
		}
		srv.base = base
	}
	verifier, err := newVerifier(ctx, s, srv.db)
	if err != nil {
		return err
	}
	srv.access = &account.Access{
		Tokens: srv.db, Verifier: verifier, Rules: s.Topics,
		Origins: account.Origins{Base: srv.base, Allowed: s.Server.AllowedOrigins},
	}
	if hook := s.Access.Hook; hook.URL != "" {
		srv.access.Hook = account.NewHook(hook, s.client(hook.URL), srv.logger.With("component", "account"), srv.registry)
		srv.access.Origins.Credentials = true
	}
	return nil
}

func newVerifier(ctx context.Context, s *settings, db *store.DB) (*account.Verifier, error) {
	secret, err := db.Secret(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the signing secret: %w", err)
	}
	verifier, err := account.NewVerifier(s.Access.JWT, secret, s.client(s.Access.JWT.JWKSURL))
	if err != nil {
		return nil, configError{err}
	}
	return verifier, nil
}

// policy allows what is public, and the address that the file names itself.
func (s *settings) policy(named string) safedial.Policy {
	return safedial.Policy{AllowPrivate: s.Network.AllowPrivate, AllowPorts: s.Network.ports(), Named: []string{named}}
}

func (s *settings) client(named string) *http.Client { return safedial.NewClient(s.policy(named)) }

func (srv *server) buildFront(context.Context) (err error) {
	s := srv.settings
	prefix := ""
	if srv.base != nil {
		prefix = trimSlash(srv.base.Path)
	}
	tlsConfig, err := s.tlsConfig(srv.logger.With("component", "tls"))
	if err != nil {
		return err
	}
	connections, err := s.roomForConnections(srv.logger)
	if err != nil {
		return err
	}
	srv.front, err = front.New(front.Options{
		Connections: connections, Prefix: prefix, KnownHost: srv.access.Origins.CheckHost,
		Header: always(), CORS: srv.access.Origins.Marks, TLS: tlsConfig, TrustedProxies: s.Server.TrustedProxies, Proxy: s.Server.ProxyProtocol,
		Logger: srv.logger.With("component", "front"), Metrics: srv.registry,
	})
	return err
}

func (srv *server) buildWays(context.Context) (err error) {
	s := srv.settings
	srv.hub = push.New(srv.bus, srv.access, push.Options{
		Limits: s.Limits.Limits, TrustedProxies: s.Server.TrustedProxies, Loops: srv.front.Loops(), Compression: s.Server.Compression,
		Logger: srv.logger.With("component", "push"), Metrics: srv.registry,
	})
	srv.clients = centrifuge.New(srv.hub, centrifuge.Options{
		Publisher: srv.bus, Reader: srv.bus, Access: srv.access,
		Logger: srv.logger.With("component", "centrifuge"), Metrics: srv.registry,
	})
	srv.gateway, err = gateway.New(gateway.Options{
		Routes: s.Routes, Cache: s.Cache, Reserved: s.reserved(), TrustedProxies: s.Server.TrustedProxies,
		Waiting: s.connections() - spareConnections, Loops: srv.front.Loops(), Publisher: srv.bus, EventBytes: int(s.Limits.Event),
		Head: srv.bus.Head, File: filepath.Join(s.Data, "gateway.cache"), Logger: srv.logger.With("component", "gateway"), Metrics: srv.registry,
	})
	if err != nil {
		return configError{err}
	}
	srv.waitOnLoop()
	srv.bus.Follow(srv.hub)
	srv.bus.Follow(srv.gateway)
	srv.watches = source.NewSupervisor(srv.bus, srv.hub, srv.logger.With("component", "source"), srv.registry)
	srv.api = api.New(api.Options{
		Publisher: srv.bus, Reader: srv.bus, Access: srv.access, Watches: srv.watches, Gateway: srv.gateway,
		Logger: srv.logger.With("component", "api"), Version: version,
	})
	srv.console = console.New(console.Options{
		Log: srv.bus, Access: srv.access, Logger: srv.logger.With("component", "console"), Version: version,
	})
	return nil
}

// run serves until ctx ends, then stops in reverse: no new requests, no more
// watching, sessions told to come back.
func (srv *server) run(ctx context.Context, listener net.Listener, p program) error {
	server := &http.Server{
		Handler: srv.routes(), ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 100},
		ErrorLog: slog.NewLogLogger(srv.logger.With("component", "http").Handler(), slog.LevelDebug),
	}
	handed, err := srv.front.Listen(listener, server)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(handed) }() // ended by Shutdown or Close below
	metrics, err := srv.serveMetrics(failed)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	srv.startWatches(watching)
	caching, stopCaching := context.WithCancel(context.WithoutCancel(ctx))
	var gateway sync.WaitGroup
	gateway.Go(func() { srv.gateway.Run(caching) }) // ended below
	defer gateway.Wait()
	defer stopCaching()
	go memory.Watch(watching, func(share float64) { srv.hub.Relieve(share, srv.bus.Shed) }) // ends with it
	srv.ready.Store(true)
	srv.greet(p, listener)

	select {
	case err = <-failed:
	case <-ctx.Done():
		srv.logger.Info("stopping")
	}
	srv.ready.Store(false)
	stopWatching()
	if srv.takesOver != nil { // what connects from now on waits for the process after this one
		srv.front.StopAccepting()
	}
	server.SetKeepAlivesEnabled(false)
	drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime+srv.hub.DrainTime())
	defer cancel()
	srv.gateway.Drain()
	srv.hub.Drain(drained)
	srv.front.StopAccepting()
	srv.front.Settle()
	for _, s := range []*http.Server{server, metrics} {
		if s.Shutdown(drained) != nil {
			_ = s.Close() // whoever is still there was given its time
		}
	}
	srv.watches.Wait()
	return err
}

// greet prints where the server is and how to open the console.
func (srv *server) greet(p program, listener net.Listener) {
	address := srv.settings.urlOf(listener)
	outside := address
	if strings.HasPrefix(address, listen.UnixPrefix) {
		outside = "your proxy's address"
	}
	if srv.base != nil {
		outside = srv.settings.Server.BaseURL
	}
	fmt.Fprintf(p.stderr, "listening on %s\n", address)
	outside = trimSlash(outside) + trimSlash(srv.settings.Server.consolePath())
	fmt.Fprintf(p.stderr, "open the console, once, by %s/?setup=%s\n", outside, srv.access.NewSetupToken())
}

// startWatches runs what the configuration watches.
func (srv *server) startWatches(ctx context.Context) {
	sources := newSources(srv.settings, srv.db, srv.bus, srv.logger)
	for _, w := range srv.settings.Watches {
		srv.watches.Start(ctx, sources.watch(w))
	}
}

// close closes what build has made so far, the last first.
func (srv *server) close() error {
	var err error
	if srv.front != nil {
		srv.front.Close()
	}
	if srv.bus != nil {
		srv.bus.Close()
	}
	if srv.log != nil {
		err = srv.log.Close()
	}
	if srv.db != nil {
		err = errors.Join(err, srv.db.Close())
	}
	return err
}
