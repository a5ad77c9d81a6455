package swarm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Swarm is a number of connections. Its methods may be called from any
// goroutine.
type Swarm struct {
	options Options
	loops   []*loop
	running sync.WaitGroup
	forget  func() bool // the context
}

// Dial begins to connect and returns at once. The swarm lives until Close, or
// until ctx ends.
func Dial(ctx context.Context, o Options) (*Swarm, error) {
	o.fill()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	if err := RoomFor(o.Count); err != nil {
		return nil, fmt.Errorf("swarm: %w, or share them among processes", err)
	}
	s := &Swarm{options: o}
	began := time.Now()
	for k := range o.Loops {
		l, err := newLoop(&s.options, k, began)
		if err != nil {
			for _, earlier := range s.loops {
				earlier.release()
			}
			return nil, fmt.Errorf("swarm: %w", err)
		}
		s.loops = append(s.loops, l)
	}
	for _, l := range s.loops {
		s.running.Go(l.run) // until its stop is called
	}
	s.forget = context.AfterFunc(ctx, s.stop)
	return s, nil
}

func (s *Swarm) stop() {
	for _, l := range s.loops {
		l.do(func() { l.closing = true })
	}
}

// Close closes every connection and ends the loops. What was counted stays.
func (s *Swarm) Close() {
	s.forget()
	s.stop()
	s.running.Wait()
}

// Counts are those of now.
func (s *Swarm) Counts() Counts {
	var c Counts
	for _, l := range s.loops {
		l.do(func() { c.add(l.counts) })
	}
	return c
}

// Wait returns when done says so of the counts, which it is asked every 5 ms.
func (s *Swarm) Wait(ctx context.Context, done func(Counts) bool) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done(s.Counts()) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("swarm: %+v: %w", s.Counts(), context.Cause(ctx))
		}
	}
	return nil
}

// Stats are the counts and more. What Mark began anew counts from there.
func (s *Swarm) Stats() Stats {
	stats := Stats{Reasons: map[string]int{}}
	var ends [endSlots]uint32
	var connected int64
	for _, l := range s.loops {
		l.do(func() {
			stats.add(l.counts)
			connected = max(connected, l.lastConnected)
			stats.Latency.Merge(&l.latency)
			stats.Back.Merge(&l.back)
			for slot, n := range l.ends {
				ends[slot] += n
			}
			for reason, n := range l.reasons {
				stats.Reasons[reason] += n
			}
		})
	}
	stats.ConnectTime = time.Duration(connected)
	stats.EndsPerSecond = mostIn(ends[:], int(time.Second/endSlot))
	stats.CPU = processCPU()
	return stats
}

// Mark begins to count anew, and the time that Back is counted from.
func (s *Swarm) Mark() {
	for _, l := range s.loops {
		l.do(l.mark)
	}
}

// Clients tells of each connection.
func (s *Swarm) Clients() []Client {
	clients := make([]Client, s.options.Count)
	for _, l := range s.loops {
		l.do(func() {
			for j := range l.conns {
				c := &l.conns[j]
				clients[l.global(j)] = Client{
					Live: c.state == live, Attempts: int(c.attempts), Back: time.Duration(c.back),
					Received: int(c.received), Missed: int(c.missed), Doubled: int(c.doubled), Last: c.last,
				}
			}
		})
	}
	return clients
}

// Send has each live WebSocket send a text message, and returns how many did.
func (s *Swarm) Send(text []byte) (sent int) {
	for _, l := range s.loops {
		l.do(func() {
			for j := range l.conns {
				if c := &l.conns[j]; c.state == live && s.options.Transport == WebSocket && l.write(j, opText, text) {
					sent++
				}
			}
		})
	}
	return sent
}

// Wire is how many bytes of IP the live connections have had in both
// directions, from the kernel's counts: a segment's head is counted as 52
// bytes, as it is with time stamps.
func (s *Swarm) Wire() (bytes uint64, connections int, err error) {
	const head = 52
	for _, l := range s.loops {
		l.do(func() {
			for j := range l.conns {
				if l.conns[j].state != live {
					continue
				}
				info, failed := unix.GetsockoptTCPInfo(int(l.conns[j].fd), unix.IPPROTO_TCP, unix.TCP_INFO)
				if failed != nil {
					err = failed
					return
				}
				connections++
				bytes += info.Bytes_received + info.Bytes_sent + head*uint64(info.Segs_in+info.Segs_out)
			}
		})
	}
	return bytes, connections, err
}
