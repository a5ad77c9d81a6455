package route_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
)

// What goes upstream of a request whose answer may be stored (security.md 15, 20).
func TestOutgoing(t *testing.T) {
	plain, ttl := route.Config{}, route.Config{TTL: time.Minute}
	rich := route.Config{Headers: []string{"X-A", "accept"}, Cookies: []string{"b", "a"}, Authorization: true, CORS: []string{"https://a.example"}, Compress: true}
	richTTL := rich
	richTTL.ForceTTL, richTTL.Compress = time.Minute, false
	for _, tt := range []struct {
		name     string
		c        route.Config
		in, want http.Header // want is nil if nothing may be stored
	}{
		{"nothing", plain, http.Header{}, http.Header{}},
		{"what Vary can nominate", plain, http.Header{"Accept": {"a"}, "User-Agent": {"u"}, "Origin": {"o"}, "Foo": {"x", "y"}}, http.Header{"Accept": {"a"}, "User-Agent": {"u"}, "Origin": {"o"}, "Foo": {"x", "y"}}},
		{"cookies and credentials", plain, http.Header{"Cookie": {"a=1"}, "Authorization": {"x"}}, http.Header{}},
		{"the client's conditions", plain, http.Header{"If-None-Match": {`"a"`}, "If-Modified-Since": {"x"}, "If-Match": {"x"}, "If-Range": {"x"}, "If-Unmodified-Since": {"x"}, "Range": {"bytes=0-"}}, http.Header{}},
		{"the connection's", plain, http.Header{"Connection": {"close", "Foo"}, "Foo": {"x"}, "Keep-Alive": {"1"}, "Te": {"trailers"}, "Trailer": {"x"}, "Upgrade": {"x"}, "Proxy-Authorization": {"x"}, "Expect": {"x"}, "Http2-Settings": {"x"}}, http.Header{}},
		{"who it is", plain, http.Header{"X-Forwarded-For": {"1"}, "Forwarded": {"for=1"}, "X_forwarded_for": {"1"}, "X-Real-Ip": {"1"}, "Remote_user": {"me"}, "Remote-User": {"me"}, "Via": {"1.1 x"}, "Ssl_client_verify": {"SUCCESS"}}, http.Header{}},
		{"another address", plain, http.Header{"X-Original-Url": {"/b"}, "X_original_url": {"/b"}, "X-Host": {"b"}, "Request_uri": {"/b"}, "Base_url": {"/b"}, "X-Http-Method-Override": {"POST"}}, http.Header{}},
		{"an unknown X- header", plain, http.Header{"X-Foo": {"1"}}, nil},
		{"an unknown header with an underscore", plain, http.Header{"X_foo": {"1"}}, nil},
		{"a known one with an underscore", plain, http.Header{"Accept_language": {"1"}}, nil},
		{"an unknown X- header of the connection", plain, http.Header{"X-Foo": {"1"}, "Connection": {"x-foo"}}, http.Header{}},
		{"all of it with a ttl", ttl, http.Header{"Accept": {"a"}, "User-Agent": {"u"}, "X-Foo": {"1"}, "X_foo": {"1"}, "Origin": {"o"}, "Referer": {"r"}, "Cookie": {"a=1"}, "Authorization": {"x"}, "Cache-Control": {"no-cache"}, "Accept-Language": {"de"}}, http.Header{}},
		{"encodings with a ttl", ttl, http.Header{"Accept-Encoding": {"zstd, gzip;q=0.5", "br"}}, http.Header{"Accept-Encoding": {"br, gzip"}}},
		{"gzip with a ttl", ttl, http.Header{"Accept-Encoding": {"x-gzip"}}, http.Header{"Accept-Encoding": {"gzip"}}},
		{"brotli with a ttl", ttl, http.Header{"Accept-Encoding": {"br,gzip;q=0"}}, http.Header{"Accept-Encoding": {"br"}}},
		{"other encodings with a ttl", ttl, http.Header{"Accept-Encoding": {"canary"}}, http.Header{}},
		{"what is named", rich, http.Header{"X-A": {"1", "2"}, "Accept": {"x"}, "Cookie": {"c=1; a=1", "b=2; a=3"}, "Authorization": {"x"}, "Origin": {"o"}, "Accept-Encoding": {"gzip"}}, http.Header{"X-A": {"1,2"}, "Accept": {"x"}, "Cookie": {"b=2; a=1"}, "Authorization": {"x"}}},
		{"what is named, with a ttl", richTTL, http.Header{"X-A": {"1"}, "Cookie": {"a=1"}, "Authorization": {"x"}, "Accept-Encoding": {"gzip"}, "Origin": {"o"}, "X-B": {"x"}}, http.Header{"X-A": {"1"}, "Cookie": {"a=1"}, "Authorization": {"x"}, "Accept-Encoding": {"gzip"}}},
		{"what is named, but empty", rich, http.Header{"X-A": {""}, "Authorization": {""}, "Cookie": {"c=1"}}, http.Header{}},
		{"what is named, and listed by Connection", rich, http.Header{"X-A": {"1"}, "Cookie": {"a=1"}, "Authorization": {"x"}, "Connection": {"x-a, cookie, authorization"}}, http.Header{"X-A": {"1"}, "Cookie": {"a=1"}, "Authorization": {"x"}}},
	} {
		out, ok := newRoute(t, tt.c).Outgoing(tt.in)
		if ok != (tt.want != nil) || ok && !maps.EqualFunc(out, tt.want, slices.Equal) {
			t.Errorf("%s: Outgoing(%v) = %v, %v, want %v", tt.name, tt.in, out, ok, tt.want)
		}
	}
}

