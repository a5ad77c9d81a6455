package console_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/console"
	"github.com/chappe/chappe/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokens keeps them in memory.
type tokens map[[sha256.Size]byte]account.Token

func (ts tokens) AddToken(_ context.Context, t account.Token) error {
	ts[t.Hash] = t
	return nil
}

func (ts tokens) TokenByHash(_ context.Context, hash [sha256.Size]byte) (account.Token, error) {
	if t, ok := ts[hash]; ok {
		return t, nil
	}
	return account.Token{}, account.ErrNoToken
}

func (ts tokens) RemoveToken(_ context.Context, hash [sha256.Size]byte) error {
	delete(ts, hash)
	return nil
}

// log has these records.
type log []*event.Record

func (l log) Latest(n int) []*event.Record { return l[max(0, len(l)-n):] }
func (l log) Head() event.Cursor           { return event.Cursor{Epoch: "k3f9", Seq: int64(len(l))} }

func records(events ...event.Event) log {
	var l log
	for i, e := range events {
		e.ID, e.Source = "1", "test"
		l = append(l, event.NewRecord(e, event.Cursor{Epoch: "k3f9", Seq: int64(i + 1)}))
	}
	return l
}

func newConsole(l log) *console.Console {
	return console.New(console.Options{Log: l, Access: &account.Access{Tokens: tokens{}}, Logger: slog.New(slog.DiscardHandler), Version: "test"})
}

func get(t *testing.T, h http.HandlerFunc, target string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

func post(t *testing.T, h http.Handler, token, site string) *httptest.ResponseRecorder {
	form := url.Values{"token": {token}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:8080/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", site)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// logIn returns the cookie of a browser.
func logIn(t *testing.T, c *console.Console) *http.Cookie {
	t.Helper()
	w := post(t, http.HandlerFunc(c.LogIn), c.Access.NewSetupToken(), "same-origin")
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "./" || len(cookies) != 1 {
		t.Fatalf("log in: %d %v, want 303 to ./ with one cookie", w.Code, w.Header())
	}
	return cookies[0]
}

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

func wantPage(t *testing.T, what string, w *httptest.ResponseRecorder, status int, parts ...string) {
	t.Helper()
	h := w.Header()
	if w.Code != status || h.Get("Content-Security-Policy") != policy || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%s: %d %v, want %d with the policy and no-store", what, w.Code, h, status)
	}
	for _, part := range parts {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("%s lacks %s", what, part)
		}
	}
}

func TestLogIn(t *testing.T) {
	c := newConsole(records(event.Event{Topic: "a", Type: "secret.type"}))
	w := get(t, c.Live, "/?setup=%22%3E%3Cscript%3Ex")
	wantPage(t, "the first page", w, http.StatusOK, `action="login"`, `value="&#34;&gt;&lt;script&gt;x"`)
	if strings.Contains(w.Body.String(), "secret.type") {
		t.Error("events are shown to who is not logged in")
	}
	token := c.Access.NewSetupToken()
	w = post(t, http.HandlerFunc(c.LogIn), "wrong", "same-origin")
	wantPage(t, "the wrong token", w, http.StatusForbidden, `role="alert"`, "not the token")
	if len(w.Result().Cookies()) != 0 {
		t.Error("the wrong token gave a cookie")
	}
	if w = post(t, http.HandlerFunc(c.LogIn), strings.Repeat("x", 5<<10), "same-origin"); w.Code != http.StatusForbidden {
		t.Errorf("a token of 5 KiB: %d, want 403", w.Code)
	}
	w = post(t, http.HandlerFunc(c.LogIn), token, "same-origin")
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(cookies) != 1 || !cookies[0].HttpOnly || !cookies[0].Secure {
		t.Fatalf("the right token: %d %v, want 303 and a cookie", w.Code, w.Header())
	}
	if w = post(t, http.HandlerFunc(c.LogIn), token, "same-origin"); w.Code != http.StatusForbidden {
		t.Errorf("the token a second time: %d, want 403", w.Code)
	}
	wantPage(t, "the page with the cookie", get(t, c.Live, "/", cookies[0]), http.StatusOK, `action="logout"`, "secret.type")

	w = get(t, c.LogOut, "/logout", cookies[0])
	if w.Code != http.StatusSeeOther || len(w.Result().Cookies()) != 2 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("log out: %d %v, want 303 and cookies cleared", w.Code, w.Header())
	}
	wantPage(t, "the page with the old cookie", get(t, c.Live, "/", cookies[0]), http.StatusOK, `action="login"`)
}

