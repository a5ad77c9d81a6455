package centrifuge_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

func each(t *testing.T, test func(t *testing.T, d dial)) {
	for name, d := range transports {
		t.Run(name, func(t *testing.T) { test(t, d) })
	}
}

func TestSubscribe(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		head := f.publish(t, "elsewhere", 1, 3)
		c := f.connect(t, d, "")
		if socket := strings.HasSuffix(t.Name(), "websocket"); (c.over == "") != socket || (c.node == "") != socket {
			t.Errorf("session %q, node %q", c.over, c.node)
		}
		for _, channel := range []string{"news/go", "news/*"} {
			reply, _ := c.do(`"subscribe":{"channel":%q}`, channel)
			want := subscribed{Recoverable: true, Positioned: true, Epoch: head.Epoch, Offset: head.Seq}
			if diff := cmp.Diff(want, reply.Subscribe); diff != "" {
				t.Errorf("%s: %s", channel, diff)
			}
		}
		at := f.publish(t, "news/go", 7, 7)
		channels := map[string]bool{}
		for range 2 {
			m := c.must()
			channels[m.Push.Channel] = true
			if m.Push.Pub == nil || m.Push.Pub.Offset != at.Seq || string(m.Push.Pub.Data) != "7" {
				t.Errorf("got %+v, want 7 at %d", m.Push, at.Seq)
			}
			tags := m.Push.Pub.Tags
			if tags["topic"] != "news/go" || tags["type"] != "test" || tags["source"] != "/test" || tags["id"] == "" || tags["time"] == "" {
				t.Errorf("tags %v", tags)
			}
			if _, ok := tags["subject"]; ok {
				t.Errorf("tags %v, want no empty ones", tags)
			}
		}
		if !channels["news/go"] || !channels["news/*"] {
			t.Errorf("channels %v, want those subscribed to", channels)
		}
		if reply, _ := c.do(`"unsubscribe":{"channel":"news/go"}`); reply.Unsubscribe == nil {
			t.Errorf("unsubscribed with %+v", reply)
		}
		f.publish(t, "news/go", 8, 8)
		if m := c.must(); m.Push.Channel != "news/*" {
			t.Errorf("got %+v, want news/* alone", m.Push)
		}
		c.quiet()
	})
}

// Data goes as it does on the wire.
func TestData(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialWebSocket, "")
	c.do(`"subscribe":{"channel":"a"}`)
	cases := []struct {
		contentType, data, want string
	}{
		{"", `{"a":[1,"<&>"]}`, `{"a":[1,"<&>"]}`},
		{"application/problem+json", `{}`, `{}`},
		{"text/plain", "a \"b\"\n", `"a \"b\"\n"`},
		{"image/png", "\x89PNG", `"iVBORw=="`},
		{"", "", "null"},
	}
	for _, tc := range cases {
		e := event.Event{Source: "/test", Type: "test", Topic: "a", Subject: "s", ContentType: tc.contentType, Data: []byte(tc.data)}
		if _, err := f.bus.Publish(f.ctx, event.Batch{Events: []event.Event{e}}); err != nil {
			t.Fatal(err)
		}
		if m := c.must(); string(m.Push.Pub.Data) != tc.want || m.Push.Pub.Tags["subject"] != "s" {
			t.Errorf("%s: got %s, want %s", tc.contentType, m.Push.Pub.Data, tc.want)
		}
	}
}

func TestEphemeral(t *testing.T) {
	f := newFixture(t, push.Limits{})
	head := f.publish(t, "elsewhere", 1, 1)
	c := f.connect(t, dialWebSocket, "")
	reply, _ := c.do(`"subscribe":{"channel":"pointer/a","recover":true,"offset":%d,"epoch":%q}`, head.Seq, head.Epoch)
	if diff := cmp.Diff(subscribed{WasRecovering: true}, reply.Subscribe); diff != "" {
		t.Error(diff)
	}
	f.publish(t, "pointer/a", 5, 5)
	if m := c.must(); m.Push.Pub == nil || m.Push.Pub.Offset != 0 || string(m.Push.Pub.Data) != "5" {
		t.Errorf("got %+v", m.Push)
	}
	c.fails(108, `"history":{"channel":"pointer/a"}`)
}

