package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
)

func TestParseTopic(t *testing.T) {
	long := strings.Repeat("x", 255)
	for s, valid := range map[string]bool{
		"a": true, "mail/alice/inbox": true, "-._~@+:%/A0z": true, long: true, strings.Repeat("a/", 15) + "a": true,
		"": false, "/a": false, "a/": false, "a//b": false, "a b": false, "a/*": false, "a/**": false, "é": false,
		"a\n": false, "a\x00": false, long + "x": false, strings.Repeat("a/", 16) + "a": false,
	} {
		_, err := event.ParseTopic(s)
		if (err == nil) != valid {
			t.Errorf("ParseTopic(%q) = %v, want valid %v", s, err, valid)
		}
	}
}

func TestParsePattern(t *testing.T) {
	for s, valid := range map[string]bool{
		"a": true, "*": true, "**": true, "a/*/b": true, "*/**": true, "a/**": true,
		"**/a": false, "a*": false, "a/**b": false, "***": false, "": false, "a/": false,
	} {
		_, err := event.ParsePattern(s)
		if (err == nil) != valid {
			t.Errorf("ParsePattern(%q) = %v, want valid %v", s, err, valid)
		}
	}
}

func TestPatternRelations(t *testing.T) {
	for _, tt := range []struct {
		p, q             event.Pattern
		covers, overlaps bool
	}{
		{"a", "a", true, true},
		{"a", "b", false, false},
		{"a", "a/b", false, false},
		{"*", "a", true, true},
		{"*", "a/b", false, false},
		{"a/*", "a/b", true, true},
		{"a/*", "a", false, false},
		{"a/**", "a", false, false},
		{"a/**", "a/b/c", true, true},
		{"a/**", "a/*", true, true},
		{"a/*", "a/**", false, true},
		{"**", "a/b/c", true, true},
		{"**", "**", true, true},
		{"*/b", "a/*", false, true},
		{"*/b/**", "a/b", false, false},
		{"*/b/**", "a/**", false, true},
		{"mail/*/inbox", "mail/alice/inbox", true, true},
		{"mail/*/inbox", "mail/alice/sent", false, false},
		{"mail/alice/**", "mail/*/inbox", false, true},
	} {
		if got := tt.p.Covers(tt.q); got != tt.covers {
			t.Errorf("%q.Covers(%q) = %v, want %v", tt.p, tt.q, got, tt.covers)
		}
		if got := tt.p.Overlaps(tt.q); got != tt.overlaps {
			t.Errorf("%q.Overlaps(%q) = %v, want %v", tt.p, tt.q, got, tt.overlaps)
		}
		if got := tt.q.Overlaps(tt.p); got != tt.overlaps {
			t.Errorf("%q.Overlaps(%q) = %v, want %v", tt.q, tt.p, got, tt.overlaps)
		}
	}
}

func TestCursor(t *testing.T) {
	c := event.Cursor{Epoch: "k3f9", Seq: 1042}
	if got, err := event.ParseCursor(c.String()); got != c || err != nil {
		t.Errorf("ParseCursor(%q) = %v, %v, want %v", c, got, err, c)
	}
	for _, s := range []string{"", ".", "k3f9", "k3f9.", ".1", "k3f9.x", "k3f9.-1", "k3f9.01", "k3f9.+1", "K3F9.1", "k3f9.1.2",
		"k3f9.9223372036854775808", "k3f9. 1", "k3f9.1\n", strings.Repeat("a", 17) + ".1"} {
		var invalid *event.InvalidError
		if _, err := event.ParseCursor(s); !errors.As(err, &invalid) || invalid.Code() != "bad-cursor" {
			t.Errorf("ParseCursor(%q) = %v, want a bad-cursor error", s, err)
		}
	}
}