// security.md 20: what says who the client is goes, however it is spelt.
func TestStrip(t *testing.T) {
	h, want := http.Header{}, http.Header{}
	for _, name := range []string{
		"X-Forwarded-For", "x_forwarded_for", "X-Forwarded_For", "X-Forwarded", "X-Forwarded-Anything", "FORWARDED", "X-Real-IP", "X_REAL_IP", "Remote-User", "REMOTE_USER", "Remote-Groups",
		"X-Remote-User", "X-Auth-Request-Email", "X_Auth_Request_User", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "X-Cluster-Client-IP",
		"X-SSL-Client-Cert", "SSL-Client-Verify", "X-Client-Cert-Chain", "X-Webauth-User", "X-Envoy-External-Address", "X-Authentik-Username", "Tailscale-User-Login", "Client-IP",
	} {
		h.Add(name, "1")
	}
	for _, name := range []string{"Accept", "X-Api-Key", "X-Forward", "User-Agent", "Cookie", "X_Api_Key", "Remote", "Authorization", "X-Original-Url"} {
		h.Add(name, "1")
		want.Add(name, "1")
	}
	if route.Strip(h); !maps.EqualFunc(h, want, slices.Equal) {
		t.Errorf("Strip left %v, want %v", h, want)
	}
}

// Vary selects by what can differ between two requests of a key.
func TestSelecting(t *testing.T) {
	all := "accept,accept-encoding,accept-language,authorization,cookie,origin,x-a,x-forwarded-proto,x-host,x_real_ip"
	for _, tt := range []struct {
		name string
		c    route.Config
		want string
	}{
		{"plain", route.Config{}, "accept,accept-encoding,accept-language,cookie,origin,x-a"},
		{"ttl", route.Config{TTL: 1}, "accept-encoding"},
		{"named", route.Config{Headers: []string{"X-A", "Accept-Language"}, Cookies: []string{"a"}}, "accept,accept-encoding,origin"},
		{"cors", route.Config{CORS: []string{"https://a.example"}}, "accept,accept-encoding,accept-language,cookie,x-a"},
		{"compress", route.Config{Compress: true}, "accept,accept-language,cookie,origin,x-a"},
		{"compress, ttl", route.Config{Compress: true, ForceTTL: 1}, ""},
	} {
		if got := strings.Join(newRoute(t, tt.c).Selecting(strings.Split(all, ",")), ","); got != tt.want {
			t.Errorf("%s: Selecting = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestFilterCookies(t *testing.T) {
	rt := newRoute(t, route.Config{Cookies: []string{"a", "b"}})
	for _, tt := range []struct {
		in   []string
		want string
	}{
		{nil, ""}, {[]string{"c=1"}, ""}, {[]string{"a=1; c=2", " b=3 "}, "a=1; b=3"}, {[]string{"a"}, ""}, {[]string{"a=1; a=2"}, "a=1"}, {[]string{"a=1,b=2"}, "a=1,b=2"}, {[]string{"ab=1; =2; a==3"}, "a==3"},
	} {
		h := http.Header{}
		for _, line := range tt.in {
			h.Add("Cookie", line)
		}
		if rt.FilterCookies(h); h.Get("Cookie") != tt.want || len(h["Cookie"]) > 1 {
			t.Errorf("FilterCookies of %q left %q, want %q", tt.in, h["Cookie"], tt.want)
		}
	}
}

// What is needed to ask again is all that made the answer this one.
func TestAskedWith(t *testing.T) {
	out := http.Header{"X-A": {"1"}, "Accept": {"a"}, "Accept-Language": {"de"}, "Accept-Encoding": {"gzip"}, "Cookie": {"a=1"}, "Authorization": {"x"}, "User-Agent": {"u"}}
	c := route.Config{Headers: []string{"x-a"}, Cookies: []string{"a"}, Authorization: true}
	for _, tt := range []struct {
		ttl       time.Duration
		selecting []string
		want      string
	}{
		{0, nil, "Authorization,Cookie,X-A"}, {0, []string{"accept-language"}, "Accept-Language,Authorization,Cookie,X-A"}, {1, nil, "Accept-Encoding,Authorization,Cookie,X-A"},
	} {
		c.TTL = tt.ttl
		got := strings.Join(slices.Sorted(maps.Keys(newRoute(t, c).AskedWith(out, tt.selecting))), ",")
		if got != tt.want {
			t.Errorf("AskedWith(ttl %v, %v) = %s, want %s", tt.ttl, tt.selecting, got, tt.want)
		}
	}
	if h := newRoute(t, c).AskedWith(http.Header{"Accept": {"a"}}, nil); h != nil {
		t.Errorf("AskedWith = %v, want nothing", h)
	}
}

// What the upstream is told of the client's address is of the key.
func TestSetForwarded(t *testing.T) {
	rt := newRoute(t, route.Config{})
	for _, secure := range []bool{false, true} {
		h := http.Header{"X-Forwarded-Host": {"evil", "evil2"}}
		k := rt.Key(secure, "H.example:81", "/", route.Sent{})
		route.SetForwarded(h, &k)
		want := http.Header{"X-Forwarded-Host": {"h.example:81"}, "X-Forwarded-Proto": {map[bool]string{false: "http", true: "https"}[secure]}}
		if !maps.EqualFunc(h, want, slices.Equal) {
			t.Errorf("SetForwarded = %v, want %v", h, want)
		}
	}
}
