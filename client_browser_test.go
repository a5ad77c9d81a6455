//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// gate stands between the browser and the server as a bad proxy does, and
// serves the page that chappe.js is tried on. Each has an origin of its own,
// since browsers open six connections to one.
type gate struct {
	t    *testing.T
	in   *instance
	http *httptest.Server
	url  string

	mu       sync.Mutex
	tokens   func() string   // what /token answers
	rules    map[string]rule // by kind of request: ws, stream, poll, tickets
	once     []rule          // for the next requests, whatever their kind
	passages []*passage      // of all requests passed on, oldest first
	requests map[string]int  // by kind
}

// rule is what is done to a request. The zero rule passes it on.
type rule struct {
	answer  int           // the status given in the server's place; 200 with a page of HTML
	life    time.Duration // cut after
	holdAll bool          // pass nothing back
	hold    string        // pass nothing back after what contains this
	halve   bool          // pass half of the first chunk back, then cut
	twice   bool          // pass each chunk back twice
	delay   time.Duration // of each chunk
}

// newGate makes a gate; its server is given later, so that its origin can
// stand in the server's configuration.
func newGate(t *testing.T) *gate {
	g := &gate{t: t, rules: map[string]rule{}, requests: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:*")
		fmt.Fprint(w, `<!doctype html><title>chappe.js</title><script type="module" src="page.js"></script>`)
	})
	mux.HandleFunc("GET /strict", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'")
		fmt.Fprint(w, `<!doctype html><title>chappe.js</title><script type="module" src="page.js"></script>`)
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, pageScript)
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, g.tokens()) })
	mux.HandleFunc("GET /favicon.ico", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/below/", http.StripPrefix("/below", http.HandlerFunc(g.pass)))
	mux.HandleFunc("/", g.pass)
	g.http = httptest.NewServer(mux)
	g.url = g.http.URL
	t.Cleanup(func() {
		g.cut()
		g.http.Close()
	})
	return g
}

// pageScript is what the tests speak to: clients by name, and what came.
const pageScript = `
import { connect } from "/chappe.js";

window.clients = {};

// Loses what other tabs say while the page is deaf.
window.BroadcastChannel = class extends BroadcastChannel {
  set onmessage(f) { super.onmessage = (m) => window.deaf || f(m); }
};

function open(log, options) {
  log.options = options;
  log.handle = (options.connect ?? connect)({
    ...options,
    onEvent(event) {
      log.events.push(event);
      if (options.throws) throw new Error("a fault of the page's");
    },
    onState(state, info) {
      log.states.push({ state, at: performance.now(), ...info });
      if (state === "live") log.lives++;
    },
  });
}

window.follow = (name, options) => open((clients[name] = { events: [], states: [], lives: 0 }), options);

window.last = (name) => clients[name]?.states.at(-1) ?? {};

// Resolves to the number of times the client was live, when it is so on the
// transport. If it has gone to another, a new one goes on where it was.
window.ready = async (name, transport) => {
  const log = clients[name];
  for (;;) {
    const { state, transport: have } = last(name);
    if (state === "live" && have === transport) return log.lives;
    if (state === "live") {
      const after = log.handle.cursor;
      log.handle.close();
      open(log, { ...log.options, after });
    }
    await new Promise((done) => setTimeout(done, 10));
  }
};
window.loaded = true;
`

func (g *gate) pass(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	g.mu.Lock()
	g.requests[kind]++
	how := g.rules[kind]
	if len(g.once) > 0 && strings.HasPrefix(r.URL.Path, "/v1/") && how == (rule{}) {
		how, g.once = g.once[0], g.once[1:]
	}
	g.mu.Unlock()
	if how.answer != 0 {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Access-Control-Allow-Origin", "*") // a proxy on the same origin needs none
		w.WriteHeader(how.answer)
		fmt.Fprint(w, "<p>this is not the server")
		return
	}
	server, err := net.Dial("tcp", g.in.address)
	if err != nil {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	r.Close = r.Header.Get("Upgrade") == "" // one request a connection: its end is the answer's
	err = r.Write(server)
	browser, _, hijackErr := w.(http.Hijacker).Hijack()
	if err != nil || hijackErr != nil {
		server.Close()
		return
	}
	p := &passage{kind: kind, browser: browser, server: server, rule: how}
	g.mu.Lock()
	g.passages = append(g.passages, p)
	g.mu.Unlock()
	p.copy()
}

// passage is a request that was passed on, and the bytes of its answer.
type passage struct {
	kind            string
	browser, server net.Conn

	mu   sync.Mutex
	rule rule
	over bool
}

// copy passes bytes until one side ends, and returns when both have.
func (p *passage) copy() {
	if p.rule.life > 0 {
		defer time.AfterFunc(p.rule.life, p.cut).Stop()
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(p.server, p.browser) // ends with either
		p.cut()
	})
	chunk := make([]byte, 64<<10)
	for {
		n, err := p.server.Read(chunk)
		// Reconnecting within a second and not within ten: the test is short.
		back := bytes.Replace(chunk[:n], []byte(`"retry":[1000,10000]`), []byte(`"retry":[100,  1000]`), 1)
		if err != nil || !p.back(back) {
			break
		}
	}
	p.cut()
	up.Wait()
}

