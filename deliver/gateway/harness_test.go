package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // of net/http's transport, about what origins send unasked
	// Net/http sleeps for 500 ms before it closes.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// site is a gateway that listens, and the origin behind it.
type site struct {
	*gateway.Gateway
	url      string // http://127.0.0.1:port, without a slash
	address  string
	origin   *httptest.Server // nil where the test has its own
	client   *http.Transport
	registry *prometheus.Registry
	events   *publisher // what was published

	mu   sync.Mutex
	seen []*http.Request // at the origin, in the order of their heads
}

// starter is newGateway or newHosted. The change is for more than one route, and
// for bounds; it may be nil.
type starter func(t testing.TB, origin http.Handler, c route.Config, change func(*gateway.Options)) *site

// onBoth runs a test with the gateway behind our own event loops, which answer
// hits themselves, and behind net/http's server alone.
func onBoth(t *testing.T, test func(t *testing.T, start starter)) {
	t.Run("loop", func(t *testing.T) { test(t, startOnLoop) })
	t.Run("hosted", func(t *testing.T) { test(t, startHosted) })
}

// newGateway is a gateway with one route, on event loops. The route's path is /
// and its upstream is the origin, unless it says other.
func newGateway(t testing.TB, origin http.Handler, c route.Config) *site {
	t.Helper()
	return startOnLoop(t, origin, c, nil)
}

func startOnLoop(t testing.TB, origin http.Handler, c route.Config, change func(*gateway.Options)) *site {
	t.Helper()
	s, o := newSite(t, origin, c)
	f, err := front.New(front.Options{Loops: 2, Connections: 20_000, Logger: o.Logger, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	o.Loops = f.Loops()
	s.make(t, o, change)
	f.Prepare(s.Prepare)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.Gateway, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	handed, err := f.Listen(l, server)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(handed) }() // ended by Close
	t.Cleanup(func() { server.Close() })
	s.reach(t, l.Addr().String())
	return s
}

func startHosted(t testing.TB, origin http.Handler, c route.Config, change func(*gateway.Options)) *site {
	t.Helper()
	s, o := newSite(t, origin, c)
	o.Loops = []*loop.Loop{loop.New(loop.Options{})}
	s.make(t, o, change)
	server := httptest.NewUnstartedServer(s.Gateway)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.reach(t, server.Listener.Addr().String())
	return s
}

func newSite(t testing.TB, origin http.Handler, c route.Config) (*site, gateway.Options) {
	t.Helper()
	s := &site{registry: prometheus.NewRegistry(), events: &publisher{}}
	if c.Path == "" {
		c.Path = "/"
	}
	if len(c.Upstream) == 0 {
		s.origin = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.seen = append(s.seen, r)
			s.mu.Unlock()
			origin.ServeHTTP(w, r)
		}))
		s.origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		s.origin.Start()
		t.Cleanup(s.origin.Close)
		c.Upstream = []string{s.origin.URL}
	}
	return s, gateway.Options{
		Routes: []route.Config{c}, Waiting: 20_000, Publisher: s.events, EventBytes: 64 << 10,
		Logger: slog.New(slog.DiscardHandler), Metrics: s.registry,
	}
}

// make makes the gateway and runs it until the test is over.
func (s *site) make(t testing.TB, o gateway.Options, change func(*gateway.Options)) {
	t.Helper()
	if change != nil {
		change(&o)
	}
	for _, c := range o.Routes {
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.Gateway, err = gateway.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if s.origin != nil {
			s.origin.CloseClientConnections() // of flights that nobody ended
		}
		run.Wait()
	})
}

func (s *site) reach(t testing.TB, address string) {
	s.address, s.url = address, "http://"+address
	s.client = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	t.Cleanup(s.client.CloseIdleConnections)
}

// answer is what a client got.
type answer struct {
	status  int
	header  http.Header
	body    string
	interim []http.Header // of 1xx answers, each with its status under "Status"
	err     error         // of the body, which was cut short
}

