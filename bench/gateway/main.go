// Command gateway measures the HTTP cache: chappe serve with a route, beside
// nginx, Varnish and the program of the article that asked for it, one after
// the other in one run. -only says which parts; all run without it.
//
// The driver is also the upstream that the servers ask. wrk loads hits; the
// rest is loaded by this binary in a process of its own (-client).
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
	only, servers []string
	rounds        int
	hits, warm    time.Duration
	waiters       int
	gets          int
	over          time.Duration
	order         string
	urls          int
	entries       int
	others        int
	changes       int

	binary string // of ours
	dir    string // on disk, for what ours keeps
	memory string // a tmpfs, for what the peers keep; dir where there is none
	failed []string
}

// partTime is the most that a part may take.
const partTime = 15 * time.Minute

// part is a section of the results.
type part struct {
	name string
	does func(context.Context, *run) error
}

// parts in the order of the results.
func parts() []part {
	return []part{
		{"hits", measureHits},
		{"stampede", measureStampede},
		{"article", measureArticle},
		{"flood", measureFlood},
		{"purge", measurePurge},
		{"event", measureEvent},
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
	r := run{}
	flag.IntVar(&r.rounds, "rounds", 3, "turns of each server in hits, stampede and purge; medians are told")
	flag.DurationVar(&r.hits, "hits", 10*time.Second, "how long hits are asked for in a turn")
	flag.DurationVar(&r.warm, "warm", 2*time.Second, "the same before it is measured")
	flag.IntVar(&r.waiters, "waiters", 1000, "who ask for the same at once")
	flag.IntVar(&r.gets, "gets", 14_664, "requests of the article's load")
	flag.DurationVar(&r.over, "over", time.Minute, "the time over which they are spread")
	flag.StringVar(&r.order, "order", "zipf", "which of the article's URLs is asked for: zipf, uniform, or turns")
	flag.IntVar(&r.urls, "urls", 1_000_000, "URLs of the flood")
	flag.IntVar(&r.entries, "entries", 10_000, "entries to purge")
	flag.IntVar(&r.others, "others", 1000, "entries to keep")
	flag.IntVar(&r.changes, "changes", 200, "changes to tell of")
	servers := flag.String("servers", "nginx,nginx-files,nginx-lock,varnish,seed,chappe", "which to measure, separated by commas")
	flag.StringVar(&r.binary, "binary", "", "measure this chappe; made from .. when not given")
	only := flag.String("only", "", "the parts to run, separated by commas")
	smoke := flag.Bool("smoke", false, "run all parts small, to see that they work")
	seed := flag.String("seed", "", "be the article's program before this upstream, for the driver")
	client := flag.String("client", "", "do this as a client process, for the driver")
	flag.Parse()
	if *seed != "" {
		return serveSeed(ctx, *seed, flag.Arg(0))
	}
	if *client != "" {
		return serveOrder(ctx, *client)
	}
	if *smoke {
		r.small()
	}
	r.only, r.servers = fields(*only), fields(*servers)
	return r.all(ctx)
}

func (r *run) small() {
	r.rounds, r.hits, r.warm, r.waiters = 1, time.Second, 200*time.Millisecond, 100
	r.gets, r.over, r.urls = 733, 3*time.Second, 20_000
	r.entries, r.others, r.changes = 1000, 100, 10
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
}

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
	if r.memory, err = os.MkdirTemp("/dev/shm", "chappe-bench-"); err != nil {
		fmt.Fprintln(os.Stderr, "the peers' caches are on disk:", err)
		r.memory = r.dir
	}
	defer os.RemoveAll(r.memory)
	switch {
	case r.binary != "":
		r.binary, err = filepath.Abs(r.binary)
	case slices.Contains(r.servers, "chappe"):
		r.binary, err = serverproc.Build(r.dir)
	}
	if err != nil {
		return err
	}
	for _, p := range parts() {
		if len(r.only) > 0 && !slices.Contains(r.only, p.name) {
			continue
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, partTime) // which ends what it has started
		err := p.does(bounded, r)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, time.Since(began).Round(time.Second))
	}
	if len(r.failed) > 0 {
		return fmt.Errorf("not all was measured:\n%s", strings.Join(r.failed, "\n"))
	}
	return nil
}
