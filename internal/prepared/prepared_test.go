package prepared_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/prepared"
)

func header() http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Etag": {`"a"`}, "Date": {"Sun, 22 Nov 2026 12:00:00 GMT"}, "Cache-Control": {"max-age=60", "public"},
		"Last-Modified": {"Sun, 22 Nov 2026 11:00:00 GMT"}, "Content-Length": {"99"}, "Age": {"7"}, "Access-Control-Allow-Origin": {"*"},
	}
}

func TestHeads(t *testing.T) {
	f := prepared.New(http.StatusOK, header(), []byte("{}"))
	const date, cors = "Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n", "Access-Control-Allow-Origin: *\r\n"
	want := "HTTP/1.1 200 OK\r\n" + cors + "Cache-Control: max-age=60\r\nCache-Control: public\r\nContent-Type: application/json\r\n" + date +
		"Etag: \"a\"\r\nLast-Modified: Sun, 22 Nov 2026 11:00:00 GMT\r\nContent-Length: 2\r\n"
	if diff := cmp.Diff(want, string(f.Head)); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
	want = "HTTP/1.1 304 Not Modified\r\n" + cors + "Cache-Control: max-age=60\r\nCache-Control: public\r\n" + date + "Etag: \"a\"\r\n"
	if diff := cmp.Diff(want, string(f.NotModified)); diff != "" {
		t.Errorf("head of the 304 (-want +got):\n%s", diff)
	}
	back := header()
	back.Set("Content-Length", "2")
	back.Del("Age")
	if diff := cmp.Diff(back, f.Header()); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

// TestLastModified holds that a 304 has it where there is no ETag (RFC 9110 §15.4.5).
func TestLastModified(t *testing.T) {
	h := header()
	h.Del("Etag")
	if f := prepared.New(http.StatusOK, h, nil); !strings.Contains(string(f.NotModified), "Last-Modified: ") {
		t.Errorf("head of the 304: %q", f.NotModified)
	}
}

func TestNoContent(t *testing.T) {
	if f := prepared.New(http.StatusNoContent, header(), nil); strings.Contains(string(f.Head), "Content-Length") { // RFC 9110 §8.6
		t.Errorf("head: %q", f.Head)
	}
}

func TestEncoded(t *testing.T) {
	h := header()
	f := prepared.Encoded(h, []byte("xyz"), "gzip")
	if f.ETag != `"a-gzip"` || f.Header().Get("Content-Encoding") != "gzip" || f.Header().Get("Content-Length") != "3" {
		t.Errorf("etag %s, head %q", f.ETag, f.Head)
	}
	if h.Get("Content-Encoding") != "" {
		t.Error("the header given was changed")
	}
}

func TestETag(t *testing.T) {
	a, b := prepared.ETag([]byte("a")), prepared.ETag([]byte("b"))
	if a == b || a != prepared.ETag([]byte("a")) || !strings.HasPrefix(a, `"`) || !strings.HasSuffix(a, `"`) {
		t.Errorf("ETags %s and %s", a, b)
	}
}
