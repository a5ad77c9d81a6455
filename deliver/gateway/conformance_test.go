package gateway_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"

	"github.com/chappe/chappe/deliver/gateway/route"
)

func TestFreshness(t *testing.T) {
	hour := ago(-time.Hour)
	runScenarios(t, []scenario{
		notKept("RFC 9111 §3 nothing said"),
		kept("RFC 9111 §5.2.2.1 max-age", fresh...),
		kept("RFC 9111 §5.2.2.1 max-age in other case", "Cache-Control", "MaX-aGe=3600"),
		kept("RFC 9111 §5.2 other directives", "Cache-Control", "foobar, max-age=3600"),
		notKept("RFC 9111 §5.2.2.1 max-age=0", "Cache-Control", "max-age=0"),
		notKept("RFC 9111 §4.2.1 invalid max-age", "Cache-Control", "max-age=a100"),
		notKept("RFC 9111 §4.2.1 the first of two", "Cache-Control", "max-age=0, max-age=3600"),
		kept("RFC 9111 §1.2.2 more than 2^31", "Cache-Control", "max-age=99999999999"),
		kept("RFC 9111 §4.2.3 Age below", aged(1800)...),
		notKept("RFC 9111 §4.2.3 Age above", aged(3601)...),
		notKept("RFC 9111 §4.2.3 Date long gone", "Date", ago(2*time.Hour), "Cache-Control", "max-age=3600"),
		notKept("RFC 9111 §5.1 the first of two ages", "Age", "7200, 0", "Cache-Control", "max-age=3600"),
		kept("RFC 9111 §5.1 an age that is no number", "Age", "abc", "Cache-Control", "max-age=3600"),
		kept("RFC 9111 §5.2.2.10 s-maxage above max-age", "Cache-Control", "max-age=0, s-maxage=3600"),
		notKept("RFC 9111 §5.2.2.10 s-maxage below max-age", "Cache-Control", "max-age=3600, s-maxage=0"),
		kept("RFC 9111 §5.3 Expires", "Expires", hour),
		notKept("RFC 9111 §5.3 Expires past", "Expires", ago(time.Hour)),
		notKept("RFC 9111 §5.3 Expires invalid", "Expires", "0"),
		notKept("RFC 9111 §4.2.1 Expires is counted from Date", "Expires", hour, "Date", hour),
		kept("RFC 9111 §5.3 max-age above Expires", "Expires", ago(time.Hour), "Cache-Control", "max-age=3600"),
		notKept("RFC 9111 §5.3 max-age=0 above Expires", "Expires", hour, "Cache-Control", "max-age=0"),
		kept("RFC 9111 §4.2.2 a tenth since Last-Modified", "Last-Modified", ago(100*time.Hour)),
		notKept("RFC 9111 §5.2.2.5 no-store", "Cache-Control", "no-store, max-age=3600"),
		notKept("RFC 9111 §5.2.2.7 private", "Cache-Control", "private, max-age=3600"),
		notKept("RFC 9111 §7.3 Set-Cookie", "Set-Cookie", "a=b", "Cache-Control", "max-age=3600"),
		kept("RFC 9213 §2.2 CDN-Cache-Control above all", "Cdn-Cache-Control", "max-age=3600", "Cache-Control", "no-store"),
		notKept("RFC 9213 §2.2 CDN-Cache-Control forbids", "Cdn-Cache-Control", "private", "Cache-Control", "max-age=3600"),
		kept("RFC 9213 §2.1 CDN-Cache-Control that is none", "Cdn-Cache-Control", "max-age=\"0", "Cache-Control", "max-age=3600"),
		{law: "RFC 9111 §4 the query is of the key", steps: []step{{path: "/?a=1", give: fresh}, {path: "/?a=2", give: fresh}, {path: "/?a=1", from: 1, stored: true}}},
		{law: "RFC 9111 §4.2 404 is kept", steps: []step{{status: 404, give: fresh}, {from: 1, stored: true, code: 404}}},
		{law: "RFC 9111 §3.3 206 is not", steps: []step{{status: 206, give: append([]string{"Content-Range", "bytes 0-5/10"}, fresh...)}, {}}},
		{law: "RFC 9111 §5.2.2.3 must-understand of an unknown status", steps: []step{{status: 599, give: []string{"Cache-Control", "must-understand, max-age=3600"}}, {}}},
	})
}

