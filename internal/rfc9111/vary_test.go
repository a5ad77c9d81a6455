package rfc9111_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/rfc9111"
)

func TestVary(t *testing.T) {
	many := strings.Repeat("a", 64)
	for i := range many {
		many += ", a" + strings.Repeat("b", i)
	}
	for _, test := range []struct {
		name, response string
		want           []string
		any            bool
	}{
		{"RFC 9110 §12.5.5 none", "", nil, false},
		{"RFC 9110 §12.5.5 empty", "Vary: ", nil, false},
		{"RFC 9110 §12.5.5 sorted, once each", "Vary: Foo, bar,foo | Vary: BAZ", []string{"bar", "baz", "foo"}, false},
		{"RFC 9110 §12.5.5 star", "Vary: *", nil, true},
		{"RFC 9110 §12.5.5 two stars", "Vary: *, *", nil, true},
		{"RFC 9110 §12.5.5 two lines of stars", "Vary: * | Vary: *", nil, true},
		{"RFC 9110 §12.5.5 empty and star", "Vary: , *", nil, true},
		{"RFC 9110 §12.5.5 empty line and star", "Vary:  | Vary: *", nil, true},
		{"RFC 9110 §12.5.5 star and name", "Vary: *, Foo", nil, true},
		{"RFC 9110 §12.5.5 name and star", "Vary: Foo, *", nil, true},
		{"RFC 9110 §12.5.5 no name", "Vary: Foo bar", nil, true},
		{"RFC 9110 §12.5.5 too many", "Vary: " + many, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, any := rfc9111.Vary(lines(test.response))
			if diff := cmp.Diff(test.want, got); diff != "" || any != test.any {
				t.Errorf("any = %v, names (-want +got):\n%s", any, diff)
			}
		})
	}
}

// getter looks fields up as the gateway does: the lines of one joined.
func getter(h http.Header) func(string) string {
	return func(name string) string { return strings.Join(h.Values(name), ", ") }
}

func TestSelector(t *testing.T) {
	for _, test := range []struct {
		name, vary, stored, request string
		want                        bool
	}{
		{"RFC 9111 §4.1 same", "Foo", "Foo: 1", "Foo: 1", true},
		{"RFC 9111 §4.1 no Vary", "", "Foo: 1", "Foo: 2", true},
		{"RFC 9111 §4.1 different", "Foo", "Foo: 1", "Foo: 2", false},
		{"RFC 9111 §4.1 case", "Foo", "Foo: a", "Foo: A", false},
		{"RFC 9111 §4.1 missing then", "Foo", "", "Foo: 1", false},
		{"RFC 9111 §4.1 missing now", "Foo", "Foo: 1", "", false},
		{"RFC 9111 §4.1 other fields", "Foo", "Foo: 1 | Other: 2", "Foo: 1 | Other: 3", true},
		{"RFC 9111 §4.1 two", "Foo, Bar", "Foo: 1 | Bar: abc", "Bar: abc | Foo: 1", true},
		{"RFC 9111 §4.1 one of two", "Foo, Bar", "Foo: 1 | Bar: abc", "Foo: 2 | Bar: abc", false},
		{"RFC 9111 §4.1 last of three", "Foo, Bar, Baz", "Foo: 1 | Bar: abc | Baz: 789", "Foo: 1 | Baz: 789 | Bar: abcde", false},
		{"RFC 9111 §4.1 both miss one of three", "Foo, Bar, Baz", "Foo: 1 | Baz: 789", "Foo: 1 | Baz: 789", true},
		{"RFC 9111 §4.1 combined lines", "Foo", "Foo: 1, 2", "Foo: 1 | Foo: 2", true},
		{"RFC 9111 §4.1 whitespace", "Foo", "Foo: 1,2", "Foo:  1, 2 ", true},
		{"RFC 9111 §4.1 order", "Foo", "Foo: 1,2", "Foo: 2,1", false},
		{"RFC 9111 §4.1 whitespace within quotes", "Foo", `Foo: "1,2",3`, `Foo: "1, 2", 3`, false},
		{"RFC 9111 §4.1 language order", "Accept-Language", "Accept-Language: en, de", "Accept-Language: de, en", true},
		{"RFC 9111 §4.1 language case", "Accept-Language", "Accept-Language: en, de", "Accept-Language: eN, De", true},
		{"RFC 9111 §4.1 language whitespace", "Accept-Language", "Accept-Language: en, de", "Accept-Language:  en ,   de", true},
		{"RFC 9111 §4.1 language weights", "Accept-Language", "Accept-Language: en, de;q=0.5", "Accept-Language: en,de; q=0.5", true},
		{"RFC 9111 §4.1 language weights, order", "Accept-Language", "Accept-Language: en, de;q=0.5", "Accept-Language: de;q=0.5, en", false},
		{"RFC 9111 §4.1 other language", "Accept-Language", "Accept-Language: en", "Accept-Language: de", false},
		{"RFC 9111 §4.1 encoding order", "Accept-Encoding", "Accept-Encoding: gzip, deflate, br", "Accept-Encoding: br,gzip;q=0.5", true},
		{"RFC 9111 §4.1 encoding refused", "Accept-Encoding", "Accept-Encoding: gzip", "Accept-Encoding: gzip;q=0", false},
		{"RFC 9111 §4.1 no encoding", "Accept-Encoding", "", "Accept-Encoding: identity", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			names, _ := rfc9111.Vary(fields("Vary", test.vary))
			stored, request := getter(lines(test.stored)), getter(lines(test.request))
			s := rfc9111.NewSelector(names, stored)
			if got := s.Matches(request); got != test.want {
				t.Errorf("Matches = %v", got)
			}
			if got := s.String() == rfc9111.NewSelector(names, request).String(); got != test.want {
				t.Errorf("same key = %v", got)
			}
		})
	}
}

