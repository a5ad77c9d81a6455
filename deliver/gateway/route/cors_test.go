package route_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/deliver/gateway/route"
)

// WHATWG Fetch §3.2.2
func TestPreflight(t *testing.T) {
	one := route.Config{CORS: []string{"https://blog.example", "http://localhost:8080"}}
	credentials, methods, all := one, one, route.Config{CORS: []string{"*"}}
	credentials.CORSCredentials = true
	methods.Methods = []string{"GET", "POST"}
	const listed = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
	for _, tt := range []struct {
		name           string
		c              route.Config
		origin, method string
		want           map[string]string // Access-Control-*
	}{
		{"listed", one, "https://blog.example", "PUT", map[string]string{"Origin": "https://blog.example", "Methods": "PUT", "Headers": "x-a, x-b"}},
		{"listed, the second", one, "http://localhost:8080", "GET", map[string]string{"Origin": "http://localhost:8080", "Methods": "GET", "Headers": "x-a, x-b"}},
		{"with credentials", credentials, "https://blog.example", "PUT", map[string]string{"Origin": "https://blog.example", "Methods": "PUT", "Headers": "x-a, x-b", "Credentials": "true"}},
		{"foreign, with credentials", credentials, "https://evil.example", "PUT", nil},
		{"all", all, "https://evil.example", "PUT", map[string]string{"Origin": "*", "Methods": "PUT", "Headers": "x-a, x-b"}},
		{"all, null", all, "null", "PUT", map[string]string{"Origin": "*", "Methods": "PUT", "Headers": "x-a, x-b"}},
		{"its methods", methods, "https://blog.example", "POST", map[string]string{"Origin": "https://blog.example", "Methods": "GET, POST", "Headers": "x-a, x-b"}},
		{"other methods", methods, "https://blog.example", "PUT", map[string]string{"Origin": "https://blog.example"}},
		{"method in another case", methods, "https://blog.example", "post", map[string]string{"Origin": "https://blog.example"}},
		{"foreign", one, "https://evil.example", "GET", nil},
		{"null", one, "null", "GET", nil},
		{"another scheme", one, "http://blog.example", "GET", nil},
		{"another port", one, "https://blog.example:8443", "GET", nil},
		{"the scheme's port", one, "https://blog.example:443", "GET", nil},
		{"a name before", one, "https://evilblog.example", "GET", nil},
		{"a suffix", one, "https://blog.example.evil", "GET", nil},
		{"a name below", one, "https://a.blog.example", "GET", nil},
		{"a user", one, "https://blog.example@evil", "GET", nil},
		{"case", one, "https://Blog.example", "GET", nil},
		{"a slash", one, "https://blog.example/", "GET", nil},
		{"a star", one, "*", "GET", nil},
		{"two", one, "https://blog.example, https://evil.example", "GET", nil},
	} {
		rt, w, r := newRoute(t, tt.c), httptest.NewRecorder(), httptest.NewRequest(http.MethodOptions, "/", nil)
		r.Header.Set("Origin", tt.origin)
		r.Header.Set("Access-Control-Request-Method", tt.method)
		r.Header.Set("Access-Control-Request-Headers", "x-a, x-b")
		answered := rt.Preflight(w, r)
		got := map[string]string{}
		for name, values := range w.Header() {
			if rest, ok := strings.CutPrefix(name, "Access-Control-"); ok && rest != "Max-Age" {
				got[strings.TrimPrefix(rest, "Allow-")] = strings.Join(values, "|")
			}
		}
		vary := strings.Join(w.Header()["Vary"], ", ")
		if !answered || w.Code != http.StatusNoContent || !maps.Equal(got, tt.want) || vary != listed && tt.c.CORS[0] != "*" || !strings.HasSuffix(listed, vary) {
			t.Errorf("%s: %v, %d %v, Vary %q, want %v", tt.name, answered, w.Code, got, vary, tt.want)
		}
	}
}

