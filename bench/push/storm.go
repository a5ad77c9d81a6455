package main

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

const stormTopic = "kept/storm"

// scene is a server with subscribers of a kept topic, which is published to in
// numbers that begin with 1.
type scene struct {
	home      *home
	server    *server
	client    *remote
	published uint64
}

func (r *run) newScene(ctx context.Context, name string, o order) (sc *scene, err error) {
	sc = &scene{}
	if sc.home, err = newHome(ctx, r, name, r.sessions); err != nil {
		return nil, err
	}
	if sc.server, err = sc.home.start(ctx, "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if sc.client, err = startClient(ctx); err != nil {
		sc.close()
		return nil, err
	}
	o.Target, o.Count, o.Topic, o.Greeted, o.Time = sc.server.address, r.sessions, stormTopic, true, 3*time.Minute
	if _, err = sc.client.dial(o); err == nil {
		err = sc.publish(ctx, 3)
	}
	if err == nil {
		_, err = sc.client.call(order{Do: "received", Messages: 3 * uint64(r.sessions), Time: time.Minute})
	}
	if err == nil {
		_, err = sc.client.call(order{Do: "mark"})
	}
	if err != nil {
		sc.close()
		return nil, err
	}
	return sc, nil
}

func (sc *scene) close() {
	sc.server.kill()
	if sc.client != nil {
		sc.client.close()
	}
}

