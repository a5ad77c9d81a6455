package centrifuge_test

import (
	"bufio"
	"bytes"
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

	"github.com/go-jose/go-jose/v4"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/deliver/push/centrifuge"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

const secret = "a secret of the data folder, long enough"

// fixture is a server behind HTTP, on a real log and two loops.
type fixture struct {
	ctx      context.Context
	bus      *bus.Bus
	hub      *push.Hub
	access   *account.Access
	server   *httptest.Server
	listener *front.Server
}

// rules of every fixture: all is public but secret/**.
func rules() event.Rules {
	return event.Rules{
		{Match: "pointer/**", Public: true, Ephemeral: true},
		{Match: "short/**", Public: true, Keep: event.Keep{Events: 2}},
		{Match: "secret/chat", Publish: true},
		{Match: "secret/**"},
		{Match: "chat/**", Public: true, Publish: true, Presence: true, JoinLeave: true, Keep: event.Keep{Events: 5000}},
		{Match: "quiet/**", Public: true, Presence: true},
		{Match: "**", Public: true, Keep: event.Keep{Events: 5000}},
	}
}

func newFixture(t *testing.T, limits push.Limits) *fixture {
	t.Helper()
	return newFixtureOn(t, limits, func(b *bus.Bus) event.Reader { return b })
}

// newFixtureOn has the log read by another reader.
func newFixtureOn(t *testing.T, limits push.Limits, reader func(*bus.Bus) event.Reader) *fixture {
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
	f := &fixture{ctx: ctx, access: newAccess(t, db)}
	if f.bus, err = bus.New(ctx, log, bus.Options{Rules: rules(), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.bus.Close)
	listener, err := front.New(front.Options{Loops: 2, Connections: 1000, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(listener.Close)
	f.listener = listener
	f.hub = push.New(reader(f.bus), f.access, push.Options{Limits: limits, Loops: listener.Loops(), Logger: quiet})
	f.bus.Follow(f.hub)
	f.serve(t, listener, centrifuge.New(f.hub, centrifuge.Options{
		Publisher: f.bus, Reader: f.bus, Access: f.access, Logger: quiet, Metrics: prometheus.NewRegistry(),
	}))
	t.Cleanup(func() {
		drained, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f.hub.Drain(drained)
	})
	return f
}

func newAccess(t *testing.T, tokens account.Tokens) *account.Access {
	t.Helper()
	verifier, err := account.NewVerifier(account.JWTConfig{}, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &account.Access{Tokens: tokens, Verifier: verifier, Rules: rules()}
}

func (f *fixture) serve(t *testing.T, listener *front.Server, s *centrifuge.Server) {
	t.Helper()
	listener.Handle("/connection/websocket", s.ServeWebSocket)
	listener.HandlePost("/connection/http_stream", s.ServeStream)
	listener.Handle("/connection/sse", s.ServeSSE)
	listener.HandlePost("/emulation", s.ServeEmulation)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /connection/websocket", s.WebSocket)
	mux.HandleFunc("POST /connection/http_stream", s.Stream)
	mux.HandleFunc("GET /connection/sse", s.SSE)
	mux.HandleFunc("POST /emulation", s.Emulation)
	f.server = httptest.NewUnstartedServer(mux)
	var err error
	if f.server.Listener, err = listener.Listen(f.server.Listener, f.server.Config); err != nil {
		t.Fatal(err)
	}
	f.server.Start()
	t.Cleanup(f.server.Close)
}

func (f *fixture) token(t *testing.T, user string, ttl time.Duration, patterns ...event.Pattern) string {
	t.Helper()
	token, err := f.access.Verifier.Sign(user, patterns, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// publish publishes the numbers from to to, in one batch, and returns the last cursor.
func (f *fixture) publish(t *testing.T, topic event.Topic, from, to int) event.Cursor {
	t.Helper()
	var batch event.Batch
	for n := from; n <= to; n++ {
		batch.Events = append(batch.Events, event.Event{Source: "/test", Type: "test", Topic: topic, Data: []byte(strconv.Itoa(n))})
	}
	receipts, err := f.bus.Publish(f.ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	return receipts[len(receipts)-1].Cursor
}

// message is a reply or a push.
type message struct {
	ID    uint32
	Error struct {
		Code      int
		Message   string
		Temporary bool
	}
	Connect struct {
		Client        string
		Expires       bool
		TTL           int
		Ping          int
		Pong          bool
		Session, Node string
		Subs          map[string]subscribed
	}
	Subscribe     subscribed
	Unsubscribe   *struct{}
	Publish       *struct{}
	Ping          *struct{}
	Presence      struct{ Presence map[string]member }
	PresenceStats struct {
		Clients int `json:"num_clients"`
		Users   int `json:"num_users"`
	} `json:"presence_stats"`
	History struct {
		Epoch        string
		Offset       int64
		Publications []publication
	}
	Refresh struct {
		Client  string
		Expires bool
		TTL     int
	}
	Push struct {
		Channel     string
		Pub         *publication
		Join, Leave *struct{ Info member }
		Unsubscribe ending
		Disconnect  ending
	}

	frame int // in which it came
}

type member struct{ Client, User string }

type ending struct {
	Code   int
	Reason string
}

type subscribed struct {
	Recoverable, Positioned, Recovered bool
	WasRecovering                      bool `json:"was_recovering"`
	Epoch                              string
	Offset                             int64
	Publications                       []publication
}

type publication struct {
	Data   json.RawMessage
	Offset int64
	Tags   map[string]string
}

// client is one of the protocol's, on any transport.
type client struct {
	t     *testing.T
	f     *fixture
	write func(text string) error
	read  func() (string, error) // a frame
	lines []message
	frame int
	id    uint32
	name  string // by the connect reply
	over  string // its session
	node  string
}

// next is the next message; pings are answered.
func (c *client) next() (message, error) {
	for len(c.lines) == 0 {
		text, err := c.read()
		if err != nil {
			return message{}, err
		}
		c.frame++
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line == "{}" {
				if err := c.write("{}"); err != nil {
					return message{}, err
				}
				continue
			} else if line == "" {
				continue
			}
			m := message{frame: c.frame}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				return m, fmt.Errorf("%q: %w", line, err)
			}
			c.lines = append(c.lines, m)
		}
	}
	m := c.lines[0]
	c.lines = c.lines[1:]
	if d := m.Push.Disconnect; d.Code != 0 {
		return m, wsutil.ClosedError{Code: ws.StatusCode(d.Code), Reason: d.Reason}
	}
	return m, nil
}

func (c *client) must() message {
	c.t.Helper()
	m, err := c.next()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// send sends a command under the next id.
func (c *client) send(format string, args ...any) {
	c.t.Helper()
	c.id++
	if err := c.write(fmt.Sprintf(`{"id":%d,%s}`, c.id, fmt.Sprintf(format, args...))); err != nil {
		c.t.Fatal(err)
	}
}

// do sends a command and takes what comes up to its reply.
func (c *client) do(format string, args ...any) (reply message, pushes []message) {
	c.t.Helper()
	c.send(format, args...)
	for {
		m := c.must()
		if m.ID == c.id {
			return m, pushes
		}
		pushes = append(pushes, m)
	}
}

// fails wants a command refused.
func (c *client) fails(code int, format string, args ...any) {
	c.t.Helper()
	if reply, _ := c.do(format, args...); reply.Error.Code != code {
		c.t.Errorf("%s: %+v, want error %d", fmt.Sprintf(format, args...), reply.Error, code)
	}
}

// ends wants the client sent away.
func (c *client) ends(code int) {
	c.t.Helper()
	for {
		_, err := c.next()
		if closed, ok := errors.AsType[wsutil.ClosedError](err); ok && int(closed.Code) == code {
			return
		}
		if err != nil {
			c.t.Fatalf("ended by %v, want %d", err, code)
		}
	}
}

// quiet wants nothing more but the reply to a ping.
func (c *client) quiet() {
	c.t.Helper()
	if _, pushes := c.do(`"ping":{}`); len(pushes) > 0 {
		c.t.Errorf("got %+v, want nothing", pushes)
	}
}

// numbers takes publications of a channel.
func (c *client) numbers(n int) (got []int) {
	c.t.Helper()
	for len(got) < n {
		if m := c.must(); m.Push.Pub != nil {
			got = append(got, number(c.t, *m.Push.Pub))
		}
	}
	return got
}

func number(t *testing.T, p publication) int {
	t.Helper()
	n, err := strconv.Atoi(string(p.Data))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sequence(from, to int) []int {
	var s []int
	for n := from; n <= to; n++ {
		s = append(s, n)
	}
	return s
}

type dial func(t *testing.T, f *fixture, connect string) *client

var transports = map[string]dial{"websocket": dialWebSocket, "http_stream": dialStream, "sse": dialSSE}

// connect dials and connects, with a token or without.
func (f *fixture) connect(t *testing.T, d dial, token string) *client {
	t.Helper()
	c, m := f.connectWith(t, d, fmt.Sprintf(`{"token":%q}`, token))
	if m.Connect.Client == "" || m.Connect.Ping != 25 || !m.Connect.Pong {
		t.Fatalf("connected with %+v", m)
	}
	return c
}

func (f *fixture) connectWith(t *testing.T, d dial, request string) (*client, message) {
	t.Helper()
	c := d(t, f, `{"id":1,"connect":`+request+`}`)
	c.id = 1
	m := c.must()
	c.name, c.over, c.node = m.Connect.Client, m.Connect.Session, m.Connect.Node
	return c, m
}

func dialWebSocket(t *testing.T, f *fixture, connect string) *client {
	t.Helper()
	conn, buffered, _, err := ws.Dial(f.ctx, "ws"+strings.TrimPrefix(f.server.URL, "http")+"/connection/websocket")
	if err != nil {
		t.Fatal(err)
	}
	c := socketClient(t, f, conn)
	if buffered != nil { // a refusal comes at once
		c.read = func() (string, error) { return readText(buffered) }
	}
	if connect != "" {
		if err := c.write(connect); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func socketClient(t *testing.T, f *fixture, conn net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, f: f}
	c.write = func(text string) error { return wsutil.WriteClientText(conn, []byte(text)) }
	c.read = func() (string, error) { return readText(conn) }
	return c
}

func readText(r io.Reader) (string, error) {
	for {
		frame, err := ws.ReadFrame(r)
		if err != nil {
			return "", err
		}
		switch frame.Header.OpCode {
		case ws.OpText:
			return string(frame.Payload), nil
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(frame.Payload)
			return "", wsutil.ClosedError{Code: code, Reason: reason}
		}
	}
}

// signed makes a token of any claims with the fixture's secret.
func signed(claims string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret)}, nil)
	if err != nil {
		panic(err)
	}
	object, err := signer.Sign([]byte(claims))
	if err != nil {
		panic(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

func dialStream(t *testing.T, f *fixture, connect string) *client {
	t.Helper()
	return f.stream(t, http.MethodPost, f.server.URL+"/connection/http_stream", connect, "")
}

func dialSSE(t *testing.T, f *fixture, connect string) *client {
	t.Helper()
	return f.stream(t, http.MethodGet, f.server.URL+"/connection/sse?"+url.Values{"cf_connect": {connect}}.Encode(), "", "data: ")
}

func (f *fixture) stream(t *testing.T, method, target, body, prefix string) *client {
	t.Helper()
	req, err := http.NewRequestWithContext(f.ctx, method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream began with %s", resp.Status)
	}
	lines := bufio.NewReader(resp.Body)
	c := &client{t: t, f: f}
	c.read = func() (string, error) {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return "", err
			}
			if text, ok := strings.CutPrefix(line, prefix); ok {
				return text, nil
			}
		}
	}
	c.write = func(text string) error {
		status, err := f.emulate(c.over, c.node, text)
		if err == nil && status != http.StatusNoContent {
			err = fmt.Errorf("emulation answered %d", status)
		}
		return err
	}
	return c
}

func (f *fixture) emulate(session, node, data string) (status int, err error) {
	body, err := json.Marshal(map[string]string{"session": session, "node": node, "data": data})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, f.server.URL+"/emulation", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
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

// queued is how many bytes wait for clients.
func (f *fixture) queued() (n int) {
	for _, l := range f.listener.Loops() {
		n += l.Queued()
	}
	return n
}
