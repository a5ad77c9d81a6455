package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

// variant is a server as one row has it.
type variant struct {
	name      string
	peer      string // "": ours
	topic     string
	transport swarm.Transport
	token     bool
	dataBytes int
}

const (
	dataBytes = 128
	// envelopeBytes is what an event of ours has around its data.
	envelopeBytes = 196
)

const (
	oursPublic = "chappe, WebSocket, public ephemeral topic"
	oursToken  = "chappe, WebSocket, HS256 token"
	oursKept   = "chappe, WebSocket, kept topic"
	oursSSE    = "chappe, SSE, public ephemeral topic"
	rawEvent   = "raw write(2), as long as our event"
)

func (r *run) variants() []variant {
	vs := []variant{
		{oursPublic, "", "public/bench", swarm.WebSocket, false, dataBytes},
		{oursToken, "", "private/bench", swarm.WebSocket, true, dataBytes},
		{oursSSE, "", "public/bench", swarm.SSE, false, dataBytes},
		{oursKept, "", "kept/bench", swarm.WebSocket, false, dataBytes},
	}
	for _, name := range r.servers {
		vs = append(vs, variant{name, name, "bench", swarm.WebSocket, false, dataBytes})
		if name == "raw" {
			vs = append(vs, variant{rawEvent, name, "bench", swarm.WebSocket, false, dataBytes + envelopeBytes})
		}
	}
	return vs
}

// figures of a server.
type figures struct {
	sessions, bytes, goroutines float64 // bytes: of one session
	connect                     float64 // seconds for all
	upgrade, allocations        float64 // CPU seconds for 10,000, for one
	message                     float64 // CPU microseconds
	p50, p99, lost              float64 // milliseconds; messages
	client                      float64 // CPU microseconds of the client for a message
}

func (f *figures) all() []*float64 {
	return []*float64{&f.sessions, &f.bytes, &f.goroutines, &f.connect, &f.upgrade, &f.allocations, &f.message, &f.p50, &f.p99, &f.lost, &f.client}
}

// middle has the median of each figure.
func middle(turns []figures) (m figures) {
	for i, to := range m.all() {
		var values []float64
		for t := range turns {
			values = append(values, *turns[t].all()[i])
		}
		slices.Sort(values)
		*to = values[len(values)/2]
	}
	return m
}

