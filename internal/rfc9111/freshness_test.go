package rfc9111_test

import (
	"testing"
	"time"

	"github.com/chappe/chappe/internal/rfc9111"
)

func TestAge(t *testing.T) {
	x := exchange(200, nil, fields("Cache-Control", "max-age=60", "Age", "10", "Date", at(-3)))
	x.Requested, x.Received = now.Add(-2*time.Second), now.Add(900*time.Millisecond)
	f, _, _ := rfc9111.Judge(x, rfc9111.Policy{})
	if got, want := f.Age(x.Received), 12900*time.Millisecond; got != want {
		t.Errorf("RFC 9111 §4.2.3 age with response_delay = %v, want %v", got, want)
	}
	if got := f.Age(now.Add(-time.Hour)); got != 0 {
		t.Errorf("RFC 9111 §4.2.3 age before birth = %v", got)
	}
	if got, want := f.TTL(x.Received.Add(time.Minute)), -12900*time.Millisecond; got != want {
		t.Errorf("RFC 9111 §4.2 TTL = %v, want %v", got, want)
	}
	x = exchange(200, nil, fields("Cache-Control", "max-age=1", "Date", at(0)))
	x.Requested, x.Received = now.Add(900*time.Millisecond), now.Add(900*time.Millisecond)
	if f, _, _ = rfc9111.Judge(x, rfc9111.Policy{}); f.Age(x.Received) != 0 {
		t.Errorf("RFC 9111 §4.2.3 the rest of Date's second counts: %v", f.Age(x.Received))
	}
}

func TestStale(t *testing.T) {
	for _, test := range []struct {
		name, control string
		after         int // seconds
		behind, error bool
	}{
		{"RFC 5861 §3 within", "max-age=2, stale-while-revalidate=5", 6, true, false},
		{"RFC 5861 §3 fresh", "max-age=2, stale-while-revalidate=5", 1, false, false},
		{"RFC 5861 §3 past the window", "max-age=2, stale-while-revalidate=5", 7, false, false},
		{"RFC 5861 §4 within", "max-age=2, stale-if-error=60", 60, false, true},
		{"RFC 5861 §4 past the window", "max-age=2, stale-if-error=60", 62, false, false},
		{"RFC 5861 §4 nothing said", "max-age=2", 3, false, false},
		{"RFC 9111 §4.2.4 must-revalidate", "max-age=2, must-revalidate, stale-while-revalidate=9, stale-if-error=9", 3, false, false},
		{"RFC 9111 §4.2.4 proxy-revalidate", "max-age=2, proxy-revalidate, stale-while-revalidate=9, stale-if-error=9", 3, false, false},
		{"RFC 9111 §4.2.4 no-cache", "max-age=2, no-cache, stale-while-revalidate=9, stale-if-error=9", 1, false, false},
		{"RFC 9111 §4.2.4 s-maxage", "s-maxage=2, stale-while-revalidate=9, stale-if-error=9", 3, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, store, why := rfc9111.Judge(exchange(200, nil, fields("Cache-Control", test.control, "ETag", `"a"`)), rfc9111.Policy{})
			if !store {
				t.Fatal(why)
			}
			later := now.Add(time.Duration(test.after) * time.Second)
			if got := f.MayRevalidateBehind(later); got != test.behind {
				t.Errorf("MayRevalidateBehind = %v", got)
			}
			if got := f.MayServeOnError(later); got != test.error {
				t.Errorf("MayServeOnError = %v", got)
			}
		})
	}
}

