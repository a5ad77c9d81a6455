//go:build integration

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chappe/chappe/internal/ws/wstest"
)

// conformanceConfig has pings come soon: with every fourth heartbeat.
const conformanceConfig = `limits: {heartbeat: 1s}
topics: [{match: "open/**", public: true}]
`

// Programs by others, in other languages, follow, send what they may and what
// they may not, and are refused. What each has to check is listed here, so
// that a program which ends early fails.
func TestIntegrationConformanceLibraries(t *testing.T) {
	const follow = "hello, pong, 200 events, pings, close, "
	for _, c := range []struct{ command, program, checks string }{
		{"/usr/bin/python3", "with_websockets.py", follow + "unmasked, reserved bit, reserved opcode, fragmented ping, huge length, too large, " +
			"too large in parts, bad UTF-8, bad UTF-8 in a close, foreign origin, wrong version, wrong key, own origin"},
		{"/usr/bin/python3", "with_autobahn.py", follow + "unmasked, reserved bit, reserved opcode, nothing to continue, fragmented ping, large ping, " +
			"close code 1005, bad UTF-8, too large, too large in parts, foreign origin, wrong version"},
		{"/usr/bin/python3", "with_http_client.py", "hello, 200 events, foreign origin, wrong token"},
		{"node", "with_ws.mjs", follow + "unmasked, compressed without agreement, too large, bad UTF-8, too many messages, foreign origin, " +
			"wrong version, version told, wrong key"},
		{"node", "with_undici.mjs", "hello, 200 events, pings, close, too large, foreign origin, resume"},
	} {
		t.Run(c.program, func(t *testing.T) {
			t.Parallel()
			in := newInstance(t, conformanceConfig)
			passed := in.runProgram(t, c.command, "testdata/conformance/"+c.program)
			if want := strings.Split(c.checks, ", "); !slices.Equal(passed, want) {
				t.Errorf("it checked\n%q, want\n%q", passed, want)
			}
			t.Logf("%d checks passed", len(passed))
		})
	}
}

// runProgram runs a program and does what it asks for. It returns the checks
// that it says have passed.
func (in *instance) runProgram(t *testing.T, command, program string) (passed []string) {
	t.Helper()
	token := in.token()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, program, in.url, token)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "ok":
			passed = append(passed, rest)
		case "restart":
			in.kill()
			in.start()
		case "publish":
			var topic string
			var from, to int
			if _, err := fmt.Sscan(rest, &topic, &from, &to); err != nil {
				t.Error(err)
			}
			in.publishNumbered(t, token, topic, from, to)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", program, err, complaints.String())
	}
	return passed
}

// publishNumbered publishes events as testdata/conformance expects them, one
// of each hundred with 60,000 bytes.
func (in *instance) publishNumbered(t *testing.T, token, topic string, from, to int) {
	t.Helper()
	const batch = 20
	var events []string
	for n := from; n < to; n++ {
		text := fmt.Sprintf("é漢字😀\u2028 %d", n)
		if n%100 == 50 {
			text = strings.Repeat("漢", 20_000)
		}
		events = append(events, fmt.Sprintf(`{"topic":%q,"data":{"n":%d,"text":"%s"}}`, topic, n, text))
		if len(events) < batch && n != to-1 {
			continue
		}
		if _, err := in.publish(t.Context(), token, []byte("["+strings.Join(events, ",")+"]")); err != nil {
			t.Fatal(err)
		}
		events = events[:0]
	}
}

