package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	hitBody  = `{"url":"https://blog.example/2017/cache-http","count":12345}`
	hitETag  = `"v1-12345"`
	hitConns = 64
)

// kind of hit: what is asked with, and answered.
type hitKind struct {
	name   string
	lines  string
	status int
	body   string
}

var hitKinds = []hitKind{
	{"200", "", http.StatusOK, hitBody},
	{"304", "If-None-Match: " + hitETag + "\r\n", http.StatusNotModified, ""},
}

// hitRun is a turn of a server.
type hitRun struct {
	requests float64 // a second
	cpu      float64 // seconds
	perCPU   float64 // requests a CPU second
	bytes    int     // of an answer
}

// measureHits has each server answer the same again and again, in turns.
func measureHits(ctx context.Context, r *run) error {
	fmt.Printf(`
### Hits: a body of %d bytes, %d connections kept, %v, median of %d turns

Equal: one core for the server, the other for wrk (1 thread); the upstream's answer, with an ETag and nothing on freshness; one URL,
kept before, checked before each turn; the upstream is not asked in it. Not equal: the head that each adds (bytes). nginx: one worker,
cache files in memory, no access log, no sendfile (nginx-files: with open_file_cache); Varnish: its defaults, malloc; the seed knows no
ETag and answers 200.

`, len(hitBody), hitConns, r.hits, r.rounds)
	wrk, err := installed("wrk")
	if err != nil {
		fmt.Println("Not measured:", err)
		return nil
	}
	servers := slices.DeleteFunc(slices.Clone(r.servers), func(s string) bool { return s == "nginx-lock" }) // the same on hits
	runs := map[string][]hitRun{}                                                                           // by server and kind
	failed := map[string]error{}
	for range r.rounds {
		for _, name := range servers {
			if failed[name] != nil {
				continue
			}
			if failed[name] = hitTurn(ctx, r, wrk, name, runs); ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	for i, kind := range hitKinds {
		if i > 0 {
			fmt.Println()
		}
		t := r.newTable("hits", ">= 1.3x nginx", "answer", "requests/s", "server CPU s", "requests a CPU s", "x nginx", "x nginx-files", "bytes")
		for _, name := range servers {
			m := medianHit(runs[name+" "+kind.name])
			if m.requests == 0 && failed[name] == nil {
				continue // the seed has no 304
			}
			cells := []string{kind.name, fmt.Sprintf("%.0f", m.requests), fmt.Sprintf("%.2f", m.cpu), fmt.Sprintf("%.0f", m.perCPU)}
			for _, base := range []string{"nginx", "nginx-files"} {
				ratio := ""
				if b := medianHit(runs[base+" "+kind.name]); b.perCPU > 0 {
					ratio = fmt.Sprintf("%.2f", m.perCPU/b.perCPU)
				}
				cells = append(cells, ratio)
			}
			t.row(name, append(cells, strconv.Itoa(m.bytes)), failed[name])
		}
	}
	return nil
}

// hitTurn starts a server, and measures each kind that it knows.
func hitTurn(ctx context.Context, r *run, wrk, name string, runs map[string][]hitRun) error {
	u, err := serveUpstream(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(hitBody)))
		w.Header().Set("ETag", hitETag)
		_, _ = w.Write([]byte(hitBody)) // a server that has gone
	})
	if err != nil {
		return err
	}
	defer u.close()
	s, err := r.start(ctx, name, setup{upstream: u.address, core: "0"})
	if err != nil {
		return err
	}
	defer s.stop()
	for _, kind := range hitKinds {
		if name == "seed" && kind.status == http.StatusNotModified {
			continue
		}
		bytes, err := kind.check(ctx, s)
		if err != nil {
			return err
		}
		if _, err := kind.load(ctx, wrk, s, r.warm); err != nil {
			return err
		}
		asked := u.requests.Load()
		m, err := kind.load(ctx, wrk, s, r.hits)
		if err != nil {
			return err
		}
		if now := u.requests.Load(); now != asked {
			return fmt.Errorf("%d requests came to the upstream meanwhile: not hits", now-asked)
		}
		m.bytes = bytes
		runs[name+" "+kind.name] = append(runs[name+" "+kind.name], m)
	}
	return nil
}

// check says how long the answer is, if it is the right one. The first may fill the cache.
func (k hitKind) check(ctx context.Context, s *server) (bytes int, err error) {
	c, err := dial(ctx, s.address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for range 2 {
		before := c.read
		a, err := c.get("/hit", k.lines)
		if err != nil {
			return 0, err
		}
		if a.status != k.status || a.body != k.body {
			return 0, fmt.Errorf("answered %d %q, not %d %q", a.status, a.body, k.status, k.body)
		}
		bytes = c.read - before
	}
	return bytes, nil
}

// load runs wrk on the second core.
func (k hitKind) load(ctx context.Context, wrk string, s *server, length time.Duration) (m hitRun, err error) {
	seconds := max(1, int(length.Round(time.Second)/time.Second)) // it takes whole ones
	args := []string{"-c", "1", wrk, "-t1", "-c" + strconv.Itoa(hitConns), "-d" + strconv.Itoa(seconds) + "s"}
	if k.lines != "" {
		args = append(args, "-H", strings.TrimSpace(k.lines))
	}
	before, err := s.cpu()
	if err != nil {
		return m, err
	}
	out, err := exec.CommandContext(ctx, "taskset", append(args, "http://"+s.address+"/hit")...).CombinedOutput()
	if err != nil {
		return m, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := s.cpu()
	if err != nil {
		return m, err
	}
	text := string(out)
	if strings.Contains(text, "Non-2xx") || strings.Contains(text, "Socket errors") {
		return m, fmt.Errorf("wrk: %s", text)
	}
	var answers float64
	for line := range strings.Lines(text) {
		if count, _, found := strings.Cut(line, " requests in "); found {
			if answers, err = strconv.ParseFloat(strings.TrimSpace(count), 64); err != nil {
				return m, err
			}
		}
		if rate, found := strings.CutPrefix(line, "Requests/sec:"); found {
			if m.requests, err = strconv.ParseFloat(strings.TrimSpace(rate), 64); err != nil {
				return m, err
			}
		}
	}
	m.cpu = (after - before).Seconds()
	if answers == 0 || m.cpu == 0 {
		return m, fmt.Errorf("wrk: no answers: %s", text)
	}
	m.perCPU = answers / m.cpu
	return m, nil
}

// medianHit takes the median of each figure.
func medianHit(runs []hitRun) (m hitRun) {
	var requests, cpu, perCPU []float64
	for _, run := range runs {
		requests, cpu, perCPU, m.bytes = append(requests, run.requests), append(cpu, run.cpu), append(perCPU, run.perCPU), run.bytes
	}
	m.requests, m.cpu, m.perCPU = quantile(requests, 0.5), quantile(cpu, 0.5), quantile(perCPU, 0.5)
	return m
}