// back passes a chunk of the answer to the browser.
func (p *passage) back(chunk []byte) (goOn bool) {
	p.mu.Lock()
	how := p.rule
	if how.hold != "" && bytes.Contains(chunk, []byte(how.hold)) {
		p.rule.holdAll = true
	}
	p.mu.Unlock()
	if how.holdAll {
		return true
	}
	if how.halve {
		chunk = chunk[:len(chunk)/2]
	}
	if how.twice && bytes.Contains(chunk, []byte(`"specversion"`)) {
		chunk = bytes.Repeat(chunk, 2)
	}
	<-time.After(how.delay) // the fault itself: a slow link
	_, err := p.browser.Write(chunk)
	return err == nil && !how.halve
}

func (p *passage) cut() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.browser.Close()
	p.server.Close()
}

func (p *passage) become(how rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = how
}

func (p *passage) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// live is what passes now.
func (g *gate) live(kinds ...string) (now []*passage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.passages {
		if !p.ended() && (len(kinds) == 0 || slices.Contains(kinds, p.kind)) {
			now = append(now, p)
		}
	}
	return now
}

func (g *gate) cut() {
	for _, p := range g.live() {
		p.cut()
	}
}

// set gives the rule to all requests of these kinds from now on.
func (g *gate) set(how rule, kinds ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, kind := range kinds {
		g.rules[kind] = how
	}
}

// next gives the rules to the next requests.
func (g *gate) next(how ...rule) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.once = how
}

// count is how many requests came, of these kinds.
func (g *gate) count(kinds ...string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, kind := range kinds {
		n += g.requests[kind]
	}
	return n
}

var allKinds = []string{"ws", "stream", "poll", "tickets"}

// only blocks the other transports, as proxies do that know no Upgrade or
// wait for the end of an answer.
func (g *gate) only(transport string) {
	switch transport {
	case "websocket":
		g.set(rule{answer: 502}, "stream", "poll")
	case "sse":
		g.set(rule{answer: 502}, "ws", "poll")
	case "poll":
		g.set(rule{answer: 502}, "ws")
		g.set(rule{holdAll: true}, "stream")
	}
}

// gates are the gates' origins as the configuration lists them.
func gates(list ...*gate) string {
	var urls []string
	for _, g := range list {
		urls = append(urls, fmt.Sprintf("%q", g.url))
	}
	return "server: {allowed_origins: [" + strings.Join(urls, ", ") + "]}\n"
}

// newGates starts a server behind n gates, with a heartbeat each second.
func newGates(t *testing.T, n int, config string) []*gate {
	t.Helper()
	list := make([]*gate, n)
	for i := range list {
		list[i] = newGate(t)
	}
	in := newInstance(t, gates(list...)+config)
	for _, g := range list {
		g.in = in
	}
	return list
}

const (
	quick  = "limits: {heartbeat: 1s}\n"
	public = "topics: [{match: \"secret/**\"}, {match: \"pointer/**\", public: true, ephemeral: true}, {match: \"**\", public: true, keep: {events: 10000000}}]\n"
)

// tab is a page with chappe.js.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func()
}

// openTab opens the page at url in a new tab of the browser.
func openTab(t *testing.T, browser context.Context, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	p := &tab{t, ctx, cancel}
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	p.await("window.loaded")
	return p
}

// evaluate returns the script's value.
func evaluate[T any](p *tab, script string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", script, err, p.told())
	}
	return v
}

// run runs the script and leaves its value alone.
func (p *tab) run(script string, args ...any) {
	p.t.Helper()
	evaluate[bool](p, fmt.Sprintf("{"+script+"\n}; true", args...))
}