func TestRequestDirectives(t *testing.T) {
	ttl := route.Config{TTL: time.Hour}
	runScenarios(t, []scenario{
		{law: "RFC 9111 §5.2.1.1 max-age=0", steps: []step{{give: fresh}, {send: []string{"Cache-Control", "max-age=0"}}}},
		{law: "RFC 9111 §5.2.1.1 max-age below the age", steps: []step{{give: aged(1800)}, {send: []string{"Cache-Control", "max-age=600"}}}},
		{law: "RFC 9111 §5.2.1.1 max-age above the age", steps: []step{{give: aged(600)}, {send: []string{"Cache-Control", "max-age=1200"}, from: 1, stored: true}}},
		{law: "RFC 9111 §5.2.1.2 max-stale", steps: []step{{give: stale()}, {send: []string{"Cache-Control", "max-stale=7200"}, from: 1, stored: true}}},
		{law: "RFC 9111 §5.2.1.2 max-stale not so much", steps: []step{{give: stale()}, {send: []string{"Cache-Control", "max-stale=60"}}}},
		{law: "RFC 9111 §5.2.1.3 min-fresh", steps: []step{{give: aged(3000)}, {send: []string{"Cache-Control", "min-fresh=1200"}}}},
		{law: "RFC 9111 §5.2.1.4 no-cache", steps: []step{
			{give: aged(0, "Etag", `"v"`)},
			{send: []string{"Cache-Control", "no-cache"}, told: []string{"If-None-Match", `"v"`}, status: 304, code: 200, from: 1},
		}},
		{law: "RFC 9111 §5.4 Pragma", steps: []step{{give: fresh}, {send: []string{"Pragma", "no-cache"}}}},
		{law: "RFC 9111 §5.2.1.5 no-store", steps: []step{{send: []string{"Cache-Control", "no-store"}, give: fresh}, {}}},
		{law: "RFC 9111 §5.2.1.7 only-if-cached and nothing stored", steps: []step{{send: []string{"Cache-Control", "only-if-cached"}, code: 504, stored: true, has: []string{"Content-Type", "application/problem+json"}}}},
		{law: "RFC 9111 §5.2.1.7 only-if-cached", steps: []step{{give: fresh}, {send: []string{"Cache-Control", "only-if-cached"}, from: 1, stored: true}}},
		{law: "a route with a ttl: the operator decides", route: ttl, steps: []step{
			{},
			{send: []string{"Cache-Control", "no-cache"}, from: 1, stored: true},
			{send: []string{"Cache-Control", "no-store"}, from: 1, stored: true},
			{send: []string{"Pragma", "no-cache"}, from: 1, stored: true},
		}},
		{law: "RFC 9111 §3.5 Authorization", steps: []step{{send: []string{"Authorization", "a b"}, give: fresh}, {send: []string{"Authorization", "a b"}, give: fresh}, {}}},
		{law: "RFC 9111 §3.5 Authorization gets no stored answer", steps: []step{{give: fresh}, {send: []string{"Authorization", "a b"}, told: []string{"Authorization", "a b"}}}},
	})
}

