package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/source/feed"
)

// memory is a log and the checkpoints written with it.
type memory struct {
	mu      sync.Mutex
	batches []event.Batch
	states  map[string][]byte
	broken  error
}

func (m *memory) Publish(_ context.Context, b event.Batch) ([]event.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, m.broken
	}
	for i := range b.Events {
		if err := b.Events[i].Validate(); err != nil {
			return nil, err
		}
	}
	m.batches = append(m.batches, b)
	if b.Checkpoint != nil {
		if m.states == nil {
			m.states = map[string][]byte{}
		}
		m.states[b.Checkpoint.Watch] = b.Checkpoint.State
	}
	return make([]event.Receipt, len(b.Events)), nil
}

func (m *memory) State(_ context.Context, watch string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[watch], nil
}

// take returns the events and the number of checkpoints since the last time.
func (m *memory) take() (events []event.Event, checkpoints int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		events = append(events, b.Events...)
		if b.Checkpoint != nil {
			checkpoints++
		}
	}
	m.batches = nil
	return events, checkpoints
}

// titles are the subjects of the events since the last time.
func (m *memory) titles() []string {
	events, _ := m.take()
	var titles []string
	for _, e := range events {
		titles = append(titles, e.Subject)
	}
	return titles
}

// site is a server whose answer can be changed; it keeps what it was asked.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []http.Header
}

func newSite(t *testing.T, answer http.HandlerFunc) *site {
	t.Helper()
	s := &site{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Header.Clone())
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) set(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// requests are the headers of all requests so far.
func (s *site) requests() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

// rss is a feed whose entries have these titles, newest first.
func rss(titles ...string) string {
	var items strings.Builder
	for _, title := range titles {
		fmt.Fprintf(&items, "<item><guid>id-%s</guid><title>%s</title><link>https://example.com/%s</link></item>", title, title, title)
	}
	return `<rss version="2.0"><channel><title>News</title>` + items.String() + `</channel></rss>`
}

// newRunner watches url, which the operator has named.
func newRunner(t *testing.T, url string, m *memory) *feed.Runner {
	t.Helper()
	client := safedial.NewClient(safedial.Policy{Named: []string{url}})
	t.Cleanup(client.CloseIdleConnections)
	return &feed.Runner{
		Name: "news", Topic: "feeds/news", URL: url, UserAgent: "chappe/test", Client: client,
		States: m, Publisher: m, Logger: slog.New(slog.DiscardHandler), MaxData: 256 << 10, Parsers: make(chan struct{}, 1),
	}
}

// look lets r read once, as after a restart.
func look(t *testing.T, r *feed.Runner) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	well := false
	err := r.Run(ctx, func(time.Time) {
		well = true
		cancel()
	})
	if well {
		return nil
	}
	if err == nil {
		t.Fatal("Run returned nil without a report")
	}
	return err
}

func mustLook(t *testing.T, r *feed.Runner) {
	t.Helper()
	if err := look(t, r); err != nil {
		t.Fatal(err)
	}
}

func date(s string) *time.Time {
	d, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return &d
}

