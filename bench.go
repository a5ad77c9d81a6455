package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/swarm"
)

const (
	// benchSources are where connections come from over IPv4, so few from one
	// address that the server's limit on one is not what is measured.
	benchSources   = "127.64.0.0/16"
	benchPerSource = 500

	benchDescriptors = 64 // that this process needs besides its connections

	benchLost     = 10 * time.Second // after which a message that has not come is lost
	benchEnvelope = 4 << 10          // bytes around an event's data, at the most
	answerWait    = 5 * time.Second  // for the server to say what it uses
)

// bench loads a server on this machine and reports what became of it.
func bench(ctx context.Context, p program, args []string) error {
	if len(args) == 0 {
		return usageError{"name what to load with: chappe bench connections, or chappe bench fanout"}
	}
	b := newLoad(p, args[0])
	switch args[0] {
	case "connections":
		hold := b.Duration("hold", 10*time.Second, "how long the connections are held once all are there")
		return b.start(ctx, p, args[1:], func(ctx context.Context) error { return b.connections(ctx, *hold) })
	case "fanout":
		messages := b.Int("messages", 20, "how many messages are published, each when the last has come to all")
		size := b.Int("size", 128, "bytes of each message's data")
		return b.start(ctx, p, args[1:], func(ctx context.Context) error { return b.fanout(ctx, *messages, *size) })
	case "-h", "-help", "--help":
		b.Usage()
		return nil
	}
	return usageError{fmt.Sprintf("there is no bench %q; there are connections and fanout", args[0])}
}

// load is a bench under way.
type load struct {
	clientFlags
	topic, transport *string
	count            *int
	rate             *float64
	asJSON           *bool

	client   *client
	header   func(i int) string // of connection i's request
	target   netip.AddrPort
	progress progress
	report   loadReport
}

// loadReport is what a bench found. What is not known is left out.
type loadReport struct {
	Bench     string         `json:"bench"`
	Server    string         `json:"server"`
	Transport string         `json:"transport"`
	Count     int            `json:"count"`
	Connected int            `json:"connected"`
	Refused   int            `json:"refused"`
	Ended     int            `json:"ended"`             // had been connected
	Reasons   map[string]int `json:"reasons,omitempty"` // of those refused and ended
	Attempts  uint64         `json:"attempts"`
	Connect   float64        `json:"connect_seconds"` // until the last was connected
	Fanout    *fanoutReport  `json:"fanout,omitempty"`
	ClientCPU float64        `json:"client_cpu_seconds"`

	// By the server's own metrics, for whose token has the scope admin.
	ServerUpgradeCPU *float64 `json:"server_cpu_seconds_per_10000_upgrades,omitempty"` // attempts, refused ones too
	ServerRSS        *float64 `json:"server_rss_bytes_per_session,omitempty"`
	ServerMessageCPU *float64 `json:"server_cpu_us_per_message,omitempty"`
}

