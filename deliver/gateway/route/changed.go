package route

import (
	"encoding/json"
	"mime"
	"strings"

	"github.com/chappe/chappe/event"
)

// maxSubject is how long an event's subject may be.
const maxSubject = 1024

// change is the data of the event that a new answer is published as.
type change struct {
	URL         string          `json:"url"` // path and query
	Status      int             `json:"status"`
	ETag        string          `json:"etag,omitempty"`
	ContentType string          `json:"content_type,omitempty"`
	Body        json.RawMessage `json:"body,omitempty"` // JSON as it is, other text as a string; left out if it is too large, or no text
}

// Changed is the event on the route's topic that says what the new answer of a
// target is. Its data has at most limit bytes.
func (rt *Route) Changed(target string, status int, etag, contentType string, body []byte, limit int) event.Event {
	c := change{target, status, etag, contentType, textOf(contentType, body)}
	data, err := json.Marshal(c)
	if err != nil || len(data) > limit {
		c.Body = nil
		data, _ = json.Marshal(c) // strings and numbers only
	}
	subject := target
	if len(subject) > maxSubject {
		subject = ""
	}
	return event.Event{Source: "/routes/" + strings.TrimPrefix(rt.Name, "/"), Type: "route.changed", Subject: subject, Topic: rt.Topic, Data: data}
}

func textOf(contentType string, body []byte) json.RawMessage {
	t, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return nil
	case (t == "application/json" || strings.HasSuffix(t, "+json")) && json.Valid(body):
		return body
	case strings.HasPrefix(t, "text/"):
		s, _ := json.Marshal(string(body)) // a string
		return s
	}
	return nil
}