// measureSessions is the parts idle and fanout, which take the same sessions.
func measureSessions(ctx context.Context, r *run) error {
	vs := r.variants()
	turns := make([][]figures, len(vs))
	for range r.rounds {
		for i, v := range vs {
			f, err := r.sessionsOf(ctx, v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			turns[i] = append(turns[i], f)
		}
	}
	results := map[string]figures{}
	for i, v := range vs {
		results[v.name] = middle(turns[i])
	}
	if r.wants("idle") {
		r.printIdle(vs, results)
	}
	if r.wants("fanout") {
		r.printFanout(vs, results)
	}
	return nil
}

func (r *run) startVariant(ctx context.Context, v variant) (s *server, secret string, err error) {
	if v.peer != "" {
		s, err = startPeer(ctx, v.peer)
		return s, "", err
	}
	h, err := newHome(ctx, r, v.name, r.sessions)
	if err != nil {
		return nil, "", err
	}
	if v.token {
		secret = h.secret
	}
	if s, err = h.start(ctx, "127.0.0.1:0"); err == nil {
		// As in most logs there is an event: the first sessions of an empty one read it.
		err = s.publish(ctx, "kept/first", "", []byte("1"))
	}
	return s, secret, err
}

func (r *run) sessionsOf(ctx context.Context, v variant) (f figures, err error) {
	s, secret, err := r.startVariant(ctx, v)
	if err != nil {
		return f, err
	}
	defer s.kill()
	c, err := startClient(ctx)
	if err != nil {
		return f, err
	}
	defer c.close()
	before, err := s.look(ctx)
	if err != nil {
		return f, err
	}
	secure := v.peer == "gorilla-tls"
	live, err := c.dial(order{
		Target: s.address, Count: r.sessions, Topic: v.topic, Secret: secret, Transport: v.transport,
		Greeted: v.peer == "", TLS: secure, Time: 3 * time.Minute, Attempt: 30 * time.Second,
	})
	if err != nil {
		return f, err
	}
	connected, err := s.cpu()
	if err != nil {
		return f, err
	}
	if err := pause(ctx, r.settle); err != nil {
		return f, err
	}
	after, err := s.look(ctx)
	if err != nil {
		return f, err
	}
	f.sessions = float64(live.Live)
	f.bytes = float64(after.rss-before.rss) / f.sessions
	f.goroutines = float64(after.Goroutines-before.Goroutines) / f.sessions
	f.connect = live.ConnectTime.Seconds()
	f.upgrade = (connected - before.cpu).Seconds() / f.sessions * 10_000
	f.allocations = float64(after.Mallocs-before.Mallocs) / f.sessions
	if secure || !r.wants("fanout") {
		return f, nil
	}
	return f, r.fanOut(ctx, s, c, v, &f)
}

// look is what a server has and has used.
type look struct {
	rss int
	cpu time.Duration
	runtimeFigures
}

// look asks the process first, so that what that takes is in both looks.
func (s *server) look(ctx context.Context) (l look, err error) {
	for range 3 {
		if l.runtimeFigures, err = s.runtime(ctx); err != nil {
			return l, err
		}
	}
	if l.rss, err = s.rss(); err != nil {
		return l, err
	}
	l.cpu, err = s.cpu()
	return l, err
}

// dial has a client process connect, and waits until it is.
func (c *remote) dial(o order) (report, error) {
	o.Do = "dial"
	r, err := c.call(o)
	if err != nil || o.TLS {
		return r, err
	}
	if r, err = c.call(order{Do: "live", Count: o.Count, Time: o.Time}); err != nil {
		return r, err
	}
	if r, err = c.call(order{Do: "stats"}); err == nil && r.Live < o.Count {
		err = fmt.Errorf("%d of %d connected: %v", r.Live, o.Count, r.Reasons)
	}
	return r, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fanOut publishes to all, each time when the last message has come.
func (r *run) fanOut(ctx context.Context, s *server, c *remote, v variant, f *figures) error {
	if err := r.broadcast(ctx, s, c, v, 3); err != nil { // it warms up
		return err
	}
	began, err := c.call(order{Do: "stats"})
	if err != nil {
		return err
	}
	before, err := s.cpu()
	if err != nil {
		return err
	}
	if err := r.broadcast(ctx, s, c, v, r.broadcasts); err != nil {
		return err
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	ended, err := c.call(order{Do: "stats"})
	if err != nil {
		return err
	}
	received := float64(ended.Received)
	f.message = float64((after - before).Microseconds()) / received
	f.client = float64((ended.CPU - began.CPU).Microseconds()) / received
	f.p50, f.p99 = milliseconds(ended.P50), milliseconds(ended.P99)
	f.lost = f.sessions*float64(r.broadcasts) - received
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// broadcast marks, and publishes so many messages to all. Those that do not
// come within a time are lost, which the counts show.
func (r *run) broadcast(ctx context.Context, s *server, c *remote, v variant, n int) error {
	if _, err := c.call(order{Do: "mark"}); err != nil {
		return err
	}
	for k := range n {
		if err := s.publish(ctx, v.topic, "", swarm.Payload(uint64(k+1), time.Now(), v.dataBytes)); err != nil {
			return err
		}
		_, _ = c.call(order{Do: "received", Messages: uint64((k + 1) * r.sessions), Time: 10 * time.Second})
	}
	return nil
}

func (r *run) printIdle(vs []variant, results map[string]figures) {
	fmt.Printf("\n### Sessions: %d idle ones in one process\n\n", r.sessions)
	fmt.Println("User bytes: (RSS 2 s after the last connect minus RSS when ready) / sessions, no forced GC. Allocations include those of the 2 s. There is one event in our log.")
	fmt.Println("\n| server | user bytes a session | x ours | goroutines each | server CPU s per 10,000 upgrades | allocations an upgrade | connected in |\n|---|---|---|---|---|---|---|")
	ours := results[oursPublic]
	for _, v := range vs {
		if v.peer == "raw" || v.name == oursKept {
			continue
		}
		f := results[v.name]
		fmt.Printf("| %s | %.0f | %.1f | %.2f | %.2f | %.1f | %.1f s |\n", v.name, f.bytes, f.bytes/ours.bytes, f.goroutines, f.upgrade, f.allocations, f.connect)
	}
	g, token := results["gorilla"], results[oursToken]
	fmt.Printf("\nGoals: user bytes <= 256: **%.0f**, with a token **%.0f**, SSE **%.0f**; gorilla >= 80x: **%.1fx**; 0 goroutines: **%.2f**;\n", ours.bytes, token.bytes, results[oursSSE].bytes, g.bytes/ours.bytes, ours.goroutines)
	fmt.Printf("CPU per 10,000 upgrades <= 0.15 s on a public topic: **%.2f**, <= 0.35 s with a token: **%.2f** (gorilla %.2f); 0 allocations: **%.1f**.\n", ours.upgrade, token.upgrade, g.upgrade, ours.allocations)
}

func (r *run) printFanout(vs []variant, results map[string]figures) {
	fmt.Printf("\n### Fan-out: %d messages of %d bytes to %d sessions\n\n", r.broadcasts, dataBytes, r.sessions)
	fmt.Printf("Each published when the last had come to all. Ours is a CloudEvent, with some %d bytes around the data; the peers send the data alone.\n", envelopeBytes)
	fmt.Println("\n| server | server CPU us a message | x raw | p50 | p99 | lost | client CPU us a message |\n|---|---|---|---|---|---|---|")
	raw := results["raw"]
	for _, v := range vs {
		if f := results[v.name]; f.message > 0 {
			fmt.Printf("| %s | %.1f | %.2f | %.1f ms | %.1f ms | %.0f | %.1f |\n", v.name, f.message, f.message/raw.message, f.p50, f.p99, f.lost, f.client)
		}
	}
	ours, g := results[oursPublic], results["gorilla"]
	fmt.Printf("\nGoals: CPU a message <= 1.15x raw write(2): **%.2fx**, and of a write as long as the event **%.2fx**; gorilla >= 2.2x ours: **%.2fx**;\n", ours.message/raw.message, ours.message/results[rawEvent].message, g.message/ours.message)
	fmt.Printf("p99 <= 0.6x gorilla's: **%.2fx**; lost 0: **%.0f**, kept topic **%.0f**.\n", ours.p99/g.p99, ours.lost, results[oursKept].lost)
}
