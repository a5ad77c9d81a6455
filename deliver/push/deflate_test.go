package push_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/chappe/chappe/deliver/push"
)

// Compression is for WebSockets of known users that ask for it, where it is
// allowed: one compressed frame for all of them.
func TestDeflate(t *testing.T) {
	for _, tt := range []struct {
		name              string
		allowed, known    bool
		offer, wantAnswer string
	}{
		{"known user", true, true, "permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{"stranger", true, false, "permessage-deflate", ""},
		{"not allowed", false, true, "permessage-deflate", ""},
		{"not asked for", true, true, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixtureWith(t, push.Options{Compression: tt.allowed})
			ask := request{topics: []string{"a"}}
			header := http.Header{}
			if tt.known {
				header.Set("Authorization", "Bearer "+f.token(t, "alice", time.Hour))
			}
			if tt.offer != "" {
				header.Set("Sec-WebSocket-Extensions", tt.offer)
			}
			header.Set("Upgrade", "websocket")
			header.Set("Connection", "Upgrade")
			header.Set("Sec-WebSocket-Version", "13")
			header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			r, err := http.NewRequestWithContext(f.ctx, http.MethodGet, ask.url(f.server.URL, "/v1/ws"), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = header
			if err := r.Write(conn); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, r)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%+v, %v, want an upgrade", resp, err)
			}
			if answer := resp.Header.Get("Sec-WebSocket-Extensions"); answer != tt.wantAnswer {
				t.Fatalf("the answer is %q, want %q", answer, tt.wantAnswer)
			}
			if tt.wantAnswer == "" {
				return
			}
			readText(t, reader) // hello
			f.publish(t, "a", 1, 1)
			if text := readText(t, reader); !strings.Contains(text, `"data":1}`) {
				t.Errorf("the event reads %q", text)
			}
		})
	}
}

// readText reads a message, inflating it if its first reserved bit is set.
func readText(t *testing.T, r io.Reader) string {
	t.Helper()
	frame, err := ws.ReadFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	if r1, _, _ := ws.RsvBits(frame.Header.Rsv); !r1 {
		return string(frame.Payload)
	}
	tail := strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff") // RFC 7692 §7.2.2, and an end
	text, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(frame.Payload), tail)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
