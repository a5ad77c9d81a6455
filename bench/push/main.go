// Command push measures live delivery: chappe serve and WebSocket libraries
// in a server that does the same, in turns in one run, with the subscribers in
// another process (internal/swarm). -only says which parts; all but million run
// without it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/chappe/chappe/bench/serverproc"
)

// run is what all parts share.
type run struct {
	sessions   int
	rounds     int
	broadcasts int
	events     int
	servers    []string
	idle       time.Duration
	heartbeat  time.Duration
	stopped    time.Duration
	gateway    time.Duration
	processes  int
	each       int
	only       []string
	smoke      bool
	settle     time.Duration // after connecting, before memory is looked at

	binary, dir string
}

// partTime is the most that a part may take.
const partTime = 30 * time.Minute

// part is a section of the results.
type part struct {
	name  string
	does  func(context.Context, *run) error
	extra bool // not run unless it is named
}

// parts in the order of the results.
func parts() []part {
	return []part{
		{"idle", measureSessions, false}, // and fanout, which takes the same sessions
		{"fanout", measureSessions, false},
		{"latency", measureLatency, false},
		{"cost", measureIdleCost, false},
		{"gateway", measureGateway, false},
		{"storm", measureStorm, false},
		{"overload", measureOverload, false},
		{"stop", measureStop, false},
		{"drain", measureDrain, false},
		{"million", measureMillion, true},
	}
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := command(ctx); err != nil {
		log.Fatal(err)
	}
}

func command(ctx context.Context) error {
	r := run{settle: 2 * time.Second}
	flag.IntVar(&r.sessions, "n", 18_000, "sessions of a server")
	flag.IntVar(&r.rounds, "rounds", 1, "turns of each server; medians are told")
	flag.IntVar(&r.broadcasts, "broadcasts", 20, "messages to all")
	flag.IntVar(&r.events, "events", 2000, "events published one at a time")
	flag.DurationVar(&r.idle, "idle", 180*time.Second, "how long the cost of idle sessions is measured")
	flag.DurationVar(&r.heartbeat, "heartbeat", 45*time.Second, "limits.heartbeat of ours")
	flag.DurationVar(&r.stopped, "stopped", time.Minute, "how long the server is stopped")
	flag.DurationVar(&r.gateway, "gateway", 10*time.Second, "how long each server answers plain requests")
	flag.IntVar(&r.processes, "processes", 52, "servers, and clients, of the part million")
	flag.IntVar(&r.each, "each", 19_300, "sessions of each of them")
	servers := flag.String("servers", "gorilla,gorilla-tuned,coder,gws,gobwas-epoll,gorilla-tls,raw", "the peers of the parts idle and fanout, separated by commas")
	flag.StringVar(&r.binary, "binary", "", "measure this chappe; made from .. when not given")
	only := flag.String("only", "", "the parts to run, separated by commas")
	flag.BoolVar(&r.smoke, "smoke", false, "run all parts small, to see that they work")
	peerName := flag.String("peer", "", "be this peer, for the driver")
	client := flag.Bool("client", false, "be a client process, for the driver")
	flag.Parse()
	if *peerName != "" {
		return servePeer(*peerName)
	}
	if *client {
		return serveOrders(ctx)
	}
	if r.smoke {
		r.small()
	}
	r.only, r.servers = fields(*only), fields(*servers)
	return r.all(ctx)
}

func (r *run) small() {
	r.sessions, r.broadcasts, r.events = 500, 10, 100
	r.idle, r.heartbeat, r.stopped, r.gateway = time.Second, time.Second, time.Second, 500*time.Millisecond
	r.settle = 100 * time.Millisecond
	r.processes, r.each = 3, 500
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
}

func (r *run) wants(name string) bool { return len(r.only) == 0 || slices.Contains(r.only, name) }

func (r *run) all(ctx context.Context) (err error) {
	for _, name := range r.only {
		if !slices.ContainsFunc(parts(), func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %s", name)
		}
	}
	if r.dir, err = os.MkdirTemp("", "chappe-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	if r.binary == "" {
		r.binary, err = serverproc.Build(r.dir)
	} else {
		r.binary, err = filepath.Abs(r.binary)
	}
	if err != nil {
		return err
	}
	measured := false
	for _, p := range parts() {
		sessions := p.name == "idle" || p.name == "fanout"
		if !r.wants(p.name) || p.extra && len(r.only) == 0 && !r.smoke || sessions && measured {
			continue
		}
		measured = measured || sessions
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, partTime) // which kills what it has started
		err := p.does(bounded, r)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, time.Since(began).Round(time.Second))
	}
	return nil
}
