package front_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/ws"
	"github.com/chappe/chappe/internal/ws/wstest"
)

// TestAutobahn runs the suite's cases over real sockets against a server that
// echoes, on the loop's own sockets and by net/http. Where loops have no
// sockets both are net/http's.
func TestAutobahn(t *testing.T) {
	address := serveEcho(t)
	cases := wstest.Cases()
	for _, path := range []string{"/loop", "/hosted"} {
		t.Run(path[1:], func(t *testing.T) {
			t.Logf("%d cases", len(cases))
			for _, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					t.Parallel()
					if err := c.Run(dialSocket(t, address, path)); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// serveEcho has a server whose WebSockets give messages back.
func serveEcho(t *testing.T) (address string) {
	t.Helper()
	s, err := front.New(front.Options{Loops: 2, Connections: 1000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	owners := map[*loop.Loop]*echoOwner{}
	for _, l := range s.Loops() {
		o := &echoOwner{loop: l, readers: map[loop.Conn]*ws.Reader{}}
		registered := make(chan loop.OwnerID)
		l.Post(func() { registered <- l.Register(o) })
		o.id = <-registered
		owners[l] = o
	}
	upgrade := func(x *front.Exchange) {
		if status, reason := x.CheckUpgrade(); status != 0 {
			x.Answer(status, nil, []byte(reason))
			return
		}
		x.Upgrade("", owners[x.Loop()].id, 0)
	}
	hosted := func(w http.ResponseWriter, r *http.Request) { front.Host(s.Loops()[0], upgrade, w, r) }
	s.Handle("/loop", upgrade)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /loop", hosted)
	mux.HandleFunc("GET /hosted", hosted)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	server := &http.Server{Handler: mux}
	handed, err := s.Listen(listener, server)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(handed) }() // ended by Close
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// dialSocket does a WebSocket's handshake.
func dialSocket(t *testing.T, address, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+address+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	accept := resp.Header.Get("Sec-WebSocket-Accept") // RFC 6455 §1.3 has this key and its answer
	if resp.StatusCode != http.StatusSwitchingProtocols || accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || r.Buffered() > 0 {
		t.Fatalf("the handshake was answered %s, accept %q, and %d bytes more", resp.Status, accept, r.Buffered())
	}
	return conn
}

// echoOwner is a loop's WebSockets. It runs on the loop alone.
type echoOwner struct {
	loop    *loop.Loop
	id      loop.OwnerID
	readers map[loop.Conn]*ws.Reader // of those within a message
}

// Input implements loop.Owner.
func (o *echoOwner) Input(c loop.Conn, _ uint32, b []byte) {
	r := o.readers[c]
	if r == nil {
		r = ws.NewReader(ws.Options{MaxMessage: 1 << 20})
	}
	answer := &echoAnswer{}
	if err := r.Feed(b, answer); err != nil {
		fault, _ := errors.AsType[*ws.CloseError](err)
		answer.out = ws.AppendClose(answer.out, fault.Code, fault.Reason)
		answer.closed = true
	}
	o.loop.Write(c, answer.out)
	if answer.closed {
		o.loop.End(c)
	}
	if answer.closed || r.Idle() {
		delete(o.readers, c)
		return
	}
	o.readers[c] = r
}

// Drained implements loop.Owner.
func (o *echoOwner) Drained(loop.Conn, uint32) {}

// Timeout implements loop.Owner.
func (o *echoOwner) Timeout(loop.Conn, uint32) {}

// Closed implements loop.Owner.
func (o *echoOwner) Closed(c loop.Conn, _ uint32, _ error) { delete(o.readers, c) }

// echoAnswer is what goes back for a piece of input.
type echoAnswer struct {
	out    []byte
	closed bool
}

// Message implements ws.Handler.
func (a *echoAnswer) Message(op ws.Op, payload []byte) bool {
	a.out = ws.AppendFrame(a.out, op, payload)
	return true
}

// Control implements ws.Handler.
func (a *echoAnswer) Control(op ws.Op, payload []byte) bool {
	switch op {
	case ws.OpPing:
		a.out = ws.AppendFrame(a.out, ws.OpPong, payload)
	case ws.OpClose:
		code := uint16(0)
		if len(payload) >= 2 {
			code = binary.BigEndian.Uint16(payload)
		}
		a.out = ws.AppendClose(a.out, code, "")
		a.closed = true
	}
	return true
}