type fanoutReport struct {
	Published int     `json:"published"`
	Size      int     `json:"size"`
	Received  uint64  `json:"received"`
	Lost      int64   `json:"lost"`
	Doubled   uint64  `json:"doubled"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
}

func newLoad(p program, name string) *load {
	b := &load{clientFlags: newClientFlags(p, "bench"), report: loadReport{Bench: name}}
	b.topic = b.String("topic", "bench/load", "the topic that the connections follow; nobody else should publish there")
	b.transport = b.String("transport", "ws", "ws or sse")
	b.count = b.Int("count", 1000, "how many connections")
	b.rate = b.Float64("rate", 0, "how many are opened a second (default: as fast as they are taken)")
	b.asJSON = b.Bool("json", false, "print one JSON object")
	return b
}

// start finds the server, has run load it, and reports.
func (b *load) start(ctx context.Context, p program, args []string, run func(context.Context) error) error {
	if _, err := b.parse(args, 0, 0); err != nil {
		return err
	}
	if *b.count < 1 || *b.rate < 0 || *b.transport != "ws" && *b.transport != "sse" {
		return usageError{"give a --count of 1 or more, a --rate that is not negative, and ws or sse as the --transport"}
	}
	if _, err := event.ParsePattern(*b.topic); err != nil {
		return usageError{err.Error()}
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && uint64(*b.count)+benchDescriptors > limit.Cur {
		return fmt.Errorf("%d connections need %d descriptors and a process may have %d; raise ulimit -n, or lower --count", *b.count, *b.count+benchDescriptors, limit.Cur)
	}
	if given := *b.server; given != "" { // looked at before a token is made for it
		if _, err := loopback(given); err != nil {
			return err
		}
	}
	c, err := b.clientFlags.client(ctx, p, account.ScopeAdmin) // to publish, read, and see the metrics
	if err != nil {
		return err
	}
	defer c.close()
	b.client = c
	if b.target, err = loopback(c.server); err != nil {
		return err
	}
	_, err = b.usage(ctx)
	if _, answered := errors.AsType[*problem.Problem](err); err != nil && !answered {
		return err
	}
	b.header = func(int) string { return bearer(c.token) }
	if *b.token == "" && p.getenv("CHAPPE_TOKEN") == "" {
		if err := b.sign(ctx); err != nil {
			return err
		}
	}
	if !*b.asJSON && terminal(p.stderr) && p.getenv("NO_COLOR") == "" {
		b.progress.w = p.stderr
	}
	b.report.Server, b.report.Transport, b.report.Count = c.server, *b.transport, *b.count
	failed := run(ctx)
	b.progress.clear()
	if b.report.Attempts == 0 { // it did not come to a load
		return failed
	}
	return errors.Join(b.print(p.stdout), failed)
}

func bearer(token string) string { return "Authorization: Bearer " + token + "\r\n" }

// sign makes each connection a subscriber of its own, as it would be in life:
// the sessions of one token are counted together, and soon too many. Where
// only the application can sign, they share the token after all.
func (b *load) sign(ctx context.Context) error {
	s, verifier, err := b.verifier(ctx)
	if err != nil {
		return err
	}
	ttl := cmp.Or(s.Access.JWT.MaxAge, localTokenTTL)
	headers := make([]string, *b.count)
	for i := range headers {
		token, err := verifier.Sign(fmt.Sprint("bench-", i), []event.Pattern{event.Pattern(*b.topic)}, ttl)
		if err != nil {
			return nil
		}
		headers[i] = bearer(token)
	}
	b.header = func(i int) string { return headers[i] }
	return nil
}

// loopback is the server's address, if it is on this machine: this is a load
// generator, and whoever runs another machine has not asked for its load.
func loopback(server string) (netip.AddrPort, error) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return netip.AddrPort{}, usageError{fmt.Sprintf("--server %s is not an address like http://127.0.0.1:8080", server)}
	}
	if u.Scheme != "http" {
		return netip.AddrPort{}, usageError{fmt.Sprintf("--server %s: bench speaks http:// alone; name the address behind what ends TLS", server)}
	}
	host := u.Hostname()
	if host == "localhost" || host == "::" || host == "0.0.0.0" { // it listens everywhere, so here too
		host = "127.0.0.1"
	}
	target, err := netip.ParseAddrPort(net.JoinHostPort(host, cmp.Or(u.Port(), "80")))
	if err != nil || !target.Addr().Unmap().IsLoopback() {
		return netip.AddrPort{}, usageError{fmt.Sprintf("--server %s is not on this machine by its address; bench makes load, so it takes localhost, 127.0.0.0/8 and [::1] only", server)}
	}
	return target, nil
}

// connections opens connections and holds them.
func (b *load) connections(ctx context.Context, hold time.Duration) error {
	if hold < 0 {
		return usageError{"--hold is negative; give how long to hold the connections, like 10s"}
	}
	began, _ := b.usage(ctx) // it may not be known
	s, err := b.dial(ctx, began, 64<<10)
	if err != nil {
		return err
	}
	defer s.Close()
	end := time.Now().Add(hold)
	_ = s.Wait(ctx, func(c swarm.Counts) bool { // an interrupt only ends it early
		left := time.Until(end)
		b.progress.show("%d connected, held for %v more", c.Live, left.Round(time.Second))
		return left <= 0
	})
	held, _ := b.usage(ctx)
	b.report.ServerRSS = per(held.rss-began.rss, s.Counts().Live, 1, began.known && held.known)
	return b.judge(s)
}

// fanout publishes messages to connections that follow.
func (b *load) fanout(ctx context.Context, messages, size int) error {
	if _, err := event.ParseTopic(*b.topic); err != nil || messages < 1 || size < 1 {
		return usageError{"give a --topic without wildcards, to publish to, and 1 or more as --messages and --size"}
	}
	idle, _ := b.usage(ctx) // it may not be known
	s, err := b.dial(ctx, idle, size+benchEnvelope)
	if err != nil {
		return err
	}
	defer s.Close()
	f := &fanoutReport{Size: size}
	b.report.Fanout = f
	began, _ := b.usage(ctx)
	live := s.Counts().Live
	var failed error
	for n := 1; n <= messages && failed == nil && live > 0; n++ {
		failed = b.publish(ctx, s, n, n*live)
	}
	ended, _ := b.usage(ctx)
	stats := s.Stats()
	f.Received, f.Doubled = stats.Received, stats.Doubled
	f.Lost = int64(f.Published*live) - int64(stats.Received-stats.Doubled)
	quantile := func(q float64) float64 { return float64(stats.Latency.Quantile(q).Microseconds()) / 1000 }
	f.P50, f.P90, f.P99, f.Max = quantile(0.5), quantile(0.9), quantile(0.99), quantile(1)
	b.report.ServerMessageCPU = per(ended.cpu-began.cpu, int(stats.Received), 1e6, began.known && ended.known)
	return errors.Join(failed, b.judge(s))
}

// publish publishes message n and waits until so many have come in all.
func (b *load) publish(ctx context.Context, s *swarm.Swarm, n, all int) error {
	f := b.report.Fanout
	data := json.RawMessage(swarm.Payload(uint64(n), time.Now(), f.Size))
	bounded, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	if err := b.client.publish(bounded, io.Discard, map[string]any{"topic": *b.topic, "type": "bench", "data": data}); err != nil {
		return fmt.Errorf("publish message %d: %w", n, err)
	}
	f.Published = n
	bounded, cancel = context.WithTimeout(ctx, benchLost)
	defer cancel()
	err := s.Wait(bounded, func(c swarm.Counts) bool {
		b.progress.show("message %d: %d of %d received in all", n, c.Received, all)
		return c.Received >= uint64(all)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("message %d has not come to all within %v, so no more were published", n, benchLost)
	}
	return ctx.Err()
}

// dial opens the connections and returns when each is live or refused. What is
// counted from then on is what became of the live ones.
func (b *load) dial(ctx context.Context, began usage, messageBytes int) (*swarm.Swarm, error) {
	u, err := url.Parse(b.client.server)
	if err != nil {
		return nil, usageError{err.Error()}
	}
	o := swarm.Options{
		Target: b.target, Count: *b.count, Rate: *b.rate, Greeted: true, MessageBytes: messageBytes,
		Transport: swarm.WebSocket, PerSource: benchPerSource,
	}
	path := trimSlash(u.EscapedPath()) + "/v1/ws"
	if *b.transport == "sse" {
		o.Transport, path = swarm.SSE, trimSlash(u.EscapedPath())+"/v1/stream"
	}
	if b.target.Addr().Is4() {
		o.Sources = netip.MustParsePrefix(benchSources)
	}
	path += "?" + url.Values{"topic": {*b.topic}}.Encode()
	o.Request = func(i int) swarm.Request { return swarm.Request{Path: path, Header: b.header(i)} }
	s, err := swarm.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	err = s.Wait(ctx, func(c swarm.Counts) bool {
		b.progress.show("%d of %d connected, %d refused", c.Connected, *b.count, c.Failed)
		return c.Connected+c.Failed >= *b.count
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	opened, _ := b.usage(ctx)
	stats := s.Stats()
	s.Mark()
	r := &b.report
	r.Connected, r.Refused, r.Attempts, r.Connect = stats.Connected, stats.Failed, stats.Attempts, stats.ConnectTime.Seconds()
	r.Ended, r.Reasons = int(stats.Ended), stats.Reasons
	r.ServerUpgradeCPU = per(opened.cpu-began.cpu, int(r.Attempts), 10_000, began.known && opened.known)
	return s, nil
}

// judge adds what became of the connections, and says what was lost.
func (b *load) judge(s *swarm.Swarm) error {
	stats, r := s.Stats(), &b.report
	r.Ended += int(stats.Ended)
	for reason, n := range stats.Reasons {
		r.Reasons[reason] += n
	}
	r.ClientCPU = stats.CPU.Seconds()
	switch {
	case r.Connected == 0:
		return errors.New("nobody could connect")
	case r.Fanout != nil && r.Fanout.Lost > 0:
		return fmt.Errorf("%d messages were lost", r.Fanout.Lost)
	case r.Ended > 0:
		return fmt.Errorf("%d connections were lost", r.Ended)
	}
	return nil
}

// usage is what the server's process has used.
type usage struct {
	known    bool
	cpu, rss float64 // seconds, bytes
}

// usage asks the server's metrics, which show what /proc does: the CPU time in
// steps of 10 ms. Without the scope admin it is an error, a *problem.Problem.
func (b *load) usage(ctx context.Context) (u usage, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.client.server+"/metrics", nil)
	if err != nil {
		return u, usageError{err.Error()}
	}
	resp, err := b.client.do(req)
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch name, value, _ := strings.Cut(lines.Text(), " "); name {
		case "process_cpu_seconds_total":
			u.cpu, err = strconv.ParseFloat(value, 64)
		case "process_resident_memory_bytes":
			u.rss, err = strconv.ParseFloat(value, 64)
		}
	}
	u.known = err == nil && u.rss > 0
	return u, err
}

// per is a share of what was used, for each of n times scale; nil if it is not
// known.
func per(used float64, n int, scale float64, known bool) *float64 {
	if !known || n < 1 {
		return nil
	}
	return new(used / float64(n) * scale)
}

func (b *load) print(w io.Writer) error {
	if *b.asJSON {
		return json.NewEncoder(w).Encode(b.report)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, values...))
	}
	known := func(name, format string, value *float64) {
		if value != nil {
			row(name, format, *value)
		}
	}
	r := b.report
	row("server", "%s", r.Server)
	row("connected", "%d of %d (%s) in %.2f s, %d attempts", r.Connected, r.Count, r.Transport, r.Connect, r.Attempts)
	row("refused", "%d", r.Refused)
	row("ended", "%d", r.Ended)
	for _, reason := range slices.Sorted(maps.Keys(r.Reasons)) {
		row("", "%d: %s", r.Reasons[reason], printable(reason))
	}
	if f := r.Fanout; f != nil {
		row("published", "%d of %d bytes", f.Published, f.Size)
		row("received", "%d, %d lost, %d doubled", f.Received, f.Lost, f.Doubled)
		row("latency", "p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", f.P50, f.P90, f.P99, f.Max)
	}
	known("server CPU", "%.2f s for 10,000 upgrades", r.ServerUpgradeCPU)
	known("", "%.1f us for a message received", r.ServerMessageCPU)
	known("server RSS", "%.0f bytes a session", r.ServerRSS)
	row("client CPU", "%.2f s", r.ClientCPU)
	return t.Flush()
}

// progress is one line on a terminal, written over and over.
type progress struct {
	w     io.Writer // nil: there is no terminal
	shown time.Time
}

func (p *progress) show(format string, args ...any) {
	if p.w == nil || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
}

func (p *progress) clear() {
	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K")
	}
}
