package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// Validators is the condition under which to ask again for a stored response
// (RFC 9111 §4.3.1), nil if it has nothing to ask by. An entity tag goes back as
// it came, even without its quotes: its server compares bytes.
func Validators(stored http.Header) http.Header {
	h := make(http.Header, 2)
	if etag := stored.Get("ETag"); etag != "" {
		h.Set("If-None-Match", etag)
	}
	modified := stored.Get("Last-Modified")
	if _, ok := ParseDate(modified); ok {
		h.Set("If-Modified-Since", modified)
	}
	if len(h) == 0 {
		return nil
	}
	return h
}

// ETagMatches tells whether a list of entity tags, or "*", has this one by weak
// comparison (RFC 9110 §13.1.2, §8.8.3.2). Tags without quotes are compared byte
// for byte.
func ETagMatches(ifNoneMatch, etag string) bool {
	list := trim(ifNoneMatch)
	if list == "*" {
		return true
	}
	etag = strings.TrimPrefix(etag, "W/")
	for etag != "" && list != "" {
		var tag string
		tag, list = nextTag(list)
		if tag == etag {
			return true
		}
	}
	return false
}

// nextTag cuts the first entity tag, without its W/, off a list. There may be
// commas between its quotes (RFC 9110 §8.8.3).
func nextTag(list string) (tag, rest string) {
	list = strings.TrimLeft(list, ", \t")
	list = strings.TrimPrefix(list, "W/")
	if list != "" && list[0] == '"' {
		if end := strings.IndexByte(list[1:], '"'); end >= 0 {
			return list[:end+2], list[end+2:]
		}
	}
	tag, rest, _ = strings.Cut(list, ",")
	return trim(tag), rest
}

// isStrong tells whether an entity tag is well-formed and not weak.
func isStrong(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && strings.IndexByte(etag[1:], '"') == len(etag)-2
}

// NotModified tells whether a stored response is answered with 304 (RFC 9111
// §4.3.2). If-None-Match leaves If-Modified-Since no say, and both concern
// successful responses only (RFC 9110 §13.2.1).
func NotModified(ifNoneMatch, ifModifiedSince string, status int, stored http.Header, received time.Time) bool {
	if status < 200 || status > 299 {
		return false
	}
	if ifNoneMatch != "" {
		return ETagMatches(ifNoneMatch, stored.Get("ETag"))
	}
	since, ok := ParseDate(ifModifiedSince)
	if !ok {
		return false
	}
	modified, ok := ParseDate(stored.Get("Last-Modified"))
	if !ok {
		modified = dateOf(stored, received)
	}
	return !modified.After(since)
}

// Freshens tells whether a 304 is about the stored response (RFC 9111 §4.3.4). A
// strong entity tag has to be the same, a weak one equivalent; a 304 without a
// validator is about what we asked for. The same goes for a 200 to a HEAD, where
// the caller also compares the length (RFC 9111 §4.3.5).
func Freshens(stored, notModified http.Header) bool {
	etag, tag := stored.Get("ETag"), notModified.Get("ETag")
	switch {
	case isStrong(tag):
		return etag == tag
	case tag != "":
		return strings.TrimPrefix(etag, "W/") == strings.TrimPrefix(tag, "W/")
	}
	old, modified := stored.Get("Last-Modified"), notModified.Get("Last-Modified")
	return old == "" || modified == "" || old == modified
}
