package route_test

import (
	"testing"

	"github.com/chappe/chappe/deliver/gateway/route"
)

// security.md 17: routes are found by the path as it was sent, neither decoded
// nor cleaned, the longest first; those of a host before others.
func TestFind(t *testing.T) {
	var routes []*route.Route
	for i, c := range []route.Config{
		{Path: "/"}, {Path: "/api/"}, {Path: "/api/v2/"}, {Path: "/api/v2/x"}, {Path: "/h/", Host: "h.example"}, {Path: "/port", Host: "h.example:8080"}, {Path: "/v1/x", Host: "h.example"},
	} {
		c.Upstream = valid().Upstream
		rt, err := route.New(i, c)
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, rt)
	}
	table := route.NewTable(routes, []string{"/v1/", "/metrics"})
	for _, tt := range []struct{ host, target, want string }{
		{"a", "/", "/"},
		{"a", "/x?/api/", "/"},
		{"a", "/api", "/"},
		{"a", "/api?", "/"},
		{"a", "/api/", "/api/"},
		{"a", "/api/?x", "/api/"},
		{"a", "/api/v2", "/api/"},
		{"a", "/api/v2/", "/api/v2/"},
		{"a", "/api/v2/x", "/api/v2/x"},
		{"a", "/api/v2/x?y", "/api/v2/x"},
		{"a", "/api/v2/x/", "/api/v2/"},
		{"a", "/API/v2/x", "/"},
		{"a", "/%61pi/x", "/"},
		{"a", "/api%2fv2/x", "/"},
		{"a", "/api/../x", "/api/"},
		{"a", "/x/../api/", "/"},
		{"a", "//api/x", "/"},
		{"a", "/api//v2/x", "/api/"},
		{"a", "/api/v2/x;y", "/api/v2/"},
		{"a", "/metrics", ""},
		{"a", "/metrics?x", ""},
		{"a", "/metrics/", "/"},
		{"a", "/v1/x", ""},
		{"a", "/v1", "/"},
		{"a", "*", ""},
		{"a", "", ""},
		{"a", "/h/x", "/"},
		{"h.example", "/h/x", "/h/"},
		{"H.Example.:80", "/h/x", "/h/"},
		{"h.example:8080", "/h/x", "/"},
		{"h.example:8080", "/port", "/port"},
		{"h.example", "/port", "/"},
		{"evil.h.example", "/h/x", "/"},
		{"h.example.evil", "/h/x", "/"},
		{"h.example", "/v1/x", "/v1/x"},
		{"h.example", "/v1/y", ""},
	} {
		got := ""
		if rt := table.Find(false, tt.host, tt.target); rt != nil {
			got = rt.Path
		}
		if got != tt.want {
			t.Errorf("Find(%q, %q) = %q, want %q", tt.host, tt.target, got, tt.want)
		}
	}
	if empty := route.NewTable(nil, nil); empty.Find(false, "a", "/") != nil {
		t.Error("a table without routes finds one")
	}
}

// RFC 9110 §9.1: methods are told apart by case, and who answers GET answers HEAD.
func TestAllows(t *testing.T) {
	all, some := newRoute(t, route.Config{}), newRoute(t, route.Config{Methods: []string{"GET", "PURGE"}})
	posts := newRoute(t, route.Config{Methods: []string{"POST"}})
	for _, tt := range []struct {
		rt     *route.Route
		method string
		want   bool
	}{
		{all, "GET", true}, {all, "BREW", true}, {some, "GET", true}, {some, "HEAD", true}, {some, "PURGE", true},
		{some, "POST", false}, {some, "get", false}, {some, "", false}, {posts, "GET", false}, {posts, "HEAD", false},
	} {
		if got := tt.rt.Allows(tt.method); got != tt.want {
			t.Errorf("%v: Allows(%q) = %v, want %v", tt.rt.Methods, tt.method, got, tt.want)
		}
	}
}
