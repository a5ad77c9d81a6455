package head_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/head/headtest"
)

func TestHTTP(t *testing.T) {
	in := []byte("\r\nPOST http://h/a%2Fb?c=d HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nX-A: 2\r\nTransfer-Encoding: chunked\r\nPragma: no-cache\r\n" +
		"Trailer: x-sum\r\nConnection: close\r\n\r\n0\r\n\r\n")
	var r head.Request
	if err := r.Parse(in); err != nil {
		t.Fatal(err)
	}
	got, err := r.HTTP("192.0.2.1:1234", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(got.Body)
	clear(in)
	want := &http.Request{
		Method: "POST",
		URL:    &url.URL{Scheme: "http", Host: "h", Path: "/a/b", RawPath: "/a%2Fb", RawQuery: "c=d"},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"X-A": {"1", "2"}, "Pragma": {"no-cache"}, "Cache-Control": {"no-cache"}, "Connection": {"close"},
		},
		ContentLength: -1, TransferEncoding: []string{"chunked"}, Close: true, Host: "h",
		Trailer:    http.Header{"X-Sum": nil},
		RequestURI: "http://h/a%2Fb?c=d", RemoteAddr: "192.0.2.1:1234",
	}
	ignored := []cmp.Option{cmpopts.IgnoreFields(http.Request{}, "Body"), cmpopts.IgnoreUnexported(http.Request{})}
	if diff := cmp.Diff(want, got, ignored...); diff != "" || string(body) != "body" {
		t.Errorf("body %q (-want +got):\n%s", body, diff)
	}
}

func TestHTTPWithoutBody(t *testing.T) {
	var r head.Request
	if err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.HTTP("", nil); err != nil || got.Body != http.NoBody {
		t.Errorf("HTTP = %v, %v", got, err)
	}
}