func TestValidation(t *testing.T) {
	day := ago(24 * time.Hour)
	runScenarios(t, []scenario{
		{law: "RFC 9111 §4.3.1 asked by ETag", steps: []step{
			{give: stale()},
			{told: []string{"If-None-Match", `"v"`}, status: 304, give: append([]string{"Etag", `"v"`, "X-New", "1"}, fresh...), code: 200, from: 1, has: []string{"X-New", "1", "Age", "0"}},
			{from: 1, stored: true, has: []string{"X-New", "1"}},
		}},
		{law: "RFC 9111 §4.3.1 asked by Last-Modified", steps: []step{
			{give: aged(7200, "Last-Modified", day)},
			{told: []string{"If-Modified-Since", day}, status: 304, give: fresh, code: 200, from: 1},
			{from: 1, stored: true},
		}},
		{law: "RFC 9111 §4.3.3 a new answer in place of 304", steps: []step{{give: stale()}, {give: fresh}, {from: 2, stored: true}}},
		{law: "RFC 9111 §3.2 a 304 leaves what is said of the bytes", steps: []step{
			{give: stale("X-Kind", "a", "Content-Encoding", "gone")},
			{status: 304, give: append([]string{"Etag", `"v"`, "Content-Encoding", "gzip", "X-Kind", "b"}, fresh...), code: 200, from: 1, has: []string{"Content-Encoding", "gone", "X-Kind", "b", "Content-Length", "6"}},
		}},
		{law: "RFC 9111 §5.2.2.4 no-cache is asked about each time", steps: []step{
			{give: []string{"Cache-Control", "no-cache", "Etag", `"v"`}},
			{told: []string{"If-None-Match", `"v"`}, status: 304, code: 200, from: 1},
			{told: []string{"If-None-Match", `"v"`}, status: 304, code: 200, from: 1},
		}},
		{law: "RFC 9111 §4.3.2 304 by ETag", steps: []step{
			{give: aged(10, "Etag", `"a,b"`)},
			{send: []string{"If-None-Match", `"x", W/"a,b"`}, code: 304, from: noBody, stored: true, has: []string{"Etag", `"a,b"`, "Age", "1", "Cache-Control", "max-age=3600", "Content-Length", ""}},
			{send: []string{"If-None-Match", `"x"`}, from: 1, stored: true},
			{send: []string{"If-None-Match", `"x"`, "If-Modified-Since", ago(0)}, from: 1, stored: true},
			{send: []string{"If-None-Match", `*`}, code: 304, from: noBody, stored: true},
		}},
		{law: "RFC 9111 §4.3.2 304 by date", steps: []step{
			{give: aged(10, "Last-Modified", day)},
			{send: []string{"If-Modified-Since", day}, code: 304, from: noBody, stored: true},
			{send: []string{"If-Modified-Since", ago(time.Hour)}, code: 304, from: noBody, stored: true},
			{send: []string{"If-Modified-Since", ago(48 * time.Hour)}, from: 1, stored: true},
		}},
		{law: "RFC 9111 §4.3.1 the first request's condition is not the cache's", steps: []step{
			{send: []string{"If-None-Match", `"v"`}, told: []string{"If-None-Match", ""}, give: aged(0, "Etag", `"v"`), code: 304, from: noBody},
			{from: 1, stored: true},
		}},
		{law: "RFC 9110 §8.8.1 an ETag of our making", steps: []step{
			{give: fresh, has: []string{"Etag", `"c-`}},
			{from: 1, stored: true, has: []string{"Etag", `"c-`}},
		}},
		{law: "an ETag of our making is not the origin's to know", steps: []step{
			{give: aged(7200, "Last-Modified", day), has: []string{"Etag", `"c-`}},
			{told: []string{"If-None-Match", "", "If-Modified-Since", day}, status: 304, code: 200, from: 1},
		}},
		{law: "RFC 9111 §5.1 Age and Date of what is stored", steps: []step{
			{give: aged(100, "Date", ago(time.Minute))},
			{from: 1, stored: true, has: []string{"Age", "10", "Date", ago(time.Minute)[:16], "Cache-Status", "chappe; hit; ttl=3"}},
		}},
		{law: "RFC 9110 §6.6.1 a missing Date", steps: []step{{give: append([]string{"Date", ""}, fresh...)}, {from: 1, stored: true, has: []string{"Date", ago(0)[:16]}}}},
		{law: "RFC 9111 §3.1 what Connection names is not stored", steps: []step{
			{give: append([]string{"Connection", "a", "A", "1", "Proxy-Authenticate", "x", "B", "2"}, fresh...), has: []string{"A", ""}},
			{from: 1, stored: true, has: []string{"A", "", "Proxy-Authenticate", "", "B", "2"}},
		}},
		{law: "RFC 9211 §2 those nearer to the origin come first", steps: []step{{give: append([]string{"Cache-Status", "other; hit"}, fresh...), has: []string{"Cache-Status", "other; hit, chappe; fwd=uri-miss"}}}},
	})
}

func TestStale(t *testing.T) {
	runScenarios(t, []scenario{
		{law: "RFC 9111 §4.2.4 the origin cannot be reached", steps: []step{{give: stale()}, {cut: true, from: 1, code: 200}}},
		{law: "RFC 9111 §5.2.2.2 must-revalidate", steps: []step{{give: stale("Cache-Control", "must-revalidate")}, {cut: true, code: 502}}},
		{law: "RFC 9111 §5.2.2.8 proxy-revalidate", steps: []step{{give: stale("Cache-Control", "proxy-revalidate")}, {cut: true, code: 502}}},
		{law: "RFC 9111 §5.2.2.10 s-maxage", steps: []step{{give: []string{"Age", "7200", "Cache-Control", "s-maxage=3600", "Etag", `"v"`}}, {cut: true, code: 502}}},
		{law: "RFC 9111 §5.2.2.4 no-cache", steps: []step{{give: []string{"Cache-Control", "no-cache", "Etag", `"v"`}}, {cut: true, code: 502}}},
		{law: "RFC 9111 §4.2.4 an error is no answer from the store", steps: []step{{give: stale()}, {status: 503}}},
		{law: "RFC 5861 §4 stale-if-error on 503", steps: []step{
			{give: stale("Cache-Control", "stale-if-error=36000")},
			{status: 503, code: 200, from: 1, has: []string{"Cache-Status", "chappe; fwd=stale; fwd-status=503; detail=stale-if-error"}},
			{status: 500, code: 200, from: 1}, {status: 502, code: 200, from: 1}, {status: 504, code: 200, from: 1},
			{status: 501}, {status: 404},
		}},
		{law: "RFC 5861 §4 stale-if-error on a cut connection", steps: []step{{give: stale("Cache-Control", "stale-if-error=36000")}, {cut: true, code: 200, from: 1}}},
		{law: "RFC 5861 §4 too late for it", steps: []step{{give: stale("Cache-Control", "stale-if-error=60")}, {status: 503}}},
		{law: "stale_if_error of the route", route: route.Config{StaleIfError: 10 * time.Hour}, steps: []step{{give: stale()}, {status: 503, code: 200, from: 1}}},
		{law: "RFC 5861 §3 stale-while-revalidate", steps: []step{
			{give: stale("Cache-Control", "stale-while-revalidate=36000")},
			{give: fresh, from: 1, behind: true, has: []string{"Cache-Status", "chappe; hit; ttl=-3"}},
		}},
		{law: "RFC 5861 §3 too late for it", steps: []step{{give: stale("Cache-Control", "stale-while-revalidate=60")}, {}}},
		{law: "RFC 5861 §3 not against must-revalidate", steps: []step{{give: stale("Cache-Control", "stale-while-revalidate=36000, must-revalidate")}, {}}},
		{law: "stale_while_revalidate of the route", route: route.Config{StaleWhileRevalidate: 10 * time.Hour}, steps: []step{{give: stale()}, {give: fresh, from: 1, behind: true}}},
	})
}

