package rfc9111_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/rfc9111"
)

func TestRange(t *testing.T) {
	const whole, part, none = rfc9111.RangeWhole, rfc9111.RangePart, rfc9111.RangeUnsatisfiable
	stored := fields("ETag", `"a"`, "Last-Modified", at(-60), "Date", at(0))
	for _, test := range []struct {
		name, header, ifRange string
		size, start, end      int64
		want                  rfc9111.RangeVerdict
	}{
		{"RFC 9110 §14.1.2 first bytes", "bytes=0-1", "", 11, 0, 2, part},
		{"RFC 9110 §14.1.2 open end", "bytes=1-", "", 11, 1, 11, part},
		{"RFC 9110 §14.1.2 suffix", "bytes=-1", "", 11, 10, 11, part},
		{"RFC 9110 §14.1.2 long suffix", "bytes=-99999999999999999999", "", 11, 0, 11, part},
		{"RFC 9110 §14.1.2 past the end", "bytes=5-99999999999999999999", "", 11, 5, 11, part},
		{"RFC 9110 §14.1.2 last byte", "bytes=10-10", "", 11, 10, 11, part},
		{"RFC 9110 §14.1.2 any case, space", "Bytes= 0-1 ", "", 11, 0, 2, part},
		{"RFC 9110 §14.1.2 after the end", "bytes=11-", "", 11, 0, 0, none},
		{"RFC 9110 §14.1.2 far after the end", "bytes=99999999999999999999-", "", 11, 0, 0, none},
		{"RFC 9110 §14.1.2 suffix of nothing", "bytes=-0", "", 11, 0, 0, none},
		{"RFC 9110 §14.1.2 of nothing", "bytes=0-", "", 0, 0, 0, none},
		{"RFC 9110 §14.1.2 suffix of the empty", "bytes=-5", "", 0, 0, 0, whole},
		{"RFC 9110 §14.1.1 backwards", "bytes=5-4", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 two", "bytes=0-1,3-4", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 other unit", "lines=0-1", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 no range", "bytes=-", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 no dash", "bytes=5", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 sign", "bytes=+1-2", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 hexadecimal", "bytes=0x1-2", "", 11, 0, 11, whole},
		{"RFC 9110 §14.2 empty", "", "", 11, 0, 11, whole},
		{"RFC 9110 §13.1.5 same tag", "bytes=0-1", `"a"`, 11, 0, 2, part},
		{"RFC 9110 §13.1.5 other tag", "bytes=0-1", `"b"`, 11, 0, 11, whole},
		{"RFC 9110 §13.1.5 weak tag", "bytes=0-1", `W/"a"`, 11, 0, 11, whole},
		{"RFC 9110 §13.1.5 same date", "bytes=0-1", at(-60), 11, 0, 2, part},
		{"RFC 9110 §13.1.5 later date", "bytes=0-1", at(-59), 11, 0, 11, whole},
	} {
		t.Run(test.name, func(t *testing.T) {
			start, end, v := rfc9111.Range(test.header, test.ifRange, stored, test.size)
			if start != test.start || end != test.end || v != test.want {
				t.Errorf("Range = %d, %d, %d", start, end, v)
			}
		})
	}
	just := fields("Last-Modified", at(0), "Date", at(0))
	if _, _, v := rfc9111.Range("bytes=0-1", at(0), just, 9); v != whole {
		t.Error("RFC 9110 §8.8.2.2 a date of the same second was taken for strong")
	}
	if _, _, v := rfc9111.Range("bytes=0-1", `W/"a"`, fields("ETag", `W/"a"`), 9); v != whole {
		t.Error("RFC 9110 §13.1.5 a weak tag was taken for strong")
	}
}

func TestInvalidates(t *testing.T) {
	for _, test := range []struct {
		name, method string
		status       int
		want         bool
	}{
		{"RFC 9111 §4.4 POST", "POST", 200, true},
		{"RFC 9111 §4.4 PUT", "PUT", 204, true},
		{"RFC 9111 §4.4 DELETE", "DELETE", 303, true},
		{"RFC 9111 §4.4 unknown", "M-SEARCH", 200, true},
		{"RFC 9111 §4.4 case", "get", 200, true},
		{"RFC 9111 §4.4 client error", "POST", 400, false},
		{"RFC 9111 §4.4 server error", "POST", 500, false},
		{"RFC 9111 §4.4 interim", "POST", 103, false},
		{"RFC 9110 §9.2.1 GET", "GET", 200, false},
		{"RFC 9110 §9.2.1 OPTIONS", "OPTIONS", 200, false},
		{"RFC 9110 §9.2.1 PROPFIND", "PROPFIND", 207, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := rfc9111.Invalidates(test.method, test.status); got != test.want {
				t.Errorf("Invalidates = %v", got)
			}
		})
	}
}

