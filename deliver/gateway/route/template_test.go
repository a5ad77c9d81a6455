package route_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/event"
)

// A tag whose field is missing is none; the others are.
func TestTags(t *testing.T) {
	long := strings.Repeat("x", 250)
	for _, tt := range []struct {
		target string
		tag    []string
		want   []string
	}{
		{"/a", []string{"all", "{path}", "{host}"}, []string{"all", "/a", "h"}},
		{"/a?url=%2Fb+c&url=2", []string{"c:{query.url}:{path}"}, []string{"c:/b c:/a"}},
		{"/a?url=", []string{"c:{query.url}"}, []string{"c:"}},
		{"/a?x", []string{"c:{query.x}", "c:{query.url}"}, []string{"c:"}},
		{"/a?a.b=1", []string{"{query.a.b}"}, []string{"1"}},
		{"/a?x=%zz&url=1", []string{"{query.url}", "{query.x}", "{path}"}, []string{"1", "/a"}},
		{"/%41/?q", []string{"{path}"}, []string{"/%41/"}},
		{"/a", []string{"{header.x-tenant}", "{header.X-Tenant}:{path}"}, []string{"one", "one:/a"}},
		{"/a", []string{"{header.x-other}"}, nil},
		{"/a?x=" + long, []string{"{query.x}456789"}, []string{long + "456789"[:6]}},
		{"/a?x=" + long, []string{"{query.x}4567890"}, nil},
		{"/a?x=" + long + long, []string{"{query.x}", "t"}, []string{"t"}},
	} {
		rt := newRoute(t, route.Config{Tag: tt.tag, Headers: []string{"X-Tenant", "X-Other"}})
		out := map[string][]string{"X-Tenant": {"one"}}
		k := rt.Key(false, "h", tt.target, route.Sent(out))
		if got := rt.Tags(&k, out); !slices.Equal(got, tt.want) {
			t.Errorf("Tags of %.40s by %q = %.300q, want %.300q", tt.target, tt.tag, got, tt.want)
		}
	}
}

func TestStaleTags(t *testing.T) {
	e := &event.Event{Topic: "comments/new", Type: "created", Source: "/s", ID: "7", Data: []byte(
		`{"s": "text", "n": 1.50, "big": 12345678901234567890, "b": true, "null": null, "o": {"i": {"d": "deep"}, "l": [1]}, "e": "", "u": "\u00e9\n", "a.b": "dotted"}`)}
	for _, tt := range []struct{ tag, want string }{
		{"{topic}|{type}|{source}|{id}", "comments/new|created|/s|7"},
		{"{subject}", "none"},
		{"{data.s}", "text"},
		{"{data.n}", "1.50"},
		{"{data.big}", "12345678901234567890"},
		{"{data.b}", "true"},
		{"{data.null}", "none"},
		{"{data.o}", "none"},
		{"{data.o.i.d}", "deep"},
		{"{data.o.i.d.x}", "none"},
		{"{data.o.l}", "none"},
		{"{data.o.x.y}", "none"},
		{"{data.missing}", "none"},
		{"{data.a.b}", "none"},
		{"{data.S}", "none"},
		{"{data.e}", ""},
		{"{data.u}", "é\n"},
		{"{data}", "none"},
		{"x:{data.s}:{data.missing}", "none"},
		{strings.Repeat("y", 256), strings.Repeat("y", 256)},
		{strings.Repeat("y", 257), "none"},
	} {
		rt := newRoute(t, route.Config{RefreshOn: []event.Pattern{"comments/**"}, RefreshTag: []string{tt.tag}})
		got := rt.StaleTags(e)
		want := []string{tt.want}
		if tt.want == "none" {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("StaleTags by %.40q = %q, want %q", tt.tag, got, want)
		}
	}
	rt := newRoute(t, route.Config{RefreshOn: []event.Pattern{"comments/**"}, RefreshTag: []string{"{data}", "{data.a}"}})
	for data, want := range map[string]string{`"text"`: "text", "5": "5", "": "", "{": "", "[1]": ""} {
		got := rt.StaleTags(&event.Event{Data: []byte(data)})
		if strings.Join(got, "|") != want {
			t.Errorf("StaleTags of data %q = %q, want %q", data, got, want)
		}
	}
}

// Whatever the operator writes and clients or events bring: a template is refused
// or makes tags within the bound.
func FuzzTemplate(f *testing.F) {
	f.Add("c:{query.url}", "/a?url=b", `{"url":"b"}`)
	f.Add("{data.a.b}{id}", "/?%", `{"a":{"b":1}}`)
	f.Add("{{path}}", "/", `{"a":[]}`)
	f.Add("{data}", "/a?b;c", `"\ud800"`)
	f.Add("{query.}{data.}{data..}", "/?=1", `{"":{"":2}}`)
	f.Fuzz(func(t *testing.T, text, target, data string) {
		c := valid()
		c.Tag = []string{text}
		rt, err := route.New(0, c)
		if (err == nil) != (c.Validate() == nil) {
			t.Errorf("tag %q: New says %v, Validate %v", text, err, c.Validate())
		}
		if err == nil {
			k := rt.Key(false, "h", target, route.Sent{})
			checkTags(t, rt.Tags(&k, nil))
		}
		c.Tag, c.RefreshOn, c.RefreshTag = nil, []event.Pattern{"a"}, []string{text}
		if rt, err = route.New(0, c); (err == nil) != (c.Validate() == nil) {
			t.Errorf("refresh_tag %q: New says %v, Validate %v", text, err, c.Validate())
		}
		if err == nil {
			tags := rt.StaleTags(&event.Event{Data: []byte(data)})
			checkTags(t, tags)
		}
	})
}

func checkTags(t *testing.T, tags []string) {
	t.Helper()
	for _, tag := range tags {
		if len(tags) > 1 || len(tag) > 256 {
			t.Errorf("tags %q, want one of at most 256 bytes", tags)
		}
	}
}
