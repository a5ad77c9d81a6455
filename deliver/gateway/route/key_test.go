package route_test

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
)

func TestNormalHost(t *testing.T) {
	for _, tt := range []struct {
		host   string
		secure bool
		want   string
	}{
		{"h.example", false, "h.example"},
		{"H.eXample", false, "h.example"},
		{"h.example.", false, "h.example"},
		{"h.example:80", false, "h.example"},
		{"h.example:443", false, "h.example:443"},
		{"h.example:80", true, "h.example:80"},
		{"H.example.:443", true, "h.example"},
		{"h.example.:8080", false, "h.example:8080"},
		{"h.example:", false, "h.example"},
		{"h.example:080", false, "h.example:080"},
		{"[::1]:8080", false, "[::1]:8080"},
		{"[::FFFF]", false, "[::ffff]"},
		{"user@h.example", false, "user@h.example"},
		{"h.example@evil", false, "h.example@evil"},
		{"h:80:80", false, "h:80:80"},
		{"", false, ""},
	} {
		if got := route.NormalHost(tt.host, tt.secure); got != tt.want {
			t.Errorf("NormalHost(%q, %v) = %q, want %q", tt.host, tt.secure, got, tt.want)
		}
	}
}

// security.md 15: requests that the upstream could answer differently share no
// key, also where their parts read the same when joined; those that cannot do.
func TestKey(t *testing.T) {
	type request struct {
		secure       bool
		host, target string
		header       http.Header
	}
	at := func(target string) request { return request{false, "h", target, nil} }
	on := func(host string) request { return request{false, host, "/", nil} }
	with := func(fields ...string) request {
		r := request{false, "h", "/", http.Header{}}
		for i := 0; i < len(fields); i += 2 {
			r.header.Add(fields[i], fields[i+1])
		}
		return r
	}
	routes := []*route.Route{
		newRoute(t, route.Config{}),
		newRoute(t, route.Config{TTL: time.Minute}),
		newRoute(t, route.Config{Headers: []string{"X-A", "x-b", "Accept-Language"}, Cookies: []string{"a", "b"}, Authorization: true}),
	}
	keyed := routes[2:]
	for _, tt := range []struct {
		name string
		a, b request
		same bool
		of   []*route.Route
	}{
		{"the same", at("/a?b"), at("/a?b"), true, routes},
		{"scheme", request{true, "h", "/", nil}, request{false, "h", "/", nil}, false, routes},
		{"case of the path", at("/a"), at("/A"), false, routes},
		{"an empty query", at("/a"), at("/a?"), false, routes},
		{"an escaped tilde", at("/~a"), at("/%7ea"), false, routes},
		{"case of an escape", at("/%7ea"), at("/%7Ea"), false, routes},
		{"a slash more", at("/a"), at("/a/"), false, routes},
		{"two slashes", at("/a/b"), at("/a//b"), false, routes},
		{"order of parameters", at("/?a=1&b=2"), at("/?b=2&a=1"), false, routes},
		{"a parameter twice", at("/?a=1"), at("/?a=1&a=1"), false, routes},
		{"a parameter twice, the other first", at("/?a=1&a=2"), at("/?a=2&a=1"), false, routes},
		{"a semicolon for an ampersand", at("/?a=1&b=2"), at("/?a=1;b=2"), false, routes},
		{"plus for a space", at("/?a+b"), at("/?a%20b"), false, routes},
		{"a method in the query", at("/?_method=POST"), at("/"), false, routes},
		{"host and path joined", request{false, "h", "/a", nil}, request{false, "h/", "a", nil}, false, routes},
		{"path and query joined", at("/a?b"), at("/a%3fb"), false, routes},
		{"case of the host", on("h.example"), on("H.EXAMPLE"), true, routes},
		{"the scheme's port", on("h"), on("h:80"), true, routes},
		{"the other scheme's port", on("h"), on("h:443"), false, routes},
		{"another port", on("h"), on("h:81"), false, routes},
		{"two other ports", on("h:81"), on("h:82"), false, routes},
		{"a final dot", on("h"), on("h."), true, routes},
		{"a user", on("h"), on("u@h"), false, routes},

		{"what is not keyed", with("X-C", "1"), with(), true, routes},
		{"a keyed header", with("X-A", "1"), with("X-A", "2"), false, keyed},
		{"its name's case", with("x-A", "1"), with("X-a", "1"), true, keyed},
		{"its place", with("X-A", "1"), with("X-B", "1"), false, keyed},
		{"values joined", with("X-A", "a", "X-B", "bc"), with("X-A", "ab", "X-B", "c"), false, keyed},
		{"values with a length within", with("X-A", "", "X-B", "1:a"), with("X-A", "0:1:a"), false, keyed},
		{"values with digits", with("X-A", "1", "X-B", "1:1"), with("X-A", "11", "X-B", ":1"), false, keyed},
		{"a value with a comma", with("X-A", "a,b"), with("X-A", "a"), false, keyed},
		{"its lines, which upstreams get as one", with("X-A", "a", "X-A", "b"), with("X-A", "a,b"), true, keyed},
		{"an empty one, which upstreams do not get", with("X-A", ""), with(), true, keyed},
		{"header and cookie joined", with("X-B", "3:a=1"), with("Cookie", "a=1"), false, keyed},
		{"header and authorization", with("X-B", "x"), with("Authorization", "x"), false, keyed},
		{"authorization", with("Authorization", "x"), with("Authorization", "y"), false, keyed},
		{"authorization and none", with("Authorization", "x"), with(), false, keyed},
		{"case of authorization", with("Authorization", "Basic x"), with("Authorization", "basic x"), false, keyed},
		{"a cookie", with("Cookie", "a=1"), with("Cookie", "a=2"), false, keyed},
		{"a cookie and none", with("Cookie", "a="), with(), false, keyed},
		{"a cookie with a separator", with("Cookie", "a=1; b=2"), with("Cookie", "a=1%3b b=2"), false, keyed},
		{"cookies joined", with("Cookie", "a=bc; b=d"), with("Cookie", "a=b; b=cd"), false, keyed},
		{"a cookie within another", with("Cookie", "c=a=1"), with(), true, keyed},
		{"other cookies", with("Cookie", "x=1; a=1; y=2"), with("Cookie", "a=1"), true, keyed},
		{"order of cookies", with("Cookie", "b=2; a=1"), with("Cookie", "a=1; b=2"), true, keyed},
		{"lines of cookies", with("Cookie", "a=1", "Cookie", "b=2"), with("Cookie", "a=1; b=2"), true, keyed},
		{"lines of cookies and a comma", with("Cookie", "a=1", "Cookie", "b=2"), with("Cookie", "a=1,b=2"), false, keyed},
		{"a second cookie of the name, which upstreams do not get", with("Cookie", "a=1; a=2"), with("Cookie", "a=1"), true, keyed},
		{"case of a cookie's name", with("Cookie", "A=1"), with(), true, keyed},
	} {
		for _, rt := range tt.of {
			a := rt.Key(tt.a.secure, tt.a.host, tt.a.target, route.Sent(tt.a.header))
			b := rt.Key(tt.b.secure, tt.b.host, tt.b.target, route.Sent(tt.b.header))
			if (a == b) != tt.same || a.Clone() != a {
				t.Errorf("%s: keys %v and %v, want the same: %v", tt.name, a, b, tt.same)
			}
			if !tt.same {
				continue
			}
			if one, other := sentOf(rt, tt.a.header), sentOf(rt, tt.b.header); !maps.EqualFunc(one, other, slices.Equal) {
				t.Errorf("%s: one key for what goes upstream with %v and with %v", tt.name, one, other)
			}
		}
	}
	if a, b := routes[0].Key(false, "h", "/", route.Sent{}), routes[1].Key(false, "h", "/", route.Sent{}); a == b {
		t.Error("two routes share a key")
	}
}