// get makes a GET; fields are names and values in turn.
func (s *site) get(t testing.TB, path string, fields ...string) *answer {
	t.Helper()
	return s.do(t, http.MethodGet, path, "", fields...)
}

// do makes a request. It follows no redirects. The field Host is the Host.
func (s *site) do(t testing.TB, method, path, body string, fields ...string) *answer {
	t.Helper()
	a, err := s.try(t.Context(), method, path, body, fields...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try is do for goroutines, and for requests that may fail.
func (s *site) try(ctx context.Context, method, path, body string, fields ...string) (*answer, error) {
	a := &answer{}
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	var mu sync.Mutex
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		h = textproto.MIMEHeader(http.Header(h).Clone())
		h.Set("Status", fmt.Sprint(code))
		a.interim = append(a.interim, http.Header(h))
		return nil
	}})
	var content io.Reader // nil: none
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, content)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "test")
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
			continue
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	res, err := s.client.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	a.status, a.header, a.body, a.err = res.StatusCode, res.Header, string(text), err
	return a, nil
}

// raw sends text on a connection of its own, and reads one answer to a method.
func (s *site) raw(t testing.TB, method, text string) *answer {
	t.Helper()
	conn := s.dial(t)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &answer{status: res.StatusCode, header: res.Header, body: string(body), err: err}
}

// dial connects, with a deadline for the whole connection.
func (s *site) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// asked is how many requests the origin has seen.
func (s *site) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// last is the newest request that the origin has seen. Its body is read.
func (s *site) last(t testing.TB) *http.Request {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		t.Fatal("the origin was not asked")
	}
	return s.seen[len(s.seen)-1]
}

// count is a counter's or gauge's value, all labels that hold text added.
func (s *site) count(t testing.TB, name, text string) (sum float64) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if strings.Contains(m.String(), text) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// waiting waits until that many clients wait for a change.
func (s *site) waiting(t testing.TB, n int) {
	t.Helper()
	await(t, fmt.Sprintf("the wait of %d clients", n), func() bool { return s.count(t, "chappe_gateway_waiting", "") == float64(n) })
}

// isHit reports whether the answer came from the store.
func (a *answer) isHit() bool {
	return strings.Contains(a.header.Get("Cache-Status"), "chappe; hit")
}

// want checks status and body.
func (a *answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Errorf("answer %d %.100q, want %d %.100q (%v)", a.status, a.body, status, body, a.header)
	}
}

// commit has an event committed.
func (s *site) commit(topic event.Topic, data string) {
	s.Committed([]*event.Record{event.NewRecord(event.Event{ID: "1", Source: "/test", Type: "changed", Topic: topic, Data: []byte(data)}, event.Cursor{})})
}

// publisher keeps what is published.
type publisher struct {
	mu     sync.Mutex
	events []event.Event
}

// Publish implements event.Publisher.
func (p *publisher) Publish(_ context.Context, b event.Batch) ([]event.Receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, b.Events...)
	return make([]event.Receipt, len(b.Events)), nil
}

func (p *publisher) all() []event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]event.Event(nil), p.events...)
}

// await waits until done says so.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s did not come", what)
		}
	}
}

// ago is a date of the past, or with a negative time one to come.
func ago(d time.Duration) string {
	return time.Now().Add(-d).UTC().Format(http.TimeFormat)
}

// A request is answered by the origin, the next from the store.
func TestGateway(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "hello")
		}), route.Config{}, nil)
		if first := s.get(t, "/a?b=c"); first.isHit() || first.status != http.StatusOK || first.body != "hello" {
			t.Errorf("first answer %d %q %v, want the origin's", first.status, first.body, first.header)
		}
		if second := s.get(t, "/a?b=c"); !second.isHit() || second.body != "hello" || second.header.Get("Age") == "" || s.asked() != 1 {
			t.Errorf("second answer %d %q %v after %d fetches, want a hit", second.status, second.body, second.header, s.asked())
		}
		s.raw(t, "GET", "GET /a?b=c HTTP/1.1\r\nHost: "+s.address+"\r\nConnection: close\r\n\r\n").want(t, http.StatusOK, "hello")
	})
}
