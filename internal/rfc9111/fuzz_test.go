package rfc9111_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/chappe/chappe/internal/rfc9111"
)

// FuzzJudge: what must not be shared is not stored, whatever else is said.
func FuzzJudge(f *testing.F) {
	f.Add(200, "Authorization: a", `Cache-Control: max-age=9, x="a, b", no-store | Age: 7, 0`, 0, 0)
	f.Add(404, "Cookie: a=b", "CDN-Cache-Control: max-age=1, a=(1 2);b | Expires: 0 | Vary: a, *", 60, 0)
	f.Add(503, "Cache-Control: no-store", "Set-Cookie: a | Last-Modified: "+at(-99)+" | Date: "+at(0), 0, 60)
	f.Fuzz(func(t *testing.T, status int, request, response string, seconds, force int) {
		x := exchange(status, lines(request), lines(response))
		p := rfc9111.Policy{TTL: time.Duration(seconds%1000) * time.Second, ForceTTL: time.Duration(force%1000) * time.Second}
		fresh, store, why := rfc9111.Judge(x, p)
		if store == (why != "") {
			t.Fatalf("stored %v because of %q", store, why)
		}
		rfc9111.Groups(x.Response)
		rfc9111.Tags(x.Response)
		rfc9111.AlsoInvalidated(&url.URL{Scheme: "http", Host: "h"}, x.Response)
		if !store {
			return
		}
		_, any := rfc9111.Vary(x.Response)
		if any || status == 206 || x.Request["Authorization"] != nil || x.Request["Cookie"] != nil || x.Response["Set-Cookie"] != nil {
			t.Fatalf("stored %d %v for %v", status, x.Response, x.Request)
		}
		if fresh.Age(now) < 0 || fresh.Lifetime < 0 || fresh.Lifetime > (1<<32)*time.Second {
			t.Fatalf("%+v", fresh)
		}
		if fresh.MustRevalidate && (fresh.MayRevalidateBehind(now) || fresh.MayServeOnError(now)) || fresh.NoCache && fresh.Fresh(now) {
			t.Fatalf("%+v may be used", fresh)
		}
		updated := rfc9111.Update(rfc9111.Storable(x.Response), x.Response)
		if updated["Set-Cookie"] != nil || updated["Connection"] != nil {
			t.Fatalf("kept %v", updated)
		}
	})
}

// FuzzDemand: a demand never makes usable what is not.
func FuzzDemand(f *testing.F) {
	f.Add(`max-age="1", min-fresh=2, max-stale`, "")
	f.Add("max-stale=99999999999, only-if-cached, no-store", "no-cache")
	f.Add("", `x="no-cache`)
	f.Fuzz(func(t *testing.T, control, pragma string) {
		d := rfc9111.ParseDemand(control, pragma)
		old := rfc9111.Freshness{Born: now.Add(-time.Hour), Lifetime: time.Minute}
		if d.Accepts(old, now) && !d.HasMaxStale {
			t.Fatalf("%+v accepts what is stale", d)
		}
		old.MustRevalidate = true
		if d.Accepts(old, now) {
			t.Fatalf("%+v accepts what is to be validated", d)
		}
		if d.NoCache && d.Accepts(rfc9111.Freshness{Born: now, Lifetime: time.Minute}, now) {
			t.Fatalf("%+v accepts what is fresh", d)
		}
	})
}

// FuzzSelector: a selector matches what it was made from, and what it asks for;
// two have the same key if they match each other's requests.
func FuzzSelector(f *testing.F) {
	f.Add("Accept-Encoding, A", "gzip;q=0, br", "1,2", "*", " 1, 2 ")
	f.Add("accept-language", "de, en", "en,DE", "en, de", "de;q=1")
	f.Add("a", `"1, 2`, `"1,2"`, `x"`, `\`)
	f.Fuzz(func(t *testing.T, vary, a, b, c, d string) {
		names, any := rfc9111.Vary(http.Header{"Vary": {vary}})
		if any {
			return
		}
		one := func(name string) string { return []string{a, b}[len(name)%2] }
		two := func(name string) string { return []string{c, d}[len(name)%2] }
		s, other := rfc9111.NewSelector(names, one), rfc9111.NewSelector(names, two)
		if !s.Matches(one) {
			t.Fatalf("%q does not match its own request", s)
		}
		again := s.Header()
		if !s.Matches(again.Get) && !strings.ContainsAny(a+b, "\r\n") {
			t.Fatalf("%q does not match %v", s, again)
		}
		if s.Matches(two) != other.Matches(one) || s.Matches(two) != (s.String() == other.String()) {
			t.Fatalf("%q and %q", s, other)
		}
	})
}

// FuzzETagMatches: a well-formed tag matches itself, in a list too.
func FuzzETagMatches(f *testing.F) {
	f.Add(`"a", W/"b"`, "b")
	f.Add(`*, "`, "a, b")
	f.Fuzz(func(t *testing.T, list, tag string) {
		rfc9111.ETagMatches(list, tag)
		rfc9111.ETagMatches(tag, list)
		if strings.Contains(tag, `"`) {
			return
		}
		tag = `"` + tag + `"`
		if !rfc9111.ETagMatches(tag, "W/"+tag) || !rfc9111.ETagMatches(`"x", W/`+tag+`,"y"`, tag) {
			t.Fatalf("%q does not match itself", tag)
		}
		if !rfc9111.NotModified(tag, list, 200, http.Header{"Etag": {tag}}, now) {
			t.Fatalf("%q is modified", tag)
		}
	})
}

// FuzzRange: a part is within the representation and not empty.
func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", "", int64(10))
	f.Add("bytes=-5", `"a"`, int64(0))
	f.Add("bytes=9-99999999999999999999", at(0), int64(-1))
	f.Fuzz(func(t *testing.T, header, ifRange string, size int64) {
		start, end, v := rfc9111.Range(header, ifRange, http.Header{"Etag": {`"a"`}}, size)
		if v == rfc9111.RangePart && (start < 0 || start >= end || end > size) {
			t.Fatalf("%d to %d of %d", start, end, size)
		}
		if v == rfc9111.RangeWhole && (start != 0 || end != size) {
			t.Fatalf("the whole is %d to %d of %d", start, end, size)
		}
	})
}

// FuzzDate: what is read is what the standard library reads, if it reads it.
func FuzzDate(f *testing.F) {
	f.Add(at(0))
	f.Add("Sunday, 06-Nov-94 08:49:37 GMT")
	f.Add("Sun Nov  6 08:49:37 1994")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := rfc9111.ParseDate(s)
		want, err := http.ParseTime(s)
		if ok && err == nil && !got.Equal(want) {
			t.Fatalf("%q is %v, not %v", s, got, want)
		}
		if again, okAgain := rfc9111.ParseDate(got.Format(http.TimeFormat)); ok && (!okAgain || !again.Equal(got)) {
			t.Fatalf("%q is %v, written %v", s, got, again)
		}
	})
}

// FuzzStatus: what we write, anyone can read.
func FuzzStatus(f *testing.F) {
	f.Add("a b", "/ü?\"\\")
	f.Fuzz(func(t *testing.T, detail, key string) {
		s := rfc9111.Status{Hit: true, Detail: detail, Key: key}.String()
		if _, err := httpsfv.UnmarshalList([]string{s}); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	})
}