func TestErrors(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialWebSocket, f.token(t, "alice", time.Hour, "secret/alice/**"))
	for command, code := range map[string]int{
		`"subscribe":{"channel":"secret/bob"}`:                               103,
		`"subscribe":{"channel":"secret/**"}`:                                103,
		`"subscribe":{"channel":""}`:                                         107,
		`"subscribe":{"channel":"a b"}`:                                      107,
		`"subscribe":{"channel":"` + strings.Repeat("a", 256) + `"}`:         107,
		`"publish":{"channel":"news","data":1}`:                              103,
		`"publish":{"channel":"secret/chat","data":1}`:                       103,
		`"publish":{"channel":"chat/*","data":1}`:                            107,
		`"publish":{"channel":"chat/a"}`:                                     107,
		`"presence":{"channel":"news"}`:                                      108,
		`"presence":{"channel":"secret/chat"}`:                               103,
		`"presence_stats":{"channel":"news"}`:                                108,
		`"history":{"channel":"secret/bob"}`:                                 103,
		`"history":{"channel":"news","since":{"offset":9,"epoch":"no"}}`:     112,
		`"history":{"channel":"news","limit":1,"since":{"offset":99999999}}`: 112,
		`"rpc":{"method":"x","data":{}}`:                                     108,
		`"sub_refresh":{"channel":"news","token":"x"}`:                       108,
		`"refresh":{}`:      107,
		`"map_publish":{}`:  104,
		`"anything else":1`: 104,
	} {
		c.fails(code, "%s", command)
	}
	c.do(`"subscribe":{"channel":"secret/alice/in"}`)
	c.fails(105, `"subscribe":{"channel":"secret/alice/in"}`)
	if err := c.write(`{"send":{"data":1}}`); err != nil {
		t.Fatal(err)
	}
	c.quiet()
}

func TestBadRequests(t *testing.T) {
	f := newFixture(t, push.Limits{})
	for name, text := range map[string]string{
		"not json":        `{"id":1,`,
		"array":           `[]`,
		"wrong type":      `{"id":"1","connect":{}}`,
		"no connect":      `{"id":1,"subscribe":{"channel":"a"}}`,
		"no id":           `{"connect":{}}`,
		"connected twice": `{"id":1,"connect":{}}` + "\n" + `{"id":2,"connect":{}}`,
		"many commands":   strings.Repeat("{}\n", 257),
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, d dial) { d(t, f, text).ends(3501) })
		})
	}
}

func TestTokens(t *testing.T) {
	f := newFixture(t, push.Limits{PerUser: 1})
	dialWebSocket(t, f, `{"id":1,"connect":{"token":"wrong"}}`).ends(3500)
	dialStream(t, f, `{"id":1,"connect":{"token":"wrong"}}`).ends(3500)
	_, m := f.connectWith(t, dialWebSocket, `{"token":"`+expired+`"}`)
	if m.Error.Code != 109 {
		t.Errorf("connected by an expired token with %+v, want 109", m)
	}
	again := dialWebSocket(t, f, `{"id":1,"connect":{"token":"`+expired+`"}}`+"\n"+`{"id":2,"subscribe":{"channel":"a"}}`)
	again.id = 2
	if first, second := again.must(), again.must(); first.Error.Code != 109 || second.Error.Code != 101 {
		t.Errorf("a frame that begins with an expired token: %+v, %+v, want 109 and 101", first.Error, second.Error)
	}
	if m, _ := again.do(`"connect":{}`); m.Connect.Client == "" {
		t.Errorf("connected after all with %+v", m)
	}
	token := f.token(t, "alice", time.Hour, "secret/alice/**")
	c, m := f.connectWith(t, dialWebSocket, `{"token":"`+token+`"}`)
	if !m.Connect.Expires || m.Connect.TTL < 3500 || m.Connect.TTL > 3600 {
		t.Errorf("connected with %+v, want its expiry", m.Connect)
	}
	if _, m := f.connectWith(t, dialWebSocket, `{"token":"`+token+`"}`); m.Error.Code != 111 || !m.Error.Temporary {
		t.Errorf("a session too many: %+v, want 111", m)
	}
	if reply, _ := c.do(`"subscribe":{"channel":"secret/alice/*"}`); !reply.Subscribe.Recoverable {
		t.Errorf("subscribed with %+v", reply)
	}
}

