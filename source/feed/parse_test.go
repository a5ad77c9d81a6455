package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is what a file of testdata is parsed to.
type golden struct {
	Error   string        `json:"error,omitempty"`
	Entries []goldenEntry `json:"entries,omitempty"`
}

type goldenEntry struct {
	ID string `json:"id"`
	Entry
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(paths) < 12 {
		t.Fatalf("%d files, error %v, want at least 12", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := parse(body, "https://example.com/blog/feed.xml")
			var g golden
			if err != nil {
				g.Error = err.Error()
			}
			for _, e := range entries {
				g.Entries = append(g.Entries, goldenEntry{e.id, e})
			}
			var got bytes.Buffer
			encoder := json.NewEncoder(&got)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(g); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, strings.TrimSuffix(path, ".xml")+".golden", got.Bytes())
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestParseBounds holds documents that are small on the wire and large in a
// parser: each is refused, and before the parser has taken room for it.
func TestParseBounds(t *testing.T) {
	const rss, jsonFeed = `<rss version="2.0"><channel>`, `{"version":"https://jsonfeed.org/version/1","items":[`
	deep := strings.Repeat("<a:b>", 100_000)
	tests := []struct{ name, body, want string }{
		{"deep", rss + deep, "nested deeper than 256"},
		{"just too deep", rss + strings.Repeat("<a:b>", maxDepth-1), "nested deeper than 256"},
		{"deep after a byte that the parser drops", rss + "\x00<item>" + deep, "nested deeper than 256"},
		{"parts", rss + strings.Repeat("<a/>", maxTokens/2), "more than 1000000 parts"},
		{"items", rss + strings.Repeat("<item/>", maxEntries+1), "more than 5000 entries"},
		{"entries", `<feed xmlns="http://www.w3.org/2005/Atom">` + strings.Repeat("<Entry/>", maxEntries+1), "more than 5000 entries"},
		{"JSON items", jsonFeed + strings.Repeat("{},", maxEntries) + "{}]}", "more than 5000 entries"},
		{"JSON nulls", jsonFeed + strings.Repeat("null,", maxEntries) + "null]}", "the feed cannot be read"},
		{"JSON parts", jsonFeed + `{"_a":[` + strings.Repeat("0,", maxTokens) + "0]}]}", "more than 1000000 parts"},
		{"deep JSON", jsonFeed + strings.Repeat(`{"_a":`, 300), "nested deeper than 256"},
		{"entities", `<!DOCTYPE rss [<!ENTITY a "b">]>` + rss, "defines entities"},
		{"entities after a byte that the parser drops", "<!--\x01--><!DOCTYPE rss [<!entity a 'b'>]>" + rss, "defines entities"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse([]byte(tt.body), "https://example.com/")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parse: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseTakesWhatIsAllowed(t *testing.T) {
	tests := []struct {
		name, body string
		entries    int
	}{
		{"as many entries as may be", `<rss version="2.0"><channel>` + strings.Repeat("<item/>", maxEntries) + "</channel></rss>", maxEntries},
		{"as deep as may be", `<rss version="2.0"><channel><item>` + strings.Repeat("<a:b>", maxDepth-3) + strings.Repeat("</a:b>", maxDepth-3) + "</item></channel></rss>", 1},
		{"harmless DOCTYPE", `<!DOCTYPE rss SYSTEM "http://my.netscape.com/publish/formats/rss-0.91.dtd"><rss version="0.91"><channel><item/></channel></rss>`, 1},
		{"byte order mark before JSON", "\ufeff" + `{"version":"https://jsonfeed.org/version/1.1","items":[{"id":"1"}]}`, 1},
		{"ends without a beginning", `<rss version="2.0"><channel>` + strings.Repeat("</a>", 1000) + strings.Repeat("<a:b>", 1000), 0},
		{"no entries", `<feed xmlns="http://www.w3.org/2005/Atom"></feed>`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries, err := parse([]byte(tt.body), "https://example.com/")
			if err != nil || len(entries) != tt.entries {
				t.Errorf("parse = %d entries, %v, want %d", len(entries), err, tt.entries)
			}
		})
	}
}

func TestParseCleans(t *testing.T) {
	tests := []struct {
		name, item string
		want       Entry
	}{
		{"script", `{"title":"a<script>alert(1)</script>b","content_html":"<p>x<script>alert(1)</script></p>"}`,
			Entry{Title: "ab", Content: "<p>x</p>"}},
		{"handler", `{"title":"<b onclick=x()>a</b>","content_html":"<p onclick=\"x()\">x</p><svg/onload=x()>"}`,
			Entry{Title: "a", Content: "<p>x</p>"}},
		{"javascript link", `{"url":"javascript:alert(1)","content_html":"<a href=\" java\tscript:alert(1)\">x</a>"}`,
			Entry{Content: "x"}},
		{"data link", `{"url":"data:text/html,<script>","image":"file:///etc/passwd","content_html":"<img src=\"data:text/html,x\">"}`,
			Entry{}},
		{"style and frame", `{"content_html":"<style>*{}</style><iframe src=//evil></iframe><form action=/x><input></form>y"}`,
			Entry{Content: "y"}},
		{"relative link", `{"url":" ../post?a=1&b=2 "}`, Entry{URL: "https://example.com/post?a=1&b=2"}},
		{"blank link", `{"url":"  "}`, Entry{}},
		{"mail link", `{"url":"mailto:a@example.com"}`, Entry{URL: "mailto:a@example.com"}},
		{"line breaks in a title", `{"title":"a\r\n\u0000b\u00a0 c"}`, Entry{Title: "a b c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries, err := parse([]byte(`{"version":"https://jsonfeed.org/version/1.1","items":[`+tt.item+`]}`), "https://example.com/blog/feed.json")
			if err != nil || len(entries) != 1 {
				t.Fatalf("parse = %d entries, %v", len(entries), err)
			}
			entries[0].id = ""
			if diff := cmp.Diff(tt.want, entries[0], cmp.AllowUnexported(Entry{})); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLongMarkupStaysClean holds text that grows when it is escaped: it is
// not cut within a tag or an entity afterwards.
func TestLongMarkupStaysClean(t *testing.T) {
	for _, text := range []string{
		`<a href="https://example.com/?` + strings.Repeat("&", maxContent/2) + `">x</a>`,
		strings.Repeat(`"`, 2*maxContent),
	} {
		body, err := json.Marshal(map[string]any{
			"version": "https://jsonfeed.org/version/1.1", "items": []any{map[string]string{"id": "1", "content_html": text}}})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := parse(body, "https://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		content := entries[0].Content
		if len(content) > 2*maxContent {
			t.Errorf("%.20s: %d bytes, want at most %d", text, len(content), 2*maxContent)
		}
		if again := markupPolicy().Sanitize(content); again != content {
			t.Errorf("%.20s: cleaned again it ends %q, not %q", text, tail(again), tail(content))
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-20):] }

func TestNoFeed(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"page", "<!DOCTYPE html><title>x</title>", "HTML page, not a feed, and it names none"},
		{"page with feeds", `<html><link rel="alternate" type="application/rss+xml" href="/a.xml?x&amp;y"><link type='application/feed+json' href='b.json'><link rel="stylesheet" href="c.css">`,
			"it names these: https://example.com/a.xml?x&y, https://example.com/blog/b.json"},
		{"text", "good day", "not a feed"},
		{"other XML", "<opml/>", "not a feed"},
		{"blank", "\ufeff \r\n\t", "the answer is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse([]byte(tt.body), "https://example.com/blog/")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parse: %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := parse([]byte("<html>"), "https://example.com/"); !errors.Is(err, errNoFeed) {
		t.Errorf("a page is %v, want errNoFeed", err)
	}
}

func TestInterval(t *testing.T) {
	tests := []struct {
		every   time.Duration
		private bool
		want    time.Duration // at least, and at most a tenth more
	}{
		{0, false, 15 * time.Minute},
		{time.Second, false, 5 * time.Minute},
		{time.Hour, false, time.Hour},
		{0, true, 10 * time.Second},
		{time.Second, true, time.Second},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%v private=%v", tt.every, tt.private), func(t *testing.T) {
			r := Runner{Every: tt.every}
			for range 100 {
				if got := r.interval(tt.private); got < tt.want || got > tt.want+tt.want/10 {
					t.Fatalf("interval = %v, want %v and at most a tenth more", got, tt.want)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, "https://example.com/blog/")
	}
	f.Add([]byte(`{"version":"https://jsonfeed.org/version/1.1","items":[{"url":"javascript:x","image":"//a","tags":["x"],"attachments":[{"url":"a.mp3","size_in_bytes":1}]}]}`), "http://[::1]/")
	f.Add([]byte(`<html><link type="application/rss+xml" href="x">`), "%")
	f.Fuzz(func(t *testing.T, body []byte, base string) {
		entries, err := parse(body, base)
		if err != nil && len(entries) > 0 {
			t.Fatal("entries with an error")
		}
		for _, e := range entries {
			text, err := json.Marshal(e)
			if err != nil || !json.Valid(text) {
				t.Fatalf("entry is not JSON: %s, %v", text, err)
			}
			links := []string{e.URL, e.Image}
			for _, file := range e.Enclosures {
				links = append(links, file.URL)
			}
			for _, link := range links {
				checkLink(t, link)
			}
		}
	})
}

func checkLink(t *testing.T, link string) {
	t.Helper()
	if link == "" {
		return
	}
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "mailto" {
		t.Fatalf("link %q, %v, want http, https or mailto", link, err)
	}
}
