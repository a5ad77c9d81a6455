package centrifuge

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/problem"
)

// Options of a server. All but Metrics are required.
type Options struct {
	Publisher event.Publisher
	Reader    event.Reader
	Access    *account.Access
	Logger    *slog.Logger
	Metrics   prometheus.Registerer // may be nil
}

// Server has the conversations of a hub's clients.
type Server struct {
	Options
	hub     *push.Hub
	metrics *metrics
	rooms   rooms
	node    string

	mu       sync.Mutex
	sessions map[string]*conversation // that commands of come by /emulation
}

// New makes a server.
func New(hub *push.Hub, o Options) *Server {
	return &Server{Options: o, hub: hub, metrics: newMetrics(o.Metrics), node: rand.Text(), sessions: map[string]*conversation{}}
}

// protocol is push's view of the server, for a transport.
type protocol struct {
	*Server
	transport push.Transport
}

// Talk implements push.Protocol.
func (p protocol) Talk(c *push.Client) push.Conversation {
	return newConversation(p.Server, c, p.transport)
}

// AppendEvent implements push.Protocol.
func (protocol) AppendEvent(b []byte, r *event.Record, channel string) []byte {
	b = append(append(append(b, `{"push":{"channel":"`...), channel...), `","pub":`...)
	return append(appendPublication(b, r), "}}"...)
}

// ServeWebSocket serves /connection/websocket.
func (s *Server) ServeWebSocket(x *front.Exchange) {
	s.hub.Accept(x, push.OverWebSocket, protocol{s, push.OverWebSocket}, nil)
}

// ServeStream serves /connection/http_stream: the body is the first commands.
func (s *Server) ServeStream(x *front.Exchange) {
	s.hub.Accept(x, push.OverStream, protocol{s, push.OverStream}, x.Body())
}

// ServeSSE serves /connection/sse: the first command is in the query.
func (s *Server) ServeSSE(x *front.Exchange) {
	var first []byte
	_ = head.Query(x.Query(), func(name, value []byte) bool { // what is malformed is skipped
		if string(name) == "cf_connect" {
			first = value
		}
		return first == nil
	})
	s.hub.Accept(x, push.OverSSE, protocol{s, push.OverSSE}, first)
}

// emulated is what a client of http_stream or sse sends.
type emulated struct {
	Session string `json:"session"`
	Node    string `json:"node"`
	Data    string `json:"data"`
}

// ServeEmulation serves /emulation.
func (s *Server) ServeEmulation(x *front.Exchange) {
	if err := s.emulate(x); err != nil {
		p := problem.From(err)
		header, body := p.Answer()
		x.Answer(p.Status, header, body)
		return
	}
	x.Answer(http.StatusNoContent, http.Header{"Cache-Control": {"no-store"}}, nil)
}

func (s *Server) emulate(x *front.Exchange) error {
	r, err := x.Request()
	if err == nil {
		err = s.Access.Origins.CheckStream(r)
	}
	if err != nil {
		return err
	}
	var message emulated
	if err := json.Unmarshal(x.Body(), &message); err != nil {
		return problem.New("bad-request", "The body is not {\"session\",\"node\",\"data\"}: "+err.Error())
	}
	s.mu.Lock()
	c := s.sessions[message.Session]
	s.mu.Unlock()
	if c == nil || message.Node != s.node {
		return problem.New("not-found", "There is no such session here; connect anew")
	}
	c.client.Deliver([]byte(message.Data))
	return nil
}

// WebSocket is ServeWebSocket on net/http.
func (s *Server) WebSocket(w http.ResponseWriter, r *http.Request) {
	s.hub.Host(s.ServeWebSocket, w, r)
}

// Stream is ServeStream on net/http.
func (s *Server) Stream(w http.ResponseWriter, r *http.Request) { s.hub.Host(s.ServeStream, w, r) }

// SSE is ServeSSE on net/http.
func (s *Server) SSE(w http.ResponseWriter, r *http.Request) { s.hub.Host(s.ServeSSE, w, r) }

// Emulation is ServeEmulation on net/http.
func (s *Server) Emulation(w http.ResponseWriter, r *http.Request) {
	s.hub.Host(s.ServeEmulation, w, r)
}

// open gives a conversation the session that its commands come under.
func (s *Server) open(c *conversation) string {
	session := rand.Text() // 130 random bits: who knows it is who was told it
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[session] = c
	return session
}

func (s *Server) close(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
}

type metrics struct {
	commands    *prometheus.CounterVec
	disconnects *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_centrifuge_commands_total", Help: "Commands of Centrifuge clients, by method and error code; 0 is success."}, []string{"method", "error"}),
		disconnects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_centrifuge_disconnects_total", Help: "Centrifuge clients that the server sent away, by code."}, []string{"code"}),
	}
	if r != nil {
		r.MustRegister(m.commands, m.disconnects)
	}
	return m
}