// await waits until the condition holds.
func (p *tab) await(condition string, args ...any) {
	p.t.Helper()
	condition = fmt.Sprintf(condition, args...)
	ctx, cancel := context.WithTimeout(p.ctx, 45*time.Second)
	defer cancel()
	script := fmt.Sprintf(`new Promise(done => {
		const look = () => (%s) ? done(true) : setTimeout(look, 20);
		look();
	})`, condition)
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("it never came that %s: %v\n%s", condition, err, p.told())
	}
}

// told is what the page's clients were told, for a failure's report.
func (p *tab) told() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 10*time.Second)
	defer cancel()
	script := `Object.entries(window.clients ?? {}).map(([name, log]) => name + ": " + log.events.length + " events; " +
		log.states.slice(-12).map((s) => JSON.stringify(s)).join(" ")).join("\n")`
	told, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	if err != nil {
		return err.Error()
	}
	return told
}

// follow makes a client of the name, with the options as JavaScript.
func (p *tab) follow(name, options string, args ...any) {
	p.t.Helper()
	p.run("follow(%q, %s)", name, fmt.Sprintf(options, args...))
}

// live waits until the client is, on the transport.
func (p *tab) live(name, transport string) {
	p.t.Helper()
	p.await(`last(%q).state === "live" && last(%[1]q).transport === %q`, name, transport)
}

// numbers are the events' data that the client got, when there are enough.
func (p *tab) numbers(name string, enough int) []int {
	p.t.Helper()
	p.await("clients[%q].events.length >= %d", name, enough)
	return evaluate[[]int](p, fmt.Sprintf("clients[%q].events.map((e) => e.data)", name))
}

// wantNumbers checks that the client got each event once, in order.
func (p *tab) wantNumbers(name string, from, to int) {
	p.t.Helper()
	want := []int{}
	for n := from; n <= to; n++ {
		want = append(want, n)
	}
	if diff := cmp.Diff(want, p.numbers(name, len(want))); diff != "" {
		p.t.Errorf("%s has not each event once and in order (-want +got):\n%s", name, diff)
	}
}

// states are the names of what the client was told, from the n-th on.
func (p *tab) states(name string, n int) []string {
	p.t.Helper()
	return evaluate[[]string](p, fmt.Sprintf("clients[%q].states.slice(%d).map((s) => s.state)", name, n))
}

// publisher publishes 1, 2, 3 ... to a topic, n in one request.
type publisher struct {
	in    *instance
	token string
	topic string
	last  int
}

func (s *publisher) publish(n int) {
	s.in.t.Helper()
	var batch []string
	for range n {
		s.last++
		batch = append(batch, fmt.Sprintf(`{"topic":%q,"data":%d}`, s.topic, s.last))
	}
	if _, err := s.in.publish(s.in.t.Context(), s.token, []byte("["+strings.Join(batch, ",")+"]")); err != nil {
		s.in.t.Error(err)
	}
}

// during publishes n events each pause, while f runs.
func (s *publisher) during(n int, pause time.Duration, f func()) {
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			s.publish(n)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	defer publishing.Wait()
	defer close(stop)
	f()
}