// Chromium's own WebSocket and EventSource do all of that, too, and its pages
// of other origins are refused.
func TestIntegrationConformanceChromium(t *testing.T) {
	in := newInstance(t, conformanceConfig)
	token := in.token()
	script, err := os.ReadFile("testdata/conformance/page.js")
	if err != nil {
		t.Fatal(err)
	}
	ctx, _ := browser(t)
	load := func(page string) {
		t.Helper()
		err := chromedp.Do(ctx, chromedp.Navigate(page), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := chromedp.Evaluate[bool](fmt.Sprintf("window.page = (server => {%s})(%q); true", script, in.url))(ctx, target)
			return err
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(call string) {
		t.Helper()
		bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		wrong, err := chromedp.Run(bounded, chromedp.Evaluate[string]("page."+call, chromedp.EvalAwaitPromise))
		if err != nil || wrong != "" {
			t.Fatalf("%s: %s, %v", call, wrong, err)
		}
	}
	load(in.url + "/healthz") // a page of the server's origin, without a policy of its own
	run("open()")
	in.publishNumbered(t, token, "open/page", 0, 200)
	run("events(200)")
	run("stay()")
	in.publishNumbered(t, token, "open/page", 200, 202)
	run("events(202)")
	run("close()")
	run("tooLarge()")
	in.kill()
	in.start()
	in.publishNumbered(t, token, "open/page", 202, 220)
	run("resume(220)")

	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a page") }))
	defer foreign.Close()
	load(foreign.URL)
	run("foreign()")
}

// The cases of the Autobahn suite against the product. It ignores messages, so
// of the answers only the pongs come; the close codes are the suite's.
func TestIntegrationConformanceAutobahn(t *testing.T) {
	in := newInstance(t, `topics: [{match: "open/**", public: true}]`)
	cases := wstest.Cases()
	t.Logf("%d cases", len(cases))
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			const pong = 0xA
			c.Answers = slices.DeleteFunc(slices.Clone(c.Answers), func(f wstest.Frame) bool { return f.Op != pong })
			conn, status, _ := in.handshake(t, "GET", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", goodKey)
			if status != http.StatusSwitchingProtocols {
				t.Fatalf("the handshake was answered %d", status)
			}
			var head [2]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil || head[0] != 0x81 || head[1] > 125 {
				t.Fatalf("hello begins with % x, %v", head, err)
			}
			if _, err := io.CopyN(io.Discard, conn, int64(head[1])); err != nil {
				t.Fatal(err)
			}
			if err := c.Run(conn); err != nil {
				t.Error(err)
			}
		})
	}
}

const goodKey = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="

// handshake sends a request with these header lines. What follows the answer's
// head is left in the connection.
func (in *instance) handshake(t *testing.T, method string, lines ...string) (conn net.Conn, status int, answer http.Header) {
	t.Helper()
	conn, err := net.Dial("tcp", in.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	request := method + " /v1/ws?topic=open/cases HTTP/1.1\r\nHost: " + in.address + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b...) {
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatalf("after %q: %v", head, err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, resp.StatusCode, resp.Header
}

// What is no handshake is refused by its status (RFC 6455 §4.2).
func TestIntegrationConformanceHandshake(t *testing.T) {
	in := newInstance(t, `topics: [{match: "open/**", public: true}]`)
	const upgrade, connection, version = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"
	for name, c := range map[string]struct {
		status int
		method string
		lines  []string
	}{
		"plain":              {101, "GET", []string{upgrade, connection, version, goodKey}},
		"capitals and lists": {101, "GET", []string{"UPGRADE: WebSocket", "connection: keep-alive, upgrade", version, goodKey}},
		"own origin":         {101, "GET", []string{upgrade, connection, version, goodKey, "Origin: " + in.url}},
		"a subprotocol":      {101, "GET", []string{upgrade, connection, version, goodKey, "Sec-WebSocket-Protocol: chat"}},
		"foreign origin":     {403, "GET", []string{upgrade, connection, version, goodKey, "Origin: https://evil.example"}},
		"no origin at all":   {403, "GET", []string{upgrade, connection, version, goodKey, "Origin: null"}},
		"a cookie":           {403, "GET", []string{upgrade, connection, version, goodKey, "Cookie: a=b"}},
		"version 8":          {426, "GET", []string{upgrade, connection, "Sec-WebSocket-Version: 8", goodKey}},
		"no version":         {426, "GET", []string{upgrade, connection, goodKey}},
		"no upgrade":         {426, "GET", []string{version, goodKey}},
		"no connection":      {426, "GET", []string{upgrade, version, goodKey}},
		"another upgrade":    {426, "GET", []string{"Upgrade: h2c", connection, version, goodKey}},
		"no key":             {400, "GET", []string{upgrade, connection, version}},
		"short key":          {400, "GET", []string{upgrade, connection, version, "Sec-WebSocket-Key: c2hvcnQ="}},
		"two keys":           {400, "GET", []string{upgrade, connection, version, goodKey, goodKey}},
		"wrong token":        {401, "GET", []string{upgrade, connection, version, goodKey, "Authorization: Bearer chp_none"}},
		"HEAD":               {405, "HEAD", []string{upgrade, connection, version, goodKey}},
		"POST":               {404, "POST", []string{upgrade, connection, version, goodKey, "Content-Length: 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, status, answer := in.handshake(t, c.method, c.lines...)
			if status != c.status {
				t.Errorf("answered %d, want %d", status, c.status)
			}
			if got := answer.Get("Sec-WebSocket-Version"); status == 426 && got != "13" {
				t.Errorf("Sec-WebSocket-Version: %q, want 13", got)
			}
			if got := answer["Sec-Websocket-Protocol"]; got != nil { // §4.2.2: one that was asked for, or none
				t.Errorf("the subprotocol is %q, want none", got)
			}
		})
	}
}
