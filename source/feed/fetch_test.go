package feed_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/source"
)

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func zipped(t *testing.T, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encoded(encoding string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", encoding)
		_, _ = w.Write(body)
	}
}

func TestGzip(t *testing.T) {
	s, m := newSite(t, encoded("gzip", zipped(t, rss("a")))), &memory{}
	r := newRunner(t, s.URL, m)
	r.Backfill = 1
	mustLook(t, r)
	if diff := cmp.Diff([]string{"a"}, m.titles()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestBadAnswers holds that each answer that is no feed is an error that
// names its cause, without events and without a checkpoint.
func TestBadAnswers(t *testing.T) {
	large := strings.Repeat(" ", 20<<20)
	bomb := zipped(t, large)
	if len(bomb) > len(large)/900 {
		t.Fatalf("the bomb has %d bytes, want about 1:1000", len(bomb))
	}
	whole := zipped(t, rss("a"))
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"page", text("<!doctype html><title>News</title>"), "HTML page, not a feed, and it names none"},
		{"page with a feed", text(`<html><link rel="alternate" type="application/atom+xml" href="/atom.xml">`), "/atom.xml"},
		{"empty", text(""), "the answer is empty"},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(rss("a")))
		}, "cut after"},
		{"cut gzip", encoded("gzip", whole[:len(whole)-10]), "cut after"},
		{"no gzip", encoded("gzip", []byte(rss("a"))), "says gzip and is not"},
		{"other encoding", encoded("br", []byte("x")), `encoding "br"`},
		{"large", text(large), "larger than 15 MB"},
		{"gzip bomb", encoded("gzip", bomb), "larger than 15 MB"},
		{"billion laughs", text(`<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]><rss version="2.0"><channel><title>&lol2;</title></channel></rss>`), "defines entities"},
		{"external entity", text(`<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss version="2.0"><channel><title>&x;</title></channel></rss>`), "defines entities"},
		{"deep", text(`<rss version="2.0"><channel>` + strings.Repeat("<a>", 10_000)), "nested deeper"},
		{"cut XML", text(`<rss version="2.0"><channel><item>`), "cannot be read"},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, "redirects more than 5 times"},
		{"redirect to a file", status(http.StatusFound, "Location", "file:///etc/passwd"), "redirects to file:"},
		{"forbidden", status(http.StatusForbidden), "403 Forbidden"},
		{"server error", status(http.StatusInternalServerError), "500 Internal Server Error"},
		{"late, without a date", status(http.StatusServiceUnavailable, "Retry-After", "soon"), "503 Service Unavailable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, m := newSite(t, tt.answer), &memory{}
			r := newRunner(t, s.URL, m)
			r.Backfill = 10
			err := look(t, r)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("look: %v, want %q", err, tt.want)
			}
			if _, ok := errors.AsType[*source.ParkError](err); ok {
				t.Errorf("%v parks the watch, want another try", err)
			}
			if _, ok := errors.AsType[*url.Error](err); ok {
				t.Errorf("%v repeats the address", err)
			}
			if events, checkpoints := m.take(); len(events)+checkpoints != 0 {
				t.Errorf("%d events, %d checkpoints, want none", len(events), checkpoints)
			}
		})
	}
}

func TestHopeless(t *testing.T) {
	for code, want := range map[int]string{http.StatusUnauthorized: "credentials", http.StatusGone: "remove the watch"} {
		s := newSite(t, status(code, "Retry-After", "60"))
		err := look(t, newRunner(t, s.URL, &memory{}))
		if _, ok := errors.AsType[*source.ParkError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want a ParkError with %q", code, err, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	tests := []struct {
		name  string
		code  int
		value string
		want  time.Duration
	}{
		{"seconds", http.StatusTooManyRequests, "120", 2 * time.Minute},
		{"date", http.StatusServiceUnavailable, in(time.Hour), time.Hour},
		{"past date", http.StatusServiceUnavailable, in(-time.Hour), -time.Hour},
		{"a year of seconds", http.StatusTooManyRequests, "31536000", 24 * time.Hour},
		{"a year ahead", http.StatusTooManyRequests, in(365 * 24 * time.Hour), 24 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, status(tt.code, "Retry-After", tt.value))
			err := look(t, newRunner(t, s.URL, &memory{}))
			retry, ok := errors.AsType[*source.RetryError](err)
			if !ok || !strings.Contains(err.Error(), strconv.Itoa(tt.code)) {
				t.Fatalf("look: %v, want a RetryError that names the status", err)
			}
			if off := time.Until(retry.After) - tt.want; off > time.Second || off < -time.Minute {
				t.Errorf("after %v, want %v", time.Until(retry.After), tt.want)
			}
		})
	}
}

// TestRedirectInside holds that the operator named one address, not what it
// redirects to.
func TestRedirectInside(t *testing.T) {
	inside := newSite(t, text(rss("secret")))
	s := newSite(t, status(http.StatusFound, "Location", inside.URL))
	u, err := url.Parse(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	r := newRunner(t, s.URL, m)
	r.Client = safedial.NewClient(safedial.Policy{Named: []string{s.URL}, AllowPorts: []uint16{uint16(port)}})
	defer r.Client.CloseIdleConnections()
	r.Backfill = 1
	err = look(t, r)
	if _, ok := errors.AsType[*safedial.RefusedError](err); !ok || !strings.Contains(err.Error(), "allow_private") {
		t.Errorf("look: %v, want a RefusedError with the remedy", err)
	}
	if n := len(inside.requests()); n != 0 {
		t.Errorf("the inside was asked %d times", n)
	}
	if titles := m.titles(); len(titles) != 0 {
		t.Errorf("published %v", titles)
	}
}

// TestRedirectIsFollowed holds that links are relative to where the feed is.
func TestRedirectIsFollowed(t *testing.T) {
	s, m := newSite(t, nil), &memory{}
	s.set(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/blog/feed", http.StatusMovedPermanently)
			return
		}
		text(`<rss version="2.0"><channel><item><title>a</title><link>post</link></item></channel></rss>`)(w, r)
	})
	r := newRunner(t, s.URL+"/old", m)
	r.Backfill = 1
	mustLook(t, r)
	events, _ := m.take()
	if want := `"url":"` + s.URL + `/blog/post"`; len(events) != 1 || !strings.Contains(string(events[0].Data), want) {
		t.Errorf("events = %+v, want one with %s", events, want)
	}
	if got := s.requests()[1].Get("Referer"); got != "" {
		t.Errorf("Referer: %s, want none", got)
	}
}

// A feed that changes twice in one second, on a server that knows seconds
// alone: a conditional request would be answered 304 for ever.
func TestChangeWithinTheSecond(t *testing.T) {
	const second = "Sun, 22 Nov 2026 12:00:00 GMT"
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", second)
			w.Header().Set("Last-Modified", second)
			if r.Header.Get("If-Modified-Since") == second {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = w.Write([]byte(body))
		}
	}
	s, m := newSite(t, answer(rss("a"))), &memory{}
	r := newRunner(t, s.URL, m)
	mustLook(t, r)
	s.set(answer(rss("b", "a")))
	mustLook(t, r)
	if diff := cmp.Diff([]string{"b"}, m.titles()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