// sentOf is what of a request goes upstream and Vary cannot nominate; nil if
// its answer is not stored.
func sentOf(rt *route.Route, in http.Header) http.Header {
	out, ok := rt.Outgoing(in)
	if !ok {
		return nil
	}
	sent := http.Header{}
	for name, values := range out {
		if len(rt.Selecting([]string{strings.ToLower(name)})) == 0 {
			sent[name] = values
		}
	}
	return sent
}

// security.md 17
func TestDots(t *testing.T) {
	for _, tt := range []struct {
		path            string
		dots, ambiguous bool
	}{
		{"/", false, false}, {"/a/b.css", false, false}, {"/.well-known/x", false, false}, {"/...", false, false}, {"/a..b/..c/d..", false, false}, {"/%7ea", false, false},
		{"*", false, false}, {"", false, false}, {"/a%", false, false}, {"/a%2", false, false}, {"/a%25", false, false}, {"/a%252e", false, false}, {"/a%252f", false, false},
		{"/.", true, true}, {"/..", true, true}, {"/a/./b", true, true}, {"/a/../b", true, true}, {"/a/..", true, true}, {"/a/.", true, true}, {"..", true, true},
		{"/a/%2e/b", true, true}, {"/a/%2E%2e/b", true, true}, {"/a/.%2e/b", true, true}, {"/a/%2e./b", true, true},
		{`/a\..\b`, true, true}, {`\..\b`, true, true}, {"/a%2f..%2Fb", true, true}, {"/a/..%2fb", true, true}, {"/a%5c..%5Cb", true, true}, {"/a/%2e%2e%2fb", true, true},
		{"/a/..;/b", true, true}, {"/a/..;x=y/b", true, true}, {"/a/.;/b", true, true}, {"/a/..%3b/b", true, true}, {"/a/%2e%2e%3B/b", true, true},
		{"/account;a.css", false, true}, {"/account%3ba.css", false, true}, {"/account%2fa.css", false, true}, {"/account%2Fa.css", false, true}, {"/account%5ca.css", false, true},
		{`/account\a.css`, false, true}, {"/account%00.css", false, true}, {"/account%0a.css", false, true}, {"/account%0Da.css", false, true}, {"/account%3fa.css", false, true},
		{"/account%23a.css", false, true}, {"/%2e%61", false, true}, {"/%%2f", false, true}, {"/%2%2f", false, true}, {"/a%2e", false, true},
	} {
		if got := route.HasDots(tt.path); got != tt.dots {
			t.Errorf("HasDots(%q) = %v, want %v", tt.path, got, tt.dots)
		}
		if got := route.Ambiguous(tt.path); got != tt.ambiguous {
			t.Errorf("Ambiguous(%q) = %v, want %v", tt.path, got, tt.ambiguous)
		}
	}
}

