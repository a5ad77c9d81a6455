package account_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
)

func TestAPITokens(t *testing.T) {
	tokens := &memory{}
	a := &account.Access{Tokens: tokens, Verifier: newVerifier(t, account.JWTConfig{})}
	type may struct{ read, readAll, publish, admin bool }
	cases := map[string]struct {
		scopes   []account.Scope
		patterns []event.Pattern
		want     may // on ci/deploy, **, ci/deploy
	}{
		"read":            {[]account.Scope{account.ScopeRead}, nil, may{true, true, false, false}},
		"publish":         {[]account.Scope{account.ScopePublish}, nil, may{false, false, true, false}},
		"admin":           {[]account.Scope{account.ScopeAdmin}, nil, may{true, true, true, true}},
		"none":            {nil, nil, may{}},
		"on its topics":   {[]account.Scope{account.ScopeRead, account.ScopePublish}, []event.Pattern{"x", "ci/*"}, may{true, false, true, false}},
		"on other topics": {[]account.Scope{account.ScopeRead, account.ScopePublish}, []event.Pattern{"mail/**"}, may{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			token := tokens.add(t, account.Token{Name: "ci", Scopes: c.scopes, Patterns: c.patterns})
			id, err := a.Identify(bearer(t, token))
			if err != nil {
				t.Fatal(err)
			}
			got := may{a.MayRead(id, "ci/deploy"), a.MayRead(id, "**"), id.MayPublish("ci/deploy"), id.May(account.ScopeAdmin)}
			if got != c.want || id.Name != "ci" || id.User != "" || !id.Known() {
				t.Errorf("%+v may %+v, want %+v", id, got, c.want)
			}
		})
	}
}

func TestCredentialsThatAreWrong(t *testing.T) {
	tokens := &memory{}
	a := &account.Access{Tokens: tokens, Verifier: newVerifier(t, account.JWTConfig{})}
	expired := tokens.add(t, account.Token{Name: "old", Scopes: []account.Scope{account.ScopeAdmin}, Expires: time.Now().Add(-time.Second)})
	cases := map[string]struct{ authorization, query, code string }{
		"unknown":       {"Bearer chp_x", "", "token-invalid"},
		"expired":       {"Bearer " + expired, "", "token-expired"},
		"no JWT":        {"Bearer x", "", "token-invalid"},
		"other scheme":  {"Basic " + expired, "", "token-invalid"},
		"nothing in it": {"Bearer", "", "token-invalid"},
		"ticket":        {"", "?ticket=x", "ticket-invalid"},
		"in the URL":    {"", "?token=" + expired, ""}, // no such thing: anonymous
	}
	for name, c := range cases {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/events"+c.query, nil)
		r.Header.Set("Authorization", c.authorization)
		id, _, err := a.IdentifyStream(r)
		if code(t, err) != c.code || err == nil && id.Known() {
			t.Errorf("%s: Identify() = %+v, %v, want %q", name, id, err, c.code)
		}
	}
}

// A ticket reads what its token reads, and does nothing else; it counts on
// streams alone.
func TestTicketOnlyReads(t *testing.T) {
	tokens := &memory{}
	a := &account.Access{Tokens: tokens, Verifier: newVerifier(t, account.JWTConfig{})}
	admin, err := a.Identify(bearer(t, tokens.add(t, account.Token{Name: "ci", Scopes: []account.Scope{account.ScopeAdmin}})))
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := a.Tickets.Issue(admin)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/stream?ticket="+secret, nil)
	id, done, err := a.IdentifyStream(r)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if !id.MayRead("**") || id.MayPublish("a") || id.May(account.ScopeAdmin) {
		t.Errorf("the ticket of an admin is %+v, want it to read alone", id)
	}
	if id, err := a.Identify(r); err != nil || id.Known() {
		t.Errorf("Identify() by a ticket = %+v, %v, want anonymous", id, err)
	}
}

// A token that was removed is refused two seconds later; meanwhile the store
// is not asked at every request.
func TestTokenCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := &memory{}
		a := &account.Access{Tokens: tokens}
		token := account.Token{Name: "ci", Expires: time.Now().Add(time.Second)}
		brief := tokens.add(t, token)
		token.Expires = time.Time{}
		lasting := token.NewSecret()
		if err := tokens.AddToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			for _, secret := range []string{brief, lasting} {
				if _, err := a.Identify(bearer(t, secret)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if tokens.asked != 2 {
			t.Errorf("20 requests with 2 tokens asked the store %d times, want 2", tokens.asked)
		}
		time.Sleep(1500 * time.Millisecond)
		if _, err := a.Identify(bearer(t, brief)); code(t, err) != "token-expired" {
			t.Errorf("a token that expired in the cache: %v, want token-expired", err)
		}
		if err := tokens.RemoveToken(t.Context(), token.Hash); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if _, err := a.Identify(bearer(t, lasting)); code(t, err) != "token-invalid" {
			t.Errorf("2 s after it was cached, a removed token: %v, want token-invalid", err)
		}
	})
}

