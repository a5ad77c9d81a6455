package gateway_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
)

// security.md 20: who the client is, the upstream learns from us alone.
func TestIdentity(t *testing.T) {
	spoofed := []string{"X-Forwarded-For", "X-Real-IP", "Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Auth-Request-Email", "Forwarded", "True-Client-IP", "CF-Connecting-IP", "X-SSL-Client-Cert", "SSL-Client-Verify", "X-User-ID", "Tailscale-User-Login", "X-Client-IP", "X-Authentik-Username"}
	onBoth(t, func(t *testing.T, start starter) {
		for name, c := range map[string]route.Config{"plain": {}, "ttl": {TTL: time.Minute}} {
			s := start(t, reflecting("max-age=60"), c, nil)
			var lines []string
			for _, header := range spoofed {
				for _, spelling := range spellings(header) {
					lines = append(lines, spelling+": 203.0.113.9")
				}
			}
			for chunk := range slices.Chunk(lines, 40) { // a head has at most 64 fields
				for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS"} {
					target := fmt.Sprintf("/%d", s.asked())
					s.raw(t, method, strings.Replace(s.ask(target, chunk...), "GET", method, 1))
					r := s.last(t)
					if text := fmt.Sprint(r.Header); strings.Contains(text, "203.0.113.9") || r.RequestURI != target {
						t.Errorf("%s: %s %s told the upstream %v", name, method, target, text)
					}
					from := ""
					if method != "GET" { // which may be stored for others
						from = "127.0.0.1"
					}
					if h := r.Header; h.Get("X-Forwarded-For") != from || h.Get("X-Real-Ip") != from || h.Get("X-Forwarded-Host") != s.address || h.Get("X-Forwarded-Proto") != "http" || len(h["X-Forwarded-For"]) > 1 {
						t.Errorf("%s: %s told the upstream %v, want the client to be %q", name, method, h, from)
					}
				}
			}
		}
		s := start(t, reflecting(""), route.Config{}, func(o *gateway.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
		s.do(t, http.MethodPost, "/", "x", "X-Forwarded-For", "198.51.100.1, 203.0.113.9", "X-Real-IP", "198.51.100.2")
		if h := s.last(t).Header; h.Get("X-Forwarded-For") != "203.0.113.9" || h.Get("X-Real-Ip") != "203.0.113.9" {
			t.Errorf("behind a trusted proxy the upstream was told %v", h)
		}
	})
}

// security.md 20: the console's cookies, what is the connection's, and proxies'
// credentials stay here.
func TestStaysHere(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		for name, c := range map[string]route.Config{"plain": {}, "named": {Cookies: []string{"chappe", "__Host-chappe", "a"}}, "ttl": {TTL: time.Minute, Cookies: []string{"a", "chappe"}}} {
			s := start(t, reflecting("max-age=60"), c, nil)
			for _, method := range []string{"GET", "POST"} {
				for i, cookie := range []string{"chappe=secret; a=1", "a=1; __Host-chappe=secret", "a=1;chappe=secret;__Host-chappe=secret", " chappe = secret; a=1"} {
					s.raw(t, method, strings.Replace(s.ask(fmt.Sprint("/", i), "Cookie: "+cookie), "GET", method, 1))
					if got := s.last(t).Header.Get("Cookie"); got != "a=1" {
						t.Errorf("%s: %s with %q sent %q upstream", name, method, cookie, got)
					}
				}
				s.raw(t, method, strings.Replace(s.ask("/hop", "Proxy-Authorization: secret", "Keep-Alive: secret", "TE: secret", "Trailer: Foo", "Proxy-Connection: secret", "HTTP2-Settings: secret"), "GET", method, 1))
				if got := fmt.Sprint(s.last(t).Header); strings.Contains(got, "secret") {
					t.Errorf("%s: %s sent %v upstream", name, method, got)
				}
				s.raw(t, method, strings.Replace(s.ask("/listed", "Foo: secret", "Content-Language: de"), "GET / HTTP/1.1\r\nConnection: close", method+" / HTTP/1.1\r\nConnection: close, Foo", 1))
			}
		}
		s := start(t, reflecting("max-age=60"), route.Config{}, nil)
		for _, method := range []string{"GET", "POST"} {
			text := method + " /listed HTTP/1.1\r\nHost: h\r\nConnection: close, X-Api-Key, Foo, Via, X-Forwarded-For, X-Forwarded-Host\r\nX-Api-Key: secret\r\nFoo: secret\r\nContent-Length: 0\r\n\r\n"
			s.raw(t, method, text)
			h := s.last(t).Header
			if strings.Contains(fmt.Sprint(h), "secret") || h.Get("Via") == "" || h.Get("X-Forwarded-Host") != "h" || method == "POST" && h.Get("X-Forwarded-For") != "127.0.0.1" {
				t.Errorf("%s: what Connection lists makes the upstream see %v", method, h)
			}
		}
	})
}

