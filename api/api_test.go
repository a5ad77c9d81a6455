package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/api"
	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is the API on a real log.
type fixture struct {
	gateway purges
	db      *store.DB
	bus     *bus.Bus
	access  *account.Access
	handler http.Handler
	token   string // may do all
}

type watches []source.Status

func (w watches) Statuses() []source.Status { return w }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	rules := event.Rules{{Match: "public/**", Public: true}, {Match: "pointer/**", Ephemeral: true}, {Match: "short", Keep: event.Keep{Events: 1}}}
	quiet := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	log, err := store.OpenLog(t.Context(), db, store.Options{Rules: rules, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	f := &fixture{db: db}
	if f.bus, err = bus.New(t.Context(), log, bus.Options{Rules: rules, EventBytes: 1000, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.bus.Close)
	verifier, err := account.NewVerifier(account.JWTConfig{}, "a secret of the data folder, long enough", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.access = &account.Access{Tokens: db, Verifier: verifier, Rules: rules}
	f.handler = api.New(api.Options{
		Publisher: f.bus, Reader: f.bus, Access: f.access, Watches: watches{{Name: "news", Kind: "feed", Topic: "feeds/news", State: source.Running}},
		Gateway: &f.gateway, Logger: quiet, Version: "test",
	})
	f.token = f.newToken(t, "ci", account.ScopeAdmin)
	return f
}

func (f *fixture) newToken(t *testing.T, name string, scopes ...account.Scope) string {
	t.Helper()
	token := account.Token{Name: name, Scopes: scopes, Created: time.Now()}
	if name == "limited" {
		token.Patterns = []event.Pattern{"mine/**"}
	}
	secret := token.NewSecret()
	if err := f.db.AddToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	return secret
}

// call is a request; header has names and values in turn.
func (f *fixture) call(t *testing.T, token, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

type receipt struct {
	ID, Topic, Cursor string
	Duplicate         bool
}

func (f *fixture) publish(t *testing.T, token, body string, header ...string) []receipt {
	t.Helper()
	w := f.call(t, token, http.MethodPost, "/v1/events", body, header...)
	var a struct{ Events []receipt }
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK {
		t.Fatalf("publish: %d %s", w.Code, w.Body)
	}
	return a.Events
}

type answer struct {
	Events []json.RawMessage
	Cursor string
}

// read reads with a query like "topic=a&after=start".
func (f *fixture) read(t *testing.T, query string) answer {
	t.Helper()
	w := f.call(t, f.token, http.MethodGet, "/v1/events?"+query, "")
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK {
		t.Fatalf("read %s: %d %s", query, w.Code, w.Body)
	}
	return a
}

func wantProblem(t *testing.T, what string, w *httptest.ResponseRecorder, status int, code string) problem.Problem {
	t.Helper()
	var p problem.Problem
	err := json.Unmarshal(w.Body.Bytes(), &p)
	if contentType := w.Header().Get("Content-Type"); err != nil || w.Code != status || p.Status != status || p.Code != code ||
		p.Title == "" || p.Detail == "" || contentType != "application/problem+json" ||
		(status == http.StatusUnauthorized) != (w.Header().Get("WWW-Authenticate") == "Bearer") ||
		(status == http.StatusServiceUnavailable) != (w.Header().Get("Retry-After") != "") {
		t.Errorf("%s: %d %s %s, want the problem %d %s", what, w.Code, contentType, w.Body, status, code)
	}
	return p
}

// Each way to publish, and what is read then; CURSOR stands for the cursor.
func TestPublishAndRead(t *testing.T) {
	const at = "2026-11-22T14:06:12.5Z"
	plain := func(id string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"ci","type":"message","time":"` + at + `","topic":"a","cursor":"CURSOR","datacontenttype":"application/json","data":1}`
	}
	cases := map[string]struct {
		header []string
		body   string
		want   []string
	}{
		"JSON": {[]string{"Content-Type", "application/json"},
			`{"topic":"a","type":"mail.received","id":"1","source":"/mailboxes/alice","subject":"Été","time":"2026-11-22T15:06:12.5+01:00","data":{"n": [1, null]}}`,
			[]string{`{"specversion":"1.0","id":"1","source":"ci/mailboxes/alice","type":"mail.received","subject":"Été","time":"` + at + `","topic":"a","cursor":"CURSOR","datacontenttype":"application/json","data":{"n":[1,null]}}`}},
		"JSON as curl sends it": {[]string{"Content-Type", "application/x-www-form-urlencoded"}, `{"topic":"a","id":"1","time":"` + at + `","data":1}`, []string{plain("1")}},
		"no data": {nil, `{"topic":"a","id":"1","time":"` + at + `"}`,
			[]string{`{"specversion":"1.0","id":"1","source":"ci","type":"message","time":"` + at + `","topic":"a","cursor":"CURSOR"}`}},
		"data null": {nil, `{"topic":"a","id":"1","time":"` + at + `","data":null}`,
			[]string{strings.Replace(plain("1"), `"data":1`, `"data":null`, 1)}},
		"an array": {[]string{"Content-Type", "application/json"}, ` [{"topic":"a","id":"1","time":"` + at + `","data":1},{"topic":"a","id":"2","time":"` + at + `","data":1}]`,
			[]string{plain("1"), plain("2")}},
		"NDJSON": {[]string{"Content-Type", "application/x-ndjson; charset=utf-8"}, `{"topic":"a","id":"1","time":"` + at + `","data":1}` + "\n\n" + `{"topic":"a","id":"2","time":"` + at + `","data":1}` + "\r\n",
			[]string{plain("1"), plain("2")}},
		"structured": {[]string{"Content-Type", "application/cloudevents+json; charset=utf-8"},
			`{"specversion":"1.0","id":"1","source":"/x","type":"t","time":"` + at + `","topic":"a","dataschema":"https://x.example/s","hops":3,"ok":true,"cursor":"old.1","data":"text"}`,
			[]string{`{"specversion":"1.0","id":"1","source":"ci/x","type":"t","time":"` + at + `","topic":"a","cursor":"CURSOR","dataschema":"https://x.example/s","hops":3,"ok":true,"datacontenttype":"application/json","data":"text"}`}},
		"structured, bytes": {[]string{"Content-Type", "application/cloudevents+json"},
			`{"specversion":"1.0","id":"1","source":"/x","type":"t","time":"` + at + `","topic":"a","datacontenttype":"image/png","data_base64":"AAEC"}`,
			[]string{`{"specversion":"1.0","id":"1","source":"ci/x","type":"t","time":"` + at + `","topic":"a","cursor":"CURSOR","datacontenttype":"image/png","data_base64":"AAEC"}`}},
		"batched": {[]string{"Content-Type", "application/cloudevents-batch+json"},
			`[{"specversion":"1.0","id":"1","source":"ci","type":"message","time":"` + at + `","topic":"a","data":1},{"specversion":"1.0","id":"2","source":"ci","type":"message","time":"` + at + `","topic":"a","data":1}]`,
			[]string{plain("1"), plain("2")}},
		"binary": {binary("application/json", "Ce-Time", at, "Ce-Subject", "caf%C3%A9%20%22x%22", "Ce-Hops", "3"), `{"n": 1}`,
			[]string{`{"specversion":"1.0","id":"1","source":"ci/x","type":"t","subject":"café \"x\"","time":"` + at + `","topic":"a","cursor":"CURSOR","hops":"3","datacontenttype":"application/json","data":{"n":1}}`}},
		"binary, text": {binary("text/plain; charset=utf-8", "Ce-Time", at), "line 1\n\"line\" 2",
			[]string{`{"specversion":"1.0","id":"1","source":"ci/x","type":"t","time":"` + at + `","topic":"a","cursor":"CURSOR","datacontenttype":"text/plain; charset=utf-8","data":"line 1\n\"line\" 2"}`}},
		"binary, bytes": {binary("application/octet-stream", "Ce-Time", at), "\x00\xff",
			[]string{`{"specversion":"1.0","id":"1","source":"ci/x","type":"t","time":"` + at + `","topic":"a","cursor":"CURSOR","datacontenttype":"application/octet-stream","data_base64":"AP8="}`}},
		"binary, text that is none": {binary("text/plain", "Ce-Time", at), "\xff",
			[]string{`{"specversion":"1.0","id":"1","source":"ci/x","type":"t","time":"` + at + `","topic":"a","cursor":"CURSOR","datacontenttype":"text/plain","data_base64":"/w=="}`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			receipts := f.publish(t, f.token, c.body, c.header...)
			read := f.read(t, "topic=a")
			var want, got []string
			for i, line := range c.want {
				want = append(want, strings.Replace(line, "CURSOR", receipts[i].Cursor, 1))
			}
			for _, e := range read.Events {
				got = append(got, string(e))
			}
			if diff := cmp.Diff(want, got); diff != "" || read.Cursor != receipts[len(receipts)-1].Cursor {
				t.Errorf("read: cursor %s; events (-want +got):\n%s", read.Cursor, diff)
			}
		})
	}
}

// binary is the head of a CloudEvent in binary mode.
func binary(contentType string, more ...string) []string {
	return append([]string{"Content-Type", contentType, "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/x", "Ce-Type", "t", "Ce-Topic", "a"}, more...)
}

func TestDuplicates(t *testing.T) {
	f := newFixture(t)
	first := f.publish(t, f.token, `{"topic":"a","id":"1","data":1}`)[0]
	if first.Duplicate || first.ID != "1" || first.Topic != "a" || first.Cursor == "" {
		t.Errorf("receipt %+v, want the first of 1 on a", first)
	}
	again := f.publish(t, f.token, `[{"topic":"a","id":"1","data":2},{"topic":"a","id":"2","data":2}]`)
	if again[0].Cursor != first.Cursor || !again[0].Duplicate || again[1].Duplicate {
		t.Errorf("receipts %+v, want 1 as a duplicate at %s, and 2", again, first.Cursor)
	}
	other := f.publish(t, f.newToken(t, "cron", account.ScopePublish), `{"topic":"a","id":"1","data":3}`)[0]
	if other.Duplicate || other.Cursor == first.Cursor {
		t.Errorf("id 1 by another token: %+v, want it stored", other)
	}
	if got := f.read(t, "topic=a").Events; len(got) != 3 {
		t.Errorf("the log has %d events, want 3", len(got))
	}
}

// A source that pretends to be another token's begins with our own all the same.
func TestSourceBeginsWithTheToken(t *testing.T) {
	f := newFixture(t)
	for given, want := range map[string]string{
		"": "ci", "ci": "ci", "ci/x": "ci/x", "/x": "ci/x", "x": "ci/x", "cix": "ci/cix", "//cron": "ci/cron", "cron": "ci/cron", "https://x.example/": "ci/https://x.example/",
	} {
		body, err := json.Marshal(map[string]string{"topic": "a", "source": given})
		if err != nil {
			t.Fatal(err)
		}
		at := f.bus.Head().String()
		f.publish(t, f.token, string(body))
		var e struct{ Source string }
		if err := json.Unmarshal(f.read(t, "topic=a&after="+at).Events[0], &e); err != nil || e.Source != want {
			t.Errorf("source %q became %q, want %q", given, e.Source, want)
		}
	}
}

func TestEphemeralReceipt(t *testing.T) {
	f := newFixture(t)
	got := f.publish(t, f.token, `[{"topic":"pointer/a","id":"1"},{"topic":"a","id":"2"}]`)
	if got[0].ID != "1" || got[0].Cursor != "" || got[1].ID != "2" || got[1].Cursor == "" {
		t.Errorf("receipts %+v, want the first alone without a cursor", got)
	}
}

func TestPublishProblems(t *testing.T) {
	f := newFixture(t)
	reader := f.newToken(t, "reader", account.ScopeRead)
	limited := f.newToken(t, "limited", account.ScopePublish)
	jwt, err := f.access.Verifier.Sign("alice", []event.Pattern{"**"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	good := `{"topic":"mine/a"}`
	cases := map[string]struct {
		token, body string
		header      []string
		status      int
		code        string
	}{
		"nobody":                   {"", good, nil, 401, "token-missing"},
		"wrong token":              {"chp_x", good, nil, 401, "token-invalid"},
		"no scope":                 {reader, good, nil, 403, "forbidden"},
		"a subscriber":             {jwt, good, nil, 403, "forbidden"},
		"other topic":              {limited, `[` + good + `,{"topic":"yours"}]`, nil, 403, "forbidden"},
		"no JSON":                  {f.token, `{`, nil, 400, "bad-event"},
		"null":                     {f.token, `null`, nil, 400, "bad-event"},
		"no body":                  {f.token, ``, nil, 400, "bad-request"},
		"empty array":              {f.token, `[]`, nil, 400, "bad-event"},
		"empty NDJSON":             {f.token, "\n", []string{"Content-Type", "application/x-ndjson"}, 400, "bad-event"},
		"no topic":                 {f.token, `{"data":1}`, nil, 400, "bad-topic"},
		"a pattern":                {f.token, `{"topic":"a/*"}`, nil, 400, "bad-topic"},
		"unknown field":            {f.token, `{"topic":"mine/a","kind":"x"}`, nil, 400, "bad-event"},
		"bad time":                 {f.token, `{"topic":"mine/a","time":"today"}`, nil, 400, "bad-event"},
		"no UTF-8":                 {f.token, "{\"topic\":\"mine/a\",\"data\":\"\xff\"}", nil, 400, "bad-event"},
		"one bad of three":         {f.token, `[` + good + `,{"topic":"mine/a","id":"` + strings.Repeat("x", 2000) + `"},` + good + `]`, nil, 400, "bad-event"},
		"one too large of two":     {f.token, `[` + good + `,{"topic":"mine/a","data":"` + strings.Repeat("x", 1000) + `"}]`, nil, 413, "event-too-large"},
		"event too large":          {f.token, `{"topic":"mine/a","data":"` + strings.Repeat("x", 1000) + `"}`, nil, 413, "event-too-large"},
		"1001 events":              {f.token, `[` + strings.Repeat(good+",", 1000) + good + `]`, nil, 413, "batch-too-large"},
		"body too large":           {f.token, `{"topic":"mine/a","data":"` + strings.Repeat("x", 8<<20) + `"}`, nil, 413, "body-too-large"},
		"other type":               {f.token, good, []string{"Content-Type", "text/xml"}, 415, "bad-content-type"},
		"structured without id":    {f.token, `{"specversion":"1.0","source":"x","type":"t","topic":"mine/a"}`, nil, 400, "bad-event"},
		"another specversion":      {f.token, `{"specversion":"2.0","id":"1","source":"x","type":"t","topic":"mine/a"}`, nil, 400, "bad-event"},
		"binary without type":      {f.token, `1`, []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "x", "Ce-Topic", "mine/a"}, 400, "bad-event"},
		"binary, other version":    {f.token, `1`, binary("application/json", "Ce-Specversion", "0.3"), 400, "bad-event"},
		"binary, broken encoding":  {f.token, `1`, binary("application/json", "Ce-Subject", "%zz"), 400, "bad-event"},
		"binary, not JSON":         {f.token, `{`, binary("application/json"), 400, "bad-event"},
		"binary, data in a header": {f.token, `1`, binary("application/json", "Ce-Data", "2"), 400, "bad-event"},
		"binary, second type":      {f.token, `1`, binary("application/json", "Ce-Datacontenttype", "text/plain"), 400, "bad-event"},
	}
	before := f.bus.Head()
	for name, c := range cases {
		w := f.call(t, c.token, http.MethodPost, "/v1/events", c.body, c.header...)
		wantProblem(t, name, w, c.status, c.code)
	}
	if after := f.bus.Head(); after != before {
		t.Errorf("requests that were refused moved the log from %v to %v", before, after)
	}
}

// The body's bound holds for bodies that do not say their length, too.
func TestBodyWithoutLength(t *testing.T) {
	f := newFixture(t)
	body := io.MultiReader(strings.NewReader(`{"topic":"a","data":"`), strings.NewReader(strings.Repeat("x", 8<<20)), strings.NewReader(`"}`))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events", body)
	r.Header.Set("Authorization", "Bearer "+f.token)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	wantProblem(t, "chunked", w, 413, "body-too-large")
}

func TestReadInPages(t *testing.T) {
	f := newFixture(t)
	var lines strings.Builder
	for n := range 250 {
		fmt.Fprintf(&lines, `{"topic":"a/%d","data":%d}`+"\n", n%2, n)
	}
	receipts := f.publish(t, f.token, lines.String(), "Content-Type", "application/x-ndjson")
	cases := map[string]struct{ first, count int }{
		"topic=a/*":                                        {0, 100},
		"topic=a/*&after=start":                            {0, 100},
		"topic=a/*&limit=7":                                {0, 7},
		"topic=a/*&limit=1000":                             {0, 250},
		"topic=a/*&limit=0":                                {0, 100},
		"topic=a/0&topic=a/1&limit=1000":                   {0, 250},
		"topic=a/*&limit=9&after=" + receipts[99].Cursor:   {100, 9},
		"topic=a/*&limit=99&after=" + receipts[240].Cursor: {241, 9},
		"topic=a/*&after=" + receipts[249].Cursor:          {250, 0},
		"topic=b": {0, 0},
	}
	for query, want := range cases {
		a := f.read(t, query)
		if a.Events == nil || len(a.Events) != want.count {
			t.Errorf("%s: %d events, want %d", query, len(a.Events), want.count)
			continue
		}
		for i, e := range a.Events {
			var got struct{ Data int }
			if err := json.Unmarshal(e, &got); err != nil || got.Data != want.first+i {
				t.Errorf("%s: event %d is %s, want %d", query, i, e, want.first+i)
				break
			}
		}
	}
	paged := 0
	for at := "start"; ; {
		a := f.read(t, "topic=a/1&limit=20&after="+at)
		if at = a.Cursor; len(a.Events) == 0 {
			break
		}
		for _, e := range a.Events {
			if want := fmt.Sprintf(`"data":%d}`, 2*paged+1); !strings.HasSuffix(string(e), want) {
				t.Fatalf("page by page, event %d is %s, want %s", paged, e, want)
			}
			paged++
		}
	}
	if paged != 125 {
		t.Errorf("page by page there are %d events, want 125", paged)
	}
}

func TestReadProblems(t *testing.T) {
	f := newFixture(t)
	head := f.publish(t, f.token, `{"topic":"a"}`)[0].Cursor
	limited := f.newToken(t, "limited", account.ScopeRead)
	cases := map[string]struct {
		token, query string
		status       int
		code         string
	}{
		"no topic":     {f.token, "", 400, "bad-pattern"},
		"bad pattern":  {f.token, "topic=**/a", 400, "bad-pattern"},
		"bad cursor":   {f.token, "topic=a&after=x", 400, "bad-cursor"},
		"nobody":       {"", "topic=a", 401, "token-missing"},
		"by a ticket":  {"", "topic=a&ticket=x", 401, "token-missing"}, // those are for streams
		"other topics": {limited, "topic=mine/a&topic=a", 403, "forbidden"},
		"publisher":    {f.newToken(t, "blind", account.ScopePublish), "topic=a", 403, "forbidden"},
		"other epoch":  {f.token, "topic=a&after=zzzz.1", 410, "cursor-gone"},
		"beyond":       {f.token, "topic=a&after=" + head + "0", 410, "cursor-gone"},
	}
	for name, c := range cases {
		p := wantProblem(t, name, f.call(t, c.token, http.MethodGet, "/v1/events?"+c.query, ""), c.status, c.code)
		if want := map[bool]string{true: head}[c.status == 410]; p.Cursor != want {
			t.Errorf("%s: cursor %q, want %q", name, p.Cursor, want)
		}
	}
	if w := f.call(t, "", http.MethodGet, "/v1/events?topic=public/a", ""); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a public topic without a token: %d %v, want 200 and no-store", w.Code, w.Header())
	}
}

func TestTickets(t *testing.T) {
	f := newFixture(t)
	wantProblem(t, "nobody", f.call(t, "", http.MethodPost, "/v1/tickets", ""), 401, "token-missing")
	limited := f.newToken(t, "limited", account.ScopeRead)
	var a struct {
		Ticket  string
		Expires time.Time
	}
	w := f.call(t, limited, http.MethodPost, "/v1/tickets", "")
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK || time.Until(a.Expires) < 9*time.Minute {
		t.Fatalf("ticket: %d %s", w.Code, w.Body)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/stream?ticket="+url.QueryEscape(a.Ticket), nil)
	id, done, err := f.access.IdentifyStream(r)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if !id.MayRead("mine/a") || id.MayRead("a") {
		t.Errorf("the ticket reads as %+v, want mine/** alone", id)
	}
	wantProblem(t, "a ticket for a ticket", f.call(t, "", http.MethodPost, "/v1/tickets?ticket="+url.QueryEscape(a.Ticket), ""), 401, "token-missing")
}

// roundTrip is an application without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Whom the application lets in reads its topics and gets tickets, no more.
func TestHook(t *testing.T) {
	f := newFixture(t)
	f.access.Hook = account.NewHook(account.HookConfig{URL: "http://127.0.0.1:6543/whoami"}, &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		status := http.StatusOK
		if r.Header.Get("Cookie") == "session=broken" {
			status = http.StatusBadGateway
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(`{"topics":["mine/**"]}`))}, nil
	})}, slog.New(slog.DiscardHandler), nil)
	cookie := []string{"Cookie", "session=1"}
	for _, target := range []string{"/v1/events?topic=mine/a", "/v1/events?topic=public/a"} {
		if w := f.call(t, "", http.MethodGet, target, "", cookie...); w.Code != http.StatusOK {
			t.Errorf("GET %s: %d %s, want 200", target, w.Code, w.Body)
		}
	}
	if w := f.call(t, "", http.MethodPost, "/v1/tickets", "", cookie...); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"ticket":"`) {
		t.Errorf("a guest's ticket: %d %s, want one", w.Code, w.Body)
	}
	wantProblem(t, "other topics", f.call(t, "", http.MethodGet, "/v1/events?topic=a", "", cookie...), 403, "forbidden")
	wantProblem(t, "publishing", f.call(t, "", http.MethodPost, "/v1/events", `{"topic":"mine/a"}`, cookie...), 403, "forbidden")
	wantProblem(t, "watches", f.call(t, "", http.MethodGet, "/v1/watches", "", cookie...), 403, "forbidden")
	wantProblem(t, "a hook that fails", f.call(t, "", http.MethodGet, "/v1/events?topic=public/a", "", "Cookie", "session=broken"), 503, "hook-failed")
	f.bus.Close()
	wantProblem(t, "a log that is closed", f.call(t, f.token, http.MethodPost, "/v1/events", `{"topic":"a"}`), 503, "closing")
}

func TestWatchesNeedAdmin(t *testing.T) {
	f := newFixture(t)
	wantProblem(t, "nobody", f.call(t, "", http.MethodGet, "/v1/watches", ""), 401, "token-missing")
	other := f.newToken(t, "other", account.ScopePublish, account.ScopeRead)
	wantProblem(t, "no admin", f.call(t, other, http.MethodGet, "/v1/watches", ""), 403, "forbidden")
	w := f.call(t, f.token, http.MethodGet, "/v1/watches", "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"name":"news","kind":"feed","topic":"feeds/news","state":"running"`) {
		t.Errorf("watches: %d %s", w.Code, w.Body)
	}
}

func TestOpenAPI(t *testing.T) {
	f := newFixture(t)
	w := f.call(t, "", http.MethodGet, "/v1/openapi.json", "")
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil || !strings.HasPrefix(document.OpenAPI, "3.") {
		t.Fatalf("openapi.json: %d %v, openapi %q", w.Code, err, document.OpenAPI)
	}
	for path, method := range map[string]string{"/v1/events": "post", "/v1/tickets": "post", "/v1/watches": "get"} {
		if document.Paths[path][method] == nil {
			t.Errorf("openapi.json lacks %s %s", method, path)
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	f := newFixture(t)
	for _, target := range []string{"/v1/", "/v1/nothing", "/v1/events/1", "/v1/openapi.jsonx"} {
		wantProblem(t, target, f.call(t, f.token, http.MethodGet, target, ""), 404, "not-found")
	}
	wantProblem(t, "DELETE", f.call(t, f.token, http.MethodDelete, "/v1/events", ""), 404, "not-found")
}

// unread is a body that nobody may touch.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read before the token was looked at")
	return 0, io.EOF
}

// What anyone may send must not cost memory.
func TestNoBodyBeforeTheToken(t *testing.T) {
	f := newFixture(t)
	for token, want := range map[string]int{"": http.StatusUnauthorized, f.newToken(t, "reader", account.ScopeRead): http.StatusForbidden} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events", unread{t})
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("publish answers %d %s, want %d", w.Code, w.Body, want)
		}
	}
}
