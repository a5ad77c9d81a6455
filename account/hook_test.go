package account_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

const (
	hookURL  = "http://127.0.0.1:6543/whoami"
	aliceSay = `{"user":"alice","topics":["mail/alice/**"]}`
)

// roundTrip is an application without a network, for the tests of time.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f roundTrip) client() *http.Client { return &http.Client{Transport: f} }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func hookAccess(t *testing.T, c account.HookConfig, client *http.Client) *account.Access {
	t.Helper()
	return &account.Access{
		Tokens: &memory{}, Verifier: newVerifier(t, account.JWTConfig{}),
		Hook: account.NewHook(c, client, slog.New(slog.DiscardHandler), nil),
	}
}

// visitor makes a request with these headers, name and value in turn.
func visitor(t *testing.T, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/events", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// who is in a word what came of a request: a name, "guest", "anonymous", or
// the code of the refusal.
func who(id *account.Identity, err error) string {
	coder, ok := errors.AsType[problem.Coder](err)
	switch {
	case ok:
		return coder.Code()
	case err != nil:
		return err.Error()
	case id.User != "":
		return id.User
	case id.Known():
		return "guest"
	}
	return "anonymous"
}

func TestHookConfig(t *testing.T) {
	for name, c := range map[string]struct {
		config account.HookConfig
		says   string
	}{
		"url alone":        {account.HookConfig{URL: hookURL}, ""},
		"https":            {account.HookConfig{URL: "https://app.example/whoami?key=1", Cache: time.Hour, Timeout: 30 * time.Second}, ""},
		"no url":           {account.HookConfig{Cache: time.Second}, "url"},
		"no host":          {account.HookConfig{URL: "http:///whoami"}, "url"},
		"no scheme":        {account.HookConfig{URL: "app.example/whoami"}, "url"},
		"other scheme":     {account.HookConfig{URL: "unix:///run/app"}, "url"},
		"broken":           {account.HookConfig{URL: "http://a b/"}, "url"},
		"cache below 0":    {account.HookConfig{URL: hookURL, Cache: -1}, "cache"},
		"cache too long":   {account.HookConfig{URL: hookURL, Cache: time.Hour + 1}, "cache"},
		"timeout below 0":  {account.HookConfig{URL: hookURL, Timeout: -1}, "timeout"},
		"timeout too long": {account.HookConfig{URL: hookURL, Timeout: 30*time.Second + 1}, "timeout"},
	} {
		if err := c.config.Validate(); (err == nil) != (c.says == "") || err != nil && !strings.HasPrefix(err.Error(), c.says+" ") {
			t.Errorf("%s: Validate() = %v, want a complaint about %q", name, err, c.says)
		}
	}
}

// What the application answers decides; what is no answer lets nobody in and
// makes nobody anonymous.
func TestHookAnswers(t *testing.T) {
	in := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	word := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339Nano) }
	topics := func(n int) string { return `{"topics":["a"` + strings.Repeat(`,"a"`, n-1) + `]}` }
	const alice, guest, nobody, failed = "alice", "guest", "anonymous", "hook-failed"
	cases := map[string]struct {
		status int
		body   string
		want   string // by a cookie; by a token, who is not logged in is refused
		lasts  time.Duration
	}{
		"alice":                 {200, aliceSay, alice, time.Hour},
		"more than asked":       {200, `{"user":"alice","topics":["mail/alice/**"],"email":{"x":[1]},"canary":1}`, alice, time.Hour},
		"expires null":          {200, `{"user":"alice","topics":["mail/alice/**"],"expires":null}`, alice, time.Hour},
		"expires in seconds":    {200, `{"user":"alice","topics":["mail/alice/**"],"expires":` + in(10*time.Minute) + `}`, alice, 10 * time.Minute},
		"with a fraction":       {200, `{"user":"alice","topics":["mail/alice/**"],"expires":` + in(10*time.Minute) + `.5}`, alice, 10 * time.Minute},
		"expires in RFC 3339":   {200, `{"user":"alice","topics":["mail/alice/**"],"expires":"` + word(10*time.Minute) + `"}`, alice, 10 * time.Minute},
		"expires in a year":     {200, `{"user":"alice","topics":["mail/alice/**"],"expires":` + in(8760*time.Hour) + `}`, alice, 24 * time.Hour},
		"in a year, in words":   {200, `{"user":"alice","topics":["mail/alice/**"],"expires":"` + word(8760*time.Hour) + `"}`, alice, 24 * time.Hour},
		"expires in no time":    {200, `{"user":"alice","topics":["mail/alice/**"],"expires":1e300}`, alice, 24 * time.Hour},
		"user alone":            {200, `{"user":"alice"}`, alice, time.Hour},
		"topics alone":          {200, `{"topics":["mail/alice/**"]}`, guest, time.Hour},
		"64 topics":             {200, topics(64), guest, time.Hour},
		"user of 255 bytes":     {200, `{"user":"` + strings.Repeat("u", 255) + `"}`, strings.Repeat("u", 255), time.Hour},
		"nobody":                {200, `{"user":null,"topics":[]}`, nobody, 0},
		"neither":               {200, `{"canary":1}`, nobody, 0},
		"expired":               {200, `{"user":"alice","expires":` + in(-time.Second) + `}`, nobody, 0},
		"expired in words":      {200, `{"user":"alice","expires":"` + word(-time.Second) + `"}`, nobody, 0},
		"expired before 1970":   {200, `{"user":"alice","expires":-1e300}`, nobody, 0},
		"401":                   {401, aliceSay, nobody, 0},
		"403":                   {403, aliceSay, nobody, 0},
		"redirect":              {302, aliceSay, nobody, 0},
		"permanent redirect":    {308, aliceSay, nobody, 0},
		"not modified":          {304, "", nobody, 0},
		"201":                   {201, aliceSay, failed, 0},
		"204":                   {204, "", failed, 0},
		"404":                   {404, aliceSay, failed, 0},
		"429":                   {429, aliceSay, failed, 0},
		"500":                   {500, aliceSay, failed, 0},
		"502":                   {502, "canary", failed, 0},
		"empty":                 {200, ``, failed, 0},
		"HTML":                  {200, `<!doctype html><title>canary</title>`, failed, 0},
		"null":                  {200, `null`, failed, 0},
		"an array":              {200, `["alice"]`, failed, 0},
		"a text":                {200, `"alice"`, failed, 0},
		"two documents":         {200, aliceSay + aliceSay, failed, 0},
		"user a number":         {200, `{"user":7,"topics":["a"]}`, failed, 0},
		"user of 256 bytes":     {200, `{"user":"` + strings.Repeat("u", 256) + `"}`, failed, 0},
		"topics a text":         {200, `{"user":"alice","topics":"mail/alice/**"}`, failed, 0},
		"topics of numbers":     {200, `{"user":"alice","topics":[1]}`, failed, 0},
		"bad pattern":           {200, `{"user":"alice","topics":["mail/alice/**","mail/**/canary"]}`, failed, 0},
		"65 topics":             {200, topics(65), failed, 0},
		"expires in loose form": {200, `{"user":"alice","expires":"tomorrow"}`, failed, 0},
		"expires a truth":       {200, `{"user":"alice","expires":true}`, failed, 0},
		"expires out of range":  {200, `{"user":"alice","expires":1e999}`, failed, 0},
		"64 KiB":                {200, aliceSay + strings.Repeat(" ", 64<<10-len(aliceSay)), alice, time.Hour},
		"a byte more":           {200, aliceSay + strings.Repeat(" ", 64<<10-len(aliceSay)+1), failed, 0},
		"1 MB":                  {200, aliceSay + strings.Repeat(" ", 1<<20), failed, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/login")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			a := hookAccess(t, account.HookConfig{URL: server.URL + "/whoami"}, server.Client())
			defer server.Client().CloseIdleConnections()
			for _, header := range [][]string{{"Cookie", "session=1"}, {"Authorization", "Bearer opaque"}} {
				want := c.want
				if want == nobody && header[0] == "Authorization" {
					want = "token-invalid"
				}
				id, err := a.Identify(visitor(t, header...))
				if got := who(id, err); got != want {
					t.Fatalf("by %s: %s (%v), want %s", header[0], got, err, want)
				}
				if err != nil && (strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "canary")) {
					t.Errorf("the client reads %q, which tells of the hook", err)
				}
				if got := time.Until(must(id).Expires); err == nil && c.lasts > 0 && (got < c.lasts-time.Minute || got > c.lasts+time.Second) {
					t.Errorf("it lasts %v, want %v", got, c.lasts)
				}
				if want == alice && strings.Contains(c.body, "mail/alice") && (!id.MayRead("mail/alice/inbox") || id.MayRead("mail/bob/inbox") ||
					id.May(account.ScopeRead) || id.MayPublish("mail/alice/inbox")) {
					t.Errorf("Identify() = %+v, want alice, who reads hers alone", id)
				}
			}
		})
	}
}

