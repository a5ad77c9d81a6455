package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/chappe/chappe/internal/swarm"
)

// measureLatency publishes events one at a time to one subscriber.
func measureLatency(ctx context.Context, r *run) error {
	fmt.Printf("\n### Publish to received: one subscriber, %d events one at a time\n\n", r.events)
	fmt.Println("| topic | p50 | p99 | max | goal |\n|---|---|---|---|---|")
	h, err := newHome(ctx, r, "latency", 1)
	if err != nil {
		return err
	}
	ours, err := h.start(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ours.kill()
	gorilla, err := startPeer(ctx, "gorilla")
	if err != nil {
		return err
	}
	defer gorilla.kill()
	for _, row := range []struct {
		what, topic, goal string
		server            *server
	}{
		{"durable", "kept/latency", "p99 <= 5 ms", ours},
		{"ephemeral", "public/latency", "p99 <= 1 ms", ours},
		{"gorilla", "latency", "", gorilla},
	} {
		took, err := r.oneByOne(ctx, row.server, row.topic)
		if err != nil {
			return fmt.Errorf("%s: %w", row.what, err)
		}
		at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(10 * time.Microsecond) }
		fmt.Printf("| %s | %v | **%v** | %v | %s |\n", row.what, at(0.5), at(0.99), at(1), row.goal)
	}
	return nil
}

// oneByOne returns the times from just before the request, sorted.
func (r *run) oneByOne(ctx context.Context, s *server, topic string) ([]time.Duration, error) {
	conn, reader, _, err := (ws.Dialer{Timeout: requestTime}).Dial(ctx, "ws://"+s.address.String()+"/v1/ws?topic="+topic)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := io.ReadWriter(conn)
	if reader != nil { // it holds what came with the answer
		in = struct {
			io.Reader
			io.Writer
		}{reader, conn}
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		return nil, err
	}
	var took []time.Duration
	for n := uint64(1); len(took) < r.events; n++ {
		data := swarm.Payload(n, time.Now(), dataBytes)
		wanted := string(data[:len(data)-80]) // its number and time
		began := time.Now()
		if err := s.publish(ctx, topic, "", data); err != nil {
			return nil, err
		}
		for {
			m, err := wsutil.ReadServerText(in)
			if err != nil {
				return nil, err
			}
			if strings.Contains(string(m), wanted) {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took, nil
}