func TestWireFormat(t *testing.T) {
	e := event.Event{
		ID: "1", Source: "/mailboxes/alice", Type: "mail.received", Subject: "é\"", Topic: "mail/alice/inbox",
		Time: time.Date(2026, 11, 22, 14, 6, 12, 840e6, time.UTC), Data: []byte("{\"n\": [1,\n 2.50]}"),
		Extensions: map[string]json.RawMessage{"hops": []byte("2")},
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"1","source":"/mailboxes/alice","type":"mail.received","subject":"é\"",` +
		`"time":"2026-11-22T14:06:12.84Z","topic":"mail/alice/inbox","cursor":"k3f9.1042","hops":2,` +
		`"datacontenttype":"application/json","data":{"n":[1,2.50]}}`
	if got := string(event.NewRecord(e, event.Cursor{Epoch: "k3f9", Seq: 1042}).JSON); got != want {
		t.Errorf("JSON =\n%s, want\n%s", got, want)
	}
	for _, tt := range []struct{ contentType, data, want string }{
		{"text/plain", "a\"b", `"datacontenttype":"text/plain","data":"a\"b"}`},
		{"text/plain", "\xff", `"datacontenttype":"text/plain","data_base64":"/w=="}`},
		{"image/png", "\x00\x01", `"datacontenttype":"image/png","data_base64":"AAE="}`},
		{"application/ld+json", `{"a":1}`, `"datacontenttype":"application/ld+json","data":{"a":1}}`},
		{"", "", `"topic":"a"}`},
	} {
		e := event.Event{ID: "1", Source: "s", Type: "t", Topic: "a", ContentType: tt.contentType, Data: []byte(tt.data)}
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if got := string(event.NewRecord(e, event.Cursor{}).JSON); !strings.HasSuffix(got, tt.want) {
			t.Errorf("data %q of %q: %s, want the end %s", tt.data, tt.contentType, got, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		in     string
		want   event.Event
		reason string // of the error, in part
	}{
		{in: `{"topic":"a","data":{"n":1}}`, want: event.Event{Topic: "a", Data: []byte(`{"n":1}`)}},
		{in: `{"topic":"a"}`, want: event.Event{Topic: "a"}},
		{in: `{"topic":"a","data":null}`, want: event.Event{Topic: "a", Data: []byte(`null`)}},
		{in: `{"topic":"a","data":"x","datacontenttype":"text/plain"}`, want: event.Event{Topic: "a", Data: []byte("x"), ContentType: "text/plain"}},
		{in: `{"topic":"a","data_base64":"AAE=","datacontenttype":"image/png"}`, want: event.Event{Topic: "a", Data: []byte{0, 1}, ContentType: "image/png"}},
		{in: `{"specversion":"1.0","id":"1","source":"s","type":"t","topic":"a","trace":"x","cursor":"k.1"}`,
			want: event.Event{ID: "1", Source: "s", Type: "t", Topic: "a", Extensions: map[string]json.RawMessage{"trace": []byte(`"x"`)}}},
		{in: `[]`, reason: "not a JSON object"},
		{in: `null`, reason: "null"},
		{in: `{"topic":"a"`, reason: "not a JSON object"},
		{in: `{"topic":1}`, reason: "not a JSON string"},
		{in: `{"topic":"a","time":"yesterday"}`, reason: "RFC 3339"},
		{in: `{"topic":"a","dta":1}`, reason: "dta: it is not a known field"},
		{in: `{"topic":"a","data":1,"data_base64":"AA=="}`, reason: "send one of them"},
		{in: `{"topic":"a","data":{},"datacontenttype":"text/plain"}`, reason: "data_base64"},
		{in: `{"specversion":"0.3","id":"1","source":"s","type":"t","topic":"a"}`, reason: "only 1.0"},
		{in: `{"specversion":"1.0","topic":"a"}`, reason: "needs id, source and type"},
		{in: "{\"topic\":\"a\",\"data\":\"\xff\"}", reason: "UTF-8"},
	} {
		got, err := event.Decode([]byte(tt.in))
		if tt.reason != "" {
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("Decode(%s) = %v, want an error with %q", tt.in, err, tt.reason)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("Decode(%s): %v (-want +got):\n%s", tt.in, err, diff)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, e := range map[string]event.Event{
		"bad topic":               {Topic: "a b"},
		"long id":                 {Topic: "a", ID: strings.Repeat("x", 1025)},
		"control character":       {Topic: "a", Subject: "a\nb"},
		"no JSON":                 {Topic: "a", Data: []byte("{")},
		"two JSON values":         {Topic: "a", Data: []byte("1 2")},
		"bad UTF-8 in JSON":       {Topic: "a", Data: []byte("\"\xff\"")},
		"bad content type":        {Topic: "a", ContentType: "nonsense", Data: []byte("1")},
		"year":                    {Topic: "a", Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"extension name":          {Topic: "a", Extensions: map[string]json.RawMessage{"Big": []byte("1")}},
		"extension of an object":  {Topic: "a", Extensions: map[string]json.RawMessage{"x": []byte("{}")}},
		"extension too large":     {Topic: "a", Extensions: map[string]json.RawMessage{"x": []byte("4294967296")}},
		"extension with fraction": {Topic: "a", Extensions: map[string]json.RawMessage{"x": []byte("0.5")}},
	} {
		var invalid *event.InvalidError
		if err := e.Validate(); !errors.As(err, &invalid) {
			t.Errorf("%s: Validate() = %v, want an *InvalidError", name, err)
		}
	}
}

func TestRules(t *testing.T) {
	rules := event.Rules{
		{Match: "public/secret/**"},
		{Match: "public/**", Public: true, Keep: event.Keep{Events: 5}},
		{Match: "pointer/**", Ephemeral: true},
	}
	for p, want := range map[event.Pattern]bool{
		"public/a": true, "public/a/b": true, "public/*": true,
		"public/**": false, // it takes in public/secret/x
		"public":    false, "public/secret/x": false, "public/*/x": false, "other": false, "**": false,
	} {
		if got := rules.Public(p); got != want {
			t.Errorf("Public(%q) = %v, want %v", p, got, want)
		}
		if got := rules.All(p, func(r *event.Rule) bool { return r.Keep.Events == 5 }); got != want {
			t.Errorf("All(%q, five are kept) = %v, want %v", p, got, want)
		}
	}
	if got := rules.For("public/a").Keep; got.Events != 5 || got.Age != 720*time.Hour {
		t.Errorf("keep of public/a = %+v, want 5 events and the default age", got)
	}
	if got := rules.For("x"); got.Match != "**" || got.Keep != event.DefaultKeep() {
		t.Errorf("rule of a topic without one = %+v, want the defaults", got)
	}
	if !rules.For("pointer/x").Ephemeral {
		t.Error("pointer/x is not ephemeral")
	}
}

func TestByteSize(t *testing.T) {
	for s, want := range map[string]event.ByteSize{"0": 0, "4096": 4096, "256KiB": 256 << 10, "1 GiB": 1 << 30, "8MB": 8e6, "5B": 5, "-1": -1, "1.5MB": -1, "KiB": -1, "9999999999TiB": -1} {
		var got event.ByteSize
		err := got.UnmarshalText([]byte(s))
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q = %d, %v, want %d", s, got, err, want)
		}
	}
	if got := fmt.Sprint(event.ByteSize(256<<10), event.ByteSize(1000), event.ByteSize(0)); got != "256KiB 1000 0" {
		t.Errorf("String: %s", got)
	}
}