// must is an identity even where there is none.
func must(id *account.Identity) *account.Identity {
	if id == nil {
		return &account.Identity{}
	}
	return id
}

func TestHookIsDown(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	a := hookAccess(t, account.HookConfig{URL: server.URL}, server.Client())
	for _, header := range [][]string{{"Cookie", "session=1"}, {"Authorization", "Bearer opaque"}} {
		id, err := a.Identify(visitor(t, header...))
		if got := who(id, err); got != "hook-failed" || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("by %s: %s (%v), want hook-failed without its address", header[0], got, err)
		}
	}
	if id, err := a.Identify(visitor(t)); who(id, err) != "anonymous" {
		t.Errorf("without a credential: %s, want anonymous", who(id, err))
	}
}

// A redirect goes to where one logs in; what that page answers is nobody's identity.
func TestHookRedirectIsNotFollowed(t *testing.T) {
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if paths = append(paths, r.URL.Path); r.URL.Path == "/whoami" {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		_, _ = io.WriteString(w, aliceSay)
	}))
	defer server.Close()
	a := hookAccess(t, account.HookConfig{URL: server.URL + "/whoami"}, server.Client())
	id, err := a.Identify(visitor(t, "Cookie", "session=1"))
	if got := who(id, err); got != "anonymous" {
		t.Errorf("by a cookie: %s, want anonymous", got)
	}
	if diff := cmp.Diff([]string{"/whoami"}, paths); diff != "" {
		t.Errorf("paths asked for (-want +got):\n%s", diff)
	}
}

