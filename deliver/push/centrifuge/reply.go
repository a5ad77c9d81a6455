package centrifuge

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chappe/chappe/event"
)

// failure is an error as a reply tells it.
type failure struct {
	Code      int    `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary,omitempty"`
}

// The errors. Clients know the codes and try again what is temporary.
var (
	errInternal          = &failure{100, "internal server error", true}
	errUnauthorized      = &failure{101, "unauthorized", false}
	errPermissionDenied  = &failure{103, "permission denied", false}
	errMethodNotFound    = &failure{104, "method not found", false}
	errAlreadySubscribed = &failure{105, "already subscribed", false}
	errLimitExceeded     = &failure{106, "limit exceeded", false}
	errBadRequest        = &failure{107, "bad request", false}
	errNotAvailable      = &failure{108, "not available", false}
	errTokenExpired      = &failure{109, "token expired", false}
	errTooManyRequests   = &failure{111, "too many requests", true}
	errUnrecoverable     = &failure{112, "unrecoverable position", false}
)

// farewell is why a client is sent away. Clients come back after codes below
// 3500, and stay away after others.
type farewell struct {
	Code   uint16 `json:"code"`
	Reason string `json:"reason"`
}

var (
	byeShutdown        = farewell{3001, "shutdown"}
	byeInternal        = farewell{3004, "internal server error"}
	byeExpired         = farewell{3005, "connection expired"}
	byeSlow            = farewell{3008, "slow"}
	byeNoPong          = farewell{3012, "no pong"}
	byeTooManyRequests = farewell{3013, "too many requests"}
	byeInvalidToken    = farewell{3500, "invalid token"}
	byeBadRequest      = farewell{3501, "bad request"}
	byeStale           = farewell{3502, "stale"}
)

// Why a subscription is ended by the server. Clients try again after codes
// from 2500.
var (
	goneInsufficientState = farewell{2500, "insufficient state"}
	gonePermissionDenied  = farewell{2501, "permission denied"}
)

type connectResult struct {
	Client  string                     `json:"client"`
	Expires bool                       `json:"expires,omitempty"`
	TTL     int64                      `json:"ttl,omitempty"` // seconds
	Subs    map[string]json.RawMessage `json:"subs,omitempty"`
	Ping    int                        `json:"ping"` // seconds
	Pong    bool                       `json:"pong"`
	Session string                     `json:"session,omitempty"`
	Node    string                     `json:"node,omitempty"`
}

type refreshResult struct {
	Client  string `json:"client"`
	Expires bool   `json:"expires,omitempty"`
	TTL     int64  `json:"ttl,omitempty"`
}

type subscribeResult struct {
	Recoverable   bool   `json:"recoverable,omitempty"`
	Positioned    bool   `json:"positioned,omitempty"`
	Epoch         string `json:"epoch,omitempty"`
	Offset        int64  `json:"offset,omitempty"`
	WasRecovering bool   `json:"was_recovering,omitempty"`
	Recovered     bool   `json:"recovered,omitempty"`

	records []*event.Record
}

func (r *subscribeResult) json() []byte { return withPublications(r, r.records) }

type historyResult struct {
	Epoch  string `json:"epoch"`
	Offset int64  `json:"offset"`
}

// member is who is subscribed to a channel.
type member struct {
	Client string `json:"client"`
	User   string `json:"user"`
}

// object is what always marshals.
func object(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}

// withPublications adds what would be slow, and changed, by json.Marshal.
func withPublications(result any, records []*event.Record) []byte {
	b := object(result)
	if len(records) == 0 {
		return b
	}
	b = b[:len(b)-1]
	for i, r := range records {
		switch {
		case i > 0:
			b = append(b, ',')
		case len(b) > 1:
			b = append(b, `,"publications":[`...)
		default:
			b = append(b, `"publications":[`...)
		}
		b = appendPublication(b, r)
	}
	return append(b, "]}"...)
}

func appendReply(b []byte, id uint32, method string, result []byte) []byte {
	b = strconv.AppendUint(append(b, `{"id":`...), uint64(id), 10)
	b = append(append(append(b, `,"`...), method...), `":`...)
	return append(append(b, result...), '}')
}

// appendPush appends what the client did not ask for.
func appendPush(b []byte, channel event.Pattern, kind string, what any) []byte {
	b = append(append(append(b, `{"push":{"channel":"`...), channel...), `","`...)
	b = append(append(b, kind...), `":`...)
	return append(append(b, object(what)...), "}}"...)
}

func appendPublication(b []byte, r *event.Record) []byte {
	b = append(b, `{"data":`...)
	b = appendData(b, &r.Event)
	if !r.Cursor.IsZero() {
		b = strconv.AppendInt(append(b, `,"offset":`...), r.Cursor.Seq, 10)
	}
	b = append(b, `,"tags":`...)
	b = append(b, object(tags{
		ID: r.ID, Type: r.Type, Topic: r.Topic, Source: r.Source, Subject: r.Subject, Time: r.Time.UTC().Format(time.RFC3339Nano),
	})...)
	return append(b, '}')
}

type tags struct {
	ID      string      `json:"id,omitempty"`
	Type    string      `json:"type,omitempty"`
	Topic   event.Topic `json:"topic"`
	Source  string      `json:"source,omitempty"`
	Subject string      `json:"subject,omitempty"`
	Time    string      `json:"time"`
}

// appendData appends JSON as it is, text as a string, and other bytes as
// base64, like an event on the wire.
func appendData(b []byte, e *event.Event) []byte {
	switch {
	case e.Data == nil:
		return append(b, "null"...)
	case isJSON(e.ContentType):
		return append(b, e.Data...)
	case strings.HasPrefix(e.ContentType, "text/") && utf8.Valid(e.Data):
		return append(b, object(string(e.Data))...)
	}
	b = base64.StdEncoding.AppendEncode(append(b, '"'), e.Data)
	return append(b, '"')
}

func isJSON(contentType string) bool {
	if contentType == "" || contentType == event.JSONType {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(t, "/json") || strings.HasSuffix(t, "+json"))
}
