package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	articleURLs    = 100
	articleService = 15 * time.Millisecond // one at a time: at most 67/s
	articleTarget  = "/comments/count?url=%d"
)

// articleOrder is to ask for targets evenly over a time.
type articleOrder struct {
	Address string
	URLs    []int
	Over    time.Duration
}

type articleResult struct {
	Times    []time.Duration
	Conns    int
	Failures int
	Failure  string // one of them
}

// measureArticle repeats the load of the article, before an upstream as slow.
func measureArticle(ctx context.Context, r *run) error {
	urls, err := r.articleURLs()
	if err != nil {
		return err
	}
	fmt.Printf(`
### The article's load: %d GETs evenly over %v on %d URLs (%s), an upstream that answers one at a time in %v

The same order for all, from cold; connections are kept and opened when none is free. A cache that asks once for each URL and answers
at once can have a mean of **%s**, no less: the waiting for the upstream is in it.

`, r.gets, r.over, articleURLs, r.order, articleService, ms(leastMean(urls, r.over)))
	t := r.newTable("article", fmt.Sprintf("0, %d, mean <= 2.5 ms", articleURLs), "errors", "upstream requests", "mean", "p50", "p99", "largest", "server CPU %", "connections")
	return t.each(ctx, []string{"seed", "nginx", "nginx-lock", "varnish", "chappe"}, func(name string) ([]string, error) {
		return articleLoad(ctx, r, name, urls)
	})
}

func articleLoad(ctx context.Context, r *run, name string, urls []int) ([]string, error) {
	var busy sync.Mutex
	u, err := serveUpstream(func(w http.ResponseWriter, req *http.Request) {
		busy.Lock()
		time.Sleep(articleService)
		busy.Unlock()
		document(w, req, 1)
	})
	if err != nil {
		return nil, err
	}
	defer u.close()
	s, err := r.start(ctx, name, setup{upstream: u.address})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var result articleResult
	if err := runClient(ctx, "article", articleOrder{s.address, urls, r.over}, &result); err != nil {
		return nil, err
	}
	after, err := s.cpu()
	if err != nil {
		return nil, err
	}
	percent := 100 * (after - before).Seconds() / time.Since(began).Seconds()
	sum := time.Duration(0)
	for _, t := range result.Times {
		sum += t
	}
	failures := fmt.Sprint(result.Failures)
	if result.Failures > 0 {
		failures += ": " + result.Failure
	}
	return []string{
		failures, fmt.Sprint(u.requests.Load()), ms(sum / time.Duration(max(1, len(result.Times)))),
		ms(quantile(result.Times, 0.5)), ms(quantile(result.Times, 0.99)), ms(quantile(result.Times, 1)),
		fmt.Sprintf("%.1f", percent), fmt.Sprint(result.Conns),
	}, nil
}

// articleURLs is the order of the URLs, the same in each run: drawn as pages
// of a blog are read (zipf: the nth most read 1/n as often as the first),
// drawn evenly, or in turns.
func (r *run) articleURLs() ([]int, error) {
	var below [articleURLs]float64
	sum := 0.0
	for n := range below {
		switch r.order {
		case "zipf":
			sum += 1 / float64(n+1)
		case "uniform", "turns":
			sum++
		default:
			return nil, fmt.Errorf("-order is zipf, uniform or turns, not %q", r.order)
		}
		below[n] = sum
	}
	drawn := rand.New(rand.NewPCG(2017, 1))
	urls := make([]int, r.gets)
	for i := range urls {
		if r.order == "turns" {
			urls[i] = i % articleURLs
			continue
		}
		for x := drawn.Float64() * sum; below[urls[i]] <= x; {
			urls[i]++
		}
	}
	return urls, nil
}

// leastMean is the mean wait for an upstream that is asked once for each URL.
func leastMean(urls []int, over time.Duration) time.Duration {
	var known [articleURLs]time.Duration // when the answer is there
	var free, sum time.Duration          // free: when the upstream is
	for i, url := range urls {
		now := time.Duration(i) * over / time.Duration(len(urls))
		if known[url] == 0 {
			free = max(free, now) + articleService
			known[url] = free
		}
		sum += max(0, known[url]-now)
	}
	return sum / time.Duration(max(1, len(urls)))
}

// askEvenly sends each request when its time has come, whether or not those before are answered.
func askEvenly(ctx context.Context, in *json.Decoder, tell *json.Encoder) error {
	var o articleOrder
	if err := in.Decode(&o); err != nil {
		return err
	}
	idle := make(chan *conn, len(o.URLs)) // room for all that can be opened
	var asking sync.WaitGroup
	var mu sync.Mutex
	var result articleResult
	began := time.Now()
	for i, url := range o.URLs {
		at := began.Add(time.Duration(i) * o.Over / time.Duration(len(o.URLs)))
		time.Sleep(time.Until(at))
		if ctx.Err() != nil {
			break
		}
		sent := time.Now()
		asking.Go(func() {
			opened, err := askIdle(ctx, o.Address, fmt.Sprintf(articleTarget, url), idle)
			took := time.Since(sent)
			mu.Lock()
			defer mu.Unlock()
			result.Conns += opened
			if err != nil {
				result.Failures++
				result.Failure = err.Error()
				return
			}
			result.Times = append(result.Times, took)
		})
	}
	asking.Wait()
	close(idle)
	for c := range idle {
		c.Close()
	}
	return tell.Encode(result)
}

// askIdle asks on an idle connection, or opens one.
func askIdle(ctx context.Context, address, target string, idle chan *conn) (opened int, err error) {
	var c *conn
	select {
	case c = <-idle:
	default:
		if c, err = dial(ctx, address); err != nil {
			return 0, err
		}
		opened = 1
	}
	a, err := c.getDocument(target)
	if err != nil || a.last {
		c.Close()
		return opened, err
	}
	idle <- c
	return opened, nil
}