func TestVary(t *testing.T) {
	by := func(names string) []string { return append([]string{"Vary", names}, fresh...) }
	runScenarios(t, []scenario{
		{law: "RFC 9111 §4.1 two variants", steps: []step{
			{send: []string{"Foo", "1"}, give: by("Foo")},
			{send: []string{"Foo", "2"}, give: by("Foo")},
			{send: []string{"Foo", "1"}, from: 1, stored: true},
			{send: []string{"Foo", "2"}, from: 2, stored: true},
			{give: by("Foo")},
			{from: 5, stored: true},
		}},
		{law: "RFC 9111 §4.1 two names", steps: []step{
			{send: []string{"Foo", "1", "Bar", "1"}, give: by("Foo, Bar")},
			{send: []string{"Foo", "1", "Bar", "1"}, from: 1, stored: true},
			{send: []string{"Foo", "1", "Bar", "2"}, give: by("Foo, Bar")},
			{send: []string{"Foo", "1"}, give: by("Foo, Bar")},
		}},
		{law: "RFC 9111 §4.1 lines are joined", steps: []step{{send: []string{"Foo", "1, 2"}, give: by("Foo")}, {send: []string{"Foo", "1", "Foo", "2"}, from: 1, stored: true}}},
		{law: "RFC 9111 §4.1 languages in any order and case", steps: []step{
			{send: []string{"Accept-Language", "en, de"}, give: by("Accept-Language")},
			{send: []string{"Accept-Language", "De,eN"}, from: 1, stored: true},
			{send: []string{"Accept-Language", "en"}, give: by("Accept-Language")},
		}},
		{law: "RFC 9111 §4.1 encodings by what they mean", steps: []step{
			{send: []string{"Accept-Encoding", "gzip, deflate"}, give: by("Accept-Encoding")},
			{send: []string{"Accept-Encoding", "deflate,gzip;q=0.5"}, from: 1, stored: true},
			{send: []string{"Accept-Encoding", "gzip;q=0"}, give: by("Accept-Encoding")},
		}},
		{law: "RFC 9111 §4.1 Vary: *", steps: []step{{give: by("*")}, {give: by("Foo, *")}, {}}},
		{law: "RFC 9110 §12.5.5 encoded without Vary", steps: []step{
			{send: []string{"Accept-Encoding", "gzip"}, give: append([]string{"Content-Encoding", "gzip"}, fresh...)},
			{give: fresh},
		}},
		{law: "a header of the route is of the key", route: route.Config{TTL: time.Hour, Headers: []string{"Foo"}}, steps: []step{
			{send: []string{"Foo", "1"}, told: []string{"Foo", "1"}}, {send: []string{"Foo", "2"}}, {send: []string{"Foo", "1"}, from: 1, stored: true},
		}},
	})
}

// A key has the newest sixteen variants.
func TestVariants(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Vary", "Foo")
			_, _ = io.WriteString(w, r.Header.Get("Foo"))
		}), route.Config{}, nil)
		for i := range 17 {
			s.get(t, "/", "Foo", fmt.Sprint(i)).want(t, 200, fmt.Sprint(i))
		}
		for i := 16; i > 0; i-- {
			if a := s.get(t, "/", "Foo", fmt.Sprint(i)); !a.isHit() || a.body != fmt.Sprint(i) {
				t.Errorf("variant %d is not stored: %q %v", i, a.body, a.header)
			}
		}
		if a := s.get(t, "/", "Foo", "0"); a.isHit() {
			t.Error("the oldest variant is still stored")
		}
	})
}

