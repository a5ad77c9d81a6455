package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// appendJSON writes r as a structured CloudEvent on one line (CloudEvents
// JSON format §3), with topic and cursor as extensions.
func appendJSON(b []byte, r *Record) []byte {
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendString(b, r.ID)
	b = appendField(b, "source", r.Source)
	b = appendField(b, "type", r.Type)
	if r.Subject != "" {
		b = appendField(b, "subject", r.Subject)
	}
	b = append(b, `,"time":"`...)
	b = r.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendField(b, "topic", string(r.Topic))
	if !r.Cursor.IsZero() {
		b = appendField(b, "cursor", r.Cursor.String())
	}
	for _, name := range slices.Sorted(maps.Keys(r.Extensions)) {
		b = append(b, ',')
		b = appendString(b, name)
		b = append(b, ':')
		b = append(b, r.Extensions[name]...)
	}
	return append(appendData(b, &r.Event), '}')
}

func appendData(b []byte, e *Event) []byte {
	contentType := e.ContentType
	if contentType == "" {
		if e.Data == nil {
			return b
		}
		contentType = JSONType
	}
	b = appendField(b, "datacontenttype", contentType)
	switch {
	case e.Data == nil:
		return b
	case isJSONType(contentType):
		b = append(b, `,"data":`...)
		return append(b, e.Data...)
	case strings.HasPrefix(contentType, "text/") && utf8.Valid(e.Data):
		return appendField(b, "data", string(e.Data))
	}
	b = append(b, `,"data_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Data)
	return append(b, '"')
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

// appendString quotes s. Nearly all attributes are plain ASCII and are copied.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Decode reads one event from JSON: our own short form
// {"topic","type"?,"id"?,"source"?,"subject"?,"time"?,"data"?}, or, with a
// specversion, a structured CloudEvent whose topic is the extension "topic".
// It returns an *InvalidError; Validate is still to be called.
func Decode(b []byte) (Event, error) {
	if !utf8.Valid(b) { // encoding/json would replace what is not
		return Event{}, invalid("event", "it is not valid UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return Event{}, invalid("event", "it is not a JSON object: %v", err)
	}
	if fields == nil {
		return Event{}, invalid("event", "it is null, not a JSON object")
	}
	d := decoder{fields: fields}
	e := Event{
		ID:          d.text("id"),
		Source:      d.text("source"),
		Type:        d.text("type"),
		Subject:     d.text("subject"),
		Topic:       Topic(d.text("topic")),
		ContentType: d.text("datacontenttype"),
		Time:        d.time("time"),
	}
	version := d.text("specversion")
	if raw, encoded := fields["data_base64"]; encoded && string(raw) != "null" && e.ContentType == "" {
		e.ContentType = "application/octet-stream"
	}
	e.Data = d.data(e.ContentType)
	delete(fields, "cursor") // ours, from an event that was read here before
	switch {
	case d.err != nil:
		return Event{}, d.err
	case version != "" && version != "1.0":
		return Event{}, invalid("specversion", "%q is not understood, only 1.0 is", version)
	case version != "" && (e.ID == "" || e.Source == "" || e.Type == ""):
		return Event{}, invalid("event", "a CloudEvent needs id, source and type (CloudEvents 1.0, Required Attributes)")
	case version == "" && len(fields) > 0:
		name := slices.Min(slices.Collect(maps.Keys(fields)))
		return Event{}, invalid(name, "it is not a known field; put it into data, or set specversion to send a CloudEvent with extensions")
	case len(fields) > 0:
		e.Extensions = fields
	}
	return e, nil
}

// decoder takes fields out of an object; the first error stays.
type decoder struct {
	fields map[string]json.RawMessage
	err    error
}

func (d *decoder) take(name string) json.RawMessage {
	raw := d.fields[name]
	delete(d.fields, name)
	if string(raw) == "null" { // CloudEvents JSON format §2.2: null is unset
		return nil
	}
	return raw
}

func (d *decoder) text(name string) string {
	raw := d.take(name)
	if raw == nil {
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil && d.err == nil {
		d.err = invalid(name, "it is not a JSON string")
	}
	return s
}

func (d *decoder) time(name string) time.Time {
	s := d.text(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil && d.err == nil {
		d.err = invalid(name, "%q is not an RFC 3339 time like 2026-11-22T14:06:12Z", s)
	}
	return t
}

// data takes "data" or "data_base64" (CloudEvents JSON format §3.1).
func (d *decoder) data(contentType string) []byte {
	raw, hasData := d.fields["data"]
	delete(d.fields, "data")
	encoded := d.text("data_base64")
	switch {
	case hasData && encoded != "":
		d.fail(invalid("data_base64", "data is there too; send one of them"))
		return nil
	case encoded != "":
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			d.fail(invalid("data_base64", "it is not base64: %v", err))
		}
		return b
	case !hasData || isJSONType(contentType):
		return raw
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		d.fail(invalid("data", "it is not a string although datacontenttype is %q; send text as a string and bytes as data_base64", contentType))
	}
	return []byte(s)
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func compact(b []byte) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(len(b))
	if err := json.Compact(&buf, b); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
