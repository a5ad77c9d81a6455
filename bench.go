package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/loadreport"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/swarm"
	"github.com/chappe/chappe/internal/terminal"
)

const (
	benchLost     = 10 * time.Second // after which what has not come is lost
	benchEnvelope = 4 << 10          // bytes around an event's data, at the most
)

// bench loads a server on this machine and reports what became of it.
func bench(ctx context.Context, p program, args []string) error {
	if len(args) == 0 {
		return usageError{"name what to load with: chappe bench gateway, chappe bench connections, or chappe bench fanout"}
	}
	b := newLoad(p, args[0])
	switch args[0] {
	case "connections":
		hold := b.Duration("hold", 10*time.Second, "how long the connections are held once all are there")
		return b.start(ctx, p, args[1:], func(ctx context.Context) error { return b.connections(ctx, *hold) })
	case "fanout":
		messages := b.Int("messages", 20, "how many messages are published, each when the last has come to all")
		size := b.Int("size", 128, "bytes of each message's data")
		return b.start(ctx, p, args[1:], func(ctx context.Context) error { return b.fanout(ctx, *messages, *size) })
	case "gateway":
		return benchGateway(ctx, p, args[1:])
	case "-h", "-help", "--help":
		b.Usage()
		return nil
	}
	return usageError{fmt.Sprintf("there is no bench %q; there are connections, fanout and gateway", args[0])}
}

// target is what a bench loads.
type target struct {
	clientFlags
	count  *int
	asJSON *bool

	client   *client
	progress loadreport.Progress
}

func newTarget(p program, count int) target {
	f := newClientFlags(p, "bench")
	return target{clientFlags: f, count: f.Int("count", count, "how many connections"), asJSON: f.Bool("json", false, "print one JSON object")}
}

// with finds the server and has run load it.
func (t *target) with(ctx context.Context, p program, run func() error) error {
	if err := swarm.RoomFor(*t.count); err != nil {
		return fmt.Errorf("%w, or lower --count", err)
	}
	if given := *t.server; given != "" { // looked at before a token is made for it
		if err := local("--server", given); err != nil {
			return err
		}
	}
	c, err := t.clientFlags.client(ctx, p, account.ScopeAdmin) // to publish, read, and see the metrics
	if err != nil {
		return err
	}
	defer c.close()
	t.client = c
	if err := local("--server", c.server); err != nil {
		return err
	}
	_, err = t.usage(ctx)
	if _, answered := errors.AsType[*problem.Problem](err); err != nil && !answered {
		return err
	}
	if !*t.asJSON && terminal.Is(p.stderr) && p.getenv("NO_COLOR") == "" {
		t.progress.Terminal = p.stderr
	}
	return run()
}

// usage is what the server has used. Without the scope admin it is an error, a
// *problem.Problem.
func (t *target) usage(ctx context.Context) (loadreport.Usage, error) {
	return loadreport.ReadUsage(ctx, t.client.server, t.client.do)
}

// local holds a flag's address to this machine.
func local(flag, server string) error {
	if _, err := swarm.Local(server); err != nil {
		return usageError{flag + " " + err.Error()}
	}
	return nil
}

// load is a bench of connections that wait.
type load struct {
	target
	topic, transport *string
	rate             *float64

	header func(i int) string // of connection i's request
	report loadreport.Connections
}

func newLoad(p program, name string) *load {
	b := &load{target: newTarget(p, 1000), report: loadreport.Connections{Bench: name}}
	b.topic = b.String("topic", "bench/load", "the topic that the connections follow; nobody else should publish there")
	b.transport = b.String("transport", "ws", "ws or sse")
	b.rate = b.Float64("rate", 0, "how many are opened a second (default: as fast as they are taken)")
	return b
}

// start has run load the server, and reports.
func (b *load) start(ctx context.Context, p program, args []string, run func(context.Context) error) error {
	if _, err := b.parse(args, 0, 0); err != nil {
		return err
	}
	if *b.count < 1 || *b.rate < 0 || *b.transport != "ws" && *b.transport != "sse" {
		return usageError{"give a --count of 1 or more, a --rate that is not negative, and ws or sse as the --transport"}
	}
	if _, err := event.ParsePattern(*b.topic); err != nil {
		return usageError{err.Error()}
	}
	return b.with(ctx, p, func() error {
		b.header = func(int) string { return bearer(b.client.token) }
		if *b.token == "" && p.getenv("CHAPPE_TOKEN") == "" {
			if err := b.sign(ctx); err != nil {
				return err
			}
		}
		b.report.Server, b.report.Transport, b.report.Count = b.client.server, *b.transport, *b.count
		failed := run(ctx)
		b.progress.Clear()
		if b.report.Attempts == 0 { // it did not come to a load
			return failed
		}
		return errors.Join(b.report.Print(p.stdout, *b.asJSON), failed)
	})
}