// The application gets the cookies and the token as they came, and nothing
// else of the client's; the console's cookie stays here.
func TestHookForwards(t *testing.T) {
	cases := map[string]struct {
		headers []string
		want    http.Header // nil: not asked
	}{
		"a cookie": {[]string{"Cookie", "session=1"}, http.Header{"Cookie": {"session=1"}}},
		"cookies as they are": {[]string{"Cookie", `session=a b,"c"; odd; ; =x; session=2;e=é`},
			http.Header{"Cookie": {`session=a b,"c"; odd; =x; session=2; e=é`}}},
		"in two lines": {[]string{"Cookie", "a=1; chappe=chp_x", "Cookie", "__Host-chappe=chp_y;b=2"}, http.Header{"Cookie": {"a=1; b=2"}}},
		"the console's among them": {[]string{"Cookie", "__Host-chappe=chp_x; a=1;chappe=chp_y; \t__Host-chappe =chp_z; chappes=1; Chappe=2"},
			http.Header{"Cookie": {"a=1; chappes=1; Chappe=2"}}},
		"the console's alone":  {[]string{"Cookie", "__Host-chappe=chp_x; chappe=chp_y; "}, nil},
		"nothing":              {nil, nil},
		"a token":              {[]string{"Authorization", "Bearer opaque"}, http.Header{"Authorization": {"Bearer opaque"}}},
		"as it came":           {[]string{"Authorization", "bearer  opaque="}, http.Header{"Authorization": {"bearer  opaque="}}},
		"a token and cookies":  {[]string{"Authorization", "Bearer opaque", "Cookie", "a=1; chappe=chp_x"}, http.Header{"Authorization": {"Bearer opaque"}, "Cookie": {"a=1"}}},
		"another scheme":       {[]string{"Authorization", "Basic YWxpY2U6eA=="}, http.Header{"Authorization": {"Basic YWxpY2U6eA=="}}},
		"an API token":         {[]string{"Authorization", "Bearer chp_x", "Cookie", "a=1"}, nil},
		"without its scheme":   {[]string{"Authorization", "chp_x", "Cookie", "a=1"}, nil},
		"of a scheme unknown":  {[]string{"Authorization", "Token chp_x", "Cookie", "a=1"}, nil},
		"nothing besides that": {[]string{"Cookie", "a=1", "X-Forwarded-For", "192.0.2.1", "User-Agent", "Firefox", "Accept-Language", "de", "Referer", "http://x.example/", "X-User", "root"}, http.Header{"Cookie": {"a=1"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got http.Header
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Header.Clone()
				if r.Method != http.MethodGet || r.URL.String() != "/whoami?key=1" || r.ContentLength != 0 {
					t.Errorf("asked by %s %s, want GET /whoami?key=1", r.Method, r.URL)
				}
				_, _ = io.WriteString(w, aliceSay)
			}))
			defer server.Close()
			client := &http.Client{Transport: &http.Transport{DisableCompression: true}} // as safedial's
			defer client.CloseIdleConnections()
			a := hookAccess(t, account.HookConfig{URL: server.URL + "/whoami?key=1"}, client)
			_, _ = a.Identify(visitor(t, c.headers...)) // TestHookOrder looks at what comes of it
			if c.want != nil {
				c.want.Set("Accept", "application/json")
				c.want.Set("User-Agent", "Go-http-client/1.1")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

// Our own tokens are looked at first; the hook is asked about what is left.
func TestHookOrder(t *testing.T) {
	asked := 0
	a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(r *http.Request) (*http.Response, error) {
		asked++
		if h := r.Header.Get("Authorization") + r.Header.Get("Cookie"); strings.Contains(h, "nobody") {
			return answer(http.StatusUnauthorized, ""), nil
		}
		return answer(http.StatusOK, aliceSay), nil
	}).client())
	a.Origins = account.Origins{Allowed: []string{"https://app.example"}}
	api := a.Tokens.(*memory).add(t, account.Token{Name: "ci", Scopes: []account.Scope{account.ScopeRead}})
	console, err := a.LogIn(t.Context(), page(t, "localhost", nil), a.NewSetupToken())
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := a.Tickets.Issue(&account.Identity{User: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	jwt := func(changes claims) string {
		return "Bearer " + sign(t, jose.HS256, []byte(secret), "", good(changes))
	}
	foreign := "Bearer " + sign(t, jose.HS256, []byte(strings.Repeat("x", 32)), "", good(nil))
	own := console.Name + "=" + console.Value
	both := "session=1; " + own
	cases := []struct {
		name    string
		headers []string
		want    string
		asked   int
	}{
		{"nobody", nil, "anonymous", 0},
		{"API token", []string{"Authorization", "Bearer " + api, "Cookie", "session=1"}, "guest", 0},
		{"unknown API token", []string{"Authorization", "Bearer chp_x", "Cookie", "session=1"}, "token-invalid", 0},
		{"API token, no scheme", []string{"Authorization", api}, "token-invalid", 0},
		{"our JWT", []string{"Authorization", jwt(claims{"sub": "bob"}), "Cookie", "session=1"}, "bob", 0},
		{"our JWT, expired", []string{"Authorization", jwt(claims{"exp": time.Now().Add(-time.Hour).Unix()})}, "token-expired", 0},
		{"our JWT, wrong otherwise", []string{"Authorization", jwt(claims{"sub": nil})}, "alice", 1},
		{"the application's JWT", []string{"Authorization", foreign}, "alice", 1},
		{"opaque", []string{"Authorization", "Bearer opaque"}, "alice", 1},
		{"opaque again", []string{"Authorization", "Bearer opaque"}, "alice", 0}, // cached
		{"opaque, unknown", []string{"Authorization", "Bearer nobody", "Cookie", "session=2"}, "token-invalid", 1},
		{"basic", []string{"Authorization", "Basic YWxpY2U6eA=="}, "alice", 1},
		{"basic, unknown", []string{"Authorization", "Basic nobody"}, "token-invalid", 1},
		{"basic on a foreign page", []string{"Authorization", "Basic YWxpY2U6eQ==", "Sec-Fetch-Site", "cross-site"}, "token-invalid", 0},
		{"cookie", []string{"Cookie", "session=1"}, "alice", 1},
		{"cookie, unknown", []string{"Cookie", "session=nobody"}, "anonymous", 1},
		{"cookie on our page", []string{"Cookie", "session=3", "Sec-Fetch-Site", "same-origin"}, "alice", 1},
		{"cookie on a listed page", []string{"Cookie", "session=4", "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"}, "alice", 1},
		{"cookie on a foreign page", []string{"Cookie", "session=5", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.tld"}, "anonymous", 0},
		{"cookie of an image", []string{"Cookie", "session=5", "Sec-Fetch-Site", "cross-site"}, "anonymous", 0},
		{"both cookies on our page", []string{"Cookie", both, "Sec-Fetch-Site", "same-origin"}, "guest", 0},
		{"both cookies on a listed page", []string{"Cookie", both, "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"}, "alice", 0}, // as session=1 alone
		{"console's cookie on a listed page", []string{"Cookie", own, "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"}, "anonymous", 0},
		{"another server's console cookie beside it", []string{"Cookie", "session=7; chappe=chp_x", "Sec-Fetch-Site", "same-origin"}, "alice", 1},
		{"another server's console cookie alone", []string{"Cookie", "chappe=chp_x", "Sec-Fetch-Site", "same-origin"}, "anonymous", 0},
		{"ticket", []string{"ticket", ticket, "Cookie", "session=6"}, "bob", 0},
		{"ticket and token", []string{"ticket", ticket, "Authorization", "Bearer opaque2"}, "alice", 1},
		{"wrong ticket", []string{"ticket", "x", "Cookie", "session=6"}, "ticket-invalid", 0},
	}
	for _, c := range cases {
		before := asked
		r := visitor(t, c.headers...)
		if secret := r.Header.Get("ticket"); secret != "" {
			r.URL.RawQuery = "ticket=" + secret
		}
		id, _, err := a.IdentifyStream(r)
		if got := who(id, err); got != c.want || asked-before != c.asked {
			t.Errorf("%s: %s (%v), after %d calls, want %s after %d", c.name, got, err, asked-before, c.want, c.asked)
		}
	}
}

// Who has topics without a name was let in all the same, and may have a ticket.
func TestHookGuest(t *testing.T) {
	a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(*http.Request) (*http.Response, error) {
		return answer(http.StatusOK, `{"user":"","topics":["cart/7"]}`), nil
	}).client())
	id, err := a.Identify(visitor(t, "Cookie", "cart=7"))
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := a.Tickets.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	byTicket, done, err := a.Tickets.Open(ticket)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for _, id := range []*account.Identity{id, byTicket} {
		if !id.Known() || id.User != "" || !a.MayRead(id, "cart/7") || a.MayRead(id, "cart/8") || !id.Expires.After(time.Now()) {
			t.Errorf("a guest is %+v, want who reads cart/7 for a while", id)
		}
	}
}

// until answers once its request is given up.
func until(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// endless is what never comes of a body.
type endless struct{ ctx context.Context }

func (e endless) Read([]byte) (int, error) { return 0, until(e.ctx) }

// What is slow fails when its time is over; others do not wait for it.
func TestHookTimesOut(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			a := hookAccess(t, account.HookConfig{URL: hookURL, Timeout: timeout}, roundTrip(func(r *http.Request) (*http.Response, error) {
				switch r.Header.Get("Cookie") {
				case "session=slow":
					return nil, until(r.Context())
				case "session=endless":
					body := io.MultiReader(strings.NewReader(aliceSay), endless{r.Context()})
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body)}, nil
				}
				return answer(http.StatusOK, aliceSay), nil
			}).client())
			want := timeout
			if want == 0 {
				want = 5 * time.Second
			}
			began := time.Now()
			var slow sync.WaitGroup
			for _, cookie := range []string{"session=slow", "session=endless"} {
				slow.Go(func() {
					id, err := a.Identify(visitor(t, "Cookie", cookie))
					if got := who(id, err); got != "hook-failed" || time.Since(began) != want {
						t.Errorf("%s: %s after %v, want hook-failed after %v", cookie, got, time.Since(began), want)
					}
				})
			}
			synctest.Wait()
			if id, err := a.Identify(visitor(t, "Cookie", "session=1")); who(id, err) != "alice" || time.Since(began) != 0 {
				t.Errorf("another beside it: %s after %v, want alice at once", who(id, err), time.Since(began))
			}
			slow.Wait()
		})
	}
}

func TestHookSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		release := make(chan struct{})
		a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			<-release
			return answer(http.StatusOK, aliceSay), nil
		}).client())
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if id, err := a.Identify(visitor(t, "Cookie", "session=1")); who(id, err) != "alice" {
					t.Errorf("one of 1000: %s, want alice", who(id, err))
				}
			})
		}
		synctest.Wait()
		if asked.Load() != 1 {
			t.Errorf("1000 requests at once asked %d times, want once", asked.Load())
		}
		close(release)
		all.Wait()
	})
}

// The first who asked goes, the others get their answer.
func TestHookClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(r *http.Request) (*http.Response, error) {
			asked++
			select {
			case <-time.After(3 * time.Second):
				return answer(http.StatusOK, aliceSay), nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}).client())
		began := time.Now()
		ask := func(leaves time.Duration, want string, after time.Duration) func() {
			return func() {
				ctx, cancel := context.WithTimeout(t.Context(), leaves)
				defer cancel()
				id, err := a.Identify(visitor(t, "Cookie", "session=1").WithContext(ctx))
				if got := who(id, err); got != want || time.Since(began) != after {
					t.Errorf("who stays for %v: %s after %v, want %s after %v", leaves, got, time.Since(began), want, after)
				}
			}
		}
		var all sync.WaitGroup
		all.Go(ask(time.Second, "context deadline exceeded", time.Second))
		synctest.Wait() // it is the first
		all.Go(ask(2*time.Second, "context deadline exceeded", 2*time.Second))
		all.Go(ask(time.Minute, "alice", 3*time.Second))
		all.Wait()
		if asked != 1 {
			t.Errorf("the hook was asked %d times, want once", asked)
		}
	})
}

