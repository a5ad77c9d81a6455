package client_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/client"
)

// maxBytes is what the script may cost a page that loads it.
const maxBytes = 8 << 10

// get asks for the script with the headers, in pairs.
func get(t *testing.T, headers ...string) (*http.Response, []byte) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/chappe.js", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	client.Handler().ServeHTTP(w, r)
	resp := w.Result()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func source(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("chappe.js")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheScriptIsServedAsWritten(t *testing.T) {
	resp, body := get(t)
	if resp.StatusCode != http.StatusOK || !bytes.Equal(body, source(t)) {
		t.Errorf("status %d and %d bytes, want 200 and the file", resp.StatusCode, len(body))
	}
	want := map[string]string{
		"Content-Type":                 "text/javascript; charset=utf-8",
		"Cache-Control":                "no-cache",
		"Vary":                         "Accept-Encoding",
		"Access-Control-Allow-Origin":  "*",
		"Cross-Origin-Resource-Policy": "cross-origin",
		"Content-Encoding":             "",
	}
	got := map[string]string{}
	for name := range want {
		got[name] = resp.Header.Get(name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestTheScriptIsSmall(t *testing.T) {
	resp, body := get(t, "Accept-Encoding", "br, gzip")
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("the coding is %q, want gzip", got)
	}
	if len(body) > maxBytes {
		t.Errorf("%d bytes are sent, at most %d", len(body), maxBytes)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(text, source(t)) {
		t.Errorf("%d bytes come out of the gzip, %v, want the file", len(text), err)
	}
}

func TestGzipOnlyIfAsked(t *testing.T) {
	for accept, want := range map[string]string{
		"":                      "",
		"br":                    "",
		"gzip":                  "gzip",
		"deflate, GZIP;q=0.5":   "gzip",
		"gzip;q=0":              "",
		"gzip; q=0.000, br":     "",
		"x-gzip":                "",
		"identity;q=0, gzip;q=": "",
	} {
		resp, _ := get(t, "Accept-Encoding", accept)
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding: %s is answered in %q, want %q", accept, got, want)
		}
	}
}

func TestUnchangedIs304(t *testing.T) {
	plain, _ := get(t)
	zipped, _ := get(t, "Accept-Encoding", "gzip")
	if plain.Header.Get("ETag") == zipped.Header.Get("ETag") {
		t.Errorf("both codings have the ETag %s", plain.Header.Get("ETag"))
	}
	for accept, resp := range map[string]*http.Response{"br": plain, "gzip": zipped} {
		tag := resp.Header.Get("ETag")
		again, body := get(t, "Accept-Encoding", accept, "If-None-Match", tag)
		if again.StatusCode != http.StatusNotModified || len(body) != 0 || again.Header.Get("ETag") != tag {
			t.Errorf("%s with its ETag: status %d, %d bytes, ETag %s, want 304", accept, again.StatusCode, len(body), again.Header.Get("ETag"))
		}
		other, _ := get(t, "Accept-Encoding", accept, "If-None-Match", `"other"`)
		if other.StatusCode != http.StatusOK {
			t.Errorf("%s with another ETag: status %d, want 200", accept, other.StatusCode)
		}
	}
}
