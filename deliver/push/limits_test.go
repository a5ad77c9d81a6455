package push_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/push"
)

func TestLimits(t *testing.T) {
	cases := map[string]push.Limits{
		"connections": {Connections: 2},
		"per_address": {PerAddress: 2},
		"per_user":    {PerUser: 2},
	}
	for name, limits := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, limits)
			ask := request{topics: []string{"a"}, token: f.token(t, "alice", time.Hour)}
			f.connect(t, dialSSE, ask)
			first := f.connect(t, dialWS, ask)
			wantRefused(t, f, ask)
			if name == "per_user" {
				f.connect(t, dialSSE, request{topics: []string{"a"}}).close() // anonymous sessions have no user
			}
			first.close()
			f.await(t, "the place", func() bool { return f.sessions(t, "websocket") == 0 })
			c, err := openWS(f, ask)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			for m, err := c.next(); m.Control != "hello"; m, err = c.next() { // the place is given back after the count
				if c.close(); err != nil && !isClose(err, 1013) {
					t.Fatal(err)
				}
				if c, err = openWS(f, ask); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Sessions of one API token are counted too.
func TestLimitOfAToken(t *testing.T) {
	f := newFixture(t, push.Limits{PerToken: 1})
	token := account.Token{Name: "robot", Scopes: []account.Scope{account.ScopeRead}, Created: time.Now()}
	secret := token.NewSecret()
	if err := f.access.Tokens.AddToken(f.ctx, token); err != nil {
		t.Fatal(err)
	}
	ask := request{topics: []string{"a"}, token: secret}
	f.connect(t, dialSSE, ask)
	wantTryAgain(t, f, ask, "too-many-sessions")
}

// wantRefused tries each transport.
func wantRefused(t *testing.T, f *fixture, ask request) {
	t.Helper()
	resp, err := f.get("/v1/stream", ask)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || err != nil || !bytes.HasPrefix(body, []byte("retry: ")) {
		t.Errorf("a stream too many: %s %q, %v, want 200, a retry: line and the end", resp.Status, body, err)
	}

	_, resp, err = f.poll(ask, "")
	if resp == nil {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusServiceUnavailable || err != nil || seconds < 1 || seconds > 10 {
		t.Errorf("a poll too many: %s %v, want 503 and Retry-After", resp.Status, resp.Header)
	}

	wantTryAgain(t, f, ask, "too-many-sessions")
}

func wantTryAgain(t *testing.T, f *fixture, ask request, code string) {
	t.Helper()
	c, err := openWS(f, ask)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if m, err := c.next(); err != nil || m.Control != "error" || m.Code != code {
		t.Errorf("a WebSocket refused: %+v, %v, want the error %s", m, err, code)
	}
	if _, err := c.next(); !isClose(err, 1013) || !strings.Contains(err.Error(), "retry=") {
		t.Errorf("a WebSocket refused: %v, want 1013 with retry=", err)
	}
}

func TestRefusedWhileDraining(t *testing.T) {
	f := newFixture(t, push.Limits{})
	f.hub.Drain(f.ctx)
	ask := request{topics: []string{"a"}}
	s, err := openSSE(f, ask)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if m, err := s.next(); err != nil || m.Control != "error" || m.Code != "closing" || s.retry == "" {
		t.Errorf("stream: %+v, %v, retry %q, want the error closing and a retry", m, err, s.retry)
	}
	if _, err := s.next(); err != io.EOF {
		t.Errorf("stream: %v, want its end", err)
	}
	if _, resp, _ := f.poll(ask, ""); resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("poll: %v, want 503 with Retry-After", resp)
	}
	wantTryAgain(t, f, ask, "closing")
}