func TestSelectorAsksAgain(t *testing.T) {
	request := fields("Accept-Encoding", "zstd, gzip", "Accept-Language", "De, en", "A", "1, 2")
	s := rfc9111.NewSelector([]string{"a", "accept-encoding", "accept-language", "b"}, getter(request))
	want := fields("Accept-Encoding", "gzip", "Accept-Language", "De, en", "A", "1, 2")
	if diff := cmp.Diff(want, s.Header()); diff != "" {
		t.Errorf("RFC 9111 §4.3.1 header (-want +got):\n%s", diff)
	}
	if !s.Matches(getter(s.Header())) {
		t.Error("RFC 9111 §4.3.1 its own header does not match")
	}
	if diff := cmp.Diff([]string{"a", "accept-encoding", "accept-language", "b"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	one := rfc9111.NewSelector([]string{"a", "b"}, getter(fields("A", "xb:y")))
	two := rfc9111.NewSelector([]string{"a", "b"}, getter(fields("A", "x", "B", "yb:")))
	if one.String() == two.String() {
		t.Errorf("RFC 9111 §4.1 ambiguous key %q", one)
	}
}

func TestAcceptsEncoding(t *testing.T) {
	for _, test := range []struct {
		name, field string
		gzip, br    bool
	}{
		{"RFC 9110 §12.5.3 missing", "", false, false},
		{"RFC 9110 §12.5.3 one", "gzip", true, false},
		{"RFC 9110 §12.5.3 many", "deflate, GZIP;q=0.1,  br ; q=1.0, zstd", true, true},
		{"RFC 9110 §12.5.3 x-gzip", "x-gzip", true, false},
		{"RFC 9110 §12.5.3 star", "*", true, true},
		{"RFC 9110 §12.5.3 star but", "*, gzip;q=0", false, true},
		{"RFC 9110 §12.5.3 no star", "br, *;q=0", false, true},
		{"RFC 9110 §12.5.3 identity", "identity", false, false},
		{"RFC 9110 §12.4.2 zero", "gzip;q=0.000, br;Q=0", false, false},
		{"RFC 9110 §12.4.2 least", "gzip;q=0.001", true, false},
		{"RFC 9110 §12.4.2 malformed", "gzip;q=high, br;q=", false, false},
		{"RFC 9110 §12.4.2 other parameters", "gzip;a=0;q=0, br;a=0", false, true},
		{"RFC 9110 §12.5.3 twice", "gzip;q=0, gzip", false, false},
		{"RFC 9110 §12.5.3 part of a name", "gzipped, brotli", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if gzip, br := rfc9111.AcceptsEncoding(test.field); gzip != test.gzip || br != test.br {
				t.Errorf("gzip %v, br %v", gzip, br)
			}
		})
	}
}

// TestAllocations is about what happens on each request. It holds with the race
// detector, too.
func TestAllocations(t *testing.T) {
	request := http.Header{"Foo": {"1"}, "Accept-Language": {"de, en"}, "Accept-Encoding": {"gzip, br"}}
	get := func(name string) string {
		switch name {
		case "foo":
			return request["Foo"][0]
		case "accept-language":
			return request["Accept-Language"][0]
		}
		return request["Accept-Encoding"][0]
	}
	s := rfc9111.NewSelector([]string{"accept-encoding", "accept-language", "foo"}, get)
	control := `max-age="60", No-Cache, x="a, b", max-stale`
	for name, f := range map[string]func(){
		"ParseDemand of nothing": func() { rfc9111.ParseDemand("", "") },
		"ParseDemand":            func() { rfc9111.ParseDemand(control, "") },
		"AcceptsEncoding":        func() { rfc9111.AcceptsEncoding("deflate, gzip;q=0.5, br, *;q=0") },
		"ETagMatches":            func() { rfc9111.ETagMatches(`"a", W/"b", c, "d"`, `"d"`) },
		"Matches":                func() { s.Matches(get) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