// How long an answer holds: to the nanosecond before its end, and no longer.
func TestHookCache(t *testing.T) {
	expiring := func(in time.Duration) string {
		return `{"user":"alice","expires":"` + time.Now().Add(in).Format(time.RFC3339Nano) + `"}`
	}
	cases := map[string]struct {
		cache  time.Duration
		status int
		body   func() string
		want   time.Duration
	}{
		"allowed":             {0, 200, func() string { return aliceSay }, 30 * time.Second},
		"as configured":       {time.Hour, 200, func() string { return expiring(2 * time.Hour) }, time.Hour},
		"until it expires":    {0, 200, func() string { return expiring(7 * time.Second) }, 7 * time.Second},
		"not logged in":       {0, 401, func() string { return "" }, 2 * time.Second},
		"expired":             {0, 200, func() string { return expiring(-time.Second) }, 2 * time.Second},
		"not logged in, less": {time.Millisecond, 401, func() string { return "" }, time.Millisecond},
		"failed":              {0, 500, func() string { return "" }, time.Second},
		"failed, less":        {time.Millisecond, 500, func() string { return "" }, time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				a := hookAccess(t, account.HookConfig{URL: hookURL, Cache: c.cache}, roundTrip(func(*http.Request) (*http.Response, error) {
					asked++
					return answer(c.status, c.body()), nil
				}).client())
				ask := func(cookie string) string { return who(a.Identify(visitor(t, "Cookie", cookie))) }
				first := ask("session=1")
				time.Sleep(c.want - 1)
				if got := ask("session=1"); got != first || asked != 1 {
					t.Errorf("before the end: %s after %d calls, want %s after 1", got, asked, first)
				}
				if ask("session=2"); asked != 2 {
					t.Error("another cookie has the answer of the first")
				}
				time.Sleep(time.Nanosecond)
				if got := ask("session=1"); got != first || asked != 3 {
					t.Errorf("at its end: %s after %d calls, want %s after 3", got, asked, first)
				}
			})
		})
	}
}

