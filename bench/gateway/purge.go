package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// measurePurge drops entries by their tag, and asks for all of them again.
func measurePurge(ctx context.Context, r *run) error {
	fmt.Printf(`
### Purge by tag: %d entries that share one, beside %d with another; %d times

The upstream's answer changes just before. Stale are answers from before the purge, asked for after it. The time is of DELETE /v1/cache.
The peers cannot purge by tag as they come.

`, r.entries, r.others, r.rounds)
	t := r.newTable("purge", "< 10 ms, 0 stale, 0", "DELETE, median", "largest", "stale survivors", "others fetched again")
	return t.each(ctx, []string{"chappe"}, func(name string) ([]string, error) { return purges(ctx, r, name) })
}

func purges(ctx context.Context, r *run, name string) ([]string, error) {
	var generation atomic.Int64
	u, err := serveUpstream(func(w http.ResponseWriter, req *http.Request) { document(w, req, generation.Load()) })
	if err != nil {
		return nil, err
	}
	defer u.close()
	s, err := r.start(ctx, name, setup{upstream: u.address, events: true})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	shared := askOrder{s.address, "/p/%d?g=shared", r.entries, answerTime}
	others := askOrder{s.address, "/p/%d?g=other", r.others, answerTime}
	for _, order := range []askOrder{shared, others} {
		for _, wanted := range []int{order.Count, 0} { // filled, then hits
			_, fetched, err := u.ask(ctx, order)
			if err != nil {
				return nil, err
			}
			if fetched != wanted {
				return nil, fmt.Errorf("of %d requests for %s %d came to the upstream, not %d", order.Count, order.Target, fetched, wanted)
			}
		}
	}
	stale, again := 0, 0
	var took []time.Duration
	for range r.rounds {
		now := generation.Add(1)
		began := time.Now()
		if err := s.purge(ctx, "t:shared"); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		result, _, err := u.ask(ctx, shared)
		if err != nil {
			return nil, err
		}
		stale += r.entries - result.ETags[etag(now)]
		_, fetched, err := u.ask(ctx, others)
		if err != nil {
			return nil, err
		}
		again += fetched
	}
	return []string{ms(quantile(took, 0.5)), ms(quantile(took, 1)), fmt.Sprint(stale), fmt.Sprint(again)}, nil
}

// ask has a client do an order, all of which must be answered, and says how
// many requests came to the upstream meanwhile.
func (u *upstream) ask(ctx context.Context, order askOrder) (result askResult, fetched int, err error) {
	before := u.requests.Load()
	err = runClient(ctx, "ask", order, &result)
	if err == nil && result.Answers != order.Count {
		err = fmt.Errorf("%d of %d answers, %d failures: %s", result.Answers, order.Count, result.Failures, result.Failure)
	}
	return result, int(u.requests.Load() - before), err
}

// purge drops all entries with a tag.
func (s *server) purge(ctx context.Context, tag string) error {
	return s.api(ctx, http.MethodDelete, "/v1/cache?tag="+url.QueryEscape(tag), nil)
}

// api calls ours with the token.
func (s *server) api(ctx context.Context, method, target string, body io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+target, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s %.300s", method, target, resp.Status, text)
	}
	return err
}
