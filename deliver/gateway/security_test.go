package gateway_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
)

// canary is what must not come back to anybody else.
const canary = "canary.example"

// unkeyed are headers by which upstreams are known to answer another URL, host,
// scheme, method or client than the request's (security.md 15).
var unkeyed = []string{
	"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Port", "X-Forwarded-Scheme", "X-Forwarded-Server",
	"X-Forwarded-Ssl", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-Forwarded-Uri", "X-Forwarded-By", "X-Forwarded-Client-Cert", "Via", "X-Original-URL", "X-Rewrite-URL", "X-Override-URL",
	"X-Original-Host", "X-Original-URI", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-HTTP-Path-Override", "X-HTTP-Host-Override", "X-HTTP-DestinationURL", "X-Host", "X-Port",
	"X-Scheme", "X-Url-Scheme", "X-Protocol", "X-Proxy-Url", "X-Proxy-Host", "X-Backend", "X-Backend-Host", "X-Server-Name", "X-Base-Url", "X-Uri", "X-Url", "X-Real-IP", "X-Client-IP",
	"X-Originating-IP", "X-Remote-IP", "X-Remote-Addr", "X-Cluster-Client-IP", "X-Custom-IP-Authorization", "X-ProxyUser-Ip", "X-Wap-Profile", "X-Matched-Path", "X-Invoke-Path", "X-Invoke-Query",
	"X-Now-Route-Matches", "X-Middleware-Prefetch", "X-Middleware-Subrequest", "X-Nextjs-Data", "X-User", "X-User-ID", "X-Remote-User", "X-Authenticated-User", "X-Webauth-User", "X-Envoy-Original-Path",
	"Base-Url", "Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "Destination", "Front-End-Https", "Http-Url", "Profile", "Proxy", "Proxy-Host", "Proxy-Url", "Redirect",
	"Remote-User", "Request-Uri", "Uri", "Url", "Proxy-Authorization", "Proxy-Connection", "Keep-Alive", "TE", "Trailer", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since",
	"X-Unknown-To-Everybody", "X-Amz-Website-Redirect-Location", "X-Accel-Redirect", "X-Sendfile", "X-Debug",
}

// spellings of a header by which some upstreams read the same.
func spellings(name string) []string {
	all := []string{name, strings.ToLower(name), strings.ToUpper(name)}
	if strings.Contains(name, "-") {
		all = append(all, strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", "_")), strings.Replace(name, "-", "_", 1))
	}
	return all
}

// reflecting is an origin that gives back all that it is asked, for a minute
// if the field says so.
func reflecting(cacheControl string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cacheControl != "" {
			w.Header().Set("Cache-Control", cacheControl)
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			fmt.Fprintf(w, "%s: %q\n", name, r.Header[name])
		}
		fmt.Fprintf(w, "%s", body)
	})
}

// ask is the text of a GET with fields, each a line without its end.
func (s *site) ask(target string, fields ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + s.address + "\r\nConnection: close\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// security.md 15: what a client sends in a header that is not in the key comes
// back to nobody else, on whatever kind of route.
func TestPoisoningByHeader(t *testing.T) {
	if len(unkeyed) < 60 {
		t.Fatalf("%d headers", len(unkeyed))
	}
	keyed := []string{"X-Tenant", "Accept-Language"}
	for name, c := range map[string]route.Config{
		"plain": {}, "ttl": {TTL: time.Minute}, "keyed": {Headers: keyed, Cookies: []string{"a"}, Authorization: true, CORS: []string{"https://a.example"}, KeepHost: true}, "force": {ForceTTL: time.Minute, Headers: keyed, Compress: true},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, start starter) {
				s := start(t, reflecting("max-age=60"), c, nil)
				for i, header := range unkeyed {
					for j, spelling := range spellings(header) {
						target := fmt.Sprintf("/%d/%d", i, j)
						s.poison(t, spelling, target, s.ask(target, spelling+": "+canary))
					}
				}
			})
		})
	}
}