// publish goes on with so many numbers. One that fails is tried again; its id
// has it stored once.
func (sc *scene) publish(ctx context.Context, n int) error {
	for range n {
		var err error
		for range 20 {
			if err = sc.server.publish(ctx, stormTopic, fmt.Sprint("storm-", sc.published+1), swarm.Payload(sc.published+1, time.Now(), dataBytes)); err == nil {
				break
			}
			if err := pause(ctx, 500*time.Millisecond); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		sc.published++
	}
	return nil
}

// restart starts a server where the last one was.
func (sc *scene) restart(ctx context.Context) error {
	sc.server.client.CloseIdleConnections()
	s, err := sc.home.start(ctx, sc.server.address.String())
	if err == nil {
		sc.server = s
	}
	return err
}

// back waits until all are live again, while an event is published each half
// second, then publishes a last one, gives it time to come, and reports.
func (sc *scene) back(ctx context.Context, r *run, bound time.Duration) (report, error) {
	publishing, stop := context.WithCancel(ctx)
	var publisher sync.WaitGroup
	var failed error
	publisher.Go(func() { // until stop
		for pause(publishing, 500*time.Millisecond) == nil {
			if failed = sc.publish(ctx, 1); failed != nil {
				return
			}
		}
	})
	_, _ = sc.client.call(order{Do: "live", Count: r.sessions, Time: bound}) // what is missing then is reported
	stop()
	publisher.Wait()
	if failed != nil {
		return report{}, failed
	}
	if err := sc.publish(ctx, 1); err != nil {
		return report{}, err
	}
	if err := pause(ctx, r.settle); err != nil {
		return report{}, err
	}
	return sc.client.call(order{Do: "stats"})
}

// measureStorm kills the server under its subscribers and starts it again.
func measureStorm(ctx context.Context, r *run) error {
	fmt.Printf("\n### Storm: %d subscribers of a kept topic, kill -9, started again at once\n\n", r.sessions)
	fmt.Println("An event each half second meanwhile. Naive clients do not resume, so what they miss is theirs. All give an attempt up after 6 s.")
	fmt.Println("\n| clients | back | of them half in | all in | attempts each | most attempts | missed | doubled | behind at the end | goal |\n|---|---|---|---|---|---|---|---|---|---|")
	for _, row := range []struct {
		name, goal string
		order      order
	}{
		{"chappe.js", "all in <= 20 s, <= 1.5 attempts, 0 missed, 0 doubled", order{Policy: swarm.Chappe}},
		{"naive, jitter over 10 s", "all in <= 60 s", order{Policy: swarm.Naive, Jitter: 10 * time.Second}},
		{"naive, each second", "all in <= 60 s", order{Policy: swarm.Naive, Delay: time.Second}},
		{"naive, at once", "all in <= 60 s", order{Policy: swarm.Naive}},
	} {
		if r.smoke && row.order.Delay == 0 {
			continue // it takes its jitter's time; drain has chappe.js come back
		}
		end, err := r.storm(ctx, "storm-"+row.name, row.order)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Printf("| %s | %d | %v | **%v** | **%.2f** | %d | %d | %d | %d | %s |\n", row.name, end.Live,
			end.BackP50.Round(100*time.Millisecond), end.BackMax.Round(100*time.Millisecond),
			float64(end.Attempts)/float64(r.sessions), end.MostAttempts, end.Missed, end.Doubled, end.Behind, row.goal)
	}
	return nil
}

func (r *run) storm(ctx context.Context, name string, o order) (report, error) {
	sc, err := r.newScene(ctx, name, o)
	if err != nil {
		return report{}, err
	}
	defer func() { sc.close() }()
	sc.server.kill()
	if err := sc.restart(ctx); err != nil {
		return report{}, err
	}
	return sc.back(ctx, r, 90*time.Second)
}

// measureStop stops the server's process for a time and lets it go on: it may
// not take its own absence for the subscribers'.
func measureStop(ctx context.Context, r *run) error {
	sc, err := r.newScene(ctx, "stop", order{})
	if err != nil {
		return err
	}
	defer sc.close()
	if err := sc.server.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	waited := pause(ctx, r.stopped)
	if err := sc.server.signal(syscall.SIGCONT); err != nil {
		return err
	}
	if waited != nil {
		return waited
	}
	if err := pause(ctx, r.heartbeat*2/3); err != nil { // for the server to look at each
		return err
	}
	if err := sc.publish(ctx, 1); err != nil {
		return err
	}
	if err := pause(ctx, r.settle); err != nil {
		return err
	}
	end, err := sc.client.call(order{Do: "stats"})
	if err != nil {
		return err
	}
	fmt.Printf("\n### SIGSTOP for %v, then SIGCONT: %d sessions, heartbeat %v\n\n", r.stopped, r.sessions, r.heartbeat)
	fmt.Printf("Closed by the server: **%d = %.2f %%** (goal: <= 1 %%), %v; %d received the event after it.\n",
		end.Ended, 100*float64(end.Ended)/float64(r.sessions), end.Reasons, end.Received)
	return nil
}

// measureDrain ends the server as an operator does, and starts it again.
func measureDrain(ctx context.Context, r *run) error {
	sc, err := r.newScene(ctx, "drain", order{Policy: swarm.Chappe})
	if err != nil {
		return err
	}
	defer func() { sc.close() }()
	began := time.Now()
	if err := sc.server.signal(syscall.SIGTERM); err != nil {
		return err
	}
	late := time.AfterFunc(time.Minute, func() { _ = sc.server.cmd.Process.Kill() })
	failed := sc.server.cmd.Wait()
	late.Stop()
	took := time.Since(began)
	if err := sc.restart(ctx); err != nil {
		return err
	}
	end, err := sc.back(ctx, r, 90*time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("\n### Drain: SIGTERM with %d sessions, started again when it had ended\n\n", r.sessions)
	fmt.Printf("Ended after %v (%v); most closes in one second **%d** (goal: <= 1,000/s); %d live again after %v, %.2f attempts each;\n",
		took.Round(10*time.Millisecond), exitWord(failed), end.EndsPerSecond, end.Live, end.BackMax.Round(100*time.Millisecond), float64(end.Attempts)/float64(r.sessions))
	fmt.Printf("missed **%d**, doubled **%d**, behind at the end %d, cursors gone %d (goal: nothing lost on resume). Ends: %v.\n", end.Missed, end.Doubled, end.Behind, end.Resets, end.Reasons)
	return nil
}

func exitWord(err error) string {
	if err == nil {
		return "exit 0"
	}
	return err.Error()
}
