package route

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/chappe/chappe/event"
)

// maxTag is how long a tag may be; a longer one could not be asked for.
const maxTag = 256

// template is text with fields in braces: "comments:{query.url}".
type template struct{ parts []piece }

// piece is literal text, or the name of a field.
type piece struct {
	text  string
	field bool
}

// parseTemplate checks the fields by known.
func parseTemplate(s string, known func(field string) bool) (template, error) {
	var t template
	for rest := s; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		if text != "" {
			t.parts = append(t.parts, piece{text: text})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(after, "}")
		if !closed || !known(name) {
			return template{}, fmt.Errorf("%q: there is no field {%s}", s, name)
		}
		t.parts = append(t.parts, piece{name, true})
		rest = after
	}
	return t, nil
}

// expand fills in the fields. It fails where one is missing, or the whole is
// too long: there is nothing to name then.
func (t template) expand(field func(name string) (string, bool)) (string, bool) {
	var b strings.Builder
	for _, p := range t.parts {
		text, ok := p.text, true
		if p.field {
			text, ok = field(p.text)
		}
		if !ok || b.Len()+len(text) > maxTag {
			return "", false
		}
		b.WriteString(text)
	}
	return b.String(), true
}

func expandAll(templates []template, field func(name string) (string, bool)) []string {
	var all []string
	for _, t := range templates {
		if s, ok := t.expand(field); ok {
			all = append(all, s)
		}
	}
	return all
}

// requestField reads the fields of a route's tag from its key.
func requestField(k *Key, header func(name string) string) func(name string) (string, bool) {
	path, query, _ := strings.Cut(k.Target, "?")
	var values url.Values
	return func(name string) (string, bool) {
		kind, rest, _ := strings.Cut(name, ".")
		switch kind {
		case "path":
			return path, true
		case "host":
			return k.Host, true
		case "header":
			v := header(strings.ToLower(rest))
			return v, v != ""
		}
		if values == nil {
			values, _ = url.ParseQuery(query) // what cannot be read is missing
		}
		return values.Get(rest), values.Has(rest)
	}
}

// eventField reads the fields of a route's refresh_tag from an event.
func eventField(e *event.Event) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		switch kind, rest, _ := strings.Cut(name, "."); kind {
		case "topic":
			return string(e.Topic), true
		case "type":
			return e.Type, true
		case "source":
			return e.Source, true
		case "subject":
			return e.Subject, e.Subject != ""
		case "id":
			return e.ID, true
		default:
			return dataField(e.Data, rest)
		}
	}
}

// dataField walks JSON objects by names joined with dots. Numbers stay as they
// are written.
func dataField(data []byte, path string) (string, bool) {
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, ".")
		var object map[string]json.RawMessage
		if json.Unmarshal(data, &object) != nil {
			return "", false
		}
		data = object[name]
	}
	var s string
	switch data = bytes.TrimSpace(data); {
	case len(data) == 0 || string(data) == "null" || data[0] == '{' || data[0] == '[':
		return "", false
	case json.Unmarshal(data, &s) == nil:
		return s, true
	}
	return string(data), true
}
