package push_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// fixture is a hub behind HTTP, on a real log.
type fixture struct {
	ctx      context.Context
	bus      *bus.Bus
	hub      *push.Hub
	access   *account.Access
	registry *prometheus.Registry
	server   *httptest.Server
}

// rules of every fixture: all is public but secret/**.
func rules() event.Rules {
	return event.Rules{
		{Match: "pointer/**", Public: true, Ephemeral: true},
		{Match: "short/**", Public: true, Keep: event.Keep{Events: 2}},
		{Match: "secret/**"},
		{Match: "**", Public: true},
	}
}

func newFixture(t *testing.T, limits push.Limits) *fixture {
	t.Helper()
	return newFixtureWith(t, push.Options{Limits: limits})
}

func newFixtureWith(t *testing.T, o push.Options) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	quiet := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	log, err := store.OpenLog(ctx, db, store.Options{Rules: rules(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	f := &fixture{ctx: ctx, registry: prometheus.NewRegistry()}
	if f.bus, err = bus.New(ctx, log, bus.Options{Rules: rules(), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.bus.Close)
	f.access = newAccess(t, db)
	listener := newFront(t, f.registry)
	o.Loops, o.Logger, o.Metrics = listener.Loops(), quiet, f.registry
	f.hub = push.New(f.bus, f.access, o)
	f.bus.Follow(f.hub)
	f.server = serve(t, listener, f.hub)
	t.Cleanup(func() {
		drained, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f.hub.Drain(drained)
	})
	return f
}

// newFront is a front with this build's loops; with the tag nethttp they have
// no sockets.
func newFront(t *testing.T, registry *prometheus.Registry) *front.Server {
	t.Helper()
	s, err := front.New(front.Options{Connections: 10_000, Logger: slog.New(slog.DiscardHandler), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func serve(t *testing.T, s *front.Server, hub *push.Hub) *httptest.Server {
	t.Helper()
	s.Handle("/v1/stream", hub.ServeStream)
	s.Handle("/v1/poll", hub.ServePoll)
	s.Handle("/v1/ws", hub.ServeWebSocket)
	server := httptest.NewUnstartedServer(handler(hub))
	var err error
	if server.Listener, err = s.Listen(server.Listener, server.Config); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func newAccess(t *testing.T, tokens account.Tokens) *account.Access {
	t.Helper()
	verifier, err := account.NewVerifier(account.JWTConfig{}, "a secret of the data folder, long enough", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &account.Access{Tokens: tokens, Verifier: verifier, Rules: rules()}
}

func handler(hub *push.Hub) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/stream", hub.Stream)
	mux.HandleFunc("GET /v1/poll", hub.Poll)
	mux.HandleFunc("GET /v1/ws", hub.WebSocket)
	return mux
}

// publish publishes the numbers from to to, one by one, and returns their cursors.
func (f *fixture) publish(t *testing.T, topic event.Topic, from, to int) []string {
	t.Helper()
	var cursors []string
	for n := from; n <= to; n++ {
		cursors = append(cursors, f.publishBatch(t, topic, n, n)...)
	}
	return cursors
}

func (f *fixture) publishBatch(t *testing.T, topic event.Topic, from, to int) []string {
	t.Helper()
	var batch event.Batch
	for n := from; n <= to; n++ {
		batch.Events = append(batch.Events, event.Event{Source: "/test", Type: "test", Topic: topic, Data: []byte(strconv.Itoa(n))})
	}
	receipts, err := f.bus.Publish(f.ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	cursors := make([]string, len(receipts))
	for i, r := range receipts {
		cursors[i] = r.Cursor.String()
	}
	return cursors
}

func (f *fixture) token(t *testing.T, user string, ttl time.Duration) string {
	t.Helper()
	token, err := f.access.Verifier.Sign(user, []event.Pattern{"secret/**"}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// gone makes a cursor whose next events are no longer kept.
func (f *fixture) gone(t *testing.T) string {
	t.Helper()
	old := f.publish(t, "short/a", 1, 9)[0]
	cursor, err := event.ParseCursor(old)
	if err != nil {
		t.Fatal(err)
	}
	f.await(t, "the purge", func() bool {
		_, err := f.bus.Read(f.ctx, event.Query{Patterns: []event.Pattern{"short/a"}, After: cursor})
		_, gone := errors.AsType[*event.GoneError](err)
		return gone
	})
	return old
}

// await waits until done says so.
func (f *fixture) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			t.Fatalf("%s did not come", what)
		}
	}
}

// sessions is how many there are of a transport, by the metrics.
func (f *fixture) sessions(t *testing.T, transport string) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "chappe_sessions" && m.GetLabel()[0].GetValue() == transport {
				return m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// message is what a client gets: an event or a control.
type message struct {
	id, name string // the fields of SSE

	Control   string
	Heartbeat float64
	Retry     []int64
	RetryIn   int64 `json:"retry_in"`
	Code      string
	Cursor    string
	Topic     string
	Data      int
}

// client is a connection, on any transport.
type client interface {
	// next is the next message, or how the session ended.
	next() (message, error)
	// resume is the cursor to go on from.
	resume() string
	close()
}

// request is what a client asks for.
type request struct {
	topics      []string
	after       string
	lastEventID string
	ticket      string
	token       string
	wait        string // of a poll
}

func (r request) url(server, path string) string {
	query := url.Values{"topic": r.topics}
	for name, value := range map[string]string{"after": r.after, "ticket": r.ticket, "wait": r.wait} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return server + path + "?" + query.Encode()
}

func (r request) header() http.Header {
	h := http.Header{}
	if r.lastEventID != "" {
		h.Set("Last-Event-ID", r.lastEventID)
	}
	if r.token != "" {
		h.Set("Authorization", "Bearer "+r.token)
	}
	return h
}

func (f *fixture) get(path string, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, r.url(f.server.URL, path), nil)
	if err != nil {
		return nil, err
	}
	req.Header = r.header()
	return f.server.Client().Do(req)
}

type dial func(f *fixture, r request) (client, error)

var transports = map[string]dial{"sse": dialSSE, "poll": dialPoll, "websocket": dialWS}

// connect dials and takes the hello of transports that have one.
func (f *fixture) connect(t *testing.T, d dial, r request) client {
	t.Helper()
	c, err := d(f, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// hello is the first message of a stream.
func hello(c client) (client, error) {
	m, err := c.next()
	if err == nil && m.Control != "hello" {
		err = fmt.Errorf("the first message is %+v, want a hello", m)
	}
	if err != nil {
		c.close()
	}
	return c, err
}

type sseClient struct {
	body  io.ReadCloser
	lines *bufio.Reader
	last  string
	retry string
}

func dialSSE(f *fixture, r request) (client, error) {
	c, err := openSSE(f, r)
	if err != nil {
		return nil, err
	}
	return hello(c)
}

func openSSE(f *fixture, r request) (*sseClient, error) {
	resp, err := f.get("/v1/stream", r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		resp.Body.Close()
		return nil, fmt.Errorf("the stream began with %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	last := r.lastEventID
	if last == "" {
		last = r.after
	}
	return &sseClient{body: resp.Body, lines: bufio.NewReader(resp.Body), last: last}, nil
}

// next parses as the WHATWG says, for the fields that we send.
func (c *sseClient) next() (message, error) {
	var m message
	var data string
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return m, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			m.id, c.last = value, value
		case "event":
			m.name = value
		case "retry":
			c.retry = value
		case "data":
			data = value
		case "":
			return m, json.Unmarshal([]byte(data), &m)
		default:
			return m, fmt.Errorf("strange line %q", line)
		}
	}
}

func (c *sseClient) resume() string { return c.last }
func (c *sseClient) close()         { c.body.Close() }

// pollClient polls until there is something.
type pollClient struct {
	f       *fixture
	r       request
	pending []message
}

type pollAnswer struct {
	Events []message
	Cursor string
}

// dialPoll learns where the head is, unless it knows where to go on.
func dialPoll(f *fixture, r request) (client, error) {
	c := &pollClient{f: f, r: r}
	if r.after != "" || r.lastEventID != "" {
		return c, nil
	}
	c.r.wait = "0"
	answer, _, err := c.f.poll(c.r, "")
	c.r.after, c.r.wait = answer.Cursor, ""
	return c, err
}

// poll asks once; etag goes into If-None-Match.
func (f *fixture) poll(r request, etag string) (a pollAnswer, resp *http.Response, err error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, r.url(f.server.URL, "/v1/poll"), nil)
	if err != nil {
		return a, nil, err
	}
	req.Header = r.header()
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	if resp, err = f.server.Client().Do(req); err != nil {
		return a, resp, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return a, resp, json.NewDecoder(resp.Body).Decode(&a)
	case http.StatusNotModified:
		return a, resp, nil
	}
	return a, resp, fmt.Errorf("the poll was answered %s", resp.Status)
}

func (c *pollClient) next() (message, error) {
	for len(c.pending) == 0 {
		answer, _, err := c.f.poll(c.r, "")
		if err != nil {
			return message{}, err
		}
		c.pending, c.r.after, c.r.lastEventID = answer.Events, answer.Cursor, ""
	}
	m := c.pending[0]
	c.pending = c.pending[1:]
	return m, nil
}

func (c *pollClient) resume() string {
	if c.r.lastEventID != "" {
		return c.r.lastEventID
	}
	return c.r.after
}
func (c *pollClient) close() {}

type wsClient struct {
	conn   net.Conn
	reader io.Reader
	last   string
}

// closed is how the server ended a WebSocket.
type closed struct {
	code   ws.StatusCode
	reason string
}

func (c closed) Error() string { return fmt.Sprintf("closed with %d %q", c.code, c.reason) }

func dialWS(f *fixture, r request) (client, error) {
	c, err := openWS(f, r)
	if err != nil {
		return nil, err
	}
	return hello(c)
}

func openWS(f *fixture, r request) (*wsClient, error) {
	if r.lastEventID != "" {
		r.after, r.lastEventID = r.lastEventID, ""
	}
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(r.header())}
	conn, buffered, _, err := dialer.Dial(f.ctx, r.url("ws"+strings.TrimPrefix(f.server.URL, "http"), "/v1/ws"))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	c := &wsClient{conn: conn, reader: conn, last: r.after}
	if buffered != nil {
		c.reader = buffered
	}
	return c, nil
}

// next answers pings and returns the next text message.
func (c *wsClient) next() (message, error) {
	for {
		frame, err := ws.ReadFrame(c.reader)
		if err != nil {
			return message{}, err
		}
		switch frame.Header.OpCode {
		case ws.OpText:
			var m message
			err := json.Unmarshal(frame.Payload, &m)
			if m.Cursor != "" && m.Control == "" {
				c.last = m.Cursor
			}
			return m, err
		case ws.OpPing:
			if err := c.send(ws.NewPongFrame(frame.Payload)); err != nil {
				return message{}, err
			}
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(frame.Payload)
			return message{}, closed{code, reason}
		}
	}
}

func (c *wsClient) send(f ws.Frame) error { return ws.WriteFrame(c.conn, ws.MaskFrame(f)) }
func (c *wsClient) resume() string        { return c.last }
func (c *wsClient) close()                { c.conn.Close() }

// numbers takes the next events, up to n of them; heartbeats do not count.
func numbers(t *testing.T, c client, n int) []int {
	t.Helper()
	var got []int
	for len(got) < n {
		m, err := c.next()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		switch m.Control {
		case "":
			got = append(got, m.Data)
		case "heartbeat":
		default:
			t.Fatalf("after %v: control %+v", got, m)
		}
	}
	return got
}

func sequence(from, to int) []int {
	var s []int
	for n := from; n <= to; n++ {
		s = append(s, n)
	}
	return s
}