func TestAlsoInvalidated(t *testing.T) {
	for _, test := range []struct {
		name, response string
		want           []string
	}{
		{"RFC 9111 §4.4 relative", "Location: b | Content-Location: ../c?d#e", []string{"https://h/a/b", "https://h/c?d"}},
		{"RFC 9111 §4.4 twice the same", "Location: /b | Content-Location: /b", []string{"https://h/b"}},
		{"RFC 9111 §4.4 default port, case", "Location: HTTPS://u:p@H:443/b", []string{"https://H:443/b"}},
		{"RFC 9111 §4.4 other host", "Location: https://g/b | Content-Location: //g/b", nil},
		{"RFC 9111 §4.4 other scheme", "Location: http://h/b", nil},
		{"RFC 9111 §4.4 other port", "Location: https://h:444/b", nil},
		{"RFC 9111 §4.4 no origin", "Location: mailto:h | Content-Location: data:,", nil},
		{"RFC 9111 §4.4 malformed", "Location: https://h:x/ | Content-Location: %zz", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			target, err := url.Parse("https://h/a/x")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range rfc9111.AlsoInvalidated(target, lines(test.response)) {
				got = append(got, u.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	h := fields("Cache-Groups", `"a", "b";x=1`, "Cache-Groups", `"a", "", "`+strings.Repeat("c", 33)+`"`, "Cache-Group-Invalidation", `"d"`)
	if diff := cmp.Diff([]string{"a", "b"}, rfc9111.Groups(h)); diff != "" {
		t.Errorf("RFC 9875 §2 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"d"}, rfc9111.GroupInvalidation(h)); diff != "" {
		t.Errorf("RFC 9875 §3 (-want +got):\n%s", diff)
	}
	var many []string
	for i := range 100 {
		many = append(many, `"`+strings.Repeat("d", i%40)+string(rune('a'+i%26))+`"`)
	}
	if got := rfc9111.Groups(fields("Cache-Groups", strings.Join(many, ","))); len(got) != 32 {
		t.Errorf("RFC 9875 §2 %d groups", len(got))
	}
	for _, invalid := range []string{"", "a, b", `"a", ("b")`, `"a`, `"a" "b"`, "1"} {
		if got := rfc9111.Groups(fields("Cache-Groups", invalid)); got != nil {
			t.Errorf("RFC 9651 §4.2 Groups(%q) = %q", invalid, got)
		}
	}
}

func TestTags(t *testing.T) {
	h := fields("Surrogate-Key", "a  b a", "Cache-Tag", "c d, e,,b ", "Cache-Tag", strings.Repeat("x", 257))
	if diff := cmp.Diff([]string{"a", "b", "c d", "e"}, rfc9111.Tags(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	long := strings.Repeat("a", 200)
	many := make([]string, 0, 200)
	for i := range long {
		many = append(many, long[i:])
	}
	if got := rfc9111.Tags(fields("Surrogate-Key", strings.Join(many, " "))); len(got) != 64 {
		t.Errorf("%d tags", len(got))
	}
}

func TestCacheStatus(t *testing.T) {
	for _, test := range []struct {
		name   string
		status rfc9111.Status
		want   string
	}{
		{"RFC 9211 §2.1 hit", rfc9111.Status{Hit: true, TTL: 30900 * time.Millisecond, HasTTL: true}, "chappe; hit; ttl=30"},
		{"RFC 9211 §2.5 stale", rfc9111.Status{Hit: true, TTL: -time.Millisecond, HasTTL: true}, "chappe; hit; ttl=-1"},
		{"RFC 9211 §2.2 forwarded", rfc9111.Status{Forward: "stale", ForwardStatus: 304, Stored: true, Collapsed: true}, "chappe; fwd=stale; fwd-status=304; stored; collapsed"},
		{"RFC 9211 §2.1 not both", rfc9111.Status{Hit: true, Forward: "stale", Stored: true}, "chappe; hit"},
		{"RFC 9211 §2.8 detail", rfc9111.Status{Forward: "bypass", Detail: "set-cookie"}, "chappe; fwd=bypass; detail=set-cookie"},
		{"RFC 9211 §2.8 detail is a string", rfc9111.Status{Forward: "miss", Detail: `a "b" \ ü`}, `chappe; fwd=miss; detail="a \"b\" \\ %C3%BC"`},
		{"RFC 9211 §2.8 no token", rfc9111.Status{Detail: "1"}, `chappe; detail="1"`},
		{"RFC 9211 §2.7 key", rfc9111.Status{Hit: true, Key: "/a\r\n"}, `chappe; hit; key="/a%0D%0A"`},
		{"RFC 9211 §2 nothing", rfc9111.Status{}, "chappe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.status.String(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