// poison sends a request and then, as another client, a clean one for the target.
func (s *site) poison(t *testing.T, name, target, text string) {
	t.Helper()
	s.raw(t, "GET", text)
	first, second := s.get(t, target), s.get(t, target)
	if strings.Contains(first.body+second.body+fmt.Sprint(first.header, second.header), canary) {
		t.Errorf("%s: a clean request gets %q", name, first.body)
	}
	if first.status != http.StatusOK || !second.isHit() {
		t.Errorf("%s: a clean request gets %d, and then no hit: %v", name, first.status, second.header)
	}
}

// security.md 15: on a route with a ttl nothing of a client's headers gets
// through, but what it names.
func TestPoisoningOfTTL(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, reflecting(""), route.Config{TTL: time.Minute}, nil)
		for i, name := range []string{
			"User-Agent", "Referer", "Origin", "Accept-Language", "Accept", "Cookie", "Accept-Encoding", "Accept-Charset", "Cache-Control", "Pragma", "Content-Type", "Content-Encoding", "From", "Prefer", "DNT", "Foo",
			"Save-Data", "Sec-Fetch-Site", "Sec-CH-UA", "Sec-GPC", "Max-Forwards", "Priority", "Upgrade-Insecure-Requests", "Translate", "A-IM", "Content-Language", "Authorization", "Traceparent", "CDN-Loop", "HTTP2-Settings",
		} {
			target := fmt.Sprint("/", i)
			s.poison(t, name, target, s.ask(target, name+": "+canary))
		}
	})
}

// security.md 15: what a request that is not stored makes the upstream say,
// as a body, a method or a target in its query would, is for that client alone.
func TestPoisoningByMethodAndBody(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		for name, c := range map[string]route.Config{"plain": {}, "ttl": {TTL: time.Minute}} {
			s := start(t, reflecting("max-age=60"), c, nil)
			host := "Host: " + s.address + "\r\nConnection: close\r\n"
			length := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(canary), canary)
			chunked := fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(canary), canary)
			for i, text := range []string{
				"GET %s HTTP/1.1\r\n" + host + length,
				"GET %s HTTP/1.1\r\n" + host + chunked,
				"GET %s HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override: POST\r\n" + host + length,
				"POST %s HTTP/1.1\r\n" + host + length,
				"POST %s HTTP/1.1\r\nX-Http-Method-Override: GET\r\n" + host + length,
				"HEAD %s HTTP/1.1\r\n" + host + length,
				"PUT %s HTTP/1.1\r\n" + host + length,
				"OPTIONS %s HTTP/1.1\r\n" + host + length,
				"CANARY %s HTTP/1.1\r\nA: canary.example\r\n" + host + "\r\n",
				"GET %s?_method=canary.example HTTP/1.1\r\n" + host + "\r\n",
				"GET %s?canary.example HTTP/1.1\r\n" + host + "\r\n",
				"GET %s%%3fcanary.example HTTP/1.1\r\n" + host + "\r\n",
			} {
				target := fmt.Sprint("/", i)
				s.poison(t, name+" "+text, target, fmt.Sprintf(text, target))
			}
		}
	})
}

// RFC 9110 §9.3.3 lets an answer to a POST be stored for GETs. It must not bring
// what its request had beyond the key (security.md 15).
func TestPoisoningByPost(t *testing.T) {
	origin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Location", r.URL.RequestURI())
		reflecting("max-age=60").ServeHTTP(w, r)
	})
	onBoth(t, func(t *testing.T, start starter) {
		for name, c := range map[string]route.Config{"plain": {}, "ttl": {TTL: time.Minute}} {
			s := start(t, origin, c, nil)
			for i, header := range []string{"X-Host", "X-Original-Url", "X-Forwarded-Host", "X-Http-Method-Override", "X_Host", "X-Unknown", "Cookie", "Authorization", "Request_uri"} {
				target := fmt.Sprint("/", i)
				s.do(t, http.MethodPost, target, "", header, canary)
				if a := s.get(t, target); strings.Contains(a.body, canary) {
					t.Errorf("%s: %s of a POST came to a GET: %q", name, header, a.body)
				}
			}
		}
		s := start(t, origin, route.Config{Headers: []string{"X-Tenant"}}, nil)
		s.raw(t, "POST", "POST / HTTP/1.1\r\nHost: "+s.address+"\r\nConnection: close, X-Tenant\r\nX-Tenant: acme\r\nContent-Length: 0\r\n\r\n")
		if a := s.get(t, "/", "X-Tenant", "acme"); !strings.Contains(a.body, `X-Tenant: ["acme"]`) {
			t.Errorf("the answer for one tenant is stored as another's: %q", a.body)
		}
	})
}