func bearer(token string) string { return "Authorization: Bearer " + token + "\r\n" }

// sign makes each connection a subscriber of its own, as it would be in life:
// the sessions of one token are counted together, and soon too many. Where
// only the application can sign, they share the token after all.
func (b *load) sign(ctx context.Context) error {
	s, verifier, err := b.verifier(ctx)
	if err != nil {
		return err
	}
	ttl := cmp.Or(s.Access.JWT.MaxAge, localTokenTTL)
	headers := make([]string, *b.count)
	for i := range headers {
		token, err := verifier.Sign(fmt.Sprint("bench-", i), []event.Pattern{event.Pattern(*b.topic)}, ttl)
		if err != nil {
			return nil
		}
		headers[i] = bearer(token)
	}
	b.header = func(i int) string { return headers[i] }
	return nil
}

// connections opens connections and holds them.
func (b *load) connections(ctx context.Context, hold time.Duration) error {
	if hold < 0 {
		return usageError{"--hold is negative; give how long to hold the connections, like 10s"}
	}
	began, _ := b.usage(ctx) // it may not be known
	s, err := b.open(ctx, began, 64<<10)
	if err != nil {
		return err
	}
	defer s.Close()
	s.Hold(ctx, hold, func(c swarm.Counts, left time.Duration) {
		b.progress.Show("%d connected, held for %v more", c.Live, left.Round(time.Second))
	})
	held, _ := b.usage(ctx)
	b.report.ServerRSS = held.RSS(began, s.Counts().Live)
	stats := s.Stats()
	return b.report.End(stats.Ended, stats.Reasons, stats.CPU)
}

// fanout publishes messages to connections that follow.
func (b *load) fanout(ctx context.Context, messages, size int) error {
	if _, err := event.ParseTopic(*b.topic); err != nil || messages < 1 || size < 1 {
		return usageError{"give a --topic without wildcards, to publish to, and 1 or more as --messages and --size"}
	}
	idle, _ := b.usage(ctx) // it may not be known
	s, err := b.open(ctx, idle, size+benchEnvelope)
	if err != nil {
		return err
	}
	defer s.Close()
	began, _ := b.usage(ctx)
	published, all, failed := s.Fanout(ctx, swarm.Fanout{
		Messages: messages, Size: size, Lost: benchLost, Publish: b.publish,
		Watch: func(n int, c swarm.Counts, all int) {
			b.progress.Show("message %d: %d of %d received in all", n, c.Received, all)
		},
	})
	ended, _ := b.usage(ctx)
	stats := s.Stats()
	b.report.Fanout = &loadreport.Fanout{
		Published: published, Size: size, Received: stats.Received, Lost: int64(all) - int64(stats.Received-stats.Doubled),
		Doubled: stats.Doubled, Latency: loadreport.LatencyOf(stats.Latency.Quantile),
	}
	b.report.ServerMessageCPU = ended.CPU(began, int(stats.Received), 1e6)
	return errors.Join(failed, b.report.End(stats.Ended, stats.Reasons, stats.CPU))
}

func (b *load) publish(ctx context.Context, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	return b.client.publish(ctx, io.Discard, map[string]any{"topic": *b.topic, "type": "bench", "data": json.RawMessage(data)})
}

// open opens the connections and reports how that went.
func (b *load) open(ctx context.Context, began loadreport.Usage, messageBytes int) (*swarm.Swarm, error) {
	o, err := swarm.Follow(b.client.server, *b.transport, *b.topic, b.header)
	if err != nil {
		return nil, err
	}
	o.Count, o.Rate, o.MessageBytes = *b.count, *b.rate, messageBytes
	s, stats, err := swarm.Open(ctx, o, func(c swarm.Counts) {
		b.progress.Show("%d of %d connected, %d refused", c.Connected, *b.count, c.Failed)
	})
	if err != nil {
		return nil, err
	}
	opened, _ := b.usage(ctx)
	r := &b.report
	r.Connected, r.Refused, r.Attempts, r.Connect = stats.Connected, stats.Failed, stats.Attempts, stats.ConnectTime.Seconds()
	r.Ended, r.Reasons, r.ServerUpgradeCPU = int(stats.Ended), stats.Reasons, opened.CPU(began, int(r.Attempts), 10_000)
	return s, nil
}