// expired is signed with the fixture's secret, and ended in 1989.
var expired = signed(`{"sub":"alice","exp":600000000,"topics":["a"]}`)

// What a request shows counts where the client sends no token.
func TestAuthorizationOfRequest(t *testing.T) {
	f := newFixture(t, push.Limits{})
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + f.token(t, "alice", time.Hour, "secret/**")}}}
	conn, _, _, err := dialer.Dial(f.ctx, "ws"+strings.TrimPrefix(f.server.URL, "http")+"/connection/websocket")
	if err != nil {
		t.Fatal(err)
	}
	c := socketClient(t, f, conn)
	if m, _ := c.do(`"connect":{}`); m.Connect.Client == "" || m.Connect.Expires {
		t.Errorf("connected with %+v, want no expiry that the client could not do anything about", m)
	}
	if m, _ := c.do(`"subscribe":{"channel":"secret/a"}`); m.Error.Code != 0 {
		t.Errorf("subscribed with %+v", m)
	}
}

// A message of centrifuge-js has all that it subscribes to.
func TestBatch(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := dialWebSocket(t, f, `{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"batch/0"}}`)
	for id := range 2 {
		if m := c.must(); m.ID != uint32(id+1) || m.Error.Code != 0 {
			t.Fatalf("got %+v", m)
		}
	}
	f.publish(t, "batch/0", 1, 1)
	c.numbers(1) // so its loop knows where the log is
	lines := make([]string, 128)
	for n := range lines {
		lines[n] = fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"batch/%d"}}`, n+3, n+1)
	}
	if err := c.write(strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
	frame := c.frame
	for n := range 127 {
		if m := c.must(); m.ID != uint32(n+3) || m.Error.Code != 0 {
			t.Fatalf("reply %d is %+v", n, m)
		}
	}
	if m := c.must(); m.Error.Code != 106 {
		t.Errorf("subscription 129: %+v, want error 106", m)
	}
	if c.frame != frame+1 {
		t.Errorf("128 replies came in %d frames, want one", c.frame-frame)
	}
	f.publish(t, "batch/99", 1, 1)
	if got := c.numbers(1); got[0] != 1 {
		t.Errorf("got %v", got)
	}
	c.id = 1000
	c.do(`"unsubscribe":{"channel":"batch/5"}`)
	if m, _ := c.do(`"subscribe":{"channel":"batch/128"}`); m.Error.Code != 0 {
		t.Errorf("subscribed with %+v after another was given up", m)
	}
}

// Replies that are produced together go together, where the transport can.
func TestRepliesTogether(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		c := f.connect(t, d, "")
		if err := c.write(`{"id":2,"ping":{}}` + "\n\n" + `{"id":3,"ping":{}}` + "\n"); err != nil {
			t.Fatal(err)
		}
		first, second := c.must(), c.must()
		if first.ID != 2 || second.ID != 3 {
			t.Errorf("got %+v and %+v, want both replies", first, second)
		}
		if strings.HasSuffix(t.Name(), "websocket") != (first.frame == second.frame) {
			t.Errorf("they came in the frames %d and %d", first.frame, second.frame)
		}
	})
}

func TestPublish(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		alice := f.connect(t, d, f.token(t, "ali ce", time.Hour, "secret/chat"))
		guest := f.connect(t, d, "")
		alice.do(`"subscribe":{"channel":"chat/a"}`)
		alice.do(`"subscribe":{"channel":"secret/chat"}`)
		for n := range 20 { // in order, although none is waited for
			guest.send(`"publish":{"channel":"chat/a","data":%d}`, n)
		}
		var got []int
		for len(got) < 20 {
			if p := alice.must().Push.Pub; p != nil {
				got = append(got, number(t, *p))
				if p.Tags["type"] != "message" || p.Tags["source"] != "/clients/"+guest.name {
					t.Errorf("published with %v", p.Tags)
				}
			}
		}
		if strings.HasSuffix(t.Name(), "websocket") { // emulation's requests are apart
			if diff := cmp.Diff(sequence(0, 19), got); diff != "" {
				t.Error(diff)
			}
		}
		reply, pushes := alice.do(`"publish":{"channel":"secret/chat","data":{"x":1}}`)
		for len(pushes) == 0 {
			pushes = append(pushes, alice.must())
		}
		if reply.Publish == nil || pushes[0].Push.Pub == nil || pushes[0].Push.Pub.Tags["source"] != "/clients/ali%20ce" {
			t.Errorf("published with %+v, got %+v", reply, pushes)
		}
		guest.fails(103, `"publish":{"channel":"secret/chat","data":1}`)
	})
}

func TestPublishMuch(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialWebSocket, "")
	if m, _ := c.do(`"publish":{"channel":"chat/a","data":"%s"}`, strings.Repeat("x", 60_000)); m.Publish == nil {
		t.Errorf("published 60,000 bytes with %+v", m.Error)
	}
}

func TestHistory(t *testing.T) {
	f := newFixture(t, push.Limits{})
	head := event.Cursor{}
	var offsets []int64
	for n := range 30 {
		head = f.publish(t, "h/a", n, n)
		offsets = append(offsets, head.Seq)
		f.publish(t, "other", n, n)
	}
	c := f.connect(t, dialWebSocket, "")
	for query, want := range map[string][]int{
		``:              nil,
		`,"limit":0`:    nil,
		`,"limit":3`:    sequence(0, 2),
		`,"limit":-1`:   sequence(0, 29),
		`,"limit":5000`: sequence(0, 29),
		fmt.Sprintf(`,"limit":2,"since":{"offset":%d,"epoch":%q}`, offsets[9], head.Epoch): {10, 11},
		fmt.Sprintf(`,"limit":-1,"since":{"offset":%d}`, offsets[27]):                      {28, 29},
		`,"limit":3,"reverse":true`: {29, 28, 27},
		fmt.Sprintf(`,"limit":2,"reverse":true,"since":{"offset":%d}`, offsets[2]):   {1, 0},
		fmt.Sprintf(`,"limit":5,"reverse":true,"since":{"offset":%d}`, offsets[2]):   {1, 0},
		fmt.Sprintf(`,"limit":1,"reverse":true,"since":{"offset":%d}`, int64(1)<<62): {29},
	} {
		reply, _ := c.do(`"history":{"channel":"h/a"%s}`, query)
		var got []int
		for _, p := range reply.History.Publications {
			got = append(got, number(t, p))
		}
		if diff := cmp.Diff(want, got); diff != "" || reply.History.Epoch != head.Epoch || reply.History.Offset != f.bus.Head().Seq {
			t.Errorf("%s: %+v %s", query, reply.Error, diff)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	f := newFixture(t, push.Limits{})
	f.publish(t, "h/a", 0, 999)
	f.publish(t, "h/a", 1000, 1999)
	f.publish(t, "far", 0, 0)
	f.publish(t, "h/b", 0, 999)
	c := f.connect(t, dialWebSocket, "")
	for _, limit := range []int{-1, 1000, 5000} {
		first, _ := c.do(`"history":{"channel":"h/a","limit":%d}`, limit)
		if n := len(first.History.Publications); n != 1000 || number(t, first.History.Publications[999]) != 999 {
			t.Errorf("limit %d: %d events, want the first 1,000", limit, n)
		}
	}
	last, _ := c.do(`"history":{"channel":"h/a","limit":900,"reverse":true}`)
	if n := len(last.History.Publications); n != 900 || number(t, last.History.Publications[899]) != 1100 {
		t.Errorf("%d events, want the last 900", n)
	}
	if m, _ := c.do(`"history":{"channel":"h/*","limit":1,"reverse":true}`); len(m.History.Publications) != 1 || m.History.Publications[0].Tags["topic"] != "h/b" {
		t.Errorf("the newest is %+v", m.History.Publications)
	}
}

func TestEmulationOfOthers(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialStream, "")
	for _, other := range [][2]string{{"nobody", c.node}, {c.over, "elsewhere"}, {"", ""}} {
		if status, err := f.emulate(other[0], other[1], `{"id":9,"ping":{}}`); err != nil || status != http.StatusNotFound {
			t.Errorf("%v: %d, %v, want 404", other, status, err)
		}
	}
	resp, err := f.server.Client().Post(f.server.URL+"/emulation", "application/json", strings.NewReader("{"))
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("nonsense: %v, %v, want 400", resp, err)
	}
	resp.Body.Close()
	large := bytes.Repeat([]byte("x"), 70_000)
	resp, err = f.server.Client().Post(f.server.URL+"/emulation", "application/json", bytes.NewReader(large))
	if err == nil {
		resp.Body.Close()
	}
	if err == nil && resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("70,000 bytes: %v, want 413", resp.Status)
	}
	session, node := c.over, c.node
	c.quiet()
	f.hub.Drain(f.ctx)
	if status, err := f.emulate(session, node, "{}"); err != nil || status != http.StatusNotFound {
		t.Errorf("a session that has ended: %d, %v, want 404", status, err)
	}
}

func TestForeignOrigin(t *testing.T) {
	f := newFixture(t, push.Limits{})
	c := f.connect(t, dialStream, "")
	for target, method := range map[string]string{
		"/connection/websocket": "GET", "/connection/sse?cf_connect={}": "GET", "/connection/http_stream": "POST", "/emulation": "POST",
	} {
		body := fmt.Sprintf(`{"session":%q,"node":%q,"data":"{\"id\":5,\"ping\":{}}"}`, c.over, c.node)
		req, err := http.NewRequestWithContext(f.ctx, method, f.server.URL+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}
		if target == "/connection/websocket" {
			req.Header["Upgrade"], req.Header["Connection"] = []string{"websocket"}, []string{"Upgrade"}
			req.Header.Set("Sec-WebSocket-Version", "13")
			req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		}
		resp, err := f.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s, want 403", target, resp.Status)
		}
	}
	c.quiet()
}

func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		c := f.connect(t, d, "")
		c.do(`"subscribe":{"channel":"chat/a"}`)
		ended := make(chan struct{})
		go func() { // ends with Drain
			defer close(ended)
			f.hub.Drain(f.ctx)
		}()
		c.ends(3001)
		<-ended
	})
}

// A session that is refused is told so in a way that brings it back.
func TestRefused(t *testing.T) {
	f := newFixture(t, push.Limits{Connections: 1})
	f.connect(t, dialWebSocket, "")
	dialWebSocket(t, f, "").ends(1013)
	resp, err := f.server.Client().Post(f.server.URL+"/connection/http_stream", "application/json", strings.NewReader(`{"id":1,"connect":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("refused with %s %v, want 503 and Retry-After", resp.Status, resp.Header)
	}
}