// command runs chappe beside the server and returns what it prints.
func (in *instance) command(args ...string) string {
	in.t.Helper()
	cmd := exec.Command(in.binary, args...)
	cmd.Dir = in.folder
	out, err := cmd.Output()
	if err != nil {
		in.t.Errorf("chappe %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

var transportNames = []string{"websocket", "sse", "poll"}

// Each transport does when the others are blocked: from the start and live,
// with a token, below a path, under a strict policy; the page's faults and
// strange characters stop nothing, and after close nothing comes.
func TestIntegrationClientTransports(t *testing.T) {
	list := newGates(t, 3, quick+public)
	in := list[0].in
	token := in.token()
	ctx, stop := browser(t)
	want := []any{"before", "one\u2028two\r\nthree: \"four\"", map[string]any{"five": 6.0}, nil}
	publish := func(topic string, data any) {
		text, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(`\u2028`), []byte("\u2028")) // as other encoders write it
		if _, err := in.publish(t.Context(), token, fmt.Appendf(nil, `{"topic":%q,"data":%s}`, topic, text)); err != nil {
			t.Fatal(err)
		}
	}
	for i, transport := range transportNames {
		list[i].only(transport)
		p := openTab(t, ctx, list[i].url+"/strict")
		topic := "secret/" + transport
		publish(topic, want[0])
		p.follow("whole", `{topics: ["secret/none", %q], token: %q, after: "start"}`, topic, token)
		p.follow("fails", `{topics: %q, token: %q, url: "/below", throws: true, share: false}`, topic, token)
		p.run(`import("/below/chappe.js").then(({ connect }) => follow("below", { topics: "%s", connect, share: false, getToken: async () => "%s" }))`, topic, token)
		p.await(`"below" in clients`)
		for _, name := range []string{"whole", "fails", "below"} {
			p.live(name, transport)
		}
		for _, data := range want[1:] {
			publish(topic, data)
		}
		for name, want := range map[string][]any{"whole": want, "fails": want[1:], "below": want[1:]} {
			p.await("clients[%q].events.length >= %d", name, len(want))
			got := evaluate[[]any](p, fmt.Sprintf("clients[%q].events.map((e) => e.data ?? null)", name))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s by %s (-want +got):\n%s", name, transport, diff)
			}
		}
		if n := evaluate[int](p, `clients.fails.lives`); n != 1 {
			t.Errorf("%s: the page's faults made %d sessions of one", transport, n)
		}
		if same := evaluate[bool](p, `clients.whole.handle.cursor === clients.below.handle.cursor && clients.whole.handle.state === "live"`); !same {
			t.Errorf("%s: the cursors differ, or the state is not live", transport)
		}

		p.run(`for (const log of Object.values(clients)) log.handle.close()`)
		publish(topic, "after")
		await(t, "the connections' end", func() bool { return len(list[i].live()) == 0 })
		if n := evaluate[int](p, `clients.whole.events.length`); n != len(want) || p.states("whole", 2)[0] != "closed" {
			t.Errorf("%s: after close there are %d events and the states %v", transport, n, p.states("whole", 0))
		}
	}
	for _, text := range stop() {
		t.Errorf("the browser complains: %s", text)
	}
}

// await waits until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if condition() {
			return
		}
	}
	t.Fatalf("%s never came", what)
}

// Ten clients, on all transports, suffer 200 faults while events are
// published: none is lost or doubled.
func TestIntegrationClientFaults(t *testing.T) {
	const faults = 20 // of each client
	began := time.Now()
	wanted := map[int]string{0: "websocket", 1: "websocket", 2: "websocket", 3: "websocket", 4: "sse", 5: "sse", 6: "sse", 7: "poll", 8: "poll", 9: "poll"}
	list := newGates(t, len(wanted), quick+public)
	ctx, _ := browser(t)
	p := openTab(t, ctx, list[0].url+"/page")
	s := &publisher{in: list[0].in, token: list[0].in.token(), topic: "load/a"}
	for i, g := range list {
		p.follow(fmt.Sprint(i), `{topics: "load/*", url: %q, share: false}`, g.url)
		p.live(fmt.Sprint(i), "websocket")
		switch wanted[i] { // a transport that fails may go down to the next
		case "sse":
			g.set(rule{answer: 502}, "ws")
		case "poll":
			g.only("poll")
		}
		g.cut()
	}
	var mu sync.Mutex
	counts := map[string]int{}
	s.during(1, 40*time.Millisecond, func() {
		var suffering sync.WaitGroup
		for i, g := range list {
			suffering.Go(func() {
				random := rand.New(rand.NewPCG(7, uint64(i)))
				for n := range faults {
					if n == 0 { // what was live at first is not what is tried
						p.live(fmt.Sprint(i), wanted[i])
					}
					lives := evaluate[int](p, fmt.Sprintf(`ready("%d", %q)`, i, wanted[i]))
					kind := g.spoil(wanted[i], n+random.IntN(2))
					p.await(`clients[%d].lives > %d`, i, lives)
					mu.Lock()
					counts[wanted[i]+" "+kind]++
					mu.Unlock()
				}
			})
		}
		suffering.Wait()
	})
	for i := range list {
		p.wantNumbers(fmt.Sprint(i), 1, s.last)
	}
	if t.Failed() {
		return
	}
	total, requests := 0, 0
	for _, n := range counts {
		total += n
	}
	for _, g := range list {
		requests += g.count(allKinds...)
	}
	t.Logf("%d faults, %d events to %d clients, 0 lost, 0 doubled, %d requests, in %v\n%v", total, s.last, len(list), requests, time.Since(began).Round(time.Second), counts)
}