// security.md 15: a client cannot have the upstream answer without a header that
// the answer is stored under, by naming it in Connection.
func TestPoisoningByConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, reflecting("max-age=60, public"), route.Config{Headers: []string{"X-Tenant"}, Cookies: []string{"a"}, Authorization: true}, nil)
		for i, c := range []struct{ name, field, value string }{{"X-Tenant", "X-Tenant", "acme"}, {"Cookie", "Cookie", "a=acme"}, {"Authorization", "Authorization", "acme"}} {
			target := fmt.Sprint("/", i)
			s.raw(t, "GET", "GET "+target+" HTTP/1.1\r\nHost: "+s.address+"\r\nConnection: close, "+c.name+"\r\n"+c.field+": "+c.value+"\r\n\r\n")
			if a := s.get(t, target, c.field, c.value); !strings.Contains(a.body, fmt.Sprintf("%s: [%q]", c.field, c.value)) {
				t.Errorf("%s listed by Connection: an answer without it is stored under it: %q", c.name, a.body)
			}
			if a := s.get(t, target); strings.Contains(a.body, "acme") {
				t.Errorf("%s listed by Connection: %q came to a clean request", c.name, a.body)
			}
		}
	})
}

// security.md 15, 18: which requests share an answer, and that each gets the one
// to what it asked.
func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		name, a, b string // what begins a request; a Host is added to those without
		same       bool
	}{
		{"itself", "GET /a HTTP/1.1", "GET /a HTTP/1.1", true},
		{"an empty query", "GET /a HTTP/1.1", "GET /a? HTTP/1.1", false},
		{"case of the path", "GET /a HTTP/1.1", "GET /A HTTP/1.1", false},
		{"an escape", "GET /~a HTTP/1.1", "GET /%7ea HTTP/1.1", false},
		{"case of an escape", "GET /%7Ea HTTP/1.1", "GET /%7ea HTTP/1.1", false},
		{"a parameter twice", "GET /?a=1 HTTP/1.1", "GET /?a=1&a=1 HTTP/1.1", false},
		{"parameters in another order", "GET /?a=1&a=2 HTTP/1.1", "GET /?a=2&a=1 HTTP/1.1", false},
		{"a semicolon", "GET /?a=1&b HTTP/1.1", "GET /?a=1;b HTTP/1.1", false},
		{"an invalid escape in the query", "GET /?a=%zz HTTP/1.1", "GET /?a= HTTP/1.1", false},
		{"two slashes", "GET //a HTTP/1.1", "GET /a HTTP/1.1", false},
		{"a host in the path", "GET //h/a HTTP/1.1\r\nHost: h", "GET /a HTTP/1.1\r\nHost: h", false},
		{"case of the host", "GET / HTTP/1.1\r\nHost: h.example", "GET / HTTP/1.1\r\nHost: H.EXAMPLE", true},
		{"port 80", "GET / HTTP/1.1\r\nHost: h.example:80", "GET / HTTP/1.1\r\nHost: h.example", true},
		{"port 443", "GET / HTTP/1.1\r\nHost: h.example:443", "GET / HTTP/1.1\r\nHost: h.example", false},
		{"a final dot", "GET / HTTP/1.1\r\nHost: h.example.", "GET / HTTP/1.1\r\nHost: h.example", true},
		{"another host", "GET / HTTP/1.1\r\nHost: h.example", "GET / HTTP/1.1\r\nHost: i.example", false},
		{"another port", "GET / HTTP/1.1\r\nHost: h.example:81", "GET / HTTP/1.1\r\nHost: h.example:82", false},
		{"absolute form", "GET http://h.example/a?b HTTP/1.1\r\nHost: h.example", "GET /a?b HTTP/1.1\r\nHost: h.example", true},
		{"absolute form, escapes", "GET http://h.example/%7e%2C HTTP/1.1\r\nHost: h.example", "GET /%7e%2C HTTP/1.1\r\nHost: h.example", true},
		{"absolute form without a path", "GET http://h.example?b HTTP/1.1\r\nHost: h.example", "GET /?b HTTP/1.1\r\nHost: h.example", true},
		{"a forwarded host", "GET / HTTP/1.1\r\nHost: h.example\r\nX-Forwarded-Host: i.example", "GET / HTTP/1.1\r\nHost: h.example", true},
		{"a forwarded scheme of a stranger", "GET / HTTP/1.1\r\nX-Forwarded-Proto: https", "GET / HTTP/1.1", true},
		{"values joined", "GET / HTTP/1.1\r\nX-A: a\r\nX-B: bc", "GET / HTTP/1.1\r\nX-A: ab\r\nX-B: c", false},
		{"a value with a comma", "GET / HTTP/1.1\r\nX-A: a,b", "GET / HTTP/1.1\r\nX-A: a", false},
		{"lines and a comma", "GET / HTTP/1.1\r\nX-A: a\r\nX-A: b", "GET / HTTP/1.1\r\nX-A: a,b", true},
		{"an empty one and none", "GET / HTTP/1.1\r\nX-A:", "GET / HTTP/1.1", true},
		{"lines of cookies", "GET / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2", "GET / HTTP/1.1\r\nCookie: a=1; b=2", true},
		{"lines of cookies and a comma", "GET / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2", "GET / HTTP/1.1\r\nCookie: a=1,b=2", false},
		{"cookies and a comma", "GET / HTTP/1.1\r\nCookie: a=1,b=2", "GET / HTTP/1.1\r\nCookie: a=1", false},
		{"cookies joined", "GET / HTTP/1.1\r\nCookie: a=1; b=23", "GET / HTTP/1.1\r\nCookie: a=12; b=3", false},
		{"another cookie", "GET / HTTP/1.1\r\nCookie: c=1", "GET / HTTP/1.1", true},
	} {
		onBoth(t, func(t *testing.T, start starter) {
			s := start(t, reflecting("max-age=60"), route.Config{Headers: []string{"X-A", "X-B"}, Cookies: []string{"a", "b"}}, nil)
			whole := func(begin string) string {
				if !strings.Contains(begin, "Host: ") {
					begin += "\r\nHost: " + s.address
				}
				return begin + "\r\nConnection: close\r\n\r\n"
			}
			first, second := s.raw(t, "GET", whole(tt.a)), s.raw(t, "GET", whole(tt.b))
			if first.status != http.StatusOK || second.isHit() != tt.same || (first.body == second.body) != tt.same {
				t.Errorf("%s: hit %v, want %v, for %q, then %q", tt.name, second.isHit(), tt.same, first.body, second.body)
			}
			for _, text := range []string{tt.a, tt.b} { // the second time as the first
				if again := s.raw(t, "GET", whole(text)); !again.isHit() || again.body != first.body && again.body != second.body {
					t.Errorf("%s: %q again is no hit: %v", tt.name, text, again.header)
				}
			}
		})
	}
}

