package rfc9111_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/rfc9111"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is a date that many seconds from now, as HTTP writes it.
func at(seconds int) string {
	return now.Add(time.Duration(seconds) * time.Second).Format(http.TimeFormat)
}

// fields makes a header of names and values in turn.
func fields(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// lines makes fields of "Name: value; the next one" in a table, split at " | ".
func lines(s string) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(s, " | ") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h.Add(name, strings.TrimPrefix(value, " "))
		}
	}
	return h
}

func exchange(status int, request, response http.Header) *rfc9111.Exchange {
	return &rfc9111.Exchange{Method: "GET", Request: request, Status: status, Response: response, Requested: now, Received: now}
}

const (
	stale = -1 // stored, but to be validated first
	no    = -2 // not stored
)

// ttl is what is left of the response when it comes, in seconds, stale or no.
func ttl(x *rfc9111.Exchange, p rfc9111.Policy) (seconds int, why string) {
	f, store, why := rfc9111.Judge(x, p)
	switch {
	case !store:
		return no, why
	case !f.Fresh(x.Received):
		return stale, why
	}
	return int(f.TTL(x.Received) / time.Second), why
}

func TestFreshness(t *testing.T) {
	const most = 1 << 31
	date := " | Date: " + at(0)
	for _, test := range []struct {
		name, response string
		want           int
	}{
		{"RFC 9111 §3 nothing said", "Date: " + at(0), no},
		{"RFC 9111 §4.2.1 max-age", "Cache-Control: max-age=3600", 3600},
		{"RFC 9111 §4.2.1 max-age=0", "Cache-Control: max-age=0", no},
		{"RFC 9111 §4.2.1 max-age=0 with a validator", `Cache-Control: max-age=0 | ETag: "a"`, stale},
		{"RFC 9111 §1.2.2 2^31-1", "Cache-Control: max-age=2147483647", most - 1},
		{"RFC 9111 §1.2.2 2^31", "Cache-Control: max-age=2147483648", most},
		{"RFC 9111 §1.2.2 2^31+1", "Cache-Control: max-age=2147483649", most},
		{"RFC 9111 §1.2.2 far above", "Cache-Control: max-age=99999999999", most},
		{"RFC 9111 §1.2.2 thousand digits", "Cache-Control: max-age=" + strings.Repeat("9", 1000), most},
		{"RFC 9111 §1.2.2 leading zeros", "Cache-Control: max-age=003600", 3600},
		{"RFC 9111 §4.2.1 negative", "Cache-Control: max-age=-3600", no},
		{"RFC 9111 §4.2.1 single quotes", "Cache-Control: max-age='3600'", no},
		{"RFC 9111 §4.2.1 decimal", "Cache-Control: max-age=3600.0", no},
		{"RFC 9111 §4.2.1 leading letter", "Cache-Control: max-age=a3600", no},
		{"RFC 9111 §4.2.1 trailing letter", "Cache-Control: max-age=3600a", no},
		{"RFC 9111 §4.2.1 no value", "Cache-Control: max-age", no},
		{"RFC 9111 §4.2.1 space before =", "Cache-Control: max-age =3600", no},
		{"RFC 9111 §4.2.1 space after =", "Cache-Control: max-age= 3600", no},
		{"RFC 9111 §4.2.1 invalid makes Expires void", "Cache-Control: max-age=x | Expires: " + at(60) + date, no},
		{"RFC 9111 §5.2 quoted", `Cache-Control: max-age="3600"`, 3600},
		{"RFC 9111 §5.2 any case", "Cache-Control: MaX-aGe=3600", 3600},
		{"RFC 9111 §5.2.3 extension", "Cache-Control: foobar, max-age=3600", 3600},
		{"RFC 9111 §5.2 within quotes, before", `Cache-Control: extension="max-age=3600", max-age=1`, 1},
		{"RFC 9111 §5.2 within quotes, after", `Cache-Control: max-age=1, extension="max-age=3600"`, 1},
		{"RFC 9111 §5.2 comma within quotes", `Cache-Control: x="a, max-age=9", max-age=1`, 1},
		{"RFC 9111 §5.2 escaped quote", `Cache-Control: x="a\", max-age=9", max-age=1`, 1},
		{"RFC 9111 §5.2 empty members", "Cache-Control: ,, , max-age=5,", 5},
		{"RFC 9111 §4.2.1 two on a line", "Cache-Control: max-age=1800, max-age=1", 1800},
		{"RFC 9111 §4.2.1 two lines", "Cache-Control: max-age=1800 | Cache-Control: max-age=1", 1800},
		{"RFC 9111 §4.2.1 two, the first short", "Cache-Control: max-age=1, max-age=1800", 1},
		{"RFC 9111 §4.2.1 two, the first invalid", "Cache-Control: max-age=x, max-age=1800", no},
		{"RFC 9111 §5.3 max-age above past Expires", "Cache-Control: max-age=3600 | Expires: " + at(-7200) + date, 3600},
		{"RFC 9111 §5.3 max-age above invalid Expires", "Cache-Control: max-age=3600 | Expires: 0" + date, 3600},
		{"RFC 9111 §5.3 max-age=0 above Expires", "Cache-Control: max-age=0 | Expires: " + at(3600) + date, no},
		{"RFC 9111 §5.2.2.10 s-maxage", "Cache-Control: s-maxage=3600", 3600},
		{"RFC 9111 §5.2.2.10 shorter", "Cache-Control: max-age=3600, s-maxage=1", 1},
		{"RFC 9111 §5.2.2.10 shorter, first", "Cache-Control: s-maxage=1, max-age=3600", 1},
		{"RFC 9111 §5.2.2.10 shorter, two lines", "Cache-Control: max-age=3600 | Cache-Control: s-maxage=1", 1},
		{"RFC 9111 §5.2.2.10 longer", "Cache-Control: max-age=1, s-maxage=3600", 3600},
		{"RFC 9111 §5.2.2.10 longer, past Expires", "Expires: " + at(-10) + " | Cache-Control: max-age=0, s-maxage=3600", 3600},
		{"RFC 9111 §4.2.1 Expires", "Expires: " + at(2592000) + date, 2592000},
		{"RFC 9111 §4.2.1 past Expires", "Expires: " + at(-2592000) + date, no},
		{"RFC 9111 §4.2.1 Expires now", "Expires: " + at(0) + date, no},
		{"RFC 9111 §4.2.1 Expires before Date", "Expires: " + at(300) + " | Date: " + at(400), no},
		{"RFC 9111 §5.3 Expires 0", "Expires: 0" + date, no},
		{"RFC 9111 §5.3 empty Expires", "Expires: " + date, no},
		{"RFC 9110 §6.6.1 invalid Date", "Date: foo | Expires: " + at(10), 10},
		{"RFC 9110 §6.6.1 no Date", "Expires: " + at(10), 10},
		{"RFC 9111 §4.2.1 the same Expires twice", "Expires: " + at(10) + " | Expires: " + at(10) + date, 10},
		{"RFC 9111 §4.2.1 two Expires", "Expires: " + at(10) + " | Expires: " + at(20) + date, no},
		{"RFC 9111 §1.2.2 Expires in 260 years", "Expires: Sun, 21 Nov 2286 04:46:39 GMT" + date, most},
		{"RFC 9111 §1.2.2 Expires in 8000 years", "Expires: Fri, 31 Dec 9999 23:59:59 GMT" + date, most},
		{"RFC 9111 §4.2.3 Date is slow", "Date: " + at(-10) + " | Expires: " + at(10) + " | Age: 25", no},
		{"RFC 9111 §4.2.3 Date is fast", "Date: " + at(10) + " | Expires: " + at(20) + " | Age: 15", no},
		{"RFC 9111 §4.2.3 apparent_age", "Date: " + at(-7200) + " | Cache-Control: max-age=3600", no},
		{"RFC 9111 §4.2.3 the greater age", "Date: " + at(-100) + " | Age: 30 | Cache-Control: max-age=3600", 3500},
		{"RFC 9111 §5.1 Age", "Cache-Control: max-age=3600 | Age: 1800" + date, 1800},
		{"RFC 9111 §5.1 Age above lifetime", "Cache-Control: max-age=3600 | Age: 7200" + date, no},
		{"RFC 9111 §5.1 Age not a number", "Cache-Control: max-age=3600 | Age: abc" + date, 3600},
		{"RFC 9111 §5.1 negative Age", "Cache-Control: max-age=3600 | Age: -7200" + date, 3600},
		{"RFC 9111 §5.1 decimal Age", "Cache-Control: max-age=3600 | Age: 7200.0" + date, 3600},
		{"RFC 9111 §5.1 Age with a parameter", "Cache-Control: max-age=3600 | Age: 7200;foo=111" + date, 3600},
		{"RFC 9111 §5.1 Age 2^31-1", "Cache-Control: max-age=3600 | Age: 2147483647" + date, no},
		{"RFC 9111 §5.1 Age 2^31", "Cache-Control: max-age=3600 | Age: 2147483648" + date, no},
		{"RFC 9111 §5.1 Age overflows", "Cache-Control: max-age=3600 | Age: 99999999999999999999" + date, no},
		{"RFC 9111 §5.1 Age old, 0", "Cache-Control: max-age=3600 | Age: 7200, 0" + date, no},
		{"RFC 9111 §5.1 Age 0, old", "Cache-Control: max-age=3600 | Age: 0, 7200" + date, 3600},
		{"RFC 9111 §5.1 Age lines old, 0", "Cache-Control: max-age=3600 | Age: 7200 | Age: 0" + date, no},
		{"RFC 9111 §5.1 Age lines 0, old", "Cache-Control: max-age=3600 | Age: 0 | Age: 7200" + date, 3600},
		{"RFC 9111 §5.1 same Age twice", "Cache-Control: max-age=10000 | Age: 3600 | Age: 3600" + date, 6400},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, why := ttl(exchange(200, nil, lines(test.response)), rfc9111.Policy{}); got != test.want {
				t.Errorf("ttl = %d (%s), want %d", got, why, test.want)
			}
		})
	}
}

