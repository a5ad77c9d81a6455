package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const askers = 64

// askOrder is to get the documents of numbered targets, each once.
type askOrder struct {
	Address string
	Target  string // with a %d
	Count   int
	Most    time.Duration // then it gives up
}

type askResult struct {
	Answers  int
	Failures int
	Failure  string         // the first
	ETags    map[string]int // how many answers had it
}

// askAll keeps connections busy, one request after the other on each.
func askAll(ctx context.Context, in *json.Decoder, tell *json.Encoder) error {
	var o askOrder
	if err := in.Decode(&o); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Most)
	defer cancel()
	var next atomic.Int64
	var asking sync.WaitGroup
	var mu sync.Mutex
	result := askResult{ETags: map[string]int{}}
	for range askers {
		asking.Go(func() {
			own := o.ask(ctx, &next)
			mu.Lock()
			defer mu.Unlock()
			result.add(own)
		})
	}
	asking.Wait()
	return tell.Encode(result)
}

// ask takes numbers until there is none left. A connection that fails is replaced.
func (o askOrder) ask(ctx context.Context, next *atomic.Int64) askResult {
	result := askResult{ETags: map[string]int{}}
	var c *conn
	for ctx.Err() == nil {
		n := int(next.Add(1)) - 1
		if n >= o.Count {
			break
		}
		var err error
		if c == nil {
			c, err = dial(ctx, o.Address)
		}
		var a answer
		if err == nil {
			a, err = c.getDocument(fmt.Sprintf(o.Target, n))
		}
		if err == nil {
			result.Answers++
			result.ETags[a.etag]++
		} else {
			result.add(askResult{Failures: 1, Failure: err.Error()})
		}
		if c != nil && (err != nil || a.last) {
			c.Close()
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
	return result
}

func (a *askResult) add(b askResult) {
	a.Answers += b.Answers
	a.Failures += b.Failures
	if a.Failure == "" {
		a.Failure = b.Failure
	}
	for tag, n := range b.ETags {
		a.ETags[tag] += n
	}
}