// A token and a cookie are one credential together: neither alone has its answer.
func TestHookCacheKey(t *testing.T) {
	asked := 0
	a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(*http.Request) (*http.Response, error) {
		asked++
		return answer(http.StatusOK, aliceSay), nil
	}).client())
	for n, headers := range [][]string{
		{"Authorization", "Basic a", "Cookie", "b=1"},
		{"Authorization", "Basic a"},
		{"Cookie", "b=1"},
		{"Authorization", "Basic ab=1"},
		{"Authorization", "Basic", "Cookie", "ab=1"},
		{"Cookie", "Basic ab=1"},
	} {
		if id, err := a.Identify(visitor(t, headers...)); who(id, err) != "alice" || asked != n+1 {
			t.Errorf("%v: %s after %d calls, want alice after %d", headers, who(id, err), asked, n+1)
		}
	}
}

// At most 64 calls are made at once. Who waits for a place has no more time
// than others, and more than 1,024 do not wait at all.
func TestHookConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		block := true
		a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(r *http.Request) (*http.Response, error) {
			if deadline, _ := r.Context().Deadline(); !time.Now().Before(deadline) { // the clock stands while all of them end
				return nil, context.DeadlineExceeded
			}
			asked.Add(1)
			if block {
				return nil, until(r.Context())
			}
			return answer(http.StatusOK, aliceSay), nil
		}).client())
		began := time.Now()
		var all sync.WaitGroup
		ask := func(n int, after time.Duration) {
			all.Go(func() {
				id, err := a.Identify(visitor(t, "Cookie", fmt.Sprint("session=", n)))
				if got := who(id, err); got != "hook-failed" || time.Since(began) != after {
					t.Errorf("request %d: %s after %v, want hook-failed after %v", n, got, time.Since(began), after)
				}
			})
		}
		for n := range 1024 {
			ask(n, 5*time.Second)
		}
		synctest.Wait()
		ask(0, 5*time.Second) // waits with the first
		ask(1024, 0)
		synctest.Wait()
		if asked.Load() != 64 {
			t.Errorf("%d calls are made at once, want 64", asked.Load())
		}
		all.Wait()
		if asked.Load() != 64 {
			t.Errorf("%d calls were made in all, want 64: the wait for a place is part of the time", asked.Load())
		}
		block = false
		time.Sleep(time.Second)
		for n := range 100 { // the places are free again
			if id, err := a.Identify(visitor(t, "Cookie", fmt.Sprint("session=", n))); who(id, err) != "alice" {
				t.Fatalf("afterwards: %s, want alice", who(id, err))
			}
		}
	})
}