// spoil does the n-th kind of harm to the gate's client, which must connect
// anew after it, and says what.
func (g *gate) spoil(transport string, n int) string {
	kinds := []string{"cut", "half a chunk", "502 for a while", "slow afterwards", "silence"}
	kind := kinds[n%len(kinds)]
	if transport == "poll" {
		switch kind { // to the next one, since this one may be over by now
		case "cut":
			g.next(rule{holdAll: true, life: time.Nanosecond}) // before anything is passed back
		case "half a chunk":
			g.next(rule{halve: true})
		case "502 for a while":
			g.next(rule{answer: 502}, rule{answer: 502})
		case "slow afterwards":
			g.next(rule{halve: true}, rule{delay: 200 * time.Millisecond})
		case "silence": // dead only after 35 s
			g.next(rule{holdAll: true, life: time.Second})
		}
		return kind
	}
	now := g.live("ws", "stream")
	for _, p := range now {
		switch kind {
		case "half a chunk":
			p.become(rule{halve: true})
		case "silence":
			p.become(rule{holdAll: true})
		default:
			p.cut()
		}
	}
	switch kind {
	case "502 for a while":
		g.next(rule{answer: 502}, rule{answer: 502})
	case "slow afterwards":
		g.next(rule{delay: 100 * time.Millisecond})
	}
	return kind
}

// A client ends on the transport that the proxy lets live, and comes back
// from an outage.
func TestIntegrationClientProxies(t *testing.T) {
	list := newGates(t, 6, quick+public)
	ctx, _ := browser(t)
	p := openTab(t, ctx, list[0].url+"/page")
	s := &publisher{in: list[0].in, token: list[0].in.token(), topic: "load/a"}
	list[0].set(rule{life: 2 * time.Second}, "ws")
	list[1].set(rule{answer: 502}, "ws")
	list[1].set(rule{hold: `"hello"`}, "stream")
	list[2].set(rule{answer: 502}, "ws")
	list[2].set(rule{holdAll: true}, "stream")
	list[3].set(rule{answer: 502}, allKinds...)
	list[4].set(rule{answer: 502}, "ws", "poll")
	list[4].set(rule{life: time.Second}, "stream")
	list[5].set(rule{twice: true}, "ws")
	names := []string{"kills WebSockets", "buffers streams in mid-life", "buffers streams", "is out of order", "lets nothing else live", "repeats itself"}
	for i, name := range names {
		p.follow(name, `{topics: "load/*", url: %q, share: false}`, list[i].url)
	}
	p.await(`last(%q).state === "waiting" && last(%[1]q).code === "http-502"`, names[3])
	list[3].set(rule{}, allKinds...)
	for i, transport := range map[int]string{1: "sse", 2: "poll", 3: "websocket", 4: "sse", 5: "websocket"} { // all begin from now
		p.live(names[i], transport)
	}
	s.during(1, 50*time.Millisecond, func() {
		p.live(names[0], "sse")
		p.live(names[1], "poll")
		p.await("clients[%q].lives >= 4", names[4])
		list[0].set(rule{answer: 502}, allKinds...)
		list[0].cut()
		p.await(`last(%q).code === "http-502"`, names[0])
		list[0].set(rule{}, allKinds...)
		p.live(names[0], "sse") // WebSocket is not tried for five minutes
	})
	list[4].set(rule{}, "stream")
	for _, name := range names[1:] {
		p.wantNumbers(name, 1, s.last)
	}
	if n := list[0].count("ws"); n != 2 {
		t.Errorf("WebSocket was tried %d times where it lasts two seconds, want 2", n)
	}
	if n := list[2].count("stream"); n != 1 {
		t.Errorf("SSE was tried %d times where it is buffered, want once", n)
	}
}

