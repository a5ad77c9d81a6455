package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
)

// What Decode and Validate take, the wire format gives back unchanged.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"topic":"a/b","data":{"n":1}}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","topic":"a","time":"2026-11-22T14:06:12Z","hops":3,"x":true}`,
		`{"topic":"a","data_base64":"AAE=","datacontenttype":"image/png"}`,
		`{"topic":"a","data":"é\u2028","datacontenttype":"text/plain"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := event.Decode(in)
		if err != nil || e.Validate() != nil {
			return
		}
		if e.ID == "" || e.Source == "" || e.Type == "" {
			e.ID, e.Source, e.Type = "id", "source", "type"
		}
		wire := event.NewRecord(e, event.Cursor{Epoch: "k", Seq: 1}).JSON
		if bytes.ContainsAny(wire, "\n\r") || !json.Valid(wire) {
			t.Fatalf("the wire format is not one line of JSON: %q", wire)
		}
		again, err := event.Decode(wire)
		if err == nil {
			err = again.Validate()
		}
		if err != nil {
			t.Fatalf("Decode(%s) = %v", wire, err)
		}
		if again.ContentType == event.JSONType && e.ContentType == "" {
			again.ContentType = ""
		}
		again.Time = e.Time // its zone is written as UTC
		if diff := cmp.Diff(e, again); diff != "" {
			t.Errorf("of %s (-want +got):\n%s", wire, diff)
		}
	})
}

// Relations of patterns agree with what they match.
func FuzzPattern(f *testing.F) {
	f.Add("a/*/b", "a/**", "a/x/b")
	f.Add("**", "*/b", "x/b")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		p, errP := event.ParsePattern(a)
		q, errQ := event.ParsePattern(b)
		topic, errT := event.ParseTopic(c)
		if errT == nil {
			if _, err := event.ParsePattern(c); err != nil {
				t.Errorf("topic %q is no pattern: %v", c, err)
			}
			if strings.Contains(c, "*") {
				t.Errorf("topic %q has a star", c)
			}
		}
		if errP != nil || errQ != nil || errT != nil {
			return
		}
		if !p.Covers(p) || !p.Overlaps(p) {
			t.Errorf("%q does not cover and overlap itself", p)
		}
		if p.Covers(q) && !p.Overlaps(q) {
			t.Errorf("%q covers %q and does not overlap it", p, q)
		}
		if p.Covers(q) && q.Matches(topic) && !p.Matches(topic) {
			t.Errorf("%q covers %q, which alone matches %q", p, q, topic)
		}
		if p.Matches(topic) && q.Matches(topic) && !p.Overlaps(q) {
			t.Errorf("%q and %q match %q and do not overlap", p, q, topic)
		}
		if p.Matches(topic) != p.Covers(event.Pattern(topic)) {
			t.Errorf("%q: Matches and Covers of %q differ", p, topic)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("k3f9.1042")
	f.Add("a.0")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := event.ParseCursor(s)
		if err == nil && c.String() != s {
			t.Errorf("ParseCursor(%q) is written %q", s, c)
		}
	})
}
