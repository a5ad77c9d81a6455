package event

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"time"
	"unicode/utf8"
)

// JSONType is the media type of data that names none.
const JSONType = "application/json"

// Bounds of one event's attributes; its data is bounded by configuration.
const (
	maxAttribute  = 1024 // bytes in id, source, type or subject
	maxExtensions = 32   // extension attributes
)

// Event is one thing that happened: a CloudEvents 1.0 record with a topic.
type Event struct {
	ID          string    // unique within Source; made by the bus when empty
	Source      string    // URI-reference of who says so: "/mailboxes/alice"
	Type        string    // "mail.received"
	Subject     string    // optional
	Time        time.Time // when it happened; set by the bus when zero
	Topic       Topic     // where it belongs
	ContentType string    // of Data; empty means JSON
	Data        []byte    // one compact JSON value, or raw bytes of ContentType; nil is none

	// Extensions are the other CloudEvents context attributes, each a JSON
	// string, boolean or integer.
	Extensions map[string]json.RawMessage
}

// Record is an event as the log keeps it. It is immutable and shared.
type Record struct {
	Event
	Cursor Cursor // zero on ephemeral topics
	JSON   []byte // the event on the wire: one line, made once
}

// NewRecord seals e at its place in the log.
func NewRecord(e Event, at Cursor) *Record {
	r := &Record{Event: e, Cursor: at}
	r.JSON = appendJSON(make([]byte, 0, 256+len(e.Data)), r)
	return r
}

// Size is about what the record holds in memory, in bytes.
func (r *Record) Size() int {
	const overhead = 320 // the struct, its headers and index entries
	return overhead + len(r.JSON) + len(r.Data) + len(r.ID) + len(r.Subject)
}

// Batch is what is appended to the log as one: all of it or nothing.
type Batch struct {
	Events     []Event
	Checkpoint *Checkpoint // optional; stored in the same transaction
}

// Checkpoint is how far a source has read what it watches.
type Checkpoint struct {
	Watch string // the watch's name
	State []byte // the source's own encoding
}

// Receipt says where an event went.
type Receipt struct {
	ID        string
	Topic     Topic
	Cursor    Cursor // zero on ephemeral topics
	Duplicate bool   // it was in the log already, at Cursor
}

// Publisher appends batches to the log.
type Publisher interface {
	// Publish returns when the batch is on disk, with one receipt an event.
	// Errors are *InvalidError, *LimitError, *StorageError and ErrClosed.
	Publish(ctx context.Context, b Batch) ([]Receipt, error)
}

// Query asks for events after a cursor.
type Query struct {
	Patterns []Pattern // any of them
	After    Cursor    // zero: from the oldest kept
	Limit    int       // events at most; the reader may give fewer
}

// Page is a piece of the log, in order.
type Page struct {
	Records []*Record
	Cursor  Cursor // go on from here; never behind Query.After
	More    bool   // the head of the log was not reached
}

// Reader reads the log.
type Reader interface {
	// Read returns the next page. A cursor that cannot be resumed from is a
	// *GoneError. A page may be empty although More is true.
	Read(ctx context.Context, q Query) (Page, error)
	// Head is the cursor of the newest event committed.
	Head() Cursor
}