// security.md 15, 18: only a trusted proxy says that the client came by https, and
// then it is another key.
func TestForwardedProto(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		for _, trusted := range []bool{false, true} {
			s := start(t, reflecting("max-age=60"), route.Config{}, func(o *gateway.Options) {
				if trusted {
					o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				}
			})
			for i, tt := range []struct {
				lines  []string
				secure bool // by a trusted proxy
			}{
				{[]string{"X-Forwarded-Proto: https"}, true}, {[]string{"X-Forwarded-Proto: HTTPS"}, true}, {[]string{"X-Forwarded-Proto: http"}, false}, {[]string{"X-Forwarded-Proto: evil"}, false},
				{[]string{"X-Forwarded-Proto: https,http"}, false}, {[]string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: http"}, false}, {[]string{"X_Forwarded_Proto: https"}, false}, {[]string{"Forwarded: proto=https"}, false},
			} {
				target := fmt.Sprint("/", i)
				secure, said := trusted && tt.secure, `X-Forwarded-Proto: ["http"]`
				if secure {
					said = `X-Forwarded-Proto: ["https"]`
				}
				first := s.raw(t, "GET", s.ask(target, tt.lines...))
				second := s.raw(t, "GET", s.ask(target, tt.lines...))
				plain := s.raw(t, "GET", s.ask(target))
				if !strings.Contains(first.body, said) || !second.isHit() || plain.isHit() == secure || secure == (plain.body == first.body) {
					t.Errorf("trusted %v, %q: the upstream was told %q, again a hit %v, without it a hit %v", trusted, tt.lines, first.body, second.isHit(), plain.isHit())
				}
			}
		}
	})
}