// 20,000 answers are kept. Then those that hold no more are dropped; if they
// are few, all are.
func TestHookCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		a := hookAccess(t, account.HookConfig{URL: hookURL, Cache: time.Minute}, roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			return answer(http.StatusOK, aliceSay), nil
		}).client())
		r := visitor(t)
		ask := func(from, to int) (calls int) {
			before := asked
			for n := from; n < to; n++ {
				r.Header.Set("Cookie", fmt.Sprint("session=", n))
				if _, err := a.Identify(r); err != nil {
					t.Fatal(err)
				}
			}
			return asked - before
		}
		ask(0, 15_000)
		time.Sleep(30 * time.Second)
		ask(15_000, 20_000)
		if got := ask(0, 20_000); got != 0 {
			t.Errorf("with 20,000 kept, %d were asked again", got)
		}
		time.Sleep(30 * time.Second)
		ask(20_000, 20_001) // 15,000 have ended
		if got := ask(15_000, 20_001); got != 0 {
			t.Errorf("what held was dropped with what did not: %d of 5,001 were asked again", got)
		}
		if got := ask(0, 14_999); got != 14_999 {
			t.Errorf("%d of 14,999 that had ended were asked again", got)
		}
		ask(30_000, 30_001) // one too many, and all hold
		if got := ask(0, 10); got != 10 {
			t.Errorf("%d of 10 were asked again, want all: the cache has begun anew", got)
		}
	})
}

