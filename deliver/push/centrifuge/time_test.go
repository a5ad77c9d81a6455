package centrifuge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/deliver/push/centrifuge"
	"github.com/chappe/chappe/event"
)

// idleLog is a log in which nothing happens: a synctest bubble does without
// files and sockets.
type idleLog struct{}

func (idleLog) Head() event.Cursor { return event.Cursor{Epoch: "aaaa", Seq: 1} }

func (l idleLog) Read(context.Context, event.Query) (event.Page, error) {
	return event.Page{Cursor: l.Head()}, nil
}

func (idleLog) Publish(context.Context, event.Batch) ([]event.Receipt, error) { return nil, nil }

// pipe is a response that is read while it is written.
type pipe struct{ *io.PipeWriter }

func (pipe) Header() http.Header              { return http.Header{} }
func (pipe) WriteHeader(int)                  {}
func (pipe) Flush()                           {}
func (pipe) SetWriteDeadline(time.Time) error { return nil }

// bubble has a server without a network, and a client of http_stream.
func bubble(t *testing.T, test func(t *testing.T, access *account.Access, dial func(first string) *client)) {
	synctest.Test(t, func(t *testing.T) {
		access := newAccess(t, nil)
		hub := push.New(idleLog{}, access, push.Options{Logger: slog.New(slog.DiscardHandler)})
		s := centrifuge.New(hub, centrifuge.Options{Publisher: idleLog{}, Reader: idleLog{}, Access: access, Logger: slog.New(slog.DiscardHandler)})
		test(t, access, func(first string) *client {
			r, w := io.Pipe()
			lines := bufio.NewReader(r)
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/connection/http_stream", strings.NewReader(first))
			go func() { // ends with the session
				s.Stream(pipe{w}, request)
				w.Close()
			}()
			c := &client{t: t, id: 1}
			c.read = func() (string, error) { return lines.ReadString('\n') }
			c.write = func(text string) error {
				body, err := json.Marshal(map[string]string{"session": c.over, "node": c.node, "data": text})
				if err != nil {
					return err
				}
				s.Emulation(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/emulation", strings.NewReader(string(body))))
				return nil
			}
			return c
		})
		hub.Drain(t.Context())
	})
}

// met takes the reply to connect.
func (c *client) met() message {
	c.t.Helper()
	m := c.must()
	c.over, c.node, c.name = m.Connect.Session, m.Connect.Node, m.Connect.Client
	return m
}

func (c *client) wantEnd(code int, began time.Time, after time.Duration) {
	c.t.Helper()
	c.ends(code)
	if d := time.Since(began); d < after || d > after+time.Second {
		c.t.Errorf("ended after %v, want %v", d, after)
	}
	if _, err := c.next(); err != io.EOF {
		c.t.Errorf("%v after the last word, want the end", err)
	}
}

func TestStale(t *testing.T) {
	bubble(t, func(_ *testing.T, _ *account.Access, dial func(string) *client) {
		c := dial("{}")
		c.wantEnd(3502, time.Now(), 5*time.Second)
	})
}

func TestNoPong(t *testing.T) {
	bubble(t, func(t *testing.T, _ *account.Access, dial func(string) *client) {
		began := time.Now()
		c := dial(`{"id":1,"connect":{}}`)
		c.met()
		for n := range 3 {
			if text, err := c.read(); text != "{}\n" || err != nil || time.Since(began).Round(time.Second) != time.Duration(n+1)*25*time.Second {
				t.Fatalf("got %q, %v after %v, want ping %d", text, err, time.Since(began), n)
			}
			if n < 2 {
				time.Sleep(9 * time.Second)
				if err := c.write("{}"); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.wantEnd(3012, began, 85*time.Second)
	})
}

func TestExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, access *account.Access, dial func(string) *client) {
		token := func(user string, ttl time.Duration, patterns ...event.Pattern) string {
			text, err := access.Verifier.Sign(user, patterns, ttl)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		began := time.Now()
		c := dial(`{"id":1,"connect":{"token":"` + token("alice", 20*time.Second, "secret/a", "secret/b") + `"}}`)
		if m := c.met(); !m.Connect.Expires || m.Connect.TTL != 18 {
			t.Errorf("connected with %+v, want to be told 2 s ahead", m.Connect)
		}
		c.do(`"subscribe":{"channel":"secret/a"}`)
		c.do(`"subscribe":{"channel":"secret/b"}`)
		time.Sleep(15 * time.Second)
		c.fails(109, `"refresh":{"token":%q}`, expired)
		reply, pushes := c.do(`"refresh":{"token":%q}`, token("alice", time.Minute, "secret/b"))
		if !reply.Refresh.Expires || reply.Refresh.TTL != 54 || reply.Refresh.Client != c.name {
			t.Errorf("refreshed with %+v", reply.Refresh)
		}
		if len(pushes) > 0 {
			t.Errorf("%+v came before the reply", pushes)
		}
		if m := c.must().Push; m.Channel != "secret/a" || m.Unsubscribe.Code < 2500 {
			t.Errorf("got %+v, want secret/a ended", m)
		}
		c.fails(103, `"subscribe":{"channel":"secret/a"}`)
		c.fails(105, `"subscribe":{"channel":"secret/b"}`)
		c.wantEnd(3005, began, 75*time.Second)

		for name, other := range map[string]string{"another user's": token("bob", time.Hour), "wrong": "wrong"} {
			c := dial(`{"id":1,"connect":{"token":"` + token("alice", time.Minute) + `"}}`)
			c.met()
			c.send(`"refresh":{"token":%q}`, other)
			if _, err := c.next(); err != (wsutil.ClosedError{Code: 3500, Reason: "invalid token"}) {
				t.Errorf("%s: %v, want 3500", name, err)
			}
		}
	})
}