// security.md 16: answers that are one client's are not another's.
func TestNeverStored(t *testing.T) {
	for _, tt := range []struct {
		name        string
		c           route.Config
		field       string // of the request
		name2, set2 string // a field of the answer, besides max-age
	}{
		{"Authorization", route.Config{}, "Authorization: x", "", ""},
		{"Authorization and public", route.Config{}, "Authorization: x", "Cache-Control", "public, s-maxage=60"},
		{"empty Authorization", route.Config{}, "Authorization:", "", ""},
		{"Authorization with a ttl", route.Config{TTL: time.Minute}, "Authorization: x", "", ""},
		{"Authorization with a forced ttl", route.Config{ForceTTL: time.Minute}, "Authorization: x", "", ""},
		{"Cookie", route.Config{}, "Cookie: a=1", "", ""},
		{"Cookie and public", route.Config{}, "Cookie: a=1", "Cache-Control", "public, s-maxage=60"},
		{"Set-Cookie", route.Config{}, "A: b", "Set-Cookie", "a=1"},
		{"Set-Cookie with a ttl", route.Config{TTL: time.Minute}, "A: b", "Set-Cookie", "a=1"},
		{"Set-Cookie with a forced ttl", route.Config{ForceTTL: time.Minute}, "A: b", "Set-Cookie", "a=1"},
		{"private", route.Config{}, "A: b", "Cache-Control", "private, max-age=60"},
		{"PRIVATE with a field", route.Config{}, "A: b", "Cache-Control", `PRIVATE="x", max-age=60`},
		{"private with a ttl", route.Config{TTL: time.Minute}, "A: b", "Cache-Control", "private"},
		{"no-store", route.Config{}, "A: b", "Cache-Control", "max-age=60, no-store"},
		{"no-store with a ttl", route.Config{TTL: time.Minute}, "A: b", "Cache-Control", "no-store"},
		{"Vary: *", route.Config{}, "A: b", "Vary", "*"},
		{"Vary: * among others", route.Config{}, "A: b", "Vary", "accept, *"},
		{"Vary: * with a forced ttl", route.Config{ForceTTL: time.Minute}, "A: b", "Vary", "*"},
		{"Vary of nonsense", route.Config{}, "A: b", "Vary", "a b"},
		{"a part", route.Config{}, "Range: bytes=0-1", "Content-Range", "bytes 0-1/100"},
		{"an unknown X- header", route.Config{}, "X-Foo: b", "", ""},
	} {
		onBoth(t, func(t *testing.T, start starter) {
			s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if tt.name2 != "" {
					w.Header().Set(tt.name2, tt.set2)
				}
				_, _ = io.WriteString(w, "secret")
			}), tt.c, nil)
			for n := range 3 {
				if a := s.raw(t, "GET", s.ask("/", tt.field)); a.isHit() || a.body != "secret" || s.asked() != n+1 {
					t.Errorf("%s: answer %d is %q %v, after %d fetches", tt.name, n, a.body, a.header, s.asked())
				}
			}
			if s.get(t, "/"); s.asked() != 4 {
				t.Errorf("%s: another client was not given its own", tt.name)
			}
		})
	}
}