// A token that ends is replaced without loss; where there is no other, or
// none would do, the client says so and stops.
func TestIntegrationClientTokens(t *testing.T) {
	list := newGates(t, 2, quick+public)
	in := list[0].in
	list[1].only("sse")
	ctx, _ := browser(t)
	s := &publisher{in: in, token: in.token(), topic: "secret/a"}
	list[0].tokens = func() string {
		return in.command("token", "subscriber", "--sub", "alice", "--topics", "secret/**", "--ttl", "2s")
	}
	p := openTab(t, ctx, list[0].url+"/page")
	fresh := `{topics: "secret/**", share: false, url: %q, getToken() { window.asked = (window.asked ?? 0) + 1; return fetch("/token").then((r) => r.text()); }}`
	p.follow("websocket", fresh, list[0].url)
	p.follow("sse", fresh, list[1].url)
	p.follow("static", `{topics: "secret/**", share: false, token: %q}`, in.command("token", "api", "--scopes", "read", "--ttl", "2s"))
	for name, transport := range map[string]string{"websocket": "websocket", "sse": "sse", "static": "websocket"} {
		p.live(name, transport)
	}
	p.follow("nobody", `{topics: "secret/**", share: false}`)
	p.follow("wrong", `{topics: "secret/**", share: false, getToken: () => "wrong"}`)
	p.follow("moody", `{topics: "secret/**", share: false, getToken() {
		if (window.moody) return %q;
		window.moody = true;
		throw new Error("not yet");
	}}`, s.token)
	p.follow("bad", `{topics: "a/**/b", share: false}`)
	p.follow("other", `{topics: "other/**", share: false, token: %q}`, in.command("token", "subscriber", "--sub", "bob", "--topics", "secret/**"))
	p.live("other", "websocket") // what is public is so with any token
	p.live("moody", "websocket")
	p.await(`clients.moody.states.some((s) => s.state === "waiting" && s.detail.includes("not yet"))`)
	s.during(1, 50*time.Millisecond, func() {
		for _, name := range []string{"websocket", "sse"} {
			p.await("clients[%q].lives >= 4", name)
		}
		in.kill() // forgets the tickets
		in.start()
		for _, name := range []string{"websocket", "sse"} {
			p.await("clients[%q].lives >= 5", name)
			p.live(name, name)
		}
	})
	p.wantNumbers("websocket", 1, s.last)
	p.wantNumbers("sse", 1, s.last)
	if asked := evaluate[int](p, "asked"); asked < 8 {
		t.Errorf("%d tokens were asked for, want one after each end", asked)
	}
	for name, code := range map[string]string{"static": "token-expired", "nobody": "token-missing", "wrong": "token-invalid", "bad": "bad-pattern"} {
		p.await(`last(%q).state === "refused"`, name)
		got := evaluate[[]string](p, fmt.Sprintf(`[last(%q).code, last(%[1]q).detail]`, name))
		if got[0] != code || got[1] == "" {
			t.Errorf("%s is refused by %q, want the code %s and a sentence", name, got, code)
		}
	}
}

// Tabs share one connection; each gets every event once, also when it has
// missed some, and when the tab that has the connection is closed.
func TestIntegrationClientTabs(t *testing.T) {
	g := newGates(t, 1, quick+public)[0]
	ctx, _ := browser(t)
	s := &publisher{in: g.in, token: g.in.token(), topic: "load/a"}
	var tabs []*tab
	for range 3 {
		p := openTab(t, ctx, g.url+"/page")
		p.follow("a", `{topics: ["load/*", "pointer/x"]}`)
		p.live("a", "websocket")
		tabs = append(tabs, p)
	}
	first, second, third := tabs[0], tabs[1], tabs[2]
	if n := g.count("ws"); n != 1 {
		t.Errorf("three tabs made %d connections, want 1", n)
	}
	s.publish(5)
	for _, p := range tabs {
		p.wantNumbers("a", 1, 5)
	}
	if n := g.count("poll"); n != 0 {
		t.Errorf("%d polls were made while nothing was missed", n)
	}

	second.run("window.deaf = true")
	s.publish(300) // more than a page
	first.wantNumbers("a", 1, 305)
	second.run("window.deaf = false")
	s.publish(1)
	for _, p := range tabs {
		p.wantNumbers("a", 1, 306)
	}
	if n := g.count("poll"); n < 2 {
		t.Errorf("%d polls were made for the missed events, want 2 or more", n)
	}

	// The next to lead is far behind the last, who needs nothing from it.
	second.run("window.deaf = true")
	s.publish(750)
	s.publish(750)
	third.wantNumbers("a", 1, 1806)
	g.set(rule{delay: 100 * time.Millisecond}, "ws")
	s.during(1, 10*time.Millisecond, func() {
		first.close()
		await(t, "the next tab's connection", func() bool { return g.count("ws") == 2 && len(g.live("ws")) == 1 })
		second.run("window.deaf = false")
		third.numbers("a", 2200)
	})
	second.wantNumbers("a", 1, s.last)
	third.wantNumbers("a", 1, s.last)

	if _, err := s.in.publish(t.Context(), s.token, []byte(`{"topic":"pointer/x","data":0}`)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*tab{second, third} {
		p.await(`clients.a.events.at(-1).topic === "pointer/x"`)
		p.run(`clients.a.events.pop()`)
	}

	g.cut() // the state and the way back are shared, too
	for _, p := range []*tab{second, third} {
		p.await(`clients.a.states.slice(1).some((s) => s.state === "waiting")`)
		p.live("a", "websocket")
	}
	third.run("clients.a.handle.close()")
	second.run("clients.a.handle.close()")
	await(t, "the connection's end", func() bool { return len(g.live()) == 0 })

	// A page that may not lock has a connection of its own.
	for _, p := range []*tab{second, third} {
		p.run(`navigator.locks.request = () => Promise.reject(new DOMException("not here", "SecurityError"))`)
		p.follow("alone", `{topics: "load/*"}`)
		p.live("alone", "websocket")
	}
	s.publish(1)
	for _, p := range []*tab{second, third} {
		p.wantNumbers("alone", s.last, s.last)
	}
	if n := len(g.live("ws")); n != 2 {
		t.Errorf("two tabs without locks have %d connections, want 2", n)
	}
}

// A tab that leads and is frozen is relieved by one that is looked at.
func TestIntegrationClientFrozenTab(t *testing.T) {
	g := newGates(t, 1, quick+public)[0]
	ctx, _ := browser(t)
	s := &publisher{in: g.in, token: g.in.token(), topic: "load/a"}
	first := openTab(t, ctx, g.url+"/page")
	first.follow("a", `{topics: "load/*"}`)
	first.live("a", "websocket")
	second := openTab(t, ctx, g.url+"/page")
	second.follow("a", `{topics: "load/*"}`)
	second.live("a", "websocket")
	s.publish(1)
	second.wantNumbers("a", 1, 1)
	lifecycle(first, page.SetWebLifecycleStateStateFrozen)
	s.during(1, 50*time.Millisecond, func() {
		second.numbers("a", 50)
		await(t, "a connection of the second tab's", func() bool { return g.count("ws") == 2 })
		lifecycle(first, page.SetWebLifecycleStateStateActive)
		first.numbers("a", 60)
	})
	first.wantNumbers("a", 1, s.last)
	second.wantNumbers("a", 1, s.last)
	await(t, "one connection", func() bool { return len(g.live("ws")) == 1 })
}

func lifecycle(p *tab, state page.SetWebLifecycleStateState) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
	if err != nil {
		p.t.Fatal(err)
	}
}