func TestMethods(t *testing.T) {
	runScenarios(t, []scenario{
		{law: "RFC 9110 §9.3.2 HEAD from a stored GET", steps: []step{{give: fresh}, {method: "HEAD", stored: true, has: []string{"Content-Length", "6", "Cache-Status", "chappe; hit"}}}},
		{law: "RFC 9110 §9.3.2 HEAD stores nothing", steps: []step{{method: "HEAD", give: fresh}, {}}},
		{law: "RFC 9110 §14.2 Range of a stored answer", steps: []step{
			{give: aged(0, "Etag", `"v"`, "Last-Modified", ago(time.Hour))},
			{send: []string{"Range", "bytes=0-5"}, code: 206, from: 1, stored: true, has: []string{"Content-Range", "bytes 0-5/6", "Content-Length", "6", "Etag", `"v"`}},
			{send: []string{"Range", "bytes=6-"}, code: 416, from: noBody, stored: true, has: []string{"Content-Range", "bytes */6"}},
			{send: []string{"Range", "bytes=0-5", "If-Range", `"v"`}, code: 206, from: 1, stored: true},
			{send: []string{"Range", "bytes=0-1", "If-Range", `"w"`}, from: 1, stored: true},
			{send: []string{"Range", "bytes=0-1,3-4"}, from: 1, stored: true},
			{send: []string{"Range", "lines=0-1"}, from: 1, stored: true},
			{send: []string{"Range", "bytes=0-1", "If-None-Match", `"v"`}, code: 304, from: noBody, stored: true},
		}},
		{law: "RFC 9110 §14.2 Range of what is not stored goes to the origin", steps: []step{
			{send: []string{"Range", "bytes=0-5"}, told: []string{"Range", "bytes=0-5"}, status: 206, give: append([]string{"Content-Range", "bytes 0-5/9"}, fresh...)}, {},
		}},
		{law: "RFC 9110 §9.3 a POST is passed on", steps: []step{{method: "POST", give: fresh}, {method: "POST", give: fresh}, {}}},
	})
}

// Methods that the route does not name are not passed on.
func TestRouteMethods(t *testing.T) {
	s := newGateway(t, &actor{}, route.Config{Methods: []string{"GET"}})
	a := s.do(t, "DELETE", "/", "")
	if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET" || s.asked() != 0 {
		t.Errorf("DELETE where GET is allowed: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	if a = s.do(t, "HEAD", "/", ""); a.status != http.StatusOK {
		t.Errorf("HEAD where GET is allowed: %d", a.status)
	}
}

// A part of an object in its middle is these bytes.
func TestRangeBytes(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "0123456789")
		}), route.Config{}, nil)
		s.get(t, "/")
		for spec, want := range map[string]string{"2-4": "234", "7-": "789", "-3": "789", "8-99": "89", "-99": "0123456789"} {
			if a := s.get(t, "/", "Range", "bytes="+spec); a.status != http.StatusPartialContent || a.body != want {
				t.Errorf("Range: bytes=%s gives %d %q, want %q", spec, a.status, a.body, want)
			}
		}
	})
}

