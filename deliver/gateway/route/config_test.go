package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
)

// valid is the least that a route says.
func valid() route.Config {
	return route.Config{Path: "/", Upstream: []string{"http://127.0.0.1:8100"}}
}

// newRoute makes the route of a Config, which lacks path and upstream perhaps.
func newRoute(t testing.TB, c route.Config) *route.Route {
	t.Helper()
	if c.Path == "" {
		c.Path = "/"
	}
	c.Upstream = valid().Upstream
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	rt, err := route.New(0, c)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// What is wrong with a route is said with its field first.
func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(c *route.Config)
		want   string // how the message begins; "" if the route is fine
	}{
		{"the least", func(*route.Config) {}, ""},
		{"all of it", func(c *route.Config) {
			*c = route.Config{
				Name: "comments", Path: "/api/", Host: "api.example", Upstream: []string{"http://a:1", "http://b:1"}, Methods: []string{"GET", "PURGE"},
				TTL: time.Minute, ForceTTL: time.Minute, Jitter: time.Second, StaleWhileRevalidate: time.Second, StaleIfError: time.Second,
				Headers: []string{"accept-language", "X-Tenant"}, Cookies: []string{"lang"}, Authorization: true, KeepHost: true,
				CORS: []string{"https://blog.example", "http://localhost:8080"}, CORSCredentials: true, Compress: true,
				Tag: []string{"{path}", "{host}:{query.url}", "{header.x-tenant}"}, RefreshOn: []event.Pattern{"comments/**"}, RefreshTag: []string{"{data.a.b}", "{topic}"},
				Topic: "pages", Concurrency: 3, Queue: time.Second, Health: "/up", Timeouts: route.Timeouts{Connect: 1, Head: 1, Body: 1, Total: 1},
			}
		}, ""},
		{"no path", func(c *route.Config) { c.Path = "" }, "path is missing"},
		{"path without a slash", func(c *route.Config) { c.Path = "api/" }, "path is missing"},
		{"path with a query", func(c *route.Config) { c.Path = "/a?b" }, "path: "},
		{"path with a fragment", func(c *route.Config) { c.Path = "/a#b" }, "path: "},
		{"path with a wildcard", func(c *route.Config) { c.Path = "/a/*" }, "path: "},
		{"path with a space", func(c *route.Config) { c.Path = "/a b" }, "path: "},
		{"path with a tab", func(c *route.Config) { c.Path = "/a\tb" }, "path: "},
		{"path with dots", func(c *route.Config) { c.Path = "/a/../b" }, "path: "},
		{"path with escaped dots", func(c *route.Config) { c.Path = "/a/%2E./b" }, "path: "},
		{"no upstream", func(c *route.Config) { c.Upstream = nil }, "upstream is missing"},
		{"host in capitals", func(c *route.Config) { c.Host = "Api.example" }, "host: "},
		{"host with the port of http", func(c *route.Config) { c.Host = "api.example:80" }, "host: "},
		{"host with a final dot", func(c *route.Config) { c.Host = "api.example." }, "host: "},
		{"host as an address", func(c *route.Config) { c.Host = "https://api.example" }, "host: "},
		{"host with a user", func(c *route.Config) { c.Host = "me@api.example" }, "host: "},
		{"host with a wildcard", func(c *route.Config) { c.Host = "*.example" }, "host: "},
		{"host with another port", func(c *route.Config) { c.Host = "api.example:8080" }, ""},
		{"credentials for all", func(c *route.Config) { c.CORS, c.CORSCredentials = []string{"*"}, true }, "cors_credentials: "},
		{"credentials for all, among others", func(c *route.Config) { c.CORS, c.CORSCredentials = []string{"https://a.example", "*"}, true }, "cors_credentials: "},
		{"tags of events, but no events", func(c *route.Config) { c.RefreshTag = []string{"{id}"} }, "refresh_tag: refresh_on is missing"},
		{"a circle", func(c *route.Config) { c.RefreshOn, c.Topic = []event.Pattern{"pages/**"}, "pages/new" }, "topic: "},
		{"negative concurrency", func(c *route.Config) { c.Concurrency = -1 }, "concurrency is negative"},
		{"negative ttl", func(c *route.Config) { c.TTL = -1 }, "ttl is negative"},
		{"negative force_ttl", func(c *route.Config) { c.ForceTTL = -1 }, "force_ttl is negative"},
		{"negative jitter", func(c *route.Config) { c.Jitter = -1 }, "jitter is negative"},
		{"negative stale_while_revalidate", func(c *route.Config) { c.StaleWhileRevalidate = -1 }, "stale_while_revalidate is negative"},
		{"negative stale_if_error", func(c *route.Config) { c.StaleIfError = -1 }, "stale_if_error is negative"},
		{"negative queue", func(c *route.Config) { c.Queue = -1 }, "queue is negative"},
		{"negative timeouts.connect", func(c *route.Config) { c.Timeouts.Connect = -1 }, "timeouts.connect is negative"},
		{"negative timeouts.head", func(c *route.Config) { c.Timeouts.Head = -1 }, "timeouts.head is negative"},
		{"negative timeouts.body", func(c *route.Config) { c.Timeouts.Body = -1 }, "timeouts.body is negative"},
		{"negative timeouts.total", func(c *route.Config) { c.Timeouts.Total = -1 }, "timeouts.total is negative"},
		{"method with a space", func(c *route.Config) { c.Methods = []string{"GET POST"} }, `"GET POST" is no name`},
		{"empty method", func(c *route.Config) { c.Methods = []string{""} }, `"" is no name`},
		{"header with a colon", func(c *route.Config) { c.Headers = []string{"X-A:"} }, `"X-A:" is no name`},
		{"header with a line end", func(c *route.Config) { c.Headers = []string{"X-A\r\nB"} }, `"X-A\r\nB" is no name`},
		{"cookie with an equals sign", func(c *route.Config) { c.Cookies = []string{"a=b"} }, `"a=b" is no name`},
		{"cookie with a semicolon", func(c *route.Config) { c.Cookies = []string{"a;b"} }, `"a;b" is no name`},
		{"header of identity", func(c *route.Config) { c.Headers = []string{"x-forwarded-for"} }, "headers: x-forwarded-for says who"},
		{"header of identity with underscores", func(c *route.Config) { c.Headers = []string{"X_REAL_IP"} }, "headers: X_REAL_IP says who"},
		{"header of the connection", func(c *route.Config) { c.Headers = []string{"Transfer-Encoding"} }, "headers: Transfer-Encoding says who"},
		{"origin without a scheme", func(c *route.Config) { c.CORS = []string{"blog.example"} }, "cors: "},
		{"origin with a path", func(c *route.Config) { c.CORS = []string{"https://blog.example/"} }, "cors: "},
		{"origin of another scheme", func(c *route.Config) { c.CORS = []string{"ftp://blog.example"} }, "cors: "},
		{"origin null", func(c *route.Config) { c.CORS = []string{"null"} }, "cors: "},
		{"origin with a query", func(c *route.Config) { c.CORS = []string{"https://blog.example?x"} }, "cors: "},
		{"origin with a user", func(c *route.Config) { c.CORS = []string{"https://me@blog.example"} }, "cors: "},
		{"origin in capitals, which no browser sends", func(c *route.Config) { c.CORS = []string{"https://Blog.example"} }, "cors: "},
		{"tag of an unknown field", func(c *route.Config) { c.Tag = []string{"{ip}"} }, `tag: "{ip}": there is no field`},
		{"tag of a header that is not keyed", func(c *route.Config) { c.Tag = []string{"{header.user-agent}"} }, `tag: "{header.user-agent}": there is no field`},
		{"tag of an event's field", func(c *route.Config) { c.Tag = []string{"{data.a}"} }, `tag: "{data.a}": there is no field`},
		{"tag that does not end", func(c *route.Config) { c.Tag = []string{"a{path"} }, `tag: "a{path": there is no field`},
		{"tag of events of an unknown field", func(c *route.Config) { c.RefreshOn, c.RefreshTag = []event.Pattern{"a"}, []string{"{path}"} }, `refresh_tag: "{path}": there is no field`},
	} {
		c := valid()
		tt.change(&c)
		err := c.Validate()
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: Validate() = %v, want nothing", tt.name, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%s: Validate() = %v, want %q first", tt.name, err, tt.want)
		}
	}
}