func TestCrossSiteLogIn(t *testing.T) {
	c := newConsole(nil)
	token := c.Access.NewSetupToken()
	form := http.NewCrossOriginProtection().Handler(http.HandlerFunc(c.LogIn))
	for _, site := range []string{"cross-site", "same-site"} {
		if w := post(t, form, token, site); w.Code != http.StatusForbidden || len(w.Result().Cookies()) != 0 {
			t.Errorf("log in from %s: %d, want 403 and no cookie", site, w.Code)
		}
	}
	if w := post(t, form, token, "same-origin"); w.Code != http.StatusSeeOther {
		t.Errorf("log in from our page: %d, want 303", w.Code)
	}
}

func TestLive(t *testing.T) {
	const hostile = `<script>alert(1)</script>`
	c := newConsole(records(
		event.Event{Topic: "feeds/a", Type: "feed.entry", Data: []byte(`{"title":"The title","subject":"no"}`)},
		event.Event{Topic: "mail/a", Type: "mail.received", Subject: "The subject", Data: []byte(`{"title":7}`)},
		event.Event{Topic: "x/a", Type: "x", Data: []byte(`{"title":"` + hostile + `"}`)},
		event.Event{Topic: "x/b", Type: hostile, Subject: `" onload="x`, ContentType: "text/html", Data: []byte(hostile)},
		event.Event{Topic: "x/c", Type: "the.type"},
	))
	cookie := logIn(t, c)
	w := get(t, c.Live, "/", cookie)
	wantPage(t, "live", w, http.StatusOK, "<summary>The title</summary>", "<summary>The subject</summary>", "<summary>the.type</summary>",
		`data-cursor="k3f9.5"`, `data-topic="**"`, "<code>k3f9.1</code>", "<summary>&lt;script&gt;alert(1)&lt;/script&gt;</summary>")
	body := w.Body.String()
	if strings.Contains(body, "<script>") || strings.Contains(body, `" onload="`) {
		t.Error("an event's text stands in the page as markup")
	}
	if strings.Index(body, "k3f9.2</code>") < strings.Index(body, "k3f9.3</code>") {
		t.Error("the newest event is not the first")
	}

	w = get(t, c.Live, "/?topic=mail/*", cookie)
	wantPage(t, "live with a pattern", w, http.StatusOK, "The subject", `data-topic="mail/*"`)
	if strings.Contains(w.Body.String(), "The title") {
		t.Error("an event is shown that the pattern does not match")
	}
	wantPage(t, "live with a bad pattern", get(t, c.Live, "/?topic=%3Cscript%3E", cookie), http.StatusOK, "All topics are shown", `data-topic="**"`, "The title")
	if body := get(t, newConsole(nil).Live, "/", cookie).Body.String(); !strings.Contains(body, `action="login"`) {
		t.Error("the cookie of another console was taken")
	}
}

func TestAssets(t *testing.T) {
	c := newConsole(nil)
	for path, want := range map[string]string{"/console.css": "text/css", "/live.js": "javascript", "/mark.svg": "image/svg+xml"} {
		w := get(t, c.Asset, path)
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Content-Type"), want) || w.Body.Len() == 0 {
			t.Errorf("%s: %d %s, want 200 and %s", path, w.Code, w.Header().Get("Content-Type"), want)
		}
	}
	for _, path := range []string{"/page.html", "/login.html", "/live.html", "/console.go", "/", "/../live.html", "/./live.html", "/live.js/", "//live.html"} {
		if w := get(t, c.Asset, path); w.Code == http.StatusOK || strings.Contains(w.Body.String(), "{{") {
			t.Errorf("%s: %d, want it not served", path, w.Code)
		}
	}
}
