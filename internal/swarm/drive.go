package swarm

import (
	"context"
	"fmt"
	"time"
)

// Open dials and returns when each connection is live or was refused, with what
// is known by then. What is counted from there on is what becomes of the live
// ones. Watch is told the counts every 5 ms.
func Open(ctx context.Context, o Options, watch func(Counts)) (*Swarm, Stats, error) {
	s, err := Dial(ctx, o)
	if err != nil {
		return nil, Stats{}, err
	}
	err = s.Wait(ctx, func(c Counts) bool {
		watch(c)
		return c.Connected+c.Failed >= o.Count
	})
	if err != nil {
		s.Close()
		return nil, Stats{}, err
	}
	stats := s.Stats()
	s.Mark()
	return s, stats, nil
}

// Hold waits for so long, or until ctx ends, and tells watch of it every 5 ms.
func (s *Swarm) Hold(ctx context.Context, d time.Duration, watch func(c Counts, left time.Duration)) {
	end := time.Now().Add(d)
	_ = s.Wait(ctx, func(c Counts) bool { // fails when ctx ends, which only ends it early
		left := time.Until(end)
		watch(c, left)
		return left <= 0
	})
}

// Fanout is what is published to a swarm.
type Fanout struct {
	Messages, Size int           // each of so many bytes, made by Payload
	Lost           time.Duration // after which a message that has not come is lost
	Publish        func(ctx context.Context, data []byte) error
	// Watch is told every 5 ms of the message under way, and how many are to
	// be received in all until it has come to all.
	Watch func(message int, c Counts, all int)
}

// Fanout publishes messages, each when the last has come to all that are live
// at the beginning. All is how many are to be received of those published.
func (s *Swarm) Fanout(ctx context.Context, f Fanout) (published, all int, err error) {
	live := s.Counts().Live
	for n := 1; n <= f.Messages && live > 0; n++ {
		if err := f.Publish(ctx, Payload(uint64(n), time.Now(), f.Size)); err != nil {
			return published, all, fmt.Errorf("publish message %d: %w", n, err)
		}
		published, all = n, n*live
		bounded, cancel := context.WithTimeout(ctx, f.Lost)
		err := s.Wait(bounded, func(c Counts) bool {
			f.Watch(n, c, all)
			return c.Received >= uint64(all)
		})
		cancel()
		switch {
		case ctx.Err() != nil:
			return published, all, ctx.Err()
		case err != nil:
			return published, all, fmt.Errorf("message %d has not come to all within %v, so no more were published", n, f.Lost)
		}
	}
	return published, all, nil
}
