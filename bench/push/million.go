package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

const (
	millionTopic = "public/million"
	atOnce       = 4       // client processes that connect at the same time
	spare        = 2 << 30 // bytes of memory that stay free
)

// pair is a server and the process that holds its subscribers.
type pair struct {
	server *server
	client *remote
	live   report
	end    report
}

// measureMillion spreads sessions over as many processes as descriptors need,
// and publishes once to each server: all at the same time.
func measureMillion(ctx context.Context, r *run) error {
	pairs := make([]*pair, r.processes)
	defer func() {
		var closing sync.WaitGroup
		for _, p := range pairs {
			if p != nil {
				closing.Go(p.close)
			}
		}
		closing.Wait()
	}()
	for i := range pairs {
		p, err := r.newPair(ctx, i)
		if err != nil {
			return fmt.Errorf("process %d: %w", i, err)
		}
		pairs[i] = p
	}
	free, err := available()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := inParallel(pairs, atOnce, func(p *pair) error { return p.connect(r.each) }); err != nil {
		return err
	}
	connected := time.Since(began)
	if err := pause(ctx, r.settle); err != nil {
		return err
	}
	left, err := available()
	if err != nil {
		return err
	}
	began = time.Now()
	if err := inParallel(pairs, len(pairs), func(p *pair) error { return p.broadcast(ctx, began) }); err != nil {
		return err
	}
	reached := time.Since(began)
	return printMillion(pairs, r.each, connected, reached, free-left, left)
}

func printMillion(pairs []*pair, each int, connected, reached time.Duration, used, left int) error {
	live, received, user := 0, 0, 0
	var p50, p99, longest time.Duration
	for _, p := range pairs {
		live += p.live.Live
		received += int(p.end.Received)
		p50, p99, longest = max(p50, p.end.P50), max(p99, p.end.P99), max(longest, p.end.Max)
		rss, err := p.server.rss()
		if err != nil {
			return err
		}
		user += rss
	}
	fmt.Printf("\n### %d servers with %d sessions each\n\n", len(pairs), each)
	fmt.Printf("**%d** sessions connected in %v; %.0f bytes each for everything, both ends (servers' RSS alone: %.0f); %.1f GB left.\n",
		live, connected.Round(100*time.Millisecond), float64(used)/float64(live), float64(user)/float64(live), float64(left)/1e9)
	fmt.Printf("One message to all, posted to each server at once: received by **%d**, lost **%d** (goal: 0), the last after **%v**\n", received, live-received, longest.Round(time.Millisecond))
	fmt.Printf("(slowest process: p50 %v, p99 %v; seen by the driver after %v).\n", p50.Round(time.Millisecond), p99.Round(time.Millisecond), reached.Round(time.Millisecond))
	if live < len(pairs)*each {
		return fmt.Errorf("%d of %d sessions were connected", live, len(pairs)*each)
	}
	return nil
}

func (r *run) newPair(ctx context.Context, i int) (*pair, error) {
	// Descriptors are the bound, so the limit is what is to be there.
	h, err := newHome(ctx, r, filepath.Join("million", fmt.Sprint(i)), r.each)
	if err != nil {
		return nil, err
	}
	s, err := h.start(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c, err := startClient(ctx)
	if err != nil {
		s.kill()
		return nil, err
	}
	return &pair{server: s, client: c}, nil
}

func (p *pair) close() {
	p.server.kill()
	p.client.close()
}

func (p *pair) connect(each int) (err error) {
	if free, err := available(); err != nil || free < spare {
		return errors.Join(fmt.Errorf("%d bytes of memory are left, too few to go on; take fewer sessions with -each or -processes", free), err)
	}
	p.live, err = p.client.dial(order{
		Target: p.server.address, Count: each, Topic: millionTopic, Greeted: true, InFlight: 64, Time: 10 * time.Minute, Attempt: time.Minute,
	})
	return err
}

// broadcast publishes with a time that is the same for all servers.
func (p *pair) broadcast(ctx context.Context, began time.Time) error {
	if _, err := p.client.call(order{Do: "mark"}); err != nil {
		return err
	}
	if err := p.server.publish(ctx, millionTopic, "", swarm.Payload(1, began, dataBytes)); err != nil {
		return err
	}
	_, late := p.client.call(order{Do: "received", Messages: uint64(p.live.Live), Time: 2 * time.Minute}) // what is missing is told as lost
	var err error
	if p.end, err = p.client.call(order{Do: "stats"}); err != nil {
		return errors.Join(late, err)
	}
	return nil
}

// inParallel calls f for all, so many at a time.
func inParallel(pairs []*pair, n int, f func(*pair) error) error {
	next := make(chan *pair, len(pairs))
	for _, p := range pairs {
		next <- p
	}
	close(next)
	failed := make([]error, n)
	var workers sync.WaitGroup
	for w := range n {
		workers.Go(func() {
			for p := range next {
				if failed[w] = f(p); failed[w] != nil {
					return
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(failed...)
}

// available is what memory the machine has left, in bytes.
func available() (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var kib int
	_, rest, _ := bytes.Cut(text, []byte("MemAvailable:"))
	_, err = fmt.Sscan(string(rest), &kib)
	return kib << 10, err
}