// What is no preflight, or not the route's to answer, goes its way.
func TestNoPreflight(t *testing.T) {
	cors := route.Config{CORS: []string{"https://blog.example"}}
	for _, tt := range []struct {
		name, method string
		c            route.Config
		header       http.Header
	}{
		{"no cors", http.MethodOptions, route.Config{}, http.Header{"Origin": {"https://blog.example"}, "Access-Control-Request-Method": {"GET"}}},
		{"GET", http.MethodGet, cors, http.Header{"Origin": {"https://blog.example"}, "Access-Control-Request-Method": {"GET"}}},
		{"no method", http.MethodOptions, cors, http.Header{"Origin": {"https://blog.example"}}},
		{"no origin", http.MethodOptions, cors, http.Header{"Access-Control-Request-Method": {"GET"}}},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(tt.method, "/", nil)
		r.Header = tt.header
		if newRoute(t, tt.c).Preflight(w, r) || len(w.Header()) > 0 {
			t.Errorf("%s: answered %v", tt.name, w.Header())
		}
	}
}

// WHATWG Fetch §3.2.3: what the upstream says about it is replaced.
func TestMarkCORS(t *testing.T) {
	const exposed = "Age, Cache-Status, Date, ETag, Location, Retry-After"
	upstream := http.Header{"Access-Control-Allow-Origin": {"https://evil.example"}, "Access-Control-Allow-Credentials": {"true"}, "Access-Control-Allow-Private-Network": {"true"}, "Vary": {"Accept"}}
	list := []string{"https://blog.example"}
	for _, tt := range []struct {
		name, origin string
		c            route.Config
		want         http.Header
	}{
		{"no cors", "https://blog.example", route.Config{}, upstream},
		{"listed", "https://blog.example", route.Config{CORS: list}, http.Header{"Access-Control-Allow-Origin": {"https://blog.example"}, "Access-Control-Expose-Headers": {exposed}, "Vary": {"Accept", "Origin"}}},
		{"listed, with credentials", "https://blog.example", route.Config{CORS: list, CORSCredentials: true}, http.Header{"Access-Control-Allow-Origin": {"https://blog.example"}, "Access-Control-Allow-Credentials": {"true"}, "Access-Control-Expose-Headers": {exposed}, "Vary": {"Accept", "Origin"}}},
		{"foreign", "https://evil.example", route.Config{CORS: list, CORSCredentials: true}, http.Header{"Vary": {"Accept", "Origin"}}},
		{"null", "null", route.Config{CORS: list, CORSCredentials: true}, http.Header{"Vary": {"Accept", "Origin"}}},
		{"none", "", route.Config{CORS: list, CORSCredentials: true}, http.Header{"Vary": {"Accept", "Origin"}}},
		{"all", "https://any.example", route.Config{CORS: []string{"*"}}, http.Header{"Access-Control-Allow-Origin": {"*"}, "Access-Control-Expose-Headers": {exposed}, "Vary": {"Accept"}}},
		{"line end", "https://blog.example\r\nSet-Cookie: a=b", route.Config{CORS: list}, http.Header{"Vary": {"Accept", "Origin"}}},
	} {
		h := upstream.Clone()
		newRoute(t, tt.c).MarkCORS(h, tt.origin)
		if !maps.EqualFunc(h, tt.want, slices.Equal) {
			t.Errorf("%s: %v, want %v", tt.name, h, tt.want)
		}
	}
}

func TestAddVary(t *testing.T) {
	for _, tt := range []struct{ before, want []string }{
		{nil, []string{"Origin"}}, {[]string{"Accept"}, []string{"Accept", "Origin"}}, {[]string{"Accept , origin"}, []string{"Accept , origin"}}, {[]string{"a", "ORIGIN"}, []string{"a", "ORIGIN"}}, {[]string{"Origins"}, []string{"Origins", "Origin"}},
	} {
		h := http.Header{"Vary": tt.before}
		if route.AddVary(h, "Origin"); !slices.Equal(h["Vary"], tt.want) {
			t.Errorf("AddVary to %q = %q, want %q", tt.before, h["Vary"], tt.want)
		}
	}
}