// Validate checks the attributes of an event about to be published, and
// makes its JSON data compact. It returns an *InvalidError.
func (e *Event) Validate() error {
	if _, err := ParseTopic(string(e.Topic)); err != nil {
		return err
	}
	for _, a := range []struct{ name, value string }{
		{"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject}, {"datacontenttype", e.ContentType},
	} {
		if err := checkText(a.name, a.value); err != nil {
			return err
		}
	}
	if y := e.Time.Year(); !e.Time.IsZero() && (y < 1 || y > 9999) {
		return invalid("time", "the year %d is outside 1 to 9999", y)
	}
	if err := e.validateExtensions(); err != nil {
		return err
	}
	return e.validateData()
}

func (e *Event) validateData() error {
	if e.ContentType != "" {
		if t, _, err := mime.ParseMediaType(e.ContentType); err != nil || !strings.Contains(t, "/") {
			return invalid("datacontenttype", "%q is not a media type", e.ContentType)
		}
	}
	if len(e.Data) == 0 {
		e.Data = nil // SQL does not tell them apart either
		return nil
	}
	if !isJSONType(e.ContentType) {
		return nil
	}
	if !utf8.Valid(e.Data) {
		return invalid("data", "it is not valid UTF-8; send bytes as data_base64 with their datacontenttype")
	}
	data, err := compact(e.Data)
	if err != nil {
		return invalid("data", "it is not JSON: %v", err)
	}
	e.Data = data
	return nil
}

// validateExtensions holds CloudEvents 1.0 §"Naming Conventions" and §"Type System".
func (e *Event) validateExtensions() error {
	if len(e.Extensions) > maxExtensions {
		return invalid("extensions", "there are %d, at most %d are taken", len(e.Extensions), maxExtensions)
	}
	for name, value := range e.Extensions {
		if !isExtensionName(name) {
			return invalid(name, "it is not a known field; CloudEvents extensions are 1 to 20 of a-z and 0-9, everything else belongs in data")
		}
		if err := checkExtension(name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkExtension(name string, value json.RawMessage) error {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return invalid(name, "it is not JSON: %v", err)
	}
	switch v := v.(type) {
	case string:
		return checkText(name, v)
	case bool:
		return nil
	case float64:
		if v == float64(int32(v)) {
			return nil
		}
	}
	return invalid(name, "an extension is a string, a boolean or a 32-bit integer")
}

func isExtensionName(name string) bool {
	if name == "" || len(name) > 20 {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func checkText(name, value string) error {
	if len(value) > maxAttribute {
		return invalid(name, "it is %d bytes long, at most %d are taken", len(value), maxAttribute)
	}
	if !utf8.ValidString(value) {
		return invalid(name, "it is not valid UTF-8")
	}
	if i := strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return invalid(name, "it has a control character at byte %d", i)
	}
	return nil
}

// isJSONType reports whether data of this type stays JSON on the wire
// (CloudEvents JSON format §3.1: a subtype "json" or ending in "+json").
func isJSONType(contentType string) bool {
	if contentType == "" || contentType == JSONType {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return strings.HasSuffix(t, "/json") || strings.HasSuffix(t, "+json")
}

// InvalidError says which field of an event, topic, pattern or cursor is wrong.
type InvalidError struct {
	Field  string
	Reason string // with the remedy
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// Code is the error's stable code.
func (e *InvalidError) Code() string {
	switch e.Field {
	case "topic", "pattern", "cursor":
		return "bad-" + e.Field
	}
	return "bad-event"
}

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// LimitError says that something is larger than configured.
type LimitError struct {
	What  string // "event", "batch", "body"
	Got   int
	Limit int
	Unit  string // "bytes", "events"
	Key   string // the configuration key that raises the limit, if there is one
}

func (e *LimitError) Error() string {
	s := fmt.Sprintf("the %s has %d %s, at most %d are taken", e.What, e.Got, e.Unit, e.Limit)
	if e.Key != "" {
		s += "; " + e.Key + " raises it"
	}
	return s
}

// Code is the error's stable code.
func (e *LimitError) Code() string { return e.What + "-too-large" }

// GoneError says that a cursor cannot be resumed from without a hole.
type GoneError struct {
	Cursor Cursor // as asked
	Head   Cursor // start over from here
	Reason string
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("cursor %s is gone: %s; start over from %s", e.Cursor, e.Reason, e.Head)
}

// Code is the error's stable code.
func (e *GoneError) Code() string { return "cursor-gone" }

// Restart is the cursor to start over from.
func (e *GoneError) Restart() string { return e.Head.String() }

// StorageError says that events could not be stored: the disk is full, or worse.
type StorageError struct{ Cause error }

func (e *StorageError) Error() string {
	return "Nothing was stored: " + e.Cause.Error() + "; look at the disk of the data folder, then publish again"
}

func (e *StorageError) Unwrap() error { return e.Cause }

// Code is the error's stable code.
func (e *StorageError) Code() string { return "storage-failed" }

// ErrClosed is returned by a log that is shutting down.
const ErrClosed = closedError("the server is shutting down; nothing was stored")

type closedError string

func (e closedError) Error() string { return string(e) }

// Code is the error's stable code.
func (e closedError) Code() string { return "closing" }
