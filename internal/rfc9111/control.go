package rfc9111

import (
	"net/http"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// control is what a response says about its own caching.
type control struct {
	noStore, private, noCache, public bool
	mustRevalidate, mustUnderstand    bool

	maxAge, sMaxAge, behind, onError span

	targeted bool // said by CDN-Cache-Control, which leaves Expires no say
}

// span is the value of a directive that may be missing.
type span struct {
	time.Duration
	set bool
}

func controlOf(h http.Header) control {
	if c, ok := targetedControl(h.Values("CDN-Cache-Control")); ok {
		return c // RFC 9213 §2.2
	}
	var c control
	for _, line := range h.Values("Cache-Control") {
		for member := range members(line) {
			name, value := directive(member)
			if s := c.span(strings.ToLower(name)); s != nil {
				s.take(value)
			} else {
				c.flag(strings.ToLower(name))
			}
		}
	}
	return c
}

// flag takes note of a directive without a value. With field names private and
// no-cache would concern these only; that is more than we do (RFC 9111 §5.2.2.4,
// §5.2.2.7 allow it).
func (c *control) flag(name string) {
	switch name {
	case "no-store":
		c.noStore = true
	case "private":
		c.private = true
	case "no-cache":
		c.noCache = true
	case "public":
		c.public = true
	case "must-revalidate", "proxy-revalidate":
		c.mustRevalidate = true
	case "must-understand":
		c.mustUnderstand = true
	}
}

// span is where the directive's value goes, nil for those that have none.
func (c *control) span(name string) *span {
	switch name {
	case "max-age":
		return &c.maxAge
	case "s-maxage":
		return &c.sMaxAge
	case "stale-while-revalidate":
		return &c.behind
	case "stale-if-error":
		return &c.onError
	}
	return nil
}

// take keeps the first value (RFC 9111 §4.2.1), an invalid one as 0: stale.
func (s *span) take(value string) {
	if !s.set {
		s.Duration, _ = delta(value)
		s.set = true
	}
}

// or is the operator's value where the response has none.
func (s span) or(operator time.Duration) time.Duration {
	if s.set {
		return s.Duration
	}
	return operator
}

// targetedControl reads CDN-Cache-Control. It does not exist unless it is a
// dictionary with at least one member, and numbers where numbers belong
// (RFC 9213 §2.1).
func targetedControl(lines []string) (c control, ok bool) {
	if len(lines) == 0 {
		return c, false
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return c, false
	}
	c.targeted = true
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		item, _ := member.(httpsfv.Item) // an inner list has no value: no number, but not false
		if s := c.span(name); s != nil {
			n, ok := item.Value.(int64)
			if !ok {
				return control{}, false
			}
			*s = span{time.Duration(min(max(n, 0), 1<<31)) * time.Second, true}
		} else if item.Value != false {
			c.flag(name)
		}
	}
	return c, true
}