func TestInvalidation(t *testing.T) {
	var all []scenario
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "FOOBAR", "M-SEARCH"} {
		all = append(all,
			scenario{law: "RFC 9111 §4.4 " + method, steps: []step{{give: fresh}, {method: method}, {give: fresh}, {from: 3, stored: true}}},
			scenario{law: "RFC 9111 §4.4 " + method + " that failed", steps: []step{{give: fresh}, {method: method, status: 500}, {from: 1, stored: true}}},
			scenario{law: "RFC 9111 §4.4 " + method + " Location", steps: []step{
				{path: "/a", give: fresh}, {path: "/b", give: fresh}, {path: "/c", give: fresh},
				{path: "/x", method: method, status: 201, give: []string{"Location", "/a", "Content-Location", "b"}},
				{path: "/a"}, {path: "/b"}, {path: "/c", from: 3, stored: true},
			}},
		)
	}
	for _, method := range []string{"OPTIONS", "TRACE", "PROPFIND"} {
		all = append(all, scenario{law: "RFC 9110 §9.2.1 " + method + " is safe", steps: []step{{give: fresh}, {method: method}, {from: 1, stored: true}}})
	}
	runScenarios(t, append(all,
		scenario{law: "RFC 9111 §4.4 no other origin's", steps: []step{
			{path: "/a", give: fresh},
			{path: "/x", method: "POST", give: []string{"Location", "http://other.example/a", "Content-Location", "https://other.example/a"}},
			{path: "/a", from: 1, stored: true},
		}},
		scenario{law: "RFC 9875 §3 groups", steps: []step{
			{path: "/a", give: aged(0, "Cache-Groups", `"one", "two"`)}, {path: "/b", give: aged(0, "Cache-Groups", `"three"`)},
			{path: "/x", method: "POST", give: []string{"Cache-Group-Invalidation", `"two"`}},
			{path: "/a"}, {path: "/b", from: 2, stored: true},
		}},
		scenario{law: "RFC 9875 §3 not by a GET", steps: []step{
			{path: "/a", give: aged(0, "Cache-Groups", `"one"`)}, {path: "/x", give: []string{"Cache-Group-Invalidation", `"one"`}}, {path: "/a", from: 1, stored: true},
		}},
		scenario{law: "RFC 9111 §4.4 all variants", steps: []step{
			{send: []string{"Foo", "1"}, give: aged(0, "Vary", "Foo")}, {send: []string{"Foo", "2"}, give: aged(0, "Vary", "Foo")},
			{method: "POST"}, {send: []string{"Foo", "1"}, give: aged(0, "Vary", "Foo")}, {send: []string{"Foo", "2"}},
		}},
	))
}

// What is said to the cache is not said to clients.
func TestTagsHidden(t *testing.T) {
	hidden := []string{"Surrogate-Key", "", "Cache-Tag", ""}
	tags := []string{"Surrogate-Key", "a b", "Cache-Tag", "c,d"}
	runScenarios(t, []scenario{
		{law: "stored", steps: []step{{give: append(slices.Clone(fresh), tags...), has: hidden}, {from: 1, stored: true, has: hidden}}},
		{law: "passed on", steps: []step{{give: tags, has: hidden}, {method: "POST", give: tags, has: hidden}}},
	})
}

func TestOperatorTimes(t *testing.T) {
	ttl := route.Config{TTL: time.Hour}
	runScenarios(t, []scenario{
		{law: "ttl", route: ttl, steps: []step{{}, {from: 1, stored: true, has: []string{"Cache-Status", "chappe; hit; ttl=3"}}}},
		{law: "ttl where the answer says less", route: ttl, steps: []step{{give: []string{"Cache-Control", "max-age=0"}}, {}}},
		{law: "ttl where the answer says no", route: ttl, steps: []step{{give: []string{"Cache-Control", "no-store"}}, {}}},
		{law: "ttl of a cookie", route: ttl, steps: []step{{give: []string{"Set-Cookie", "a=b"}}, {}}},
		{law: "ttl of a 404 is short", route: ttl, steps: []step{{status: 404}, {from: 1, stored: true, code: 404, has: []string{"Cache-Status", "chappe; hit; ttl=9"}}}},
		{law: "ttl of a 503 that says an hour", route: ttl, steps: []step{{status: 503, give: fresh}, {from: 1, stored: true, code: 503, has: []string{"Cache-Status", "chappe; hit; ttl=0"}}}},
		{law: "ttl of a 500 that says nothing", route: ttl, steps: []step{{status: 500}, {status: 500}}},
		{law: "force_ttl", route: route.Config{ForceTTL: time.Hour}, steps: []step{{give: []string{"Cache-Control", "no-store, private"}}, {from: 1, stored: true}}},
		{law: "force_ttl of a cookie", route: route.Config{ForceTTL: time.Hour}, steps: []step{{give: []string{"Set-Cookie", "a=b"}}, {}}},
		{law: "ttl: no cookies go upstream", route: ttl, steps: []step{{send: []string{"Cookie", "a=b"}, told: []string{"Cookie", ""}}, {send: []string{"Cookie", "a=c"}, from: 1, stored: true}}},
		{law: "cookies that are named", route: route.Config{TTL: time.Hour, Cookies: []string{"a"}}, steps: []step{
			{send: []string{"Cookie", "z=1; a=b"}, told: []string{"Cookie", "a=b"}},
			{send: []string{"Cookie", "a=b; y=2"}, from: 1, stored: true},
			{send: []string{"Cookie", "a=c"}}, {},
		}},
		{law: "Authorization that is shared", route: route.Config{TTL: time.Hour, Authorization: true}, steps: []step{
			{send: []string{"Authorization", "a b"}, told: []string{"Authorization", "a b"}},
			{send: []string{"Authorization", "a b"}, from: 1, stored: true},
			{send: []string{"Authorization", "a c"}}, {},
		}},
	})
}