func TestTargetedControl(t *testing.T) {
	for _, test := range []struct {
		name, response string
		want           int
	}{
		{"RFC 9213 §2.2 max-age", "CDN-Cache-Control: max-age=3600", 3600},
		{"RFC 9213 §2.1 2^31", "CDN-Cache-Control: max-age=2147483648", 1 << 31},
		{"RFC 9213 §2.1 far above", "CDN-Cache-Control: max-age=99999999999", 1 << 31},
		{"RFC 9213 §2.1 negative", "CDN-Cache-Control: max-age=-1", no},
		{"RFC 9213 §2.2 Age", "CDN-Cache-Control: max-age=3600 | Age: 7200", no},
		{"RFC 9213 §2.1 space before =", "Cache-Control: max-age=1 | CDN-Cache-Control: max-age =100", 1},
		{"RFC 9213 §2.1 space after =", "Cache-Control: max-age=1 | CDN-Cache-Control: max-age= 100", 1},
		{"RFC 9213 §2.1 max-age=0", "CDN-Cache-Control: max-age=0", no},
		{"RFC 9213 §2.1 extension", "CDN-Cache-Control: foobar, max-age=3600", 3600},
		{"RFC 9213 §2.1 keys are in lower case", "CDN-Cache-Control: MaX-aGe=3600", no},
		{"RFC 9213 §2.1 parameter", "CDN-Cache-Control: max-age=3600;a=b", 3600},
		{"RFC 9213 §2.2 above past Expires", "CDN-Cache-Control: max-age=3600 | Expires: " + at(-10000), 3600},
		{"RFC 9213 §2.2 0 above Expires", "CDN-Cache-Control: max-age=0 | Expires: " + at(10000), no},
		{"RFC 9213 §2.2 above shorter", "CDN-Cache-Control: max-age=3600 | Cache-Control: max-age=1", 3600},
		{"RFC 9213 §2.2 above longer", "CDN-Cache-Control: max-age=1 | Cache-Control: max-age=3600", 1},
		{"RFC 9213 §2.2 private", "CDN-Cache-Control: private | Cache-Control: max-age=10000", no},
		{"RFC 9213 §2.1 private with fields", `CDN-Cache-Control: private="a", max-age=9`, no},
		{"RFC 9213 §2.1 private of a list", `CDN-Cache-Control: private=("a"), max-age=9`, no},
		{"RFC 9213 §2.1 private is false", `CDN-Cache-Control: private=?0, max-age=9`, 9},
		{"RFC 9213 §2.2 no-cache", "CDN-Cache-Control: no-cache | Cache-Control: max-age=10000", no},
		{"RFC 9213 §2.2 no-store", "CDN-Cache-Control: no-store | Cache-Control: max-age=10000", no},
		{"RFC 9213 §2.2 above no-store", "CDN-Cache-Control: max-age=10000 | Cache-Control: no-store", 10000},
		{"RFC 9213 §2.1 malformed", "CDN-Cache-Control: max-age=10000, &&&&& | Cache-Control: no-store", no},
		{"RFC 9213 §2.1 malformed, falls back", "CDN-Cache-Control: max-age=10000, &&&&& | Cache-Control: max-age=5", 5},
		{"RFC 9213 §2.1 string", `CDN-Cache-Control: max-age="10000" | Cache-Control: max-age=5`, 5},
		{"RFC 9213 §2.1 empty", `CDN-Cache-Control:  | Cache-Control: max-age=5`, 5},
		{"RFC 9213 §2.2 Expires has no say", "CDN-Cache-Control: foo | Expires: " + at(100), no},
		{"RFC 9213 §2.2 nothing about freshness", "CDN-Cache-Control: foo | Cache-Control: max-age=5", no},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := exchange(200, nil, lines(test.response+" | Date: "+at(0)))
			if got, why := ttl(x, rfc9111.Policy{}); got != test.want {
				t.Errorf("ttl = %d (%s), want %d", got, why, test.want)
			}
		})
	}
}

