package push_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/chappe/chappe/deliver/push"
)

// head is a frame's head alone, as bytes: masked with zeros unless said.
func head(t *testing.T, h ws.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := ws.WriteHeader(&b, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What breaks RFC 6455 §5 is closed with 1002, what is too much with 1009 or 1008.
func TestWebSocketRefusesFrames(t *testing.T) {
	f := newFixture(t, push.Limits{})
	text := func(fin bool, n int) []byte {
		return append(head(t, ws.Header{Fin: fin, OpCode: ws.OpText, Masked: true, Length: int64(n)}), make([]byte, n)...)
	}
	half := text(false, 40_000)
	cases := map[string]struct {
		bytes []byte
		code  ws.StatusCode
	}{
		"unmasked":             {head(t, ws.Header{Fin: true, OpCode: ws.OpText}), 1002},
		"reserved bit":         {head(t, ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText, Masked: true}), 1002},
		"reserved opcode":      {head(t, ws.Header{Fin: true, OpCode: 3, Masked: true}), 1002},
		"reserved control":     {head(t, ws.Header{Fin: true, OpCode: 0xb, Masked: true}), 1002},
		"large ping":           {head(t, ws.Header{Fin: true, OpCode: ws.OpPing, Masked: true, Length: 126}), 1002},
		"ping in parts":        {head(t, ws.Header{OpCode: ws.OpPing, Masked: true}), 1002},
		"nothing to continue":  {head(t, ws.Header{Fin: true, OpCode: ws.OpContinuation, Masked: true}), 1002},
		"text within text":     {append(text(false, 1), head(t, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true})...), 1002},
		"message of 64 KiB":    {text(true, 64<<10), 0},
		"message too large":    {head(t, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: 64<<10 + 1}), 1009},
		"parts of a message":   {append(text(false, 3), append(head(t, ws.Header{OpCode: ws.OpContinuation, Masked: true}), head(t, ws.Header{Fin: true, OpCode: ws.OpContinuation, Masked: true})...)...), 0},
		"too large in parts":   {append(half, head(t, ws.Header{Fin: true, OpCode: ws.OpContinuation, Masked: true, Length: 40_000})...), 1009},
		"overflowing in parts": {append(text(false, 1), head(t, ws.Header{Fin: true, OpCode: ws.OpContinuation, Masked: true, Length: 1<<63 - 1})...), 1009},
		"length of 2^62":       {head(t, ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: 1 << 62}), 1009},
		"50 pings":             {bytes.Repeat(head(t, ws.Header{Fin: true, OpCode: ws.OpPing, Masked: true}), 50), 0},
		"pings without end":    {bytes.Repeat(head(t, ws.Header{Fin: true, OpCode: ws.OpPing, Masked: true}), 100), 1008},
		"messages without end": {bytes.Repeat(head(t, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true}), 100), 1008},
		"close":                {head(t, ws.Header{Fin: true, OpCode: ws.OpClose, Masked: true}), 1000},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			socket := f.connect(t, dialWS, request{topics: []string{"a"}}).(*wsClient)
			if _, err := socket.conn.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			if c.code == 0 { // it is taken: the session goes on
				f.publish(t, "a", 7, 7)
				numbers(t, socket, 1)
				return
			}
			if _, err := socket.next(); !isClose(err, c.code) {
				t.Errorf("next() = %v, want the close code %d", err, c.code)
			}
			if _, err := socket.next(); err != io.EOF {
				t.Errorf("after the close came %v, want the end", err)
			}
		})
	}
}

func TestWebSocketAnswersPings(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialWS, request{topics: []string{"a"}}).(*wsClient)
	for _, payload := range []string{"", "hello", string(make([]byte, 125))} {
		if err := c.send(ws.NewPingFrame([]byte(payload))); err != nil {
			t.Fatal(err)
		}
		got, err := ws.ReadFrame(c.reader)
		if err != nil || got.Header.OpCode != ws.OpPong || string(got.Payload) != payload {
			t.Errorf("answer to ping %q: %+v, %v, want a pong with the same", payload, got, err)
		}
	}
}

// Who sends no pong is gone after two heartbeats.
func TestWebSocketSilence(t *testing.T) {
	f := newFixture(t, push.Limits{Heartbeat: 50 * time.Millisecond})
	c := f.connect(t, dialWS, request{topics: []string{"a"}}).(*wsClient)
	for {
		if _, err := ws.ReadFrame(c.reader); err != nil {
			if err != io.EOF {
				t.Errorf("the session ended with %v, want the end", err)
			}
			return
		}
	}
}