// Nobody looks, the machine sleeps, or there is no network: the client waits,
// and is back at once when that ends.
func TestIntegrationClientAttention(t *testing.T) {
	g := newGates(t, 1, quick+public)[0]
	ctx, _ := browser(t)
	s := &publisher{in: g.in, token: g.in.token(), topic: "load/a"}
	p := openTab(t, ctx, g.url+"/page")
	p.run(`
		Object.defineProperty(document, "hidden", { get: () => window.nobodyLooks === true });
		Object.defineProperty(navigator, "onLine", { get: () => window.noNetwork !== true });
		window.become = (event, changes) => {
			Object.assign(window, changes);
			window.since = performance.now();
			(event === "online" ? window : document).dispatchEvent(new Event(event));
		};`)
	p.follow("a", `{topics: "load/*", share: false}`)
	p.live("a", "websocket")

	p.run(`become("visibilitychange", { nobodyLooks: true })`)
	before := g.count(allKinds...)
	g.set(rule{answer: 502}, allKinds...)
	g.cut()
	p.await(`last("a").retryIn >= 60000`)
	if n := g.count(allKinds...) - before; n != 1 {
		t.Errorf("a hidden page made %d requests before it waits a minute, want 1", n)
	}
	if diff := cmp.Diff([]string{"connecting", "live", "waiting", "connecting", "waiting"}, p.states("a", 0)); diff != "" {
		t.Errorf("states of a hidden page (-want +got):\n%s", diff)
	}
	g.set(rule{}, allKinds...)
	s.publish(1)
	p.run(`become("visibilitychange", { nobodyLooks: false })`)
	p.live("a", "websocket")
	p.wantAtOnce(4)

	old := g.live("ws")
	asleep := len(p.states("a", 0))
	for _, passage := range old {
		passage.become(rule{holdAll: true})
	}
	s.publish(1)
	p.run(`const now = Date.now; Date.now = () => now() + 600000; become("visibilitychange")`)
	p.wantNumbers("a", 1, 2)
	if diff := cmp.Diff([]string{"connecting", "live"}, p.states("a", asleep)); diff != "" {
		t.Errorf("states after a sleep (-want +got):\n%s", diff)
	}
	p.wantAtOnce(asleep - 1)

	p.run(`become("offline", { noNetwork: true })`)
	before = g.count(allKinds...)
	g.cut()
	p.await(`last("a").retryIn >= 60000`)
	if n := g.count(allKinds...) - before; n != 0 {
		t.Errorf("%d requests were made without a network", n)
	}
	offline := len(p.states("a", 0))
	s.publish(1)
	p.run(`become("online", { noNetwork: false })`)
	p.wantNumbers("a", 1, 3)
	p.wantAtOnce(offline - 1)
}

