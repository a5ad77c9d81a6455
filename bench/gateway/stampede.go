package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const slowAnswer = 300 * time.Millisecond

// stampedeOrder is to ask for a target on many connections at once.
type stampedeOrder struct {
	Address string
	Target  string
	Count   int
}

type stampedeResult struct {
	Last     time.Time // answer
	Failures int
	Failure  string // one of them
}

// measureStampede has many ask for what is not kept, while the upstream is slow.
func measureStampede(ctx context.Context, r *run) error {
	fmt.Printf(`
### Stampede: %d ask at once for a URL that is not kept, the upstream takes %v; median of %d

Each on a connection opened before. The time is from the upstream's first answer to the arrival of the last waiter's. Equal: machine,
load, upstream, all of which share the cores.

`, r.waiters, slowAnswer, r.rounds)
	t := r.newTable("stampede", "exactly 1, <= 20 ms, 0 failed", "upstream requests in each turn", "last waiter after the answer", "largest", "failed")
	return t.each(ctx, []string{"nginx", "nginx-lock", "varnish", "seed", "chappe"}, func(name string) ([]string, error) {
		return stampedes(ctx, r, name)
	})
}

func stampedes(ctx context.Context, r *run, name string) ([]string, error) {
	var mu sync.Mutex
	answered := map[string]time.Time{} // by target, first
	u, err := serveUpstream(func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(slowAnswer)
		mu.Lock()
		if target := req.URL.RequestURI(); answered[target].IsZero() {
			answered[target] = time.Now()
		}
		mu.Unlock()
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
	if err := runClient(ctx, "ask", askOrder{s.address, "/first/%d", 1, answerTime}, &askResult{}); err != nil {
		return nil, err
	}
	failed, failure := 0, ""
	var upstreams []string
	var late []time.Duration
	for n := range r.rounds {
		target := fmt.Sprintf("/stampede/%d", n)
		before := u.requests.Load()
		var result stampedeResult
		if err := runClient(ctx, "stampede", stampedeOrder{s.address, target, r.waiters}, &result); err != nil {
			return nil, err
		}
		mu.Lock()
		late = append(late, result.Last.Sub(answered[target]))
		mu.Unlock()
		upstreams = append(upstreams, fmt.Sprint(u.requests.Load()-before))
		failed += result.Failures
		if failure == "" && result.Failure != "" {
			failure = ": " + result.Failure
		}
	}
	return []string{strings.Join(upstreams, ", "), ms(quantile(late, 0.5)), ms(quantile(late, 1)), fmt.Sprint(failed, failure)}, nil
}

// stampede asks when all connections are there.
func stampede(ctx context.Context, in *json.Decoder, tell *json.Encoder) error {
	var o stampedeOrder
	if err := in.Decode(&o); err != nil {
		return err
	}
	var conns []*conn
	for range o.Count {
		c, err := dial(ctx, o.Address)
		if err != nil {
			return err
		}
		defer c.Close() // all until the end: they are kept
		conns = append(conns, c)
	}
	begin := make(chan struct{})
	var arriving, asking sync.WaitGroup
	arriving.Add(len(conns))
	var mu sync.Mutex
	var result stampedeResult
	for _, c := range conns {
		asking.Go(func() {
			<-begin
			err := c.send(o.Target, "")
			if err == nil {
				_, err = c.in.Peek(1)
			}
			now := time.Now()
			arriving.Done()
			arriving.Wait() // so that looking at answers delays no other
			if err == nil {
				err = c.receiveDocument(o.Target)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				result.Failures++
				result.Failure = err.Error()
			} else if now.After(result.Last) {
				result.Last = now
			}
		})
	}
	close(begin)
	asking.Wait()
	return tell.Encode(result)
}

func (c *conn) receiveDocument(target string) error {
	a, err := c.receive()
	if err != nil {
		return err
	}
	return a.isDocument(target)
}