func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tickets account.Tickets
		subscriber := &account.Identity{User: "alice"}
		ticket, use, err := tickets.Issue(subscriber)
		if err != nil || time.Until(use) != 10*time.Minute {
			t.Fatalf("Issue() = until %v, %v, want 10 min from now", use, err)
		}
		open := func(when string) func() {
			id, done, err := tickets.Open(ticket)
			if err != nil || id.User != "alice" {
				t.Fatalf("Open() %s = %+v, %v, want alice", when, id, err)
			}
			return done
		}
		time.Sleep(10 * time.Minute)
		first := open("in its last moment")
		time.Sleep(time.Hour)
		second := open("beside a session that lasts")
		first()
		first() // counts once
		time.Sleep(time.Hour)
		open("beside the second")()
		second()
		time.Sleep(10 * time.Minute)
		open("10 min after the last session")()
		time.Sleep(10*time.Minute + time.Nanosecond)
		if _, _, err := tickets.Open(ticket); code(t, err) != "ticket-invalid" {
			t.Errorf("Open() more than 10 min after the last session = %v, want ticket-invalid", err)
		}
	})
}

func TestATicketEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tickets account.Tickets
		ends := time.Now().Add(5 * time.Minute)
		ticket, use, err := tickets.Issue(&account.Identity{User: "alice", Expires: ends})
		if err != nil || !use.Equal(ends) {
			t.Fatalf("Issue() = until %v, %v, want the token's %v", use, err, ends)
		}
		_, done, err := tickets.Open(ticket)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		time.Sleep(5*time.Minute + time.Nanosecond)
		if _, _, err := tickets.Open(ticket); code(t, err) != "ticket-invalid" {
			t.Errorf("Open() past the token, beside a session = %v, want ticket-invalid", err)
		}
	})
}

func TestPublicTopics(t *testing.T) {
	a := &account.Access{Rules: event.Rules{
		{Match: "site/internal/**"},
		{Match: "site/**", Public: true},
		{Match: "news", Public: true},
	}}
	for pattern, want := range map[event.Pattern]bool{
		"site/a": true, "site/a/**": true, "site/a/b": true, "news": true,
		"site/internal/a": false, "site/internal/**": false, "site/**": false, "site/*/a": false, "**": false, "news/a": false, "mail": false, "*": false,
	} {
		if got := a.MayRead(&account.Identity{}, pattern); got != want {
			t.Errorf("anonymous may read %s: %v, want %v", pattern, got, want)
		}
	}
}

func page(t *testing.T, host string, header map[string]string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Host = host
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return r
}

func TestSetupToken(t *testing.T) {
	a := &account.Access{Tokens: &memory{}}
	r := page(t, "localhost:8080", nil)
	if _, err := a.LogIn(t.Context(), r, ""); code(t, err) != "setup-token-invalid" {
		t.Errorf("LogIn() before there is a token = %v, want setup-token-invalid", err)
	}
	token := a.NewSetupToken()
	for _, wrong := range []string{"", token[1:], token + "x"} {
		if _, err := a.LogIn(t.Context(), r, wrong); code(t, err) != "setup-token-invalid" {
			t.Errorf("LogIn(%q) = %v, want setup-token-invalid", wrong, err)
		}
	}
	cookie, err := a.LogIn(t.Context(), r, " "+token+"\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.LogIn(t.Context(), r, token); code(t, err) != "setup-token-invalid" {
		t.Errorf("LogIn() a second time = %v, want setup-token-invalid", err)
	}
	r.AddCookie(cookie)
	if !a.LoggedIn(r) {
		t.Error("the cookie does not log in")
	}
	if _, err := a.LogOut(t.Context(), r); err != nil || a.LoggedIn(r) {
		t.Errorf("LogOut() = %v; logged in after it: %v", err, a.LoggedIn(r))
	}
}