func TestHeuristic(t *testing.T) {
	day := " | Last-Modified: " + at(-24*60*60)
	for _, test := range []struct {
		name     string
		status   int
		response string
		want     int
	}{
		{"RFC 9111 §4.2.2 a tenth", 200, day, 8640},
		{"RFC 9111 §4.2.2 at most a day", 200, "Last-Modified: " + at(-3600*24*365), 86400},
		{"RFC 9111 §4.2.2 modified in the future", 200, "Last-Modified: " + at(60), stale},
		{"RFC 9111 §4.2.2 invalid date", 200, "Last-Modified: yesterday", no},
		{"RFC 9111 §4.2.2 not with Expires", 200, "Expires: 0" + day, stale},
		{"RFC 9111 §5.4 Pragma", 200, "Pragma: no-cache" + day, stale},
		{"RFC 9111 §5.4 Pragma with Cache-Control", 200, "Pragma: no-cache | Cache-Control: public" + day, 8640},
		{"RFC 9111 §5.4 Pragma of an extension", 200, "Pragma: foo" + day, 8640},
		{"RFC 9110 §15.1 201", 201, day, no},
		{"RFC 9110 §15.1 202", 202, day, no},
		{"RFC 9110 §15.1 203", 203, day, 8640},
		{"RFC 9110 §15.1 204", 204, day, 8640},
		{"RFC 9110 §15.1 300", 300, day, 8640},
		{"RFC 9110 §15.1 301", 301, day, 8640},
		{"RFC 9110 §15.1 302", 302, day, no},
		{"RFC 9110 §15.1 308", 308, day, 8640},
		{"RFC 9110 §15.1 403", 403, day, no},
		{"RFC 9110 §15.1 404", 404, day, 8640},
		{"RFC 9110 §15.1 405", 405, day, 8640},
		{"RFC 9110 §15.1 410", 410, day, 8640},
		{"RFC 9110 §15.1 414", 414, day, 8640},
		{"RFC 9110 §15.1 501", 501, day, 8640},
		{"RFC 9110 §15.1 502", 502, day, no},
		{"RFC 9110 §15.1 503", 503, day, no},
		{"RFC 9110 §15.1 504", 504, day, no},
		{"RFC 9110 §15.1 599", 599, day, no},
		{"RFC 9111 §5.2.2.9 public", 599, "Cache-Control: public" + day, 8640},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := exchange(test.status, nil, lines(test.response+" | Date: "+at(0)))
			if got, why := ttl(x, rfc9111.Policy{}); got != test.want {
				t.Errorf("ttl = %d (%s), want %d", got, why, test.want)
			}
		})
	}
}