// A 5xx lasts a second at most.
func TestErrorsEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=3600, stale-while-revalidate=3600, stale-if-error=3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}), route.Config{TTL: time.Hour}, nil)
		begin := time.Now()
		await(t, "a second fetch", func() bool { s.get(t, "/"); return s.asked() == 2 })
		if took := time.Since(begin); took < 500*time.Millisecond || took > 3*time.Second {
			t.Errorf("a 503 was kept for %v, want a second", took)
		}
	})
}

// What came together does not expire together.
func TestJitter(t *testing.T) {
	s := newGateway(t, &actor{}, route.Config{TTL: time.Hour, Jitter: 30 * time.Minute})
	ttls := map[string]bool{}
	for i := range 20 {
		s.get(t, fmt.Sprint("/", i))
		status := s.get(t, fmt.Sprint("/", i)).header.Get("Cache-Status")
		_, text, _ := strings.Cut(status, "ttl=")
		ttls[text] = true
		var seconds int
		if _, err := fmt.Sscan(text, &seconds); err != nil || seconds < 1795 || seconds > 3600 {
			t.Errorf("Cache-Status: %s, want a ttl from 1800 to 3600", status)
		}
	}
	if len(ttls) < 5 {
		t.Errorf("the times differ in %d ways, want about 20", len(ttls))
	}
}

// What one client got an ETag of our making for, another asks about.
func TestMadeETag(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		a := &actor{step: step{give: aged(3590)}}
		s := start(t, a, route.Config{}, nil)
		etag := s.get(t, "/").header.Get("Etag")
		if a := s.get(t, "/", "If-None-Match", etag); a.status != http.StatusNotModified || !a.isHit() || a.header.Get("Etag") != etag {
			t.Errorf("If-None-Match: %s gives %d %v", etag, a.status, a.header)
		}
		other := s.get(t, "/other").header.Get("Etag")
		a.play(1, step{give: fresh})
		if changed := s.get(t, "/changed").header.Get("Etag"); other != etag || changed == etag {
			t.Errorf("of two bodies that are the same and one that is not the ETags are %s, %s and %s", etag, other, changed)
		}
		a.play(0, step{give: fresh})
		if a := s.get(t, "/", "Cache-Control", "no-cache", "If-None-Match", etag); a.status != http.StatusNotModified {
			t.Errorf("fetched anew, the same body is answered %d to If-None-Match", a.status)
		}
	})
}

// The answer that was fetched behind is the next one.
func TestStaleWhileRevalidate(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		a := &actor{step: step{give: stale("Cache-Control", "stale-while-revalidate=36000")}}
		s := start(t, a, route.Config{}, nil)
		s.get(t, "/").want(t, 200, "body 0")
		a.play(1, step{give: fresh})
		s.get(t, "/").want(t, 200, "body 0")
		await(t, "the answer that was fetched behind", func() bool { return s.get(t, "/").body == "body 1" })
		if s.asked() != 2 {
			t.Errorf("the origin was asked %d times, want 2", s.asked())
		}
	})
}

// Statuses with a time of their own are kept, whatever they mean.
func TestStatuses(t *testing.T) {
	var all []scenario
	for _, status := range []int{200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599} {
		body := 1
		if status == http.StatusNoContent {
			body = noBody
		}
		all = append(all,
			scenario{law: fmt.Sprint("RFC 9111 §3 fresh ", status), steps: []step{
				{status: status, give: fresh, from: min(body, 0)}, {from: body, stored: true, code: status}}},
			scenario{law: fmt.Sprint("RFC 9111 §4.2 stale ", status), steps: []step{{status: status, give: aged(3601), from: min(body, 0)}, {}}},
		)
	}
	for _, status := range []int{200, 203, 204, 301, 308, 404, 405, 410, 414, 501} {
		all = append(all, scenario{law: fmt.Sprint("RFC 9110 §15.1 guessed for ", status), steps: []step{
			{status: status, give: []string{"Last-Modified", ago(100 * time.Hour)}, from: map[bool]int{true: noBody}[status == 204]},
			{stored: true, code: status, from: map[bool]int{true: noBody, false: 1}[status == 204]}}})
	}
	for _, status := range []int{201, 302, 307, 400, 403, 502, 599} {
		all = append(all, scenario{law: fmt.Sprint("RFC 9110 §15.1 not guessed for ", status), steps: []step{{status: status, give: []string{"Last-Modified", ago(100 * time.Hour)}}, {}}})
	}
	runScenarios(t, all)
}