// The console's cookie is for our own pages: elsewhere its bearer is anonymous.
func TestCookieCountsSameOrigin(t *testing.T) {
	a := &account.Access{Tokens: &memory{}}
	cookie, err := a.LogIn(t.Context(), page(t, "localhost", nil), a.NewSetupToken())
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		header map[string]string
		counts bool
	}{
		"same-origin":                  {map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		"same-site":                    {map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		"cross-site":                   {map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		"cross-site, our origin":       {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8080"}, false},
		"typed":                        {map[string]string{"Sec-Fetch-Site": "none"}, false},
		"our origin":                   {map[string]string{"Origin": "http://localhost:8080"}, true},
		"other origin":                 {map[string]string{"Origin": "http://evil.tld"}, false},
		"null":                         {map[string]string{"Origin": "null"}, false},
		"a browser that says not whom": {nil, false},
	}
	for name, c := range cases {
		r := page(t, "localhost:8080", c.header)
		r.AddCookie(cookie)
		id, err := a.Identify(r)
		if err != nil {
			t.Fatal(err)
		}
		if id.Known() != c.counts || c.counts && (!id.May(account.ScopeRead) || id.May(account.ScopePublish) || id.May(account.ScopeAdmin)) {
			t.Errorf("%s: Identify() = %+v, want it to count: %v, for reading alone", name, id, c.counts)
		}
	}
}

func TestCookieOfTheConsole(t *testing.T) {
	https, http1 := &url.URL{Scheme: "https", Host: "push.example"}, &url.URL{Scheme: "http", Host: "pi.lan"}
	cases := map[string]struct {
		base   *url.URL
		host   string
		tls    bool
		secure bool
	}{
		"loopback":            {nil, "127.0.0.1:8080", false, true},
		"loopback in IPv6":    {nil, "[::1]:8080", false, true},
		"localhost":           {nil, "localhost:8080", false, true},
		"TLS ends here":       {nil, "192.168.1.7", true, true},
		"TLS ends before":     {https, "push.example", false, true},
		"plain in the house":  {http1, "pi.lan", false, false},
		"plain by an address": {nil, "192.168.1.7:8080", false, false},
	}
	for name, c := range cases {
		a := &account.Access{Tokens: &memory{}, Origins: account.Origins{Base: c.base}}
		r := page(t, c.host, nil)
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		cookie, err := a.LogIn(t.Context(), r, a.NewSetupToken())
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: "__Host-chappe", false: "chappe"}[c.secure]
		if cookie.Name != want || cookie.Secure != c.secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("%s: cookie %v, want %s, Secure: %v, HttpOnly and Lax", name, cookie, want, c.secure)
		}
	}
}

func TestCheckHost(t *testing.T) {
	o := account.Origins{Base: &url.URL{Scheme: "https", Host: "Push.example:8443"}}
	for host, want := range map[string]bool{
		"push.example": true, "PUSH.example:8443": true, "push.example.": true, "push.example:1": true,
		"127.0.0.1": true, "192.168.1.7:8080": true, "[::1]:8080": true, "localhost": true, "LOCALHOST:3": true, "localhost.": true,
		"evil.tld": false, "push.example.evil.tld": false, "evil-push.example": false, "localhost.evil.tld": false, "127.0.0.1.evil.tld": false, "": false,
		"push.example@evil.tld": false, "evil.tld:443": false,
	} {
		if got := o.CheckHost(host); got != want {
			t.Errorf("CheckHost(%q) = %v, want %v", host, got, want)
		}
	}
	if (account.Origins{}).CheckHost("push.example") {
		t.Error("without base_url a name was taken")
	}
}

func TestCORS(t *testing.T) {
	for _, credentials := range []bool{false, true} {
		o := account.Origins{Base: &url.URL{Scheme: "https", Host: "push.example"}, Allowed: []string{"https://app.example"}, Credentials: credentials}
		h := o.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		for origin, allowed := range map[string]bool{"https://app.example": true, "https://push.example": true, "https://evil.tld": false, "null": false, "": false} {
			for _, method := range []string{http.MethodGet, http.MethodOptions} {
				r := httptest.NewRequestWithContext(t.Context(), method, "/v1/events", nil)
				r.Host = "push.example"
				r.Header.Set("Origin", origin)
				status := http.StatusTeapot
				if method == http.MethodOptions {
					r.Header.Set("Access-Control-Request-Method", "POST")
					status = http.StatusNoContent
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				want, sent := "", ""
				if allowed {
					want = origin
				}
				if allowed && credentials {
					sent = "true"
				}
				if got := w.Header(); w.Code != status || got.Get("Access-Control-Allow-Origin") != want || got.Get("Vary") != "Origin" ||
					got.Get("Access-Control-Allow-Credentials") != sent || (got.Get("Access-Control-Allow-Methods") != "") != (allowed && method == http.MethodOptions) {
					t.Errorf("%s from %q = %d %v, want %d and to allow %q, its cookies: %q", method, origin, w.Code, got, status, want, sent)
				}
			}
		}
	}
}