// What several routes say together.
func TestCheckAll(t *testing.T) {
	reserved := []string{"/v1/", "/metrics"}
	at := func(path, host, name string) route.Config { return route.Config{Path: path, Host: host, Name: name} }
	for _, tt := range []struct {
		name   string
		routes []route.Config
		want   string
	}{
		{"none", nil, ""},
		{"different paths", []route.Config{at("/a", "", ""), at("/a/", "", "")}, ""},
		{"one path on two hosts", []route.Config{at("/a", "", ""), at("/a", "h", ""), at("/a", "i", "")}, ""},
		{"one path twice", []route.Config{at("/a", "", ""), at("/b", "", ""), at("/a", "", "")}, "routes[2].path: two routes have /a"},
		{"one path twice on a host", []route.Config{at("/a", "h", ""), at("/a", "h", "")}, "routes[1].path: two routes have h/a"},
		{"one name twice", []route.Config{at("/a", "", "n"), at("/b", "", "n")}, "routes[1].name: two routes are named n"},
		{"our own path", []route.Config{at("/metrics", "", "")}, "routes[0].path: /metrics is the program's own"},
		{"below our own path", []route.Config{at("/v1/x", "", "")}, "routes[0].path: /v1/x is the program's own"},
		{"our own path on a host", []route.Config{at("/v1/x", "h", "")}, ""},
		{"above our own paths", []route.Config{at("/", "", "")}, ""},
		{"near our own path", []route.Config{at("/metrics/", "", ""), at("/v1", "", "")}, ""},
	} {
		err := route.CheckAll(tt.routes, reserved)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%s: CheckAll() = %v, want %q first", tt.name, err, tt.want)
		}
	}
}
