package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

// decodeBody reads the events of a publish request in any of its forms.
func decodeBody(h http.Header, body []byte) ([]event.Event, error) {
	if h.Get("Ce-Specversion") != "" {
		return decodeBinary(h, body)
	}
	mediaType := h.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	switch mediaType {
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return decodeLines(body)
	case "application/cloudevents-batch+json":
		return decodeArray(body)
	case "application/cloudevents+json":
		return decodeOne(body)
	case "", "application/json", "application/x-www-form-urlencoded": // the last is what curl -d says of anything
		if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
			return decodeArray(body)
		}
		return decodeOne(body)
	}
	return nil, problem.New("bad-content-type", "Content-Type "+mediaType+" is not understood; send application/json, application/x-ndjson, "+
		"application/cloudevents+json, application/cloudevents-batch+json, or a CloudEvent in headers (ce-specversion, ...)")
}

func decodeOne(body []byte) ([]event.Event, error) {
	e, err := event.Decode(body)
	return []event.Event{e}, err
}

func decodeArray(body []byte) ([]event.Event, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, &event.InvalidError{Field: "events", Reason: "the body is not a JSON array: " + err.Error()}
	}
	events := make([]event.Event, 0, len(raw))
	for _, r := range raw {
		e, err := event.Decode(r)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return nonEmpty(events)
}

func decodeLines(body []byte) ([]event.Event, error) {
	var events []event.Event
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		e, err := event.Decode(line)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return nonEmpty(events)
}

func nonEmpty(events []event.Event) ([]event.Event, error) {
	if len(events) == 0 {
		return nil, &event.InvalidError{Field: "events", Reason: "the body holds no event; send at least one"}
	}
	return events, nil
}

// decodeBinary reads a CloudEvent whose attributes are headers (CloudEvents
// HTTP binding 1.0 §3.1).
func decodeBinary(h http.Header, body []byte) ([]event.Event, error) {
	e := event.Event{ContentType: h.Get("Content-Type"), Data: body, Extensions: map[string]json.RawMessage{}}
	for name, values := range h {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		// §3.1.3.2: values are percent-encoded UTF-8.
		value, err := url.PathUnescape(values[0])
		if err != nil {
			return nil, &event.InvalidError{Field: name, Reason: "its percent-encoding is broken"}
		}
		if err := setAttribute(&e, attribute, value); err != nil {
			return nil, err
		}
	}
	if e.ID == "" || e.Source == "" || e.Type == "" {
		return nil, &event.InvalidError{Field: "event", Reason: "a CloudEvent needs ce-id, ce-source and ce-type"}
	}
	return []event.Event{e}, nil
}

func setAttribute(e *event.Event, name, value string) error {
	switch name {
	case "specversion":
		if value != "1.0" {
			return &event.InvalidError{Field: name, Reason: "only 1.0 is understood"}
		}
	case "id":
		e.ID = value
	case "source":
		e.Source = value
	case "type":
		e.Type = value
	case "subject":
		e.Subject = value
	case "topic":
		e.Topic = event.Topic(value)
	case "cursor": // ours, from an event that was read here before
	case "data", "datacontenttype":
		return &event.InvalidError{Field: name, Reason: "in binary mode it is not a header: the body is the data, Content-Type its type"}
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return &event.InvalidError{Field: name, Reason: "it is not an RFC 3339 time like 2026-11-22T14:06:12Z"}
		}
		e.Time = t
	default:
		quoted, err := json.Marshal(value)
		if err != nil {
			return err
		}
		e.Extensions[name] = quoted
	}
	return nil
}