func TestFormats(t *testing.T) {
	tests := []struct {
		name, body string
		want       []feed.Entry // oldest first
	}{
		{"RSS 2.0", `<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
			<item><guid isPermaLink="false">2</guid><title>B &amp; C</title><link>/b</link><author>Ann</author><category>go</category><category>net</category>
				<description>&lt;p&gt;short&lt;/p&gt;</description><content:encoded><![CDATA[<p>long</p>]]></content:encoded>
				<pubDate>Tue, 04 Aug 2009 11:25:23 +0200</pubDate><enclosure url="/b.mp3" type="audio/mpeg" length="12"/></item>
			<item><title>A</title><link>https://example.com/a</link></item></channel></rss>`,
			[]feed.Entry{
				{Title: "A", URL: "https://example.com/a"},
				{Title: "B & C", URL: "/b", Author: "Ann", Summary: "<p>short</p>", Content: "<p>long</p>", Published: date("2009-08-04T09:25:23Z"),
					Categories: []string{"go", "net"}, Enclosures: []feed.Enclosure{{URL: "/b.mp3", Type: "audio/mpeg", Length: "12"}}},
			}},
		{"Atom", `<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>urn:2</id><title type="html">B &lt;b&gt;bold&lt;/b&gt;</title>
				<link rel="self" href="/self"/><link rel="alternate" href="/b"/><author><name>Ann</name></author>
				<summary>short</summary><content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>long</p></div></content>
				<published>2020-01-01T00:00:00+01:00</published><updated>2020-01-02T00:00:00Z</updated></entry>
			<entry><id>urn:1</id><title>A</title></entry></feed>`,
			[]feed.Entry{
				{Title: "A"},
				{Title: "B bold", URL: "/b", Author: "Ann", Summary: "short", Content: "<p>long</p>",
					Published: date("2019-12-31T23:00:00Z"), Updated: date("2020-01-02T00:00:00Z")},
			}},
		{"RDF", `<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
			<channel><title>x</title></channel><item rdf:about="2"><title>B</title><link>/b</link><dc:creator>Ann</dc:creator><dc:date>2020-01-01T00:00:00Z</dc:date></item>
			<item rdf:about="1"><title>A</title><link>/a</link></item></rdf:RDF>`,
			[]feed.Entry{{Title: "A", URL: "/a"}, {Title: "B", URL: "/b", Author: "Ann", Published: date("2020-01-01T00:00:00Z"), Updated: date("2020-01-01T00:00:00Z")}}},
		{"JSON Feed", `{"version":"https://jsonfeed.org/version/1.1","items":[
			{"id":"2","title":"B","url":"/b","summary":"short","content_html":"<p>long</p>","image":"/b.png","tags":["go"],"authors":[{"name":"Ann"}],
				"date_published":"2020-01-01T00:00:00Z","date_modified":"2020-01-02T00:00:00Z","attachments":[{"url":"/b.mp3","mime_type":"audio/mpeg","size_in_bytes":12}]},
			{"id":"1","title":"A"}]}`,
			[]feed.Entry{
				{Title: "A"},
				{Title: "B", URL: "/b", Author: "Ann", Summary: "short", Content: "<p>long</p>", Image: "/b.png", Categories: []string{"go"},
					Published: date("2020-01-01T00:00:00Z"), Updated: date("2020-01-02T00:00:00Z"),
					Enclosures: []feed.Enclosure{{URL: "/b.mp3", Type: "audio/mpeg", Length: "12"}}},
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, m := newSite(t, text(tt.body)), &memory{}
			r := newRunner(t, s.URL+"/feed", m)
			r.Backfill = 10
			mustLook(t, r)

			events, checkpoints := m.take()
			if checkpoints != 1 {
				t.Errorf("%d checkpoints, want one with the events", checkpoints)
			}
			var got []feed.Entry
			for _, e := range events {
				var entry feed.Entry
				if err := json.Unmarshal(e.Data, &entry); err != nil {
					t.Fatal(err)
				}
				checkEvent(t, e, entry)
				got = append(got, entry)
			}
			for i := range tt.want {
				absolute(s.URL, &tt.want[i])
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(feed.Entry{}, "FirstSeen"), cmpopts.IgnoreUnexported(feed.Entry{})); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

// absolute sets the feed's name and makes the links those of the site.
func absolute(base string, e *feed.Entry) {
	e.Feed = "news"
	links := []*string{&e.URL, &e.Image}
	for i := range e.Enclosures {
		links = append(links, &e.Enclosures[i].URL)
	}
	for _, link := range links {
		if strings.HasPrefix(*link, "/") {
			*link = base + *link
		}
	}
}

func checkEvent(t *testing.T, e event.Event, entry feed.Entry) {
	t.Helper()
	if e.Type != "feed.entry" || e.Source != "/feeds/news" || e.Topic != "feeds/news" || e.Subject != entry.Title || len(e.ID) != 32 {
		t.Errorf("event = %+v", e)
	}
	if entry.FirstSeen.IsZero() || time.Since(entry.FirstSeen) > time.Minute {
		t.Errorf("first seen %v, want now", entry.FirstSeen)
	}
	want := entry.FirstSeen
	if entry.Published != nil {
		want = *entry.Published
	}
	if !e.Time.Equal(want) {
		t.Errorf("time = %v, want %v", e.Time, want)
	}
}

func TestFirstReadingIsNoNews(t *testing.T) {
	tests := []struct {
		backfill int
		want     []string
	}{
		{0, nil},
		{2, []string{"b", "c"}},
		{9, []string{"a", "b", "c"}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("backfill %d", tt.backfill), func(t *testing.T) {
			s, m := newSite(t, text(rss("c", "b", "a"))), &memory{}
			r := newRunner(t, s.URL, m)
			r.Backfill = tt.backfill
			mustLook(t, r)
			if diff := cmp.Diff(tt.want, m.titles()); diff != "" {
				t.Errorf("first reading (-want +got):\n%s", diff)
			}
			s.set(text(rss("e", "d", "c", "b", "a")))
			mustLook(t, r)
			if diff := cmp.Diff([]string{"d", "e"}, m.titles()); diff != "" {
				t.Errorf("second reading (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFutureDate holds an entry dated ahead: its event happened now.
func TestFutureDate(t *testing.T) {
	s, m := newSite(t, text(`<rss version="2.0"><channel><item><title>x</title><pubDate>Fri, 01 Jan 2100 00:00:00 GMT</pubDate></item></channel></rss>`)), &memory{}
	r := newRunner(t, s.URL, m)
	r.Backfill = 1
	mustLook(t, r)
	events, _ := m.take()
	if len(events) != 1 || events[0].Time.After(time.Now()) {
		t.Errorf("events = %+v, want one that happened now", events)
	}
}

func TestOneEventForEachNewEntry(t *testing.T) {
	var n int
	s, m := newSite(t, nil), &memory{}
	s.set(func(w http.ResponseWriter, r *http.Request) { // an entry more each time, at most 3
		n++
		text(rss([]string{"d", "c", "b", "a"}[max(0, 4-n):]...))(w, r)
	})
	r := newRunner(t, s.URL, m)
	r.Every = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	readings := 0
	err := r.Run(ctx, func(time.Time) {
		if readings++; readings == 6 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "c", "d"}, m.titles()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestValidatorsGoBackByteForByte(t *testing.T) {
	const etag, modified = `W/"a b",;é`, "yesterday, about  noon"
	s, m := newSite(t, nil), &memory{}
	s.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != "" {
			w.WriteHeader(http.StatusNotModified) // it repeats neither
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Last-Modified", modified)
		text(rss("a"))(w, r)
	})
	for range 3 { // each a restart
		mustLook(t, newRunner(t, s.URL, m))
	}
	requests := s.requests()
	if h := requests[0]; h.Get("If-None-Match") != "" || h.Get("If-Modified-Since") != "" {
		t.Errorf("the first request has validators: %v", h)
	}
	for _, h := range requests[1:] {
		if got := h["If-None-Match"]; !slices.Equal(got, []string{etag}) {
			t.Errorf("If-None-Match: %q, want %q", got, etag)
		}
		if got := h["If-Modified-Since"]; !slices.Equal(got, []string{modified}) {
			t.Errorf("If-Modified-Since: %q, want %q", got, modified)
		}
	}
	if events, checkpoints := m.take(); len(events) != 0 || checkpoints != 1 {
		t.Errorf("%d events and %d checkpoints, want none and that of the first reading", len(events), checkpoints)
	}
}

func TestRequest(t *testing.T) {
	s, m := newSite(t, text(rss())), &memory{}
	mustLook(t, newRunner(t, s.URL, m))
	h := s.requests()[0]
	if h.Get("User-Agent") != "chappe/test" || h.Get("Accept-Encoding") != "gzip" || h.Get("Cookie") != "" {
		t.Errorf("request = %v", h)
	}
}

func TestValidatorsAloneAreACheckpoint(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"with 200", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"2"`)
			text(rss("a"))(w, r)
		}},
		{"with 304", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"2"`)
			w.WriteHeader(http.StatusNotModified)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, m := newSite(t, nil), &memory{}
			s.set(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"1"`)
				text(rss("a"))(w, r)
			})
			r := newRunner(t, s.URL, m)
			mustLook(t, r)
			m.take()
			s.set(tt.answer)
			mustLook(t, r)
			if events, checkpoints := m.take(); len(events) != 0 || checkpoints != 1 {
				t.Errorf("%d events and %d checkpoints, want 0 and 1", len(events), checkpoints)
			}
			mustLook(t, r)
			if got := s.requests()[2].Get("If-None-Match"); got != `"2"` {
				t.Errorf("then If-None-Match: %s, want the new one", got)
			}
			if events, checkpoints := m.take(); len(events) != 0 || checkpoints != 0 {
				t.Errorf("%d events and %d checkpoints where nothing changed, want none", len(events), checkpoints)
			}
		})
	}
}

func TestNothingChangedWithoutValidators(t *testing.T) {
	s, m := newSite(t, text(rss("a"))), &memory{}
	mustLook(t, newRunner(t, s.URL, m))
	m.take()
	mustLook(t, newRunner(t, s.URL, m))
	if events, checkpoints := m.take(); len(events) != 0 || checkpoints != 0 {
		t.Errorf("%d events and %d checkpoints, want none", len(events), checkpoints)
	}
}

// TestUnasked304 holds a 304 that nobody asked for: were it a first reading,
// all entries would be news afterwards.
func TestUnasked304(t *testing.T) {
	s, m := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.WriteHeader(http.StatusNotModified)
	}), &memory{}
	if err := look(t, newRunner(t, s.URL, m)); err == nil || !strings.Contains(err.Error(), "304") {
		t.Errorf("look: %v, want an error about the 304", err)
	}
	s.set(text(rss("a")))
	mustLook(t, newRunner(t, s.URL, m))
	if titles := m.titles(); len(titles) != 0 {
		t.Errorf("the first reading is news: %v", titles)
	}
}

func TestOtherAddressStartsAnew(t *testing.T) {
	s, m := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		text(rss("a"))(w, r)
	}), &memory{}
	mustLook(t, newRunner(t, s.URL+"/old", m))
	s.set(text(rss("x", "y")))
	mustLook(t, newRunner(t, s.URL+"/new", m))
	if got := s.requests()[1].Get("If-None-Match"); got != "" {
		t.Errorf("the new address is asked with the old one's validator %s", got)
	}
	if titles := m.titles(); len(titles) != 0 {
		t.Errorf("its first reading is news: %v", titles)
	}
}

func TestSameEntryTwice(t *testing.T) {
	s, m := newSite(t, text(rss("b", "a", "b"))), &memory{}
	r := newRunner(t, s.URL, m)
	r.Backfill = 10
	mustLook(t, r)
	if diff := cmp.Diff([]string{"b", "a"}, m.titles()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestEntryWithoutName(t *testing.T) {
	const feedOf = `<rss version="2.0"><channel>%s<item><title>a</title></item><item><description>b</description></item><item/></channel></rss>`
	s, m := newSite(t, text(fmt.Sprintf(feedOf, ""))), &memory{}
	r := newRunner(t, s.URL, m)
	r.Backfill = 10
	mustLook(t, r)
	events, _ := m.take()
	if len(events) != 3 || events[0].ID == events[1].ID || events[1].ID == events[2].ID {
		t.Fatalf("events = %+v, want three with ids of their own", events)
	}
	s.set(text(fmt.Sprintf(feedOf, "<item><title>new</title></item>")))
	mustLook(t, r)
	if diff := cmp.Diff([]string{"new"}, m.titles()); diff != "" {
		t.Errorf("the others are known by their text (-want +got):\n%s", diff)
	}
}

func TestLargeContentIsLeftOut(t *testing.T) {
	item := func(summary, content int) string {
		return `{"version":"https://jsonfeed.org/version/1.1","items":[{"id":"1","title":"t","url":"https://example.com/","tags":["go"],"summary":"` +
			strings.Repeat("s", summary) + `","content_html":"` + strings.Repeat("c", content) + `"}]}`
	}
	tests := []struct {
		name             string
		summary, content int
		wantSummary      bool
		wantContent      bool
	}{
		{"all fits", 100, 100, true, true},
		{"content too long", 100, 5000, true, false},
		{"both too long", 5000, 5000, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, m := newSite(t, text(item(tt.summary, tt.content))), &memory{}
			r := newRunner(t, s.URL, m)
			r.Backfill, r.MaxData = 1, 2048
			mustLook(t, r)
			events, _ := m.take()
			if len(events) != 1 || len(events[0].Data) > r.MaxData {
				t.Fatalf("%d events, want one of at most %d bytes", len(events), r.MaxData)
			}
			var e feed.Entry
			if err := json.Unmarshal(events[0].Data, &e); err != nil {
				t.Fatal(err)
			}
			if e.Title != "t" || e.URL == "" || len(e.Categories) != 1 || (e.Summary != "") != tt.wantSummary || (e.Content != "") != tt.wantContent {
				t.Errorf("entry = %+v", e)
			}
		})
	}
}

func TestManyEntriesAreSeveralBatches(t *testing.T) {
	var titles []string
	for i := range 250 {
		titles = append(titles, fmt.Sprint("t", i))
	}
	s, m := newSite(t, text(rss(titles...))), &memory{}
	r := newRunner(t, s.URL, m)
	r.Backfill = 1000
	mustLook(t, r)
	var sizes []int
	for i, b := range m.batches {
		sizes = append(sizes, len(b.Events))
		if last := i == len(m.batches)-1; last != (b.Checkpoint != nil) {
			t.Errorf("batch %d: checkpoint %v, want it with the last alone", i, b.Checkpoint != nil)
		}
	}
	if diff := cmp.Diff([]int{100, 100, 50}, sizes); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

// TestPublishFails holds that what was not stored is not forgotten either.
func TestPublishFails(t *testing.T) {
	s, m := newSite(t, text(rss("a"))), &memory{}
	r := newRunner(t, s.URL, m)
	mustLook(t, r)
	s.set(text(rss("b", "a")))
	m.broken = event.ErrClosed
	if err := look(t, r); !errors.Is(err, event.ErrClosed) {
		t.Errorf("look: %v, want it to wrap %v", err, event.ErrClosed)
	}
	m.broken = nil
	mustLook(t, r)
	if diff := cmp.Diff([]string{"b"}, m.titles()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestUnreadableCheckpoint(t *testing.T) {
	s, m := newSite(t, text(rss("a"))), &memory{states: map[string][]byte{"news": []byte("{")}}
	if err := look(t, newRunner(t, s.URL, m)); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("look: %v, want an error about the checkpoint", err)
	}
}

// answers is a transport without a network; all it knows is a public address.
type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func TestPoliteFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Time
		m := &memory{}
		r := newRunner(t, "https://example.com/feed", m)
		r.Every = time.Second
		r.Client = &http.Client{Transport: answers(func(req *http.Request) *http.Response {
			asked = append(asked, time.Now())
			w := httptest.NewRecorder()
			_, _ = w.WriteString(rss("a"))
			resp := w.Result()
			resp.Request = req
			return resp
		})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var next time.Time
		err := r.Run(ctx, func(at time.Time) { next = at })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if len(asked) < 10 || !next.After(time.Now()) {
			t.Errorf("asked %d times in an hour, then next at %v", len(asked), next)
		}
		for i := 1; i < len(asked); i++ {
			if wait := asked[i].Sub(asked[i-1]); wait < 5*time.Minute || wait > 5*time.Minute+30*time.Second {
				t.Errorf("asked again after %v, want 5m to 5m30s", wait)
			}
		}
	})
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		config feed.Config
		want   string // "": it is fine
	}{
		{feed.Config{}, ""},
		{feed.Config{Feed: "https://example.com/feed"}, ""},
		{feed.Config{Feed: "example.com/feed"}, "not an http"},
		{feed.Config{Feed: "ftp://example.com/feed"}, "not an http"},
		{feed.Config{Feed: "https://"}, "not an http"},
		{feed.Config{Feed: "https://example.com/%zz"}, "not an http"},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.config, err, tt.want)
		}
	}
}
