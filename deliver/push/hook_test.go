package push_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/internal/problem"
)

// roundTrip is an application without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f roundTrip) hook() *account.Hook {
	return account.NewHook(account.HookConfig{URL: "http://127.0.0.1:6543/whoami"}, &http.Client{Transport: f}, slog.New(slog.DiscardHandler), nil)
}

// Whose session it is cannot be found out now: each transport is told to come
// back, in the way that a browser obeys.
func TestHookFailed(t *testing.T) {
	f := newFixture(t, push.Limits{})
	f.access.Hook = roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }).hook()
	ask := request{topics: []string{"a"}, token: "opaque"}

	s, err := openSSE(f, ask)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	m, err := s.next()
	if retry, _ := strconv.Atoi(s.retry); err != nil || m.Control != "error" || m.Code != "hook-failed" || retry < 1000 || retry > 10_000 {
		t.Errorf("stream: %+v, %v, retry %q, want the error hook-failed and a retry of 1 to 10 s", m, err, s.retry)
	}
	if _, err := s.next(); err != io.EOF {
		t.Errorf("stream: %v, want its end", err)
	}

	wantTryAgain(t, f, ask, "hook-failed")

	w := httptest.NewRecorder()
	f.hub.Poll(w, newRequest(t, ask.url("", "/v1/poll"), ask.token))
	var p problem.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != http.StatusServiceUnavailable || p.Code != "hook-failed" || err != nil || seconds < 1 || seconds > 10 {
		t.Errorf("poll: %d %v %+v, want 503, hook-failed and Retry-After", w.Code, w.Header(), p)
	}
}

// What the application lets in ends when it says, on every transport and by
// a ticket, too.
func TestHookExpiryEndsASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		access := newAccess(t, nil)
		access.Hook = roundTrip(func(*http.Request) (*http.Response, error) {
			body := `{"user":"alice","topics":["secret/a"],"expires":"` + time.Now().Add(30*time.Second).Format(time.RFC3339Nano) + `"}`
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}, nil
		}).hook()
		hub := push.New(idleLog{}, access, push.Options{})
		byCookie := func(ask request) *http.Request {
			r := newRequest(t, ask.url("", "/"), "")
			r.Header.Set("Cookie", "session=1")
			return r
		}
		began := time.Now()
		id, err := access.Identify(byCookie(request{}))
		if err != nil {
			t.Fatal(err)
		}
		ticket, _, err := access.Tickets.Issue(id)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)

		took := make(chan map[string]time.Duration)
		end := func(name string, serve func()) {
			serve()
			took <- map[string]time.Duration{name: time.Since(began)}
		}
		for name, r := range map[string]*http.Request{
			"stream":           byCookie(request{topics: []string{"secret/a"}}),
			"stream by ticket": newRequest(t, request{topics: []string{"secret/a"}, ticket: ticket}.url("", "/"), ""),
		} {
			go end(name, func() { // ends with the identity
				w := newPipe(t)
				go func() { hub.Stream(w, r); w.end() }()
				if text, _ := io.ReadAll(w.lines); !strings.Contains(string(text), `"code":"token-expired"`) {
					t.Errorf("%s ended with %q, want token-expired", name, text)
				}
			})
		}
		for name, r := range map[string]*http.Request{
			"poll":           byCookie(request{topics: []string{"secret/a"}, wait: "55s"}),
			"poll by ticket": newRequest(t, request{topics: []string{"secret/a"}, wait: "55s", ticket: ticket}.url("", "/"), ""),
		} {
			go end(name, func() { // ends with the identity
				w := httptest.NewRecorder()
				if hub.Poll(w, r); w.Code != http.StatusOK {
					t.Errorf("%s: %d %s, want 200", name, w.Code, w.Body)
				}
			})
		}
		got := map[string]time.Duration{}
		for range 4 {
			for name, d := range <-took {
				got[name] = d
			}
		}
		want := map[string]time.Duration{"stream": 30 * time.Second, "stream by ticket": 30 * time.Second, "poll": 30 * time.Second, "poll by ticket": 30 * time.Second}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}

		time.Sleep(time.Nanosecond)
		w := httptest.NewRecorder()
		hub.Poll(w, newRequest(t, request{topics: []string{"secret/a"}, wait: "0", ticket: ticket}.url("", "/"), ""))
		if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "ticket-invalid") {
			t.Errorf("the ticket afterwards: %d %s, want 401 ticket-invalid", w.Code, w.Body)
		}
	})
}
