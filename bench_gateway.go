package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/chappe/chappe/internal/loadreport"
	"github.com/chappe/chappe/internal/swarm"
)

// benchGateway has connections ask for what a route answers.
func benchGateway(ctx context.Context, p program, args []string) error {
	t, g := newTarget(p, 64), swarm.Gets{Wait: benchLost}
	t.StringVar(&g.URL, "url", "", "what to ask for: a path on the server, with its query, or all of http://127.0.0.1:8080/path")
	t.DurationVar(&g.Duration, "duration", 10*time.Second, "how long it is asked for")
	t.Func("header", "a header of each request, as `\"Name: value\"`; may be given again", g.AddHeader)
	if _, err := t.parse(args, 0, 0); err != nil {
		return err
	}
	if g.Count = *t.count; g.URL == "" || g.Count < 1 || g.Duration <= 0 {
		return usageError{"give what to ask for as --url, like /comments/count, a --count of 1 or more, and a --duration like 10s"}
	}
	if !strings.HasPrefix(g.URL, "/") {
		if err := local("--url", g.URL); err != nil {
			return err
		}
		*t.server = cmp.Or(*t.server, swarm.Origin(g.URL))
	}
	return t.with(ctx, p, func() error { return t.get(ctx, p, g) })
}

func (t *target) get(ctx context.Context, p program, g swarm.Gets) error {
	if strings.HasPrefix(g.URL, "/") { // routes are not below base_url's path
		g.URL = swarm.Origin(t.client.server) + g.URL
	}
	g.Watch = func(answers uint64, left time.Duration) {
		t.progress.Show("%d answers, %v more", answers, max(left, 0).Round(time.Second))
	}
	began, _ := t.usage(ctx) // it may not be known
	a, err := swarm.Get(ctx, g)
	t.progress.Clear()
	if err != nil {
		return err
	}
	ended, _ := t.usage(ctx)
	r := loadreport.Requests{
		Bench: "gateway", URL: g.URL, Count: g.Count, Seconds: a.Elapsed.Seconds(), Requests: a.Latency.Count(), PerSecond: float64(a.Latency.Count()) / a.Elapsed.Seconds(),
		Failed: a.Failed, Reasons: a.Reasons, Statuses: a.Statuses, Cached: a.Hits, Bytes: a.Bytes,
		Latency: loadreport.LatencyOf(a.Latency.Quantile), ClientCPU: a.CPU.Seconds(),
	}
	r.ServerCPU = ended.CPU(began, int(r.Requests), 10_000)
	return errors.Join(r.Print(p.stdout, *t.asJSON), r.Err())
}