// The log tells once that the hook fails, and once that it answers; whatever
// happens, not more than once a minute. It never has a secret.
func TestHookLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fails := func() (*http.Response, error) { return nil, errors.New("connection refused") }
		works := func() (*http.Response, error) { return answer(http.StatusOK, aliceSay), nil }
		refuses := func() (*http.Response, error) { return answer(http.StatusFound, ""), nil }
		next := fails
		config := account.HookConfig{URL: "http://operator:canary@app.example:6543/whoami?key=canary", Cache: time.Millisecond}
		client := roundTrip(func(*http.Request) (*http.Response, error) { return next() }).client()
		a := hookAccess(t, config, client)
		a.Hook = account.NewHook(config, client, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), nil)
		steps := []struct {
			after  time.Duration
			answer func() (*http.Response, error)
			want   string // the line's level
		}{
			{0, works, ""},
			{time.Second, fails, "WARN"},
			{time.Second, fails, "DEBUG"},
			{time.Second, func() (*http.Response, error) { return answer(http.StatusOK, "<p>canary"), nil }, "DEBUG"},
			{time.Second, refuses, "INFO"},
			{time.Second, works, ""},
			{time.Second, fails, "DEBUG"}, // not a minute since the last warning
			{time.Second, works, ""},
			{time.Minute, fails, "WARN"},
			{time.Hour, fails, "DEBUG"},
			{time.Second, works, "INFO"},
		}
		for n, step := range steps {
			time.Sleep(step.after)
			next = step.answer
			log.Reset()
			_, _ = a.Identify(visitor(t, "Cookie", "session=canary", "Authorization", "Bearer canary"))
			line := log.String()
			says := map[string]string{"": "", "INFO": "answered again", "DEBUG": "access hook failed", "WARN": "access hook failed"}[step.want]
			if step.want != "" && (!strings.Contains(line, "level="+step.want) || !strings.Contains(line, says) || !strings.Contains(line, "url=http://app.example:6543/whoami ") && !strings.Contains(line, "url=http://app.example:6543/whoami\n")) ||
				strings.Count(line, "\n") != min(1, len(step.want)) {
				t.Errorf("step %d logged %q, want a line of level %q", n, line, step.want)
			}
			if strings.Contains(line, "canary") {
				t.Errorf("step %d logged a secret: %q", n, line)
			}
			if level := step.want; (level == "WARN" || level == "DEBUG") && (!strings.Contains(line, "err=") || !strings.Contains(line, "duration=")) {
				t.Errorf("step %d logged %q, which lacks the cause or the duration", n, line)
			}
		}
	})
}

func TestHookMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	a := hookAccess(t, account.HookConfig{URL: hookURL}, http.DefaultClient)
	a.Hook = account.NewHook(account.HookConfig{URL: hookURL}, roundTrip(func(r *http.Request) (*http.Response, error) {
		status := map[string]int{"session=1": 200, "session=2": 403}[r.Header.Get("Cookie")]
		return answer(status, aliceSay), nil
	}).client(), slog.New(slog.DiscardHandler), registry)
	for _, session := range []int{1, 1, 1, 2, 3} {
		_, _ = a.Identify(visitor(t, "Cookie", fmt.Sprint("session=", session)))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				got[family.GetName()] = float64(h.GetSampleCount())
				continue
			}
			got[family.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	const requests = "chappe_access_hook_requests_total "
	want := map[string]float64{requests + "allowed": 1, requests + "cached": 2, requests + "refused": 1, requests + "failed": 1, "chappe_access_hook_seconds": 3}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// Public topics need no credential that holds: a cookie of somebody who is
// logged out is one.
func TestHookLeavesPublicTopics(t *testing.T) {
	a := hookAccess(t, account.HookConfig{URL: hookURL}, roundTrip(func(*http.Request) (*http.Response, error) {
		return answer(http.StatusUnauthorized, ""), nil
	}).client())
	a.Rules = event.Rules{{Match: "public/**", Public: true}}
	id, err := a.Identify(visitor(t, "Cookie", "session=old"))
	if err != nil || !a.MayRead(id, "public/a") || a.MayRead(id, "mail/alice/inbox") {
		t.Errorf("Identify() = %+v, %v, want who reads public/a alone", id, err)
	}
}