// A path that resolving its dots would change has dots, and what has dots is
// ambiguous.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/a/../b", "/a/%2e%2E/b", "/a/..;x/b", `/a\..\b`, "/%", "/a//b/.", "..%2f", "/%00"} {
		f.Add(s)
	}
	read := strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/", `\`, "/")
	slashes := strings.NewReplacer("//", "/")
	f.Fuzz(func(t *testing.T, s string) {
		dots := route.HasDots(s)
		if dots && !route.Ambiguous(s) {
			t.Errorf("%q has dots, and is not ambiguous", s)
		}
		for _, p := range []string{"/" + s, read.Replace("/" + s)} {
			for strings.Contains(p, "//") {
				p = slashes.Replace(p)
			}
			if clean := path.Clean(p); !dots && clean != p && clean+"/" != p {
				t.Errorf("%q is resolved to %q, and has no dots", s, clean)
			}
		}
	})
}

// security.md 15: two requests share a key only if host, after normalisation,
// target, keyed headers and cookies are the same; and then the same goes
// upstream, but for what Vary can nominate.
func FuzzKey(f *testing.F) {
	f.Add("h", "/", "a", "a=1", "H:80", "/", "a", "a=1; a=2", false)
	f.Add("h", "/", "a\nb", "a=1\nb=2", "h.", "/", "a,b", "a=1; b=2", false)
	f.Add("h", "/a", "1:b", "b=3:a", "h/", "a", "", "", true)
	f.Add("h", "/", "", "a=1,b=2", "h", "/", "\n", "a=1\nb=2", true)
	configs := []route.Config{
		{Headers: []string{"X-A", "Accept-Language"}, Cookies: []string{"a", "b"}, Authorization: true},
		{Headers: []string{"X-A", "Accept-Language"}, Cookies: []string{"b", "a"}, Authorization: true, TTL: time.Minute},
		{TTL: time.Minute}, {},
	}
	f.Fuzz(func(t *testing.T, host1, target1, values1, cookies1, host2, target2, values2, cookies2 string, secure bool) {
		first, second := fuzzHeader(values1, cookies1), fuzzHeader(values2, cookies2)
		for _, c := range configs {
			rt := newRoute(t, c)
			a, b := rt.Key(secure, host1, target1, route.Sent(first)), rt.Key(secure, host2, target2, route.Sent(second))
			if c := a.Clone(); c != a || c.Size() != a.Size() {
				t.Errorf("clone of %v is %v", a, c)
			}
			if a != b {
				continue
			}
			if target1 != target2 || route.NormalHost(host1, secure) != route.NormalHost(host2, secure) {
				t.Errorf("%q %q and %q %q share a key", host1, target1, host2, target2)
			}
			one, other := sentOf(rt, first), sentOf(rt, second)
			if one != nil && other != nil && !maps.EqualFunc(one, other, slices.Equal) {
				t.Errorf("one key for what goes upstream with %v and with %v", one, other)
			}
		}
	})
}

// fuzzHeader has a line in turn for each of the keyed headers, and lines of
// cookies, as net/http would give them.
func fuzzHeader(values, cookies string) http.Header {
	h := http.Header{}
	names := []string{"X-A", "Authorization", "Accept-Language", "X_a", "X-A", "Connection"}
	for i, line := range strings.Split(values, "\n") {
		h.Add(names[i%len(names)], strings.Trim(line, " \t"))
	}
	for line := range strings.SplitSeq(cookies, "\n") {
		h.Add("Cookie", strings.Trim(line, " \t"))
	}
	return h
}