// CORS, of hits, 304s, misses, what is passed on, failures, and on the event loop.
func TestCORS(t *testing.T) {
	const ours, evil = "https://blog.example", "https://evil.example"
	origin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", evil)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Allow-Methods", "EVIL")
		switch r.URL.Path {
		case "/failed":
			panic(http.ErrAbortHandler)
		case "/private":
			w.Header().Set("Cache-Control", "private")
		default:
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Etag", `"1"`)
		}
	})
	onBoth(t, func(t *testing.T, start starter) {
		listed := start(t, origin, route.Config{CORS: []string{ours}, CORSCredentials: true, Methods: []string{"GET", "POST"}}, nil)
		all := start(t, origin, route.Config{CORS: []string{"*"}, Methods: []string{"GET", "POST"}}, nil)
		for _, tt := range []struct {
			name, method, path string
			fields             []string
			status             int
		}{
			{"miss", "GET", "/", nil, 200}, {"hit", "GET", "/", nil, 200}, {"not modified", "GET", "/", []string{"If-None-Match", `"1"`}, 304}, {"HEAD", "HEAD", "/", nil, 200}, {"POST", "POST", "/post", nil, 200}, {"private", "GET", "/private", nil, 200},
			{"private again", "GET", "/private", nil, 200}, {"failed", "GET", "/failed", nil, 502}, {"failed POST", "POST", "/failed", nil, 502}, {"not cached", "GET", "/none", []string{"Cache-Control", "only-if-cached"}, 504}, {"method", "PUT", "/", nil, 405},
			{"no cors", "GET", "/", []string{"Range", "bytes=0-1"}, 416},
		} {
			for _, from := range []string{ours, evil, "null", ours + ":444", ours + ".evil", ""} {
				fields := tt.fields
				if from != "" {
					fields = append(slices.Clone(fields), "Origin", from)
				}
				a := listed.do(t, tt.method, tt.path, "", fields...)
				allowed, credentials := "", ""
				if from == ours {
					allowed, credentials = ours, "true"
				}
				if h := a.header; a.status != tt.status || h.Get("Access-Control-Allow-Origin") != allowed || h.Get("Access-Control-Allow-Credentials") != credentials ||
					h.Get("Access-Control-Allow-Methods") != "" || !slices.Contains(h["Vary"], "Origin") || len(h["Access-Control-Allow-Origin"]) > 1 {
					t.Errorf("%s from %q: %d %v", tt.name, from, a.status, h)
				}
				a = all.do(t, tt.method, tt.path, "", fields...)
				if h := a.header; a.status != tt.status || strings.Join(h["Access-Control-Allow-Origin"], "|") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s for all, from %q: %d %v", tt.name, from, a.status, h)
				}
			}
		}
		for _, from := range []string{ours, evil} {
			a := listed.do(t, http.MethodOptions, "/", "", "Origin", from, "Access-Control-Request-Method", "POST")
			if a.status != http.StatusNoContent || (a.header.Get("Access-Control-Allow-Methods") == "GET, POST") != (from == ours) {
				t.Errorf("preflight from %s: %d %v", from, a.status, a.header)
			}
		}
	})
}