// security.md 16: with authorization: true an answer is for those who send the
// same, and where the upstream says so.
func TestSharedAuthorization(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		for name, c := range map[string]route.Config{"plain": {Authorization: true}, "ttl": {Authorization: true, TTL: time.Minute}} {
			s := start(t, reflecting("max-age=60, public"), c, nil)
			for _, credentials := range []string{"Bearer alice", "Bearer bob", "bearer alice", "Bearer alice,bob", ""} {
				for n := range 2 {
					var fields []string
					said := "GET / "
					if credentials != "" {
						fields = []string{"Authorization: " + credentials}
						said = fmt.Sprintf("Authorization: [%q]", credentials)
					}
					a := s.raw(t, "GET", s.ask("/", fields...))
					if a.isHit() != (n == 1) || !strings.HasPrefix(a.body, "GET /") || credentials != "" && !strings.Contains(a.body, said) || credentials == "" && strings.Contains(a.body, "Authorization") {
						t.Errorf("%s: time %d with %q: hit %v: %q", name, n, credentials, a.isHit(), a.body)
					}
				}
			}
		}
		s := start(t, reflecting("max-age=60"), route.Config{Authorization: true}, nil) // RFC 9111 §3.5
		for range 2 {
			if s.get(t, "/", "Authorization", "Bearer alice").isHit() {
				t.Error("an answer to credentials is stored that does not say that it may be")
			}
		}
	})
}

// security.md 17: a page that the upstream makes for one client is not stored for
// the look of its path; and under a path of which it is not sure what it is to the
// upstream, nothing is.
func TestDeception(t *testing.T) {
	account := func(cacheControl string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			if cacheControl != "" {
				w.Header().Set("Cache-Control", cacheControl)
			}
			w.Header().Set("Last-Modified", ago(1000*time.Hour)) // by which some would guess
			fmt.Fprintf(w, "cookie %q", r.Header.Get("Cookie"))
		})
	}
	clear := []string{"/account/x.css", "/account.css", "/account/a.js?b.png", "/account/favicon.ico", "/account%20x.css", "/account/%7ex.css", "/account//x.css", "/account/x.css/", "/account,x.css", "/account$x.css", "/account!x.css", "/account:x.css", "/account%09x.css", "/account%252fx.css"}
	ambiguous := []string{"/account;a.css", "/account/;a.css", "/account%2fa.css", "/account%2Fa.css", "/account%5ca.css", `/account\a.css`, "/account%00.css", "/account%0a.css", "/account%0Da.css", "/account%3ba.css", "/account%3Ba.css", "/account%3fa.css",
		"/account%23a.css", "/static/..%2faccount", "/static/%2e%2e/account", "/static/%2E%2e%2Faccount", `/static\..\account`, "/static/..;/account", "/static/../account", "/./account", "/account/.", "/%2e%2e/a.css"}
	onBoth(t, func(t *testing.T, start starter) {
		quiet, loud := start(t, account(""), route.Config{}, nil), start(t, account("max-age=60, public"), route.Config{}, nil)
		ttl := start(t, account(""), route.Config{TTL: time.Minute}, nil)
		for _, path := range slices.Concat(clear, ambiguous) {
			for name, s := range map[string]*site{"without freshness": quiet, "with freshness": loud, "with a ttl": ttl} {
				s.raw(t, "GET", s.ask(path, "Cookie: secret=1"))
				a := s.raw(t, "GET", s.ask(path))
				if strings.Contains(a.body, "secret") {
					t.Errorf("%s, %s: another client gets %q", path, name, a.body)
				}
				again := s.raw(t, "GET", s.ask(path))
				if isClear := slices.Contains(clear, path); again.status != http.StatusOK || again.isHit() != isClear {
					t.Errorf("%s, %s: a hit %v, want %v: %d %v", path, name, again.isHit(), isClear, again.status, again.header)
				}
			}
		}
	})
}