func TestStore(t *testing.T) {
	share := rfc9111.Policy{Authorization: true, Cookies: true}
	for _, test := range []struct {
		name, request, response string
		policy                  rfc9111.Policy
		want                    int
		why                     string
	}{
		{name: "RFC 9111 §5.2.2.7 private", response: "Cache-Control: private, max-age=9", want: no, why: "private"},
		{name: "RFC 9111 §5.2.2.7 private with fields", response: `Cache-Control: private="a", max-age=9`, want: no, why: "private"},
		{name: "RFC 9111 §5.2.2.5 no-store", response: "Cache-Control: no-store", want: no, why: "no-store"},
		{name: "RFC 9111 §5.2.2.5 any case", response: "Cache-Control: No-StOrE", want: no, why: "no-store"},
		{name: "RFC 9111 §5.2.2.5 with max-age", response: "Cache-Control: max-age=9, no-store", want: no, why: "no-store"},
		{name: "RFC 9111 §5.2.2.5 behind an open quote", response: `Cache-Control: x="a, max-age=9, no-store`, want: no, why: "no-store"},
		{name: "RFC 9111 §5.2.2.5 behind a quote in a word", response: `Cache-Control: x"a, max-age=9, no-store, b"`, want: no, why: "no-store"},
		{name: "RFC 9111 §5.2.2.4 no-cache", response: "Cache-Control: max-age=9, no-cache", want: no, why: "no-freshness"},
		{name: "RFC 9111 §5.2.2.4 any case", response: "Cache-Control: max-age=9, No-CaChE", want: no, why: "no-freshness"},
		{name: "RFC 9111 §5.2.2.4 to be validated", response: `Cache-Control: no-cache | ETag: "a"`, want: stale},
		{name: "RFC 9111 §5.2.2.4 with max-age", response: `Cache-Control: max-age=9, no-cache | ETag: "a"`, want: stale},
		{name: "RFC 9111 §5.2.2.4 with fields", response: `Cache-Control: max-age=9, no-cache="a, b" | ETag: "a"`, want: stale},
		{name: "RFC 9111 §5.2.2.2 must-revalidate", response: "Cache-Control: max-age=9, must-revalidate", want: 9},
		{name: "RFC 9111 §5.2.2.3 must-understand", response: "Cache-Control: max-age=9, no-store, must-understand", want: 9},
		{name: "RFC 9111 §4.1 Vary: *", response: "Cache-Control: max-age=9 | Vary: a, *", want: no, why: "vary-star"},
		{name: "RFC 9111 §4.1 Vary", response: "Cache-Control: max-age=9 | Vary: a", want: 9},
		{name: "RFC 9111 §7.3 Set-Cookie", response: "Cache-Control: public, max-age=9 | Set-Cookie: a=b", policy: share, want: no, why: "set-cookie"},
		{name: "RFC 9111 §7.3 Set-Cookie2", response: "Cache-Control: max-age=9 | Set-Cookie2: a=b", want: 9},
		{name: "RFC 9111 §7.3 Cookie", request: "Cookie: a=b", response: "Cache-Control: public, max-age=9", want: no, why: "cookie"},
		{name: "RFC 9111 §7.3 Cookie in the key", request: "Cookie: a=b", response: "Cache-Control: max-age=9", policy: share, want: 9},
		{name: "RFC 9111 §3.5 Authorization", request: "Authorization: a", response: "Cache-Control: max-age=9", want: no, why: "authorization"},
		{name: "RFC 9111 §3.5 public, stricter", request: "Authorization: a", response: "Cache-Control: max-age=9, public", want: no, why: "authorization"},
		{name: "RFC 9111 §3.5 s-maxage, stricter", request: "Authorization: a", response: "Cache-Control: s-maxage=9", want: no, why: "authorization"},
		{name: "RFC 9111 §3.5 allowed, but not said", request: "Authorization: a", response: "Cache-Control: max-age=9", policy: share, want: no, why: "authorization"},
		{name: "RFC 9111 §3.5 allowed, public", request: "Authorization: a", response: "Cache-Control: max-age=9, public", policy: share, want: 9},
		{name: "RFC 9111 §3.5 allowed, s-maxage", request: "Authorization: a", response: "Cache-Control: s-maxage=9", policy: share, want: 9},
		{name: "RFC 9111 §3.5 allowed, must-revalidate", request: "Authorization: a", response: "Cache-Control: max-age=9, must-revalidate", policy: share, want: 9},
		{name: "RFC 9111 §3.5 allowed, the operator's lifetime", request: "Authorization: a", policy: rfc9111.Policy{TTL: time.Minute, Authorization: true}, want: 60},
		{name: "RFC 9111 §3.5 allowed, forced", request: "Authorization: a", response: "Cache-Control: max-age=9", policy: rfc9111.Policy{ForceTTL: time.Minute, Authorization: true}, want: 60},
		{name: "RFC 9111 §5.2.1.5 no-store in the request", request: "Cache-Control: a | Cache-Control: NO-STORE", response: "Cache-Control: max-age=9", want: no, why: "request-no-store"},
		{name: "RFC 9111 §5.2.1.5 void where the operator decides", request: "Cache-Control: no-store", response: "Cache-Control: max-age=9", policy: rfc9111.Policy{TTL: time.Minute}, want: 9},
		{name: "RFC 5861 §3 stale from the start", response: "Cache-Control: max-age=0, stale-while-revalidate=9", want: stale},
		{name: "RFC 5861 §4 stale from the start", response: "Cache-Control: max-age=0, stale-if-error=9", want: stale},
		{name: "RFC 5861 §4 the operator's window is no freshness", response: "Cache-Control: max-age=0", policy: rfc9111.Policy{StaleIfError: time.Hour}, want: no, why: "no-freshness"},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := exchange(200, lines(test.request), lines(test.response+" | Date: "+at(0)))
			if got, why := ttl(x, test.policy); got != test.want || why != test.why {
				t.Errorf("ttl = %d %q, want %d %q", got, why, test.want, test.why)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, status := range []int{200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599} {
		fresh := exchange(status, nil, fields("Cache-Control", "max-age=100000", "Date", at(0)))
		if got, why := ttl(fresh, rfc9111.Policy{}); got != 100000 {
			t.Errorf("RFC 9111 §3 %d with explicit freshness: %d %s", status, got, why)
		}
		past := exchange(status, nil, fields("Expires", at(-5000), "Last-Modified", at(-100000), "Date", at(0)))
		if got, why := ttl(past, rfc9111.Policy{}); got != stale {
			t.Errorf("RFC 9111 §4 %d with a past Expires: %d %s", status, got, why)
		}
	}
	for status, want := range map[int]string{0: "status", 100: "status", 103: "status", 206: "partial", 304: "status", 600: "status", 599: "no-store", 299: "no-store"} {
		x := exchange(status, nil, fields("Cache-Control", "max-age=9, no-store, must-understand"))
		if got, why := ttl(x, rfc9111.Policy{}); got != no || why != want {
			t.Errorf("RFC 9111 §5.2.2.3 %d: %d %q, want %q", status, got, why, want)
		}
	}
	x := exchange(599, nil, fields("Cache-Control", "max-age=9, must-understand"))
	if got, why := ttl(x, rfc9111.Policy{}); got != no || why != "status" {
		t.Errorf("RFC 9111 §5.2.2.3 599 without no-store: %d %q", got, why)
	}
}

func TestMethod(t *testing.T) {
	for _, test := range []struct {
		name, method, response string
		policy                 rfc9111.Policy
		want                   int
	}{
		{"RFC 9110 §9.3.3 POST", "POST", "Content-Location: /a | Cache-Control: max-age=9", rfc9111.Policy{}, 9},
		{"RFC 9110 §9.3.3 POST without Content-Location", "POST", "Cache-Control: max-age=9", rfc9111.Policy{}, no},
		{"RFC 9110 §9.3.3 POST without freshness", "POST", "Content-Location: /a | Last-Modified: " + at(-9000), rfc9111.Policy{}, no},
		{"RFC 9110 §9.3.3 POST, stale", "POST", `Content-Location: /a | Cache-Control: max-age=0 | ETag: "a"`, rfc9111.Policy{}, no},
		{"RFC 9110 §9.3.3 POST and the operator", "POST", "Content-Location: /a", rfc9111.Policy{TTL: time.Hour, ForceTTL: time.Hour}, no},
		{"RFC 9110 §9.3.3 POST is not forced", "POST", "Content-Location: /a | Cache-Control: max-age=9", rfc9111.Policy{ForceTTL: time.Hour}, 9},
		{"RFC 9111 §3 HEAD", "HEAD", "Cache-Control: max-age=9", rfc9111.Policy{}, no},
		{"RFC 9111 §3 PUT", "PUT", "Content-Location: /a | Cache-Control: max-age=9", rfc9111.Policy{}, no},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := exchange(200, nil, lines(test.response))
			x.Method = test.method
			if got, why := ttl(x, test.policy); got != test.want {
				t.Errorf("ttl = %d %q, want %d", got, why, test.want)
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	minute := rfc9111.Policy{TTL: time.Minute, StaleWhileRevalidate: time.Hour, StaleIfError: time.Hour}
	force := rfc9111.Policy{ForceTTL: time.Minute}
	for _, test := range []struct {
		name     string
		status   int
		response string
		policy   rfc9111.Policy
		want     int
		why      string
	}{
		{"RFC 9111 §4.2.2 TTL", 200, "", minute, 60, ""},
		{"RFC 9111 §4.2.2 TTL above a guess", 200, "Last-Modified: " + at(-86400), minute, 60, ""},
		{"RFC 9111 §4.2.2 TTL from reception", 200, "Age: 7200 | Date: " + at(-7200), minute, 60, ""},
		{"RFC 9111 §4.2.2 TTL below max-age", 200, "Cache-Control: max-age=9", minute, 9, ""},
		{"RFC 9111 §4.2.2 TTL below Expires", 200, "Expires: 0", minute, no, "no-freshness"},
		{"RFC 9111 §4.2.2 TTL below CDN-Cache-Control", 200, "CDN-Cache-Control: foo", minute, no, "no-freshness"},
		{"RFC 9111 §4.2.2 TTL below no-store", 200, "Cache-Control: no-store", minute, no, "no-store"},
		{"RFC 9111 §4.2.2 TTL below no-cache", 200, `Cache-Control: no-cache | ETag: "a"`, minute, stale, ""},
		{"RFC 9111 §4.2.2 TTL of 203", 203, "", minute, 60, ""},
		{"RFC 9111 §4.2.2 TTL of 204", 204, "", minute, no, "status"},
		{"RFC 9111 §4.2.2 TTL of 301", 301, "", minute, 60, ""},
		{"RFC 9111 §4.2.2 TTL of 302", 302, "", minute, 10, ""},
		{"RFC 9111 §4.2.2 TTL of 403", 403, "", minute, no, "status"},
		{"RFC 9111 §4.2.2 TTL of 404", 404, "", minute, 10, ""},
		{"RFC 9111 §4.2.2 short TTL of 404", 404, "", rfc9111.Policy{TTL: 3 * time.Second}, 3, ""},
		{"RFC 9111 §4.2.2 TTL of 500", 500, "", minute, no, "status"},
		{"RFC 9111 §4.2.2 TTL of 501", 501, "", minute, 1, ""},
		{"RFC 9111 §4.2.1 5xx where the operator decides", 503, "Cache-Control: max-age=3600", minute, 1, ""},
		{"RFC 9111 §4.2.1 5xx where it does not", 503, "Cache-Control: max-age=3600", rfc9111.Policy{}, 3600, ""},
		{"RFC 9111 §4.2.1 404 that says", 404, "Cache-Control: max-age=3600", minute, 3600, ""},
		{"RFC 9111 §3 ForceTTL above no-store", 200, "Cache-Control: no-store, private, no-cache", force, 60, ""},
		{"RFC 9111 §3 ForceTTL above max-age", 200, "Cache-Control: max-age=3600", force, 60, ""},
		{"RFC 9111 §3 ForceTTL above CDN-Cache-Control", 200, "CDN-Cache-Control: no-store", force, 60, ""},
		{"RFC 9111 §3 ForceTTL of 404", 404, "Cache-Control: no-store", force, 10, ""},
		{"RFC 9111 §3 ForceTTL not of 403", 403, "Cache-Control: no-store", force, no, "no-store"},
		{"RFC 9111 §3 ForceTTL not of 403 that says", 403, "Cache-Control: max-age=9", force, 9, ""},
		{"RFC 9111 §3 ForceTTL below Set-Cookie", 200, "Set-Cookie: a=b", force, no, "set-cookie"},
		{"RFC 9111 §3 ForceTTL below Vary", 200, "Vary: *", force, no, "vary-star"},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := exchange(test.status, nil, lines(test.response))
			if got, why := ttl(x, test.policy); got != test.want || why != test.why {
				t.Errorf("ttl = %d %q, want %d %q", got, why, test.want, test.why)
			}
		})
	}

	f, _, _ := rfc9111.Judge(exchange(200, nil, lines("Cache-Control: max-age=9")), minute)
	if f.StaleWhileRevalidate != time.Hour || f.StaleIfError != time.Hour {
		t.Errorf("the operator's windows are not set: %+v", f)
	}
	f, _, _ = rfc9111.Judge(exchange(200, nil, lines("Cache-Control: max-age=9, stale-while-revalidate=5, stale-if-error=0")), minute)
	if f.StaleWhileRevalidate != 5*time.Second || f.StaleIfError != 0 {
		t.Errorf("the response's windows are not set: %+v", f)
	}
	f, _, _ = rfc9111.Judge(exchange(503, nil, lines("Cache-Control: max-age=9, stale-while-revalidate=5")), minute)
	if f.StaleWhileRevalidate != 0 || f.StaleIfError != 0 {
		t.Errorf("an error has windows: %+v", f)
	}
}

// TestLinear takes ages if anything reads 256 KiB in more than linear time.
func TestLinear(t *testing.T) {
	for _, s := range []string{",", `"`, `a="`, `\`, `="\`, `x="\",`, "a,", "a ", ";q=", `W/"`, `"",`, "-", "9", "(", "a=(", " ", "a;"} {
		s = strings.Repeat(s, 1<<18/len(s))
		h := http.Header{}
		for _, name := range []string{"Cache-Control", "Cdn-Cache-Control", "Age", "Date", "Expires", "Last-Modified", "Etag", "Connection",
			"Surrogate-Key", "Cache-Tag", "Cache-Groups", "Location", "Pragma"} {
			h[name] = []string{s}
		}
		rfc9111.Judge(exchange(200, h, h), rfc9111.Policy{})
		rfc9111.Vary(http.Header{"Vary": {s}})
		rfc9111.Update(rfc9111.Storable(h), h)
		rfc9111.ParseDemand(s, s)
		rfc9111.ETagMatches(s, s)
		rfc9111.NotModified(s, s, 200, h, now)
		rfc9111.Range("bytes="+s, s, h, 9)
		rfc9111.Groups(h)
		rfc9111.Tags(h)
		names := []string{"a", "accept-encoding", "accept-language"}
		selector := rfc9111.NewSelector(names, func(string) string { return s })
		selector.Matches(func(string) string { return s[1:] })
		_ = selector.String()
		_ = rfc9111.Status{Key: s, Detail: s}.String()
	}
}