func TestDemand(t *testing.T) {
	for _, test := range []struct {
		name, control, pragma string
		stored                string
		want                  bool
	}{
		{"RFC 9111 §5.2.1 nothing", "", "", "max-age=1500", true},
		{"RFC 9111 §5.2.1.1 max-age=0", "max-age=0", "", "max-age=1500", false},
		{"RFC 9111 §5.2.1.1 max-age below age", "max-age=999", "", "max-age=1500", false},
		{"RFC 9111 §5.2.1.1 max-age of the age", "max-age=1000", "", "max-age=1500", true},
		{"RFC 9111 §5.2.1.1 quoted, any case", `Max-Age="999"`, "", "max-age=1500", false},
		{"RFC 9111 §5.2.1.1 invalid", "max-age=x", "", "max-age=1500", true},
		{"RFC 9111 §5.2.1.2 max-stale", "max-stale=1000", "", "max-age=500", true},
		{"RFC 9111 §5.2.1.2 max-stale too little", "max-stale=499", "", "max-age=500", false},
		{"RFC 9111 §5.2.1.2 max-stale without a value", "max-stale", "", "max-age=1", true},
		{"RFC 9111 §5.2.1.2 max-stale invalid", "max-stale=", "", "max-age=1", false},
		{"RFC 9111 §5.2.1.2 max-stale and must-revalidate", "max-stale", "", "max-age=1, must-revalidate", false},
		{"RFC 9111 §5.2.1.3 min-fresh", "min-fresh=500", "", "max-age=1500", true},
		{"RFC 9111 §5.2.1.3 min-fresh too long", "min-fresh=501", "", "max-age=1500", false},
		{"RFC 9111 §5.2.1.3 min-fresh above max-stale", "min-fresh=1, max-stale", "", "max-age=1", false},
		{"RFC 9111 §5.2.1.4 no-cache", "a, No-Cache", "", "max-age=1500", false},
		{"RFC 9111 §5.2.1.5 no-store", "no-store", "", "max-age=1500", true},
		{"RFC 9111 §5.4 Pragma", "", "a, No-Cache", "max-age=1500", false},
		{"RFC 9111 §5.4 Pragma with Cache-Control", "a", "no-cache", "max-age=1500", true},
		{"RFC 9111 §5.4 Pragma of an extension", "", "foo", "max-age=1500", true},
		{"RFC 9111 §5.2.2.4 no-cache stored", "max-stale", "", "max-age=1500, no-cache", false},
		{"RFC 9111 §4.2 stale", "", "", "max-age=500", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := exchange(200, nil, fields("Cache-Control", test.stored, "ETag", `"a"`, "Age", "1000"))
			f, store, why := rfc9111.Judge(x, rfc9111.Policy{})
			if !store {
				t.Fatal(why)
			}
			if got := rfc9111.ParseDemand(test.control, test.pragma).Accepts(f, now); got != test.want {
				t.Errorf("Accepts = %v", got)
			}
		})
	}
	just := rfc9111.Freshness{Born: now, Lifetime: time.Minute}
	if rfc9111.ParseDemand("max-age=0", "").Accepts(just, now) {
		t.Error("RFC 9111 §5.2.1.1 max-age=0 accepts what was born this instant")
	}
	if just.NoCache = true; rfc9111.ParseDemand("max-stale", "").Accepts(just, now) {
		t.Error("RFC 9111 §5.2.2.4 max-stale accepts what is to be validated")
	}
	d := rfc9111.ParseDemand("no-store, only-if-cached", "")
	if !d.NoStore || !d.OnlyIfCached || d.NoCache {
		t.Errorf("RFC 9111 §5.2.1.7 %+v", d)
	}
}

func TestParseDate(t *testing.T) {
	const want = 2544400878 // Thu, 18 Aug 2050 02:01:18 GMT
	for _, test := range []struct {
		name, date string
		want       int64
	}{
		{"RFC 9110 §5.6.7 IMF-fixdate", "Thu, 18 Aug 2050 02:01:18 GMT", want},
		{"RFC 9110 §5.6.7 RFC 850", "Thursday, 18-Aug-50 02:01:18 GMT", want},
		{"RFC 9110 §5.6.7 RFC 850, last century", "Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
		{"RFC 9110 §5.6.7 asctime", "Thu Aug  8 02:01:18 2050", want - 864000},
		{"RFC 9110 §5.6.7 asctime, two digits", "Thu Aug 18 02:01:18 2050", want},
		{"RFC 9110 §5.6.7 after 2^31", "Tue, 19 Jan 2038 14:14:08 GMT", 2147523248},
		{"RFC 9110 §5.6.7 case of the day", "THU, 18 Aug 2050 02:01:18 GMT", want},
		{"RFC 9110 §5.6.7 case of the month", "Thu, 18 AUG 2050 02:01:18 GMT", want},
		{"RFC 9110 §5.6.7 case of the zone", "Thu, 18 Aug 2050 02:01:18 gMT", want},
		{"RFC 9110 §5.6.7 wrong day", "Mon, 18 Aug 2050 02:01:18 GMT", want},
		{"RFC 9110 §5.6.7 UTC", "Thu, 18 Aug 2050 02:01:18 UTC", 0},
		{"RFC 9110 §5.6.7 other zone", "Thu, 18 Aug 2050 02:01:18 AEST", 0},
		{"RFC 9110 §5.6.7 two-digit year", "Thu, 18 Aug 50 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 no comma", "Thu 18 Aug 2050 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 many spaces", "Thu, 18  Aug  2050 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 dashes", "Thu, 18-Aug-2050 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 periods", "Thu, 18 Aug 2050 02.01.18 GMT", 0},
		{"RFC 9110 §5.6.7 one-digit hour", "Thu, 18 Aug 2050 2:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 one-digit hour and a space", "Thu, 18 Aug 2050  2:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 fraction", "Thu, 18 Aug 2050 02:01:18.5 GMT", 0},
		{"RFC 9110 §5.6.7 no such day", "Thu, 31 Feb 2050 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 no such hour", "Thu, 18 Aug 2050 24:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 day not a name", "Xyz, 18 Aug 2050 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 space around", " Thu, 18 Aug 2050 02:01:18 GMT", 0},
		{"RFC 9110 §5.6.7 number", "0", 0},
		{"RFC 9110 §5.6.7 empty", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := rfc9111.ParseDate(test.date)
			if ok != (test.want != 0) || ok && got.Unix() != test.want {
				t.Errorf("ParseDate(%q) = %v, %v", test.date, got, ok)
			}
		})
	}
}