func TestHTTPBadEscape(t *testing.T) {
	for _, path := range []string{"/%", "/%zz", "/%4"} {
		var r head.Request
		if err := r.Parse([]byte("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if got, err := r.HTTP("", nil); err == nil {
			t.Errorf("%s: HTTP = %v", path, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(upgrade))
	for _, tt := range headtest.Smuggling {
		f.Add([]byte(tt.Head))
	}
	for _, s := range []string{
		"\r\nGET /a?b HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET", "OPTIONS * HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
		"GET https://h/%41?%zz HTTP/1.1\r\nhost: H\r\nPragma: no-cache\r\nTrailer: a\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r head.Request
		err := r.Parse(b)
		if outcome(t, err) != 200 {
			return
		}
		checkPrefixes(t, b[:r.Size])
		whole := viewOf(&r)
		if err := r.Parse(b[:r.Size]); err != nil || whole != viewOf(&r) {
			t.Errorf("what follows the head changes it: %v, %v and %v", err, whole, viewOf(&r))
		}
		compare(t, &r, b)
	})
}

// TestEveryByte puts every byte of the alphabet in every place of some heads,
// before the one there and instead of it, and compares what is accepted with
// net/http.
func TestEveryByte(t *testing.T) {
	for _, in := range []string{
		"POST /a?b HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\nConnection: close, upgrade\r\n\r\n",
		"PUT http://h/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n",
		"\r\nOPTIONS * HTTP/1.0\r\nPragma: no-cache\r\nConnection: keep-alive\r\n\r\n",
	} {
		accepted := 0
		for i := range in {
			for _, c := range alphabet() {
				for _, b := range []string{in[:i] + string([]byte{c}) + in[i:], in[:i] + string([]byte{c}) + in[i+1:]} {
					var r head.Request
					if r.Parse([]byte(b)) == nil {
						accepted++
						compare(t, &r, []byte(b))
					}
				}
			}
		}
		if accepted == 0 {
			t.Errorf("nothing made of %q is accepted", in)
		}
	}
}

// alphabet is all bytes below 0x80 and some above, with few letters and digits.
func alphabet() []byte {
	some := []byte{'0', '5', 'a', 'Z', 0x80, 0x85, 0xa0, 0xff}
	for c := range byte(0x80) {
		digit, letter := '0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z'
		if !digit && !letter {
			some = append(some, c)
		}
	}
	return some
}

// checkPrefixes wants every strict prefix of a good head to be incomplete.
func checkPrefixes(t *testing.T, b []byte) {
	var r head.Request
	for n := 0; n < len(b); n += 1 + len(b)/2000 {
		if got := outcome(t, r.Parse(b[:n])); got != 0 {
			t.Fatalf("Parse(%q): %d, want ErrIncomplete", b[:n], got)
		}
	}
}

// compare wants net/http to read b, which r was parsed from, as r says.
func compare(t *testing.T, r *head.Request, b []byte) {
	if b[0] == '\r' {
		b = b[2:] // net/http expects it only after a POST
		r = reparse(t, b)
	}
	src := bytes.NewReader(b)
	br := bufio.NewReader(src)
	want, err := http.ReadRequest(br)
	made, madeErr := r.HTTP("", nil)
	if err != nil {
		if _, bad := url.ParseRequestURI(string(r.Target)); bad == nil || madeErr == nil {
			t.Fatalf("net/http refuses %q: %v; HTTP: %v", b, err, madeErr)
		}
		return
	}
	if madeErr != nil {
		t.Fatalf("HTTP refuses %q: %v", b, madeErr)
	}
	if size := len(b) - src.Len() - br.Buffered(); size != r.Size {
		t.Errorf("the body begins at %d, for net/http at %d", r.Size, size)
	}
	got := viewOf(r)
	seen := view{
		want.Method, want.RequestURI, got.Path, want.URL.RawQuery, want.Host, got.Upgrade,
		want.ProtoMinor, want.ContentLength, !want.Close, got.Expect,
	}
	if got != seen {
		t.Errorf("%q:\n     got %+v\nnet/http %+v", b, got, seen)
	}
	if path, err := url.PathUnescape(got.Path); err != nil || path != want.URL.Path {
		t.Errorf("path %q, for net/http %q: %v", got.Path, want.URL.Path, err)
	}
	if chunked := slices.Equal(want.TransferEncoding, []string{"chunked"}); chunked != (r.Length < 0) {
		t.Errorf("length %d, for net/http %v", r.Length, want.TransferEncoding)
	}
	compareFields(t, r, want, bytes.Count(b[:r.Size], []byte("\n"))-2)
	ignored := []cmp.Option{cmpopts.IgnoreFields(http.Request{}, "Body"), cmpopts.IgnoreUnexported(http.Request{})}
	if diff := cmp.Diff(want, made, ignored...); diff != "" {
		t.Errorf("HTTP differs (-net/http +HTTP):\n%s", diff)
	}
}

func reparse(t *testing.T, b []byte) *head.Request {
	var r head.Request
	if err := r.Parse(b); err != nil {
		t.Fatalf("Parse(%q), which was good after an empty line: %v", b, err)
	}
	return &r
}

// compareFields wants r to have total fields and those that net/http found.
// Some of them net/http takes out of Header.
func compareFields(t *testing.T, r *head.Request, want *http.Request, total int) {
	n := r.Count("host") + r.Count("transfer-encoding")
	if r.Length < 0 {
		n += r.Count("trailer")
	}
	for name, values := range want.Header {
		name = strings.ToLower(name)
		count := r.Count(name)
		if name == "cache-control" && count == 0 && string(r.Get("pragma")) == "no-cache" {
			continue // made up
		}
		n += count
		if count != len(values) || string(r.Get(name)) != values[0] || r.Joined(name) != strings.Join(values, ",") {
			t.Errorf("%s: %d, %q, %q, for net/http %q", name, count, r.Get(name), r.Joined(name), values)
		}
	}
	if n != total {
		t.Errorf("%d fields in common of %d: %v", n, total, want.Header)
	}
}
