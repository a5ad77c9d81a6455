package ws_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/ws"
	"github.com/chappe/chappe/internal/ws/wstest"
)

// TestAutobahn runs the suite's cases strictly: with a small reader over a
// pipe, so that each write of the client is a Feed, and over TCP with room for
// the largest message (case 7.1.6).
func TestAutobahn(t *testing.T) {
	const known = 247
	cases := wstest.Cases()
	t.Logf("%d cases", len(cases))
	if len(cases) != known {
		t.Errorf("%d cases, the suite has %d", len(cases), known)
	}
	wantGroups := map[string]int{"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "10": 1}
	groups, seen := map[string]int{}, map[string]bool{}
	for _, c := range cases {
		group, _, _ := strings.Cut(c.Name, ".")
		groups[group]++
		if seen[c.Name] {
			t.Errorf("case %s is there twice", c.Name)
		}
		seen[c.Name] = true
	}
	for group, want := range wantGroups {
		if groups[group] != want {
			t.Errorf("group %s has %d cases, want %d", group, groups[group], want)
		}
	}
	for _, server := range []struct {
		name    string
		connect func(*testing.T) (client, server net.Conn)
		options ws.Options
	}{
		{"pipe", func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() }, ws.Options{}},
		{"tcp", tcpPair, ws.Options{MaxMessage: 1 << 20}},
	} {
		t.Run(server.name, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					t.Parallel()
					client, conn := server.connect(t)
					var served sync.WaitGroup
					served.Go(func() { echo(conn, server.options) })
					if err := c.Run(client); err != nil {
						t.Error(err)
					}
					served.Wait()
				})
			}
		})
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// echo is a server that gives messages back.
func echo(conn net.Conn, o ws.Options) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := ws.NewReader(o)
	b := make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		answer := &echoHandler{}
		if err := r.Feed(b[:n], answer); err != nil {
			fault, _ := errors.AsType[*ws.CloseError](err)
			answer.out = ws.AppendClose(answer.out, fault.Code, fault.Reason)
			answer.closed = true
		}
		if r.Idle() {
			r = ws.NewReader(o) // nothing must be lost
		}
		if len(answer.out) == 0 {
			continue // a pipe would wait for a reader of nothing
		}
		if _, err := conn.Write(answer.out); err != nil {
			return
		}
		if answer.closed {
			linger(conn)
			return
		}
	}
}

// linger lets the client read what was sent: closing with bytes unread resets
// the connection.
func linger(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
		_, _ = io.Copy(io.Discard, tcp)
	}
}

type echoHandler struct {
	out    []byte
	closed bool
}

func (e *echoHandler) Message(op ws.Op, payload []byte) bool {
	e.out = ws.AppendFrame(e.out, op, payload)
	return true
}

func (e *echoHandler) Control(op ws.Op, payload []byte) bool {
	switch op {
	case ws.OpPing:
		e.out = ws.AppendFrame(e.out, ws.OpPong, payload)
	case ws.OpClose:
		code := uint16(0)
		if len(payload) >= 2 {
			code = binary.BigEndian.Uint16(payload)
		}
		e.out = ws.AppendClose(e.out, code, "")
		e.closed = true
	}
	return true
}