// 1xx answers are for the one whose request it was (RFC 9110 §15.2).
func TestInterim(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i, code := range []int{http.StatusProcessing, http.StatusEarlyHints} {
				w.Header().Set("X-Interim", fmt.Sprint(i))
				w.WriteHeader(code)
			}
			w.Header().Del("X-Interim")
			if r.URL.Path == "/kept" {
				w.Header().Set("Cache-Control", "max-age=60")
			}
			_, _ = io.WriteString(w, "final")
		}), route.Config{}, nil)
		for _, path := range []string{"/kept", "/passed"} {
			a := s.get(t, path)
			a.want(t, 200, "final")
			if len(a.interim) != 2 || a.interim[0].Get("Status") != "102" || a.interim[1].Get("Status") != "103" || a.interim[1].Get("X-Interim") != "1" {
				t.Errorf("%s: before the answer came %v, want 102 and 103", path, a.interim)
			}
			if a.header.Get("X-Interim") != "" {
				t.Errorf("%s: the answer has fields of a 1xx: %v", path, a.header)
			}
		}
		if a := s.get(t, "/kept"); !a.isHit() || len(a.interim) > 0 {
			t.Errorf("a hit with %v", a.interim)
		}
		if a := s.do(t, "POST", "/passed", "text"); len(a.interim) != 2 {
			t.Errorf("before the answer to a POST came %v, want 102 and 103", a.interim)
		}
	})
}

// Text is kept in three forms, each with an ETag of its own.
func TestCompress(t *testing.T) {
	text := strings.Repeat("the same again and again ", 100)
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60"+r.URL.RawQuery)
			w.Header().Set("Etag", `W/"v"`)
			if r.Header.Get("Accept-Encoding") != "" {
				t.Errorf("the origin is asked with Accept-Encoding: %s", r.Header.Get("Accept-Encoding"))
			}
			if r.URL.Path == "/image" {
				w.Header().Set("Content-Type", "image/png")
			}
			if r.URL.Path == "/short" {
				_, _ = io.WriteString(w, text[:100])
				return
			}
			_, _ = io.WriteString(w, text)
		}), route.Config{Compress: true}, nil)
		etags := map[string]bool{}
		for range 2 { // the first is fetched
			for accept, coding := range map[string]string{"": "", "gzip": "gzip", "br, gzip": "br", "br;q=0, *": "gzip", "identity": "", "deflate": ""} {
				a := s.get(t, "/", "Accept-Encoding", accept)
				if got := a.header.Get("Content-Encoding"); got != coding || a.header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("Accept-Encoding: %q gives %q, want %q, Vary: %q", accept, got, coding, a.header.Get("Vary"))
				}
				if got := decode(t, coding, a.body); got != text {
					t.Errorf("Accept-Encoding: %q gives other text: %.50q", accept, got)
				}
				etag := a.header.Get("Etag")
				etags[etag] = true
				if a := s.get(t, "/", "Accept-Encoding", accept, "If-None-Match", etag); a.status != http.StatusNotModified || a.header.Get("Etag") != etag {
					t.Errorf("Accept-Encoding: %q, If-None-Match: %s gives %d, %s", accept, etag, a.status, a.header.Get("Etag"))
				}
				if a := s.get(t, "/", "Accept-Encoding", accept, "Range", "bytes=0-9"); a.status != http.StatusOK {
					t.Errorf("Accept-Encoding: %q with Range gives %d, want 200", accept, a.status)
				}
			}
		}
		if len(etags) != 3 || s.asked() != 1 {
			t.Errorf("%v are the ETags of three forms, after %d fetches", etags, s.asked())
		}
		for _, path := range []string{"/image", "/short", "/?,no-transform"} {
			if a := s.get(t, path, "Accept-Encoding", "gzip, br"); a.header.Get("Content-Encoding") != "" || a.header.Get("Vary") != "" {
				t.Errorf("%s is encoded: %v", path, a.header)
			}
		}
	})
}

func decode(t *testing.T, coding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Error(err)
			return ""
		}
		r = z
	case "br":
		r = brotli.NewReader(r)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// A 304 about another answer than ours says nothing of ours, which is fetched
// without a condition then (RFC 9111 §4.3.4).
func TestNotModifiedOther(t *testing.T) {
	onBoth(t, func(t *testing.T, start starter) {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				w.Header().Set("Etag", `"w"`)
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("Etag", `"v"`)
			w.Header().Set("Age", "7200")
			w.Header().Set("Cache-Control", "max-age=3600")
			_, _ = io.WriteString(w, "whole")
		}), route.Config{}, nil)
		for i := range 3 {
			if s.get(t, "/").want(t, 200, "whole"); s.asked() != 1+2*i {
				t.Errorf("after %d requests the origin was asked %d times, want %d", i+1, s.asked(), 1+2*i)
			}
		}
	})
}
