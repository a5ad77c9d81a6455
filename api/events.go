package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

// defaultType is the type of an event that was published without one.
const defaultType = "message"

// Bounds of a read.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

type publishRequest struct {
	header  http.Header
	RawBody []byte
}

// Resolve keeps the headers: CloudEvents' binary mode is in them.
func (r *publishRequest) Resolve(ctx huma.Context) []error {
	r.header = http.Header{}
	ctx.EachHeader(func(name, value string) { r.header.Add(name, value) })
	return nil
}

type receipt struct {
	ID        string      `json:"id"`
	Topic     event.Topic `json:"topic"`
	Cursor    string      `json:"cursor,omitempty" doc:"Absent on ephemeral topics."`
	Duplicate bool        `json:"duplicate,omitempty" doc:"It was in the log already, at the cursor."`
}

type publishAnswer struct {
	Body struct {
		Events []receipt `json:"events"`
	}
}

type readRequest struct {
	Topic []string `query:"topic,explode" doc:"Topics or patterns; any of them."`
	After string   `query:"after" doc:"A cursor; without one, or with start: from the oldest kept."`
	Limit int      `query:"limit" minimum:"0" maximum:"1000" doc:"Events at most; 100 if not given."`
}

type readAnswer struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Events []json.RawMessage `json:"events" doc:"CloudEvents, with topic and cursor."`
		Cursor string            `json:"cursor" doc:"Go on from here."`
	}
}

func (s *server) registerEvents(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "publish-events", Method: http.MethodPost, Path: "/v1/events",
		Summary: "Publish: one event, an array or NDJSON of them, or CloudEvents (structured, batched, binary)",
		Description: "Answers after the commit. All of a request is stored or nothing. " +
			`The short form is {"topic","type"?,"id"?,"source"?,"subject"?,"time"?,"data"}.`,
		MaxBodyBytes: maxBody, BodyReadTimeout: 30 * time.Second, SkipValidateBody: true,
		Metadata: needs(account.ScopePublish),
	}, s.publish)
	huma.Register(api, huma.Operation{
		OperationID: "read-events", Method: http.MethodGet, Path: "/v1/events", Summary: "Read the log",
	}, s.read)
}

func (s *server) publish(ctx context.Context, in *publishRequest) (*publishAnswer, error) {
	id := identity(ctx)
	events, err := decodeBody(in.header, in.RawBody)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	for i := range events {
		e := &events[i]
		if _, err := event.ParseTopic(string(e.Topic)); err != nil {
			return nil, s.fail(ctx, err)
		}
		if !id.MayPublish(e.Topic) {
			return nil, problem.New("forbidden", "This token may not publish to "+string(e.Topic))
		}
		if e.Type == "" {
			e.Type = defaultType
		}
		e.Source = sourceOf(id.Name, e.Source)
	}
	receipts, err := s.Publisher.Publish(ctx, event.Batch{Events: events})
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	a := &publishAnswer{}
	a.Body.Events = make([]receipt, len(receipts))
	for i, r := range receipts {
		a.Body.Events[i] = receipt{r.ID, r.Topic, r.Cursor.String(), r.Duplicate}
	}
	return a, nil
}

// sourceOf begins with the token's name, so that two programs that both say
// id 1 do not swallow each other's events.
func sourceOf(token, given string) string {
	if given == token || strings.HasPrefix(given, token+"/") {
		return given
	}
	if given = strings.TrimLeft(given, "/"); given == "" {
		return token
	}
	return token + "/" + given
}

func (s *server) read(ctx context.Context, in *readRequest) (*readAnswer, error) {
	q, err := s.query(identity(ctx), in)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	a := &readAnswer{CacheControl: "no-store"}
	a.Body.Events = []json.RawMessage{}
	limit := q.Limit
	// A page may be empty although there is more; look on for a while.
	for end := time.Now().Add(time.Second); ; {
		page, err := s.Reader.Read(ctx, q)
		if err != nil {
			return nil, s.fail(ctx, err)
		}
		for _, r := range page.Records {
			a.Body.Events = append(a.Body.Events, r.JSON)
		}
		q.After, q.Limit = page.Cursor, limit-len(a.Body.Events)
		a.Body.Cursor = page.Cursor.String()
		if !page.More || len(a.Body.Events) > 0 || time.Now().After(end) {
			return a, nil
		}
	}
}

func (s *server) query(id *account.Identity, in *readRequest) (event.Query, error) {
	if len(in.Topic) == 0 {
		return event.Query{}, problem.New("bad-pattern", "Name topics or patterns, as ?topic=mail/alice/*")
	}
	patterns, err := event.ParsePatterns(in.Topic)
	if err != nil {
		return event.Query{}, err
	}
	for _, p := range patterns {
		if s.Access.MayRead(id, p) {
			continue
		}
		if !id.Known() {
			return event.Query{}, problem.New("token-missing", "Topic "+string(p)+" is not public: send a token (Authorization: Bearer ...)")
		}
		return event.Query{}, problem.New("forbidden", "This token may not read "+string(p))
	}
	q := event.Query{Patterns: patterns, Limit: min(in.Limit, maxLimit)}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	if in.After != "" && in.After != "start" {
		q.After, err = event.ParseCursor(in.After)
	}
	return q, err
}
