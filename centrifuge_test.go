//go:build integration

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// centrifugeJS is an unmodified centrifuge-js in Node.
type centrifugeJS struct {
	t     *testing.T
	stdin io.Closer
	lines chan centrifugeLine
}

// centrifugeLine is what deliver/push/centrifuge/testdata/client.mjs prints.
type centrifugeLine struct {
	Done          bool
	Error         json.RawMessage
	Subscribed    json.RawMessage
	WasRecovering bool
	Recovered     bool
	ServerSide    string
	N             *int
	Mine          *int
	Offset        int64
	Asked         int
	Connected     int
}

const centrifugeConfig = `
access: {jwt: {hs256_secret_file: secret}}
topics:
  - {match: "chat/**", public: true, publish: true, presence: true, join_leave: true}
  - {match: "secret/**"}
  - {match: "**", public: true, keep: {events: 1000000}}
`

func newCentrifuge(t *testing.T) *instance {
	t.Helper()
	config := strings.Replace(centrifugeConfig, "secret}", centrifugeSecretFile(t)+"}", 1)
	return newInstance(t, config)
}

const centrifugeSecret = "integration tests sign with this secret"

func centrifugeSecretFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(centrifugeSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (in *instance) centrifuge(t *testing.T, transport, task string, args ...string) *centrifugeJS {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"deliver/push/centrifuge/testdata/client.mjs", in.url, transport, task}, args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	js := &centrifugeJS{t: t, stdin: stdin, lines: make(chan centrifugeLine, 10_000)}
	go func() { // ends with the process
		defer close(js.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var line centrifugeLine
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Errorf("%q: %v", lines.Text(), err)
			}
			js.lines <- line
		}
		_ = cmd.Wait() // its last line says how it ended
	}()
	return js
}

// next is the next line that is no error of a connection that was cut.
func (js *centrifugeJS) next() centrifugeLine {
	js.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-js.lines:
			if !ok {
				js.t.Fatal("the client ended before it was done")
			}
			if line.Error == nil {
				return line
			}
		case <-late:
			js.t.Fatal("the client says nothing more")
		}
	}
}

func (js *centrifugeJS) end() (last centrifugeLine) {
	js.t.Helper()
	_ = js.stdin.Close() // it may have ended
	for line := js.next(); !line.Done; line = js.next() {
		last = line
	}
	return last
}

var centrifugeTransports = []string{"websocket", "http_stream", "sse"}

func TestIntegrationCentrifugeMethods(t *testing.T) {
	in := newCentrifuge(t)
	for _, transport := range centrifugeTransports {
		t.Run(transport, func(t *testing.T) { in.centrifuge(t, transport, "methods").end() })
	}
}

// What a page follows goes out in one message, and comes back after a kill.
func TestIntegrationCentrifugeMany(t *testing.T) {
	in := newCentrifuge(t)
	var clients []*centrifugeJS
	for _, transport := range centrifugeTransports {
		clients = append(clients, in.centrifuge(t, transport, "many"))
	}
	for _, js := range clients {
		if line := js.next(); string(line.Subscribed) != "100" {
			t.Fatalf("%+v, want 100 subscriptions", line)
		}
	}
	in.kill()
	in.start()
	for _, js := range clients {
		js.end()
	}
}

// Over kills of the server each client sees every event once and in order.
func TestIntegrationCentrifugeKill(t *testing.T) {
	const kills, perKill = 10, 80
	in := newCentrifuge(t)
	token := in.token()
	clients := map[string]*centrifugeJS{}
	for _, transport := range centrifugeTransports {
		clients[transport] = in.centrifuge(t, transport, "follow")
	}
	for transport, js := range clients {
		if line := js.next(); line.Subscribed == nil {
			t.Fatalf("%s: %+v, want a subscription", transport, line)
		}
	}
	published := 0
	for kill := range kills + 1 {
		for range perKill {
			body := fmt.Appendf(nil, `{"topic":"load/%d","id":"%d","data":{"n":%d}}`, published%3, published, published)
			if _, err := in.publish(t.Context(), token, body); err != nil {
				t.Fatal(err)
			}
			published++
		}
		if kill < kills {
			in.kill()
			in.start()
		}
	}
	for transport, js := range clients {
		recovered := 0
		last := int64(0)
		for n := 0; n < published; {
			line := js.next()
			switch {
			case line.Subscribed != nil && (!line.WasRecovering || !line.Recovered):
				t.Fatalf("%s: after %d events: %+v, want recovered", transport, n, line)
			case line.Subscribed != nil:
				recovered++
			case line.N == nil || *line.N != n || line.Offset <= last:
				t.Fatalf("%s: %+v, want event %d past %d", transport, line, n, last)
			default:
				n, last = n+1, line.Offset
			}
		}
		if line := js.end(); line.N != nil {
			t.Errorf("%s: %+v came after the last event", transport, line)
		}
		t.Logf("%s: %d events over %d kills, %d recoveries: all there, once, in order", transport, published, kills, recovered)
	}
}

// A client renews its token by getToken and stays; its server-side
// subscription recovers after a kill.
func TestIntegrationCentrifugeTokens(t *testing.T) {
	in := newCentrifuge(t)
	key := jose.SigningKey{Algorithm: jose.HS256, Key: []byte(centrifugeSecret)}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	var first atomic.Int64
	given := make(chan struct{}, 1000)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		given <- struct{}{}
		lifetime := 4 * time.Second
		if first.Add(1) <= int64(len(centrifugeTransports)) {
			lifetime = -time.Hour // the client is told so, and gets another
		}
		claims := fmt.Sprintf(`{"sub":"alice","exp":%d,"channels":["secret/in"],"topics":["secret/mine"]}`, time.Now().Add(lifetime).Unix())
		object, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Error(err)
			return
		}
		token, err := object.CompactSerialize()
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, token) // the client may have gone
	}))
	defer tokens.Close()
	admin := in.token()
	n := 0
	publish := func(topic string) {
		t.Helper()
		if _, err := in.publish(t.Context(), admin, fmt.Appendf(nil, `{"topic":%q,"id":"%d","data":{"n":%d}}`, topic, n, n)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	clients := map[string]*centrifugeJS{}
	for _, transport := range centrifugeTransports {
		clients[transport] = in.centrifuge(t, transport, "tokens", tokens.URL)
	}
	for transport, js := range clients {
		if line := js.next(); line.ServerSide != "secret/in" || line.WasRecovering {
			t.Fatalf("%s: %+v, want a server-side subscription", transport, line)
		}
	}
	for range 4 * len(clients) { // one that has expired, one to connect, two renewals
		<-given
	}
	publish("secret/in")
	publish("secret/mine")
	for transport, js := range clients {
		for range 2 {
			if line := js.next(); line.N == nil && line.Mine == nil {
				t.Fatalf("%s: %+v, want the events of both subscriptions", transport, line)
			}
		}
	}
	in.kill()
	in.start()
	publish("secret/in")
	for transport, js := range clients {
		if line := js.next(); line.ServerSide != "secret/in" || !line.Recovered {
			t.Fatalf("%s: %+v, want it recovered", transport, line)
		}
		if line := js.next(); line.N == nil || *line.N != 2 {
			t.Fatalf("%s: %+v, want event 2", transport, line)
		}
		if last := js.end(); last.Connected != 2 || last.Asked < 3 {
			t.Errorf("%s: connected %d times by %d tokens, want twice by more than 2", transport, last.Connected, last.Asked)
		}
	}
}