// security.md 17: dot segments do not lead out of a route; one at the root passes
// all paths on as they are.
func TestDotSegments(t *testing.T) {
	dots := []string{"/api/../admin", "/api/..", "/api/./x", "/api/%2e%2e/admin", "/api/.%2E/admin", "/api/..%2fadmin", "/api/%2e%2e%2fadmin", "/api/..%5cadmin", `/api/..\admin`, "/api/..;/admin", "/api/..;x=y/admin", "/api/x/../../admin?a", "/api/%2E"}
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, reflecting("max-age=60"), route.Config{Path: "/api/"}, nil)
		for _, path := range dots {
			for _, method := range []string{"GET", "POST"} {
				a := s.raw(t, method, strings.Replace(s.ask(path), "GET", method, 1))
				if a.status != http.StatusBadRequest {
					t.Errorf("%s %s: %d %q, want 400", method, path, a.status, a.body)
				}
			}
		}
		if s.asked() != 0 {
			t.Errorf("the upstream was asked for %s", s.last(t).RequestURI)
		}
		s = start(t, reflecting("max-age=60"), route.Config{}, nil)
		for _, path := range slices.Concat(dots, []string{"/a//b", "/%7e", "/a%2Fb", "/a?b%zz&c=%0d%0a", "/a;b", "/a?", "//evil.example/x", "///", "/a'()*,!$&+:=@"}) {
			for _, method := range []string{"GET", "POST"} {
				s.raw(t, method, strings.Replace(s.ask(path), "GET", method, 1))
				want := strings.ReplaceAll(path, `\`, "%5C") // which no URI has (RFC 3986 §2)
				if got := s.last(t); got.RequestURI != want || got.Method != method {
					t.Errorf("the upstream was asked for %s %s, want %s %s", got.Method, got.RequestURI, method, want)
				}
			}
		}
	})
}

// security.md 19, 37: line ends that a client has come back in no header.
func TestSplitting(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Location", r.URL.Query().Get("x")) // net/http replaces line ends
			w.Header().Set("Surrogate-Key", "a")
		}), route.Config{Tag: []string{"{query.x}", "{path}", "{host}"}, CORS: []string{"https://blog.example"}, TTL: time.Minute}, nil)
		for _, target := range []string{"/?x=%0d%0aSet-Cookie:evil=1", "/%0d%0aSet-Cookie:evil=1?x=a", "/?x=a%0aSet-Cookie:evil=1%0d%0a%0d%0abody"} {
			for range 2 {
				a := s.raw(t, "GET", s.ask(target, "Origin: https://blog.example"))
				if a.status != http.StatusOK || a.header.Get("Set-Cookie") != "" || a.body != "" || a.header.Get("Surrogate-Key") != "" {
					t.Errorf("%s: %d %v %q", target, a.status, a.header, a.body)
				}
			}
		}
		if n := s.PurgeTag("\r\nSet-Cookie:evil=1", false); n != 1 {
			t.Errorf("%d answers had the tag", n)
		}
	})
}

// security.md 21: many who ask for one thing are one request upstream.
func TestStampede(t *testing.T) {
	const clients = 1000
	onBoth(t, func(t *testing.T, start starter) {
		arrived := make(chan struct{})
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-arrived
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "hello")
		}), route.Config{}, nil)
		var group sync.WaitGroup
		for i := range clients {
			group.Go(func() {
				if i == clients/2 {
					close(arrived)
				}
				if a, err := s.try(t.Context(), http.MethodGet, "/", ""); err != nil || a.body != "hello" {
					t.Errorf("%v %v", a, err)
				}
			})
		}
		group.Wait()
		if s.asked() != 1 {
			t.Errorf("the upstream was asked %d times", s.asked())
		}
	})
}
