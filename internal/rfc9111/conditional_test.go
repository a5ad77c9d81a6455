package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/rfc9111"
)

func TestValidators(t *testing.T) {
	for _, test := range []struct {
		name   string
		stored http.Header
		want   http.Header
	}{
		{"RFC 9111 §4.3.1 none", fields("Date", at(0)), nil},
		{"RFC 9111 §4.3.1 ETag", fields("ETag", `"abc"`), fields("If-None-Match", `"abc"`)},
		{"RFC 9111 §4.3.1 weak", fields("ETag", `W/"abc"`), fields("If-None-Match", `W/"abc"`)},
		{"RFC 9111 §4.3.1 unquoted", fields("ETag", `abc`), fields("If-None-Match", `abc`)},
		{"RFC 9111 §4.3.1 Last-Modified", fields("Last-Modified", at(-3)), fields("If-Modified-Since", at(-3))},
		{"RFC 9111 §4.3.1 both", fields("ETag", `"a"`, "Last-Modified", at(-3)), fields("If-None-Match", `"a"`, "If-Modified-Since", at(-3))},
		{"RFC 9111 §4.3.1 no date", fields("Last-Modified", "yesterday"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, rfc9111.Validators(test.stored)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestETagMatches(t *testing.T) {
	for _, test := range []struct {
		name, list, etag string
		want             bool
	}{
		{"RFC 9110 §8.8.3.2 strong", `"a"`, `"a"`, true},
		{"RFC 9110 §8.8.3.2 other", `"a"`, `"b"`, false},
		{"RFC 9110 §8.8.3.2 weak", `W/"a"`, `W/"a"`, true},
		{"RFC 9110 §8.8.3.2 weak and strong", `W/"a"`, `"a"`, true},
		{"RFC 9110 §8.8.3.2 strong and weak", `"a"`, `W/"a"`, true},
		{"RFC 9110 §13.1.2 first", `"a", "1", "2"`, `"a"`, true},
		{"RFC 9110 §13.1.2 middle", `"1","a","2"`, `"a"`, true},
		{"RFC 9110 §13.1.2 last", `"1" , "2", W/"a" `, `"a"`, true},
		{"RFC 9110 §13.1.2 star", ` * `, `"a"`, true},
		{"RFC 9110 §13.1.2 star, no tag", `*`, ``, true},
		{"RFC 9110 §13.1.2 star in a list", `"b", *`, `"a"`, false},
		{"RFC 9110 §13.1.2 no tag", `"a"`, ``, false},
		{"RFC 9110 §13.1.2 empty list", `, ,`, `"a"`, false},
		{"RFC 9110 §8.8.3 empty tag", `""`, `""`, true},
		{"RFC 9110 §8.8.3 comma", `"x", "a, b"`, `"a, b"`, true},
		{"RFC 9110 §8.8.3 part of a tag", `"x, "a""`, `"x`, false},
		{"RFC 9110 §8.8.3 obs-text", "\"abcdef\xfc\"", "\"abcdef\xfc\"", true},
		{"RFC 9110 §8.8.3 unquoted", `abcdef, b`, `abcdef`, true},
		{"RFC 9110 §8.8.3 unquoted and quoted", `abcdef`, `"abcdef"`, false},
		{"RFC 9110 §8.8.3 lower-case w", `w/"a"`, `w/"a"`, true},
		{"RFC 9110 §8.8.3 backslash", `W\"a"`, `W\"a"`, true},
		{"RFC 9110 §8.8.3 no slash", `W"a"`, `W"a"`, true},
		{"RFC 9110 §8.8.3 no end", `"a`, `"a`, true},
		{"RFC 9110 §8.8.3 only the mark", `,W/,`, `W/`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := rfc9111.ETagMatches(test.list, test.etag); got != test.want {
				t.Errorf("ETagMatches(%q, %q) = %v", test.list, test.etag, got)
			}
		})
	}
}

func TestNotModified(t *testing.T) {
	rfc850 := now.Add(-3000 * time.Second).Format("Monday, 02-Jan-06 15:04:05 GMT")
	for _, test := range []struct {
		name, match, since string
		status             int
		stored             string
		want               bool
	}{
		{"RFC 9111 §4.3.2 tag", `"a"`, "", 200, `ETag: "a"`, true},
		{"RFC 9111 §4.3.2 other tag", `"b"`, "", 200, `ETag: "a"`, false},
		{"RFC 9111 §4.3.2 nothing", "", "", 200, `ETag: "a"`, false},
		{"RFC 9110 §13.1.3 the tag wins", `"a"`, at(-10000), 200, `ETag: "a" | Last-Modified: ` + at(-5000), true},
		{"RFC 9110 §13.1.3 the tag wins, differs", `"b"`, at(0), 200, `ETag: "a" | Last-Modified: ` + at(-5000), false},
		{"RFC 9110 §13.2.1 404", `"a"`, "", 404, `ETag: "a"`, false},
		{"RFC 9110 §13.2.1 301", "", at(0), 301, `Last-Modified: ` + at(-5000), false},
		{"RFC 9110 §13.2.1 203", `"a"`, "", 203, `ETag: "a"`, true},
		{"RFC 9111 §4.3.2 same date", "", at(-3000), 200, "Last-Modified: " + at(-3000), true},
		{"RFC 9111 §4.3.2 later date", "", at(-2000), 200, "Last-Modified: " + at(-3000), true},
		{"RFC 9111 §4.3.2 earlier date", "", at(-3001), 200, "Last-Modified: " + at(-3000), false},
		{"RFC 9111 §4.3.2 RFC 850", "", rfc850, 200, "Last-Modified: " + at(-3000), true},
		{"RFC 9111 §4.3.2 by Date", "", at(-5), 200, "Date: " + at(-5), true},
		{"RFC 9111 §4.3.2 by Date, changed", "", at(-6), 200, "Date: " + at(-5), false},
		{"RFC 9111 §4.3.2 by reception", "", at(0), 200, "", true},
		{"RFC 9111 §4.3.2 by reception, changed", "", at(-1), 200, "", false},
		{"RFC 9110 §13.1.3 no date", "", "yesterday", 200, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := rfc9111.NotModified(test.match, test.since, test.status, lines(test.stored), now); got != test.want {
				t.Errorf("NotModified = %v", got)
			}
		})
	}
}

func TestFreshens(t *testing.T) {
	for _, test := range []struct {
		name, stored, fresh string
		want                bool
	}{
		{"RFC 9111 §4.3.4 same strong", `ETag: "a"`, `ETag: "a"`, true},
		{"RFC 9111 §4.3.4 other strong", `ETag: "a"`, `ETag: "b"`, false},
		{"RFC 9111 §4.3.4 strong for weak", `ETag: W/"a"`, `ETag: "a"`, false},
		{"RFC 9111 §4.3.4 weak for strong", `ETag: "a"`, `ETag: W/"a"`, true},
		{"RFC 9111 §4.3.4 other weak", `ETag: W/"a"`, `ETag: W/"b"`, false},
		{"RFC 9111 §4.3.4 no validator", `ETag: "a"`, ``, true},
		{"RFC 9111 §4.3.4 same date", "Last-Modified: " + at(-9), "Last-Modified: " + at(-9), true},
		{"RFC 9111 §4.3.4 other date", "Last-Modified: " + at(-9), "Last-Modified: " + at(-8), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := rfc9111.Freshens(lines(test.stored), lines(test.fresh)); got != test.want {
				t.Errorf("Freshens = %v", got)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	stored := fields("ETag", `"a"`, "Date", at(-100), "Age", "50", "Cache-Control", "max-age=1", "Test-Header", "A",
		"Content-Length", "36", "Content-Encoding", "gzip", "Content-Type", "text/plain", "Kept", "1", "Kept", "2")
	before := stored.Clone()
	fresh := fields("ETag", `W/"a"`, "Date", at(0), "Cache-Control", "max-age=3600", "Test-Header", "B", "New", "1",
		"Content-Length", "10", "Content-Encoding", "br", "Content-Range", "bytes 0-1/2", "Content-Type", "text/html",
		"Set-Cookie", "a=b", "Connection", "Private-One", "Private-One", "1", "Keep-Alive", "9")
	want := fields("ETag", `W/"a"`, "Date", at(0), "Cache-Control", "max-age=3600", "Test-Header", "B", "New", "1",
		"Content-Length", "36", "Content-Encoding", "gzip", "Content-Type", "text/html", "Kept", "1", "Kept", "2")
	if diff := cmp.Diff(want, rfc9111.Update(stored, fresh)); diff != "" {
		t.Errorf("RFC 9111 §3.2 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, stored); diff != "" {
		t.Errorf("RFC 9111 §3.2 the stored fields changed:\n%s", diff)
	}
	if diff := cmp.Diff(stored, rfc9111.Update(stored, fields("ETag", `"b"`, "Test-Header", "B"))); diff != "" {
		t.Errorf("RFC 9111 §4.3.4 another representation's fields were taken:\n%s", diff)
	}
	if got := rfc9111.Update(stored, nil); got.Get("Date") != "" || got.Get("Age") != "" {
		t.Errorf("RFC 9111 §4.3.4 a response just validated has an old age: %v", got)
	}
	if got := rfc9111.Update(nil, nil); got == nil || len(got) != 0 {
		t.Errorf("RFC 9111 §3.2 of nothing: %v", got)
	}
}

func TestStorable(t *testing.T) {
	h := fields("Connection", "a, B", "Connection", "close", "A", "1", "B", "2", "C", "3", "Keep-Alive", "x", "Proxy-Authenticate", "x",
		"Proxy-Authentication-Info", "x", "Proxy-Authorization", "x", "Proxy-Connection", "x", "TE", "x", "Trailer", "x",
		"Transfer-Encoding", "x", "Upgrade", "x", "Clear-Site-Data", "cache", "Set-Cookie2", "a=b", "X-Content-Foo", "1")
	want := fields("C", "3", "Clear-Site-Data", "cache", "Set-Cookie2", "a=b", "X-Content-Foo", "1")
	got := rfc9111.Storable(h)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("RFC 9111 §3.1 (-want +got):\n%s", diff)
	}
	if got["C"][0] = "4"; h.Get("C") != "3" {
		t.Error("RFC 9111 §3.1 the copy shares its values")
	}
}