// A hidden tab that leads does not make a visible one wait.
func TestIntegrationClientHiddenLeader(t *testing.T) {
	g := newGates(t, 1, quick+public)[0]
	ctx, _ := browser(t)
	s := &publisher{in: g.in, token: g.in.token(), topic: "load/a"}
	leader := openTab(t, ctx, g.url+"/page")
	leader.run(`Object.defineProperty(document, "hidden", { get: () => true })`)
	leader.follow("a", `{topics: "load/*"}`)
	leader.live("a", "websocket")
	visible := openTab(t, ctx, g.url+"/page")
	visible.follow("a", `{topics: "load/*"}`)
	visible.live("a", "websocket")
	g.set(rule{answer: 502}, allKinds...)
	g.cut()
	visible.await(`clients.a.states.filter((s) => s.state === "waiting" && s.retryIn < 60000).length >= 4`)
	g.set(rule{}, allKinds...)
	s.publish(1)
	visible.wantNumbers("a", 1, 1)
	leader.wantNumbers("a", 1, 1)
}

// wantAtOnce checks that the state after the n-th came right after the page
// became something.
func (p *tab) wantAtOnce(n int) {
	p.t.Helper()
	p.await("clients.a.states.length > %d", n+1)
	if ms := evaluate[float64](p, fmt.Sprintf("clients.a.states[%d].at - since", n+1)); ms > 5000 { // of the minute
		p.t.Errorf("the client waited %v ms", ms)
	}
}

// A position that is gone is said once, on each transport, and events go on.
func TestIntegrationClientReset(t *testing.T) {
	list := newGates(t, 3, quick+public)
	ctx, _ := browser(t)
	s := &publisher{in: list[0].in, token: list[0].in.token(), topic: "load/a"}
	p := openTab(t, ctx, list[0].url+"/page")
	for i, transport := range transportNames {
		list[i].only(transport)
		p.follow(transport, `{topics: "load/*", url: %q, after: "zzzz.1"}`, list[i].url)
	}
	for _, transport := range transportNames {
		p.await(`last(%q).reset === true && last(%[1]q).transport === %[1]q`, transport)
	}
	s.publish(3)
	for _, transport := range transportNames {
		p.wantNumbers(transport, 1, 3)
		if n := evaluate[int](p, fmt.Sprintf(`clients[%q].states.filter((s) => s.reset).length`, transport)); n != 1 {
			t.Errorf("%s: the reset was said %d times, want once", transport, n)
		}
	}
}

// A server that is full, or stops, says when to come back, and is obeyed
// without trying the other transports.
func TestIntegrationClientTurnedAway(t *testing.T) {
	list := newGates(t, 2, "limits: {heartbeat: 1s, connections: 1}\n"+public)
	in := list[0].in
	list[1].only("sse")
	ctx, _ := browser(t)
	p := openTab(t, ctx, list[0].url+"/page")
	p.follow("first", `{topics: "load/*", share: false}`)
	p.live("first", "websocket")
	for i, name := range []string{"websocket", "sse"} {
		p.follow(name, `{topics: "load/*", url: %q, share: false}`, list[i].url)
		p.await(`last(%q).code === "too-many-sessions"`, name)
		ms := evaluate[int](p, fmt.Sprintf(`clients[%q].states.find((s) => s.state === "waiting").retryIn`, name))
		if ms < 1000 || ms > 10_000 {
			t.Errorf("%s comes back after %d ms, want the server's 1 to 10 s", name, ms)
		}
	}
	if n := list[0].count("stream", "poll") + list[1].count("poll"); n != 0 {
		t.Errorf("%d requests were made by other transports", n)
	}
	p.run("clients.websocket.handle.close(); clients.sse.handle.close()")
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.await(`last("first").code === "drain" && last("first").retryIn >= 1000 && last("first").retryIn <= 10000`)
	_ = in.cmd.Wait() // by the signal
	in.start()
	s := &publisher{in: in, token: in.token(), topic: "load/a"}
	s.publish(1)
	p.wantNumbers("first", 1, 1)
}
