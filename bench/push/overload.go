package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

const (
	overloadTopic    = "public/overload"
	overloadSessions = 2000 // that are in while others come
	overloadComing   = 15_000
	overloadRounds   = 4
	peakInFlight     = 64 // attempts at once that keep the server busy
	overloadTimes    = 10
)

// measureOverload has a crowd come in: with as many attempts at once as keep
// the server busy, then with ten times as many. Those that are in receive
// messages meanwhile.
func measureOverload(ctx context.Context, r *run) error {
	sessions, coming := min(overloadSessions, r.sessions), min(overloadComing, r.sessions)
	fmt.Printf("\n### Overload: %d times %d clients come in; %d sessions receive 20 messages a second meanwhile\n\n", overloadRounds, coming, sessions)
	h, err := newHome(ctx, r, "overload", r.sessions)
	if err != nil {
		return err
	}
	s, err := h.start(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.kill()
	client, err := startClient(ctx)
	if err != nil {
		return err
	}
	defer client.close()
	if _, err := client.call(order{Do: "dial", Target: s.address, Count: sessions, Topic: overloadTopic, Greeted: true, Time: time.Minute}); err != nil {
		return err
	}
	if _, err := client.call(order{Do: "live", Count: sessions, Time: time.Minute}); err != nil {
		return err
	}
	fmt.Println("| attempts at once | came in a second | p99 of those that are in | lost |\n|---|---|---|---|")
	var rate [2]float64
	var p99 [2]time.Duration
	for i, inFlight := range []int{peakInFlight, peakInFlight * overloadTimes} {
		var end report
		if rate[i], end, err = r.crowd(ctx, s, client, order{
			Do: "dial", Target: s.address, Count: coming, Topic: "public/crowd", Greeted: true, InFlight: inFlight, Time: time.Minute,
		}, sessions); err != nil {
			return err
		}
		p99[i] = end.P99
		fmt.Printf("| %d | %.0f | %v | %d |\n", inFlight, rate[i], end.P99.Round(100*time.Microsecond), end.Missed)
	}
	fmt.Printf("\nGoals: goodput with %d times as many >= 80 %%: **%.0f %%**; p99 of those that are in <= 2x: **%.1fx**.\n",
		overloadTimes, 100*rate[1]/rate[0], float64(p99[1])/float64(p99[0]))
	return nil
}

// crowd has clients come in, several times, while messages are published.
func (r *run) crowd(ctx context.Context, s *server, in *remote, dial order, sessions int) (rate float64, end report, err error) {
	if _, err := in.call(order{Do: "mark"}); err != nil {
		return 0, end, err
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var publisher sync.WaitGroup
	var published uint64
	var failed error
	publisher.Go(func() { // until stop
		for pause(publishing, 50*time.Millisecond) == nil && failed == nil {
			published++
			failed = s.publish(ctx, overloadTopic, "", swarm.Payload(published, time.Now(), dataBytes))
		}
	})
	var took time.Duration
	for range overloadRounds {
		t, err := comeIn(ctx, dial)
		if err != nil {
			return 0, end, err
		}
		took += t
	}
	stop()
	publisher.Wait()
	if failed != nil {
		return 0, end, failed
	}
	if _, err = in.call(order{Do: "received", Messages: published * uint64(sessions), Time: 30 * time.Second}); err == nil {
		end, err = in.call(order{Do: "stats"})
	}
	return float64(overloadRounds*dial.Count) / took.Seconds(), end, err
}

// comeIn returns how long it took all to be let in.
func comeIn(ctx context.Context, dial order) (time.Duration, error) {
	client, err := startClient(ctx)
	if err != nil {
		return 0, err
	}
	defer client.close()
	if _, err := client.call(dial); err != nil {
		return 0, err
	}
	if _, err := client.call(order{Do: "live", Count: dial.Count, Time: time.Minute}); err != nil {
		return 0, err
	}
	end, err := client.call(order{Do: "stats"})
	if err == nil && end.Live < dial.Count {
		err = fmt.Errorf("%d of %d came in: %v", end.Live, dial.Count, end.Reasons)
	}
	return end.ConnectTime, err
}
